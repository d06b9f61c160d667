"""`tram-cloud run`: the parts wired together, their threads, and how they stop.

network thread (paho) → inbox → ingest thread → store → commit messages, live topics → alert thread → delivery thread
                                                  ↑ reads: HTTP server (main thread and its workers)
"""

from __future__ import annotations

import gc
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import structlog
import uvicorn

from alerts.configuration import AlertConfiguration, load_alerts
from alerts.delivery import Deliverer
from alerts.engine import AlertEngine
from alerts.gateway_warnings import GatewayWarnings
from alerts.schema import open_database, sqlite_url
from alerts.sms import SmsSender
from cloud_ingest import models
from cloud_ingest.alerting import AlertWorker
from cloud_ingest.api import Sources, make_app
from cloud_ingest.commanding.database import open_book
from cloud_ingest.commanding.publisher import Publisher
from cloud_ingest.compaction import Compaction
from cloud_ingest.configuration import CloudConfiguration
from cloud_ingest.database import Database
from cloud_ingest.errors import CloudError
from cloud_ingest.gateway_messages import GatewayMessages, Handler
from cloud_ingest.health import Disk, health
from cloud_ingest.import_work import Imports
from cloud_ingest.ingest import Ingest
from cloud_ingest.losses import LossTaker
from cloud_ingest.metrics import Service
from cloud_ingest.places import opened_places
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.settings_book import keep_all
from cloud_ingest.store import Store
from cloud_ingest.subscriber import Inbox, Subscribers
from cloud_ingest.warnings_taken import WarningTaker
from cloud_ingest.worker import IngestWorker
from station_config.clock import Clock
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

ALERT_DATABASE = "alerts.sqlite"
STOP_WITHIN_S = 10.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Setup:
    """Everything that configuration files say, read and checked before anything starts."""

    configuration: CloudConfiguration
    registry: Registry
    alerts: AlertConfiguration | None
    clock: Clock


def read_setup(configuration: CloudConfiguration, clock: Clock) -> Setup:
    """Read the files cloud.toml names. Raises ConfigurationError with every fault of the first file that has one."""
    network = load_network(configuration.network)
    configuration.broker.password()
    alerts = None
    if configuration.alerts is not None:
        alerts = load_alerts(configuration.alerts.rules, network, clock.now())
    return Setup(configuration, Registry(network, load_instruments(), load_parameters()), alerts, clock)


def listen(configuration: CloudConfiguration) -> socket.socket:
    """Return the socket the API will be served on. Raises OSError when the address is taken."""
    http = configuration.http
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    return socket.create_server((http.host, http.port), family=family, backlog=128)


def run(setup: Setup, listener: socket.socket) -> None:
    """Run until SIGTERM or SIGINT. Raises StoreRefused, StoreUnavailable, AlertsError or SQLAlchemyError at the start,
    and whatever ended one of the threads: without ingest or alerts there is nothing to go on with."""
    stop = threading.Event()
    state_dir = setup.configuration.state_dir
    with ExitStack() as stack:
        places = stack.enter_context(opened_places(setup.configuration))
        store = stack.enter_context(places.store())
        _keep_settings(setup, places.database)
        reader = places.reader(setup.registry)
        stack.callback(reader.close)
        inbox = Inbox()
        subscriber = Subscribers(setup.configuration.broker, inbox)
        alerts = _make_alerts(setup, reader, stack)
        commands = _make_commands(setup, subscriber, stack)
        handlers = _handlers(store, alerts) | {"results": commands.take}
        ingest = Ingest(store, setup.registry, GatewayMessages(handlers))
        worker = IngestWorker(
            ingest=ingest,
            inbox=inbox,
            subscriber=subscriber,
            clock=setup.clock,
            stored=alerts.arrived.set if alerts else _nothing,
            review=Review(store, setup.registry),
            rollups=Rollups(store, setup.registry),
            imports=Imports(state_dir, ingest, store.owns),
            compaction=Compaction(store),
        )
        metrics = Service(
            state_dir=state_dir,
            reader=reader,
            registry=setup.registry,
            clock=setup.clock,
            worker=worker.state,
            undelivered=alerts.engine.undelivered if alerts else None,
        )
        sources = Sources(
            reader=reader,
            registry=setup.registry,
            clock=setup.clock,
            health=lambda: _health(worker, reader, state_dir),
            metrics=metrics.text,
            rules=setup.alerts.rules if setup.alerts else (),
            engine=alerts.engine if alerts else None,
        )
        server = _make_server(sources)
        failures: list[Exception] = []
        threads = [
            _thread(name, partial(work, stop), server, failures)
            for name, work in (
                ("ingest", worker.run),
                ("commands", commands.run),
                ("alerts", alerts.run if alerts else None),
                ("delivery", alerts.deliverer.run if alerts and alerts.deliverer else None),
            )
            if work is not None
        ]
        subscriber.start()
        gc.freeze()  # what is here now stays: the collector need not look at it again and again
        for thread in threads:
            thread.start()
        log.info("ready", http=_address(listener), state_dir=str(state_dir))
        try:
            _serve(server, listener)
        finally:
            stop.set()
            inbox.close()
            commands.changed.set()
            if alerts:
                alerts.arrived.set()
                if alerts.deliverer:
                    alerts.deliverer.wake()
            for thread in threads:
                thread.join(STOP_WITHIN_S)
            subscriber.stop()
            log.info("stopped")
    if failures:
        raise failures[0]


def _keep_settings(setup: Setup, database: Database) -> None:
    """Note by which network and which rules the service works from now on."""
    rules = setup.alerts.rules if setup.alerts else None
    for kind in keep_all(database, setup.configuration.network, rules, int(setup.clock.now())):
        log.info("new settings are in force", kind=str(kind))


def _health(worker: IngestWorker, reader: Reader, state_dir: Path) -> models.Health:
    """Ask everybody; a store or disk that does not answer is a reason, and no failure of this."""
    set_aside: int | str
    disk: Disk | str
    try:
        set_aside = reader.set_aside()
    except CloudError as error:
        set_aside = str(error)
    try:
        usage = shutil.disk_usage(state_dir)
        disk = Disk(usage.total, usage.free)
    except OSError as error:
        disk = f"{state_dir} is out of reach: {error.strerror}"
    return health(worker.state(), set_aside, disk)


def _handlers(store: Store, alerts: AlertWorker | None) -> dict[str, Handler]:
    """Return who takes what gateways send that is no record. Without alerts, warnings are set aside."""
    handlers: dict[str, Handler] = {"losses": LossTaker(store).take}
    if alerts is not None:
        handlers["warnings"] = WarningTaker(alerts.warnings, alerts.wake_delivery).take
    return handlers


def _make_alerts(setup: Setup, reader: Reader, stack: ExitStack) -> AlertWorker | None:
    if setup.alerts is None:
        return None
    where = setup.configuration.store.url() or sqlite_url(setup.configuration.state_dir / ALERT_DATABASE)
    database = open_database(where)
    stack.callback(database.dispose)
    configuration = setup.alerts
    engine = AlertEngine(
        database,
        configuration.rules,
        configuration.subscriptions,
        configuration.wording,
        setup.clock,
        rules_version=configuration.version,
    )
    engine.prepare()
    deliverer = None
    if setup.configuration.sms is None:
        log.warning("no [sms] in cloud.toml: alerts are decided and shown, and not sent")
    else:
        sender = SmsSender(setup.configuration.sms.url, setup.configuration.sms.token())
        stack.callback(sender.close)
        deliverer = Deliverer(database, {"sms": sender}, setup.clock)
    warnings = GatewayWarnings(
        database, configuration.rules, configuration.subscriptions, configuration.wording, setup.clock
    )
    return AlertWorker(engine, deliverer, reader, setup.registry.vocabulary, threading.Event(), warnings)


def _make_commands(setup: Setup, subscriber: Subscribers, stack: ExitStack) -> Publisher:
    book = stack.enter_context(open_book(setup.configuration, setup.clock))
    return Publisher(
        book,
        lambda topic, payload: subscriber.publish(topic, payload, qos=1),
        lambda: subscriber.connected,
        setup.configuration.commands.repeat_s,
    )


def _make_server(sources: Sources) -> uvicorn.Server:
    config = uvicorn.Config(
        make_app(sources), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3
    )
    return uvicorn.Server(config)


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until a signal. uvicorn puts its own handlers in and raises the signal again afterwards: let that pass."""

    def handled(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, handled) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _thread(name: str, work: Callable[[], None], server: uvicorn.Server, failures: list[Exception]) -> threading.Thread:
    def guarded() -> None:
        try:
            work()
        except Exception as error:  # a thread that dies in silence would look like a quiet river
            log.exception("stopping", thread=name, reason=str(error))
            failures.append(error)
            server.should_exit = True

    return threading.Thread(target=guarded, name=name, daemon=True)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _nothing() -> None:
    """Nobody follows the arrivals."""
