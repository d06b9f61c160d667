"""`tram-cloud run`, `ingest` and `serve`: the parts wired together, their threads, and how they stop.

network thread (paho) → inbox → ingest thread → store → commit messages, live topics → alert thread → delivery thread
                                                  ↑ reads: HTTP server (main thread and its workers)
"""

from __future__ import annotations

import gc
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from alerts.configuration import AlertConfiguration, load_alerts
from alerts.delivery import Deliverer
from alerts.engine import AlertEngine
from alerts.gateway_warnings import GatewayWarnings
from alerts.schema import open_database, sqlite_url
from alerts.sms import SmsSender
from cloud_ingest import models
from cloud_ingest.alerting import AlertWorker
from cloud_ingest.api import Sources
from cloud_ingest.commanding.database import open_book
from cloud_ingest.commanding.publisher import Publisher
from cloud_ingest.compaction import LOOK_EVERY_S, Compaction
from cloud_ingest.configuration import CloudConfiguration
from cloud_ingest.database import Database, owned_shards
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
from cloud_ingest.roles import ALL_IN_ONE, Role
from cloud_ingest.rollups import Rollups
from cloud_ingest.serving import HttpServer, MainWork, Pause, address
from cloud_ingest.settings_book import keep_all
from cloud_ingest.store import Store
from cloud_ingest.subscriber import Inbox, Subscribers
from cloud_ingest.warnings_taken import WarningTaker
from cloud_ingest.worker import IngestWorker
from cloud_ingest.workers import ALL_SHARDS, Heartbeat, WorkersState, said_by_workers
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


def run(setup: Setup, listener: socket.socket | None, role: Role = ALL_IN_ONE) -> None:
    """Run until SIGTERM or SIGINT; `listener` is where HTTP is served, None in a role without.

    Raises StoreRefused, StoreUnavailable, AlertsError or SQLAlchemyError at the start, and whatever ended one of the
    threads: without ingest or alerts there is nothing to go on with.
    """
    stop, failures = threading.Event(), list[Exception]()
    with ExitStack() as stack:
        places = stack.enter_context(opened_places(setup.configuration))
        store = stack.enter_context(places.store(role.shards))
        if role.serves:
            _keep_settings(setup, places.database)
        reader = places.reader(setup.registry)
        stack.callback(reader.close)
        inbox = Inbox()
        subscriber = Subscribers(setup.configuration.broker, inbox, role.interest)
        alerts = _make_alerts(setup, reader, stack) if role.serves else None
        commands = _make_commands(setup, subscriber, stack) if role.serves else None
        handlers = _handlers(store if role.takes_records else None, alerts, commands)
        worker = _make_worker(setup, role, store, inbox, subscriber, handlers, alerts)
        main: MainWork = Pause()
        if listener is not None:
            main = HttpServer(_sources(setup, role, reader, worker, alerts), listener)
        work = {"ingest": worker.run}
        if role.takes_records and places.database.file is None:
            owned = ALL_SHARDS if role.shards is None else role.shards
            work["heartbeat"] = Heartbeat(places.database, role.name, owned, worker.state).run
        if commands is not None:
            work["commands"] = commands.run
        if alerts is not None:
            work["alerts"] = alerts.run
            if alerts.deliverer is not None:
                work["delivery"] = alerts.deliverer.run
        threads = [_thread(name, partial(one, stop), main, failures) for name, one in work.items()]
        subscriber.start()
        gc.freeze()  # what is here now stays: the collector need not look at it again and again
        for thread in threads:
            thread.start()
        served = {} if listener is None else {"http": address(listener)}
        log.info("ready", role=role.name, state_dir=str(places.state_dir), **served)
        try:
            main.run()
        finally:
            stop.set()
            inbox.close()
            for wake in _sleepers(alerts, commands):
                wake()
            for thread in threads:
                thread.join(STOP_WITHIN_S)
            subscriber.stop()
            log.info("stopped")
    if failures:
        raise failures[0]


def _make_worker(
    setup: Setup,
    role: Role,
    store: Store,
    inbox: Inbox,
    subscriber: Subscribers,
    handlers: dict[str, Handler],
    alerts: AlertWorker | None,
) -> IngestWorker:
    ingest = Ingest(store, setup.registry, GatewayMessages(handlers))
    worker = IngestWorker(
        ingest=ingest,
        inbox=inbox,
        subscriber=subscriber,
        clock=setup.clock,
        stored=alerts.arrived.set if alerts else _nothing,
    )
    if role.takes_records:
        worker.review = Review(store, setup.registry)
        worker.rollups = Rollups(store, setup.registry)
        worker.imports = Imports(setup.configuration.state_dir, ingest, store.owns)
        rate = float(getattr(setup.clock, "rate", 1.0))  # on a bench days end sooner
        worker.compaction = Compaction(store, LOOK_EVERY_S / rate)
    return worker


def _sleepers(alerts: AlertWorker | None, commands: Publisher | None) -> Iterator[Callable[[], None]]:
    if commands is not None:
        yield commands.changed.set
    if alerts is not None:
        yield alerts.arrived.set
        yield alerts.wake_delivery


def _keep_settings(setup: Setup, database: Database) -> None:
    """Note by which network and which rules the service works from now on."""
    rules = setup.alerts.rules if setup.alerts else None
    for kind in keep_all(database, setup.configuration.network, rules, int(setup.clock.now())):
        log.info("new settings are in force", kind=str(kind))


def _sources(setup: Setup, role: Role, reader: Reader, worker: IngestWorker, alerts: AlertWorker | None) -> Sources:
    state_dir = setup.configuration.state_dir
    workers = None if role.takes_records else partial(_workers, reader)
    metrics = Service(
        state_dir=state_dir,
        reader=reader,
        registry=setup.registry,
        clock=setup.clock,
        worker=worker.state,
        undelivered=alerts.engine.undelivered if alerts else None,
        workers=workers,
    )
    return Sources(
        reader=reader,
        registry=setup.registry,
        clock=setup.clock,
        health=lambda: _health(worker, reader, state_dir, workers),
        metrics=metrics.text,
        rules=setup.alerts.rules if setup.alerts else (),
        engine=alerts.engine if alerts else None,
    )


def _workers(reader: Reader) -> WorkersState:
    with reader.books() as books:
        return WorkersState(said_by_workers(books), owned_shards(books), time.time())


def _health(
    worker: IngestWorker, reader: Reader, state_dir: Path, workers: Callable[[], WorkersState] | None
) -> models.Health:
    """Ask everybody; a store or disk that does not answer is a reason, and no failure of this."""
    set_aside: int | str
    disk: Disk | str
    others: WorkersState | None = None
    try:
        set_aside = reader.set_aside()
        others = None if workers is None else workers()
    except CloudError as error:
        set_aside = str(error)
    try:
        usage = shutil.disk_usage(state_dir)
        disk = Disk(usage.total, usage.free)
    except OSError as error:
        disk = f"{state_dir} is out of reach: {error.strerror}"
    return health(worker.state(), set_aside, disk, others)


def _handlers(store: Store | None, alerts: AlertWorker | None, commands: Publisher | None) -> dict[str, Handler]:
    """Return who takes what gateways send that is no record. Without alerts, warnings are set aside."""
    handlers: dict[str, Handler] = {}
    if store is not None:
        handlers["losses"] = LossTaker(store).take
    if commands is not None:
        handlers["results"] = commands.take
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


def _thread(name: str, work: Callable[[], None], main: MainWork, failures: list[Exception]) -> threading.Thread:
    def guarded() -> None:
        try:
            work()
        except Exception as error:  # a thread that dies in silence would look like a quiet river
            log.exception("stopping", thread=name, reason=str(error))
            failures.append(error)
            main.stop()

    return threading.Thread(target=guarded, name=name, daemon=True)


def _nothing() -> None:
    """Nobody follows the arrivals."""
