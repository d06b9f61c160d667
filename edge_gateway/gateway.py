"""The gateway running: one writer, one thread per line, one for the uplink, started, watched and stopped here."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge_gateway.command_desk import CommandDesk
from edge_gateway.command_work import Asked, CommandWork
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import Contact, ContactBook
from edge_gateway.direct.station import DirectPlan
from edge_gateway.direct.works import direct_works
from edge_gateway.errors import OutboxClosed, OutboxDamaged, OutboxError, OutboxRefused, OutboxUnavailable
from edge_gateway.host_clock import HostClock, newest_time_written
from edge_gateway.modbus_works import modbus_works
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits, OutboxStore
from edge_gateway.poller import LinePoller
from edge_gateway.service_manager import ServiceManager
from edge_gateway.sizing import SECONDS_PER_DAY
from edge_gateway.slices import Range
from edge_gateway.station_link import access_line
from edge_gateway.uplink import Uplink
from edge_gateway.warning_configuration import WarningSetup
from edge_gateway.warning_works import warning_works
from edge_gateway.watchdog import Pulse, Watchdog, longest_silence_s
from station_config.clock import Clock

log = structlog.get_logger()

RESTART_PAUSE_S = 5.0
CONTACTS_LOOKED_AT_EVERY_S = 60.0
CONTACTS_FIRST_LOOKED_AT_S = 5.0  # after a start: status and doctor should not show for long what was before it
CONTACTS_KEPT_EVERY_S = 300.0  # their counters are worth no more of a card
DAMAGE_CHECK_INTERVAL_S = 1.0
STOP_DEADLINE_S = 30.0

Work = Callable[[threading.Event], None]
Opened = TypeVar("Opened")


@dataclass(frozen=True)
class CommandSetup:
    """What commands need besides the gateway: whose are carried out, its own newest log lines."""

    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    recent_log: Callable[[], list[str]] = list
    restart: threading.Event = field(default_factory=threading.Event)
    """Set when a command asks for a new process; the gateway stops then."""


def run_gateway(
    configuration: GatewayConfiguration,
    clock: Clock,
    stop: threading.Event,
    service: ServiceManager,
    commands: CommandSetup | None = None,
    warning: WarningSetup | None = None,
    direct: Sequence[DirectPlan] = (),
) -> None:
    """Run until `stop` is set; a damaged outbox is replaced on the way, an unusable disk waited for.

    Raises OutboxRefused when waiting would not help.
    """
    commands = commands or CommandSetup()
    limits = Limits(configuration.outbox.max_bytes, configuration.outbox.max_age_days * SECONDS_PER_DAY)
    host_clock = HostClock(clock, configuration.clock_source)
    with ExitStack() as held:
        _patiently(lambda: held.enter_context(_only_one(configuration.state_dir)), stop, service)
        while not stop.is_set():
            outbox = _patiently(
                lambda: open_outbox(configuration.outbox_path, limits, clock, service.alive, host_clock.doubt),
                stop,
                service,
            )
            if outbox is None:
                return
            try:
                _run_with(configuration, outbox, host_clock, stop, service, commands, warning, direct)
            finally:
                outbox.close()


def _patiently(open_it: Callable[[], Opened], stop: threading.Event, service: ServiceManager) -> Opened | None:
    """Open what the disk may not let us open now; said once, tried until it works. None when `stop` came first."""
    told = ""
    while not stop.is_set():
        try:
            return open_it()
        except OutboxRefused:
            raise
        except OutboxUnavailable as error:
            reason = str(error)
            if reason != told:
                log.critical("the gateway waits for its disk; stations keep their records", reason=reason)
                service.status(f"waits for its disk: {reason}")
            told = reason
            service.alive()
            stop.wait(RESTART_PAUSE_S)
    return None


def _run_with(
    configuration: GatewayConfiguration,
    outbox: Outbox,
    clock: HostClock,
    stop: threading.Event,
    service: ServiceManager,
    commands: CommandSetup,
    warning: WarningSetup | None,
    direct: Sequence[DirectPlan],
) -> None:
    """Run lines and uplink on one outbox until `stop` is set or the outbox turns out damaged."""
    contacts = ContactBook(configuration.station_ids)
    _note_newest_time(outbox, clock)
    accesses = {line.name: access_line(line) for line in configuration.lines}
    pollers = {
        line.name: LinePoller(configuration, line, outbox, contacts, clock, accesses[line.name].client, clock.doubt)
        for line in configuration.lines
    }

    def restart() -> None:
        commands.restart.set()
        stop.set()

    def ask_again(station: str, in_cloud: Mapping[int, Sequence[Range]]) -> Asked:
        seen = contacts.all()[station]
        return outbox.submit(lambda store: store.ask_again(station, in_cloud, seen, clock.now()))

    again = dict.fromkeys((plan.id for plan in direct), ask_again)
    work = CommandWork(configuration, pollers, clock, commands.recent_log, restart, clock.doubt, again)
    desk = CommandDesk(configuration.id, commands.keys, outbox, work, clock, clock.doubt)
    uplink = Uplink(
        configuration,
        outbox,
        contacts,
        clock,
        desk.deliver,
        lambda: {"commands_in": desk.status(), "outbox_trouble": outbox.trouble, "clock": asdict(clock.verdict)},
    )
    outbox.on_change(uplink.wake)
    works: dict[str, Work] = {"uplink": uplink.run, "commands": desk.run}
    works |= {f"line {name}": poller.run for name, poller in pollers.items()}
    works |= direct_works(direct, accesses, configuration.state_dir, outbox, contacts, clock)
    works |= modbus_works(configuration, outbox, contacts, clock)
    works |= warning_works(warning, configuration.state_dir, outbox, clock, clock.doubt)
    silence_s = longest_silence_s(line.timeout_s for line in configuration.lines)
    stop_works, watchdog = threading.Event(), Watchdog(service, silence_s)
    watchdog.watch("outbox", lambda: outbox.busy_since)
    threads = [
        threading.Thread(
            target=_supervise, args=(name, work, outbox, watchdog.pulse(name, stop_works)), name=name, daemon=True
        )
        for name, work in works.items()
    ]
    watch = threading.Thread(target=watchdog.run, args=(stop_works,), name="watchdog", daemon=True)
    log.info(
        "the gateway runs",
        gateway=configuration.id,
        lines=len(configuration.lines),
        stations=len(configuration.station_ids),
    )
    if not commands.keys:
        log.warning("no keys of commands: no command is carried out", advice="[commands] keys_dir in gateway.toml")
    for thread in (*threads, watch):
        thread.start()
    service.ready()
    _wait(watchdog.pulse("main", stop), outbox, contacts, service, clock)
    if stop.is_set():
        service.stopping()
    stop_works.set()
    uplink.wake()
    for thread in (*threads, watch):
        thread.join(STOP_DEADLINE_S)
    for access in accesses.values():
        access.client.close()
    _keep_contacts(outbox, contacts, {})
    uplink.close()
    log.info("the gateway has stopped", still_running=[thread.name for thread in threads if thread.is_alive()])


def _note_newest_time(outbox: Outbox, clock: HostClock) -> None:
    """Tell the clock the newest time that is written down: it cannot be earlier now."""
    reader = outbox.reader()
    try:
        newest_s = newest_time_written(reader)
    except sqlite3.Error as error:
        log.warning("the newest time in the outbox is not known", reason=str(error))
        newest_s = None
    finally:
        reader.close()
    if newest_s is not None:
        clock.note(newest_s)


def _wait(stop: Pulse, outbox: Outbox, contacts: ContactBook, service: ServiceManager, clock: HostClock) -> None:
    """Look at the clock, keep the stations' last contacts on disk; return on `stop` or a damaged outbox."""
    told, believed = "", None
    kept: dict[str, Contact] = {}
    next_look, next_keep = time.monotonic() + CONTACTS_FIRST_LOOKED_AT_S, time.monotonic() + CONTACTS_KEPT_EVERY_S
    while not stop.wait(DAMAGE_CHECK_INTERVAL_S) and not outbox.damaged.is_set():
        if (trusted := clock.look().trusted) is not believed:
            log.info("the clock of this machine", trusted=trusted, reason=clock.verdict.reason)
            believed = trusted
        if (answering := _answering(contacts)) != told:
            service.status(answering)
            told = answering
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + CONTACTS_LOOKED_AT_EVERY_S
            if time.monotonic() >= next_keep or _turned(contacts.all()) != _turned(kept):
                kept = _keep_contacts(outbox, contacts, kept)
                next_keep = time.monotonic() + CONTACTS_KEPT_EVERY_S


def _turned(contacts: Mapping[str, Contact]) -> dict[str, tuple[bool, str, int | None]]:
    """Return what of the contacts a person would want to know soon."""
    return {name: (one.reachable, one.reason, one.journal) for name, one in contacts.items()}


def _answering(contacts: ContactBook) -> str:
    """Return how the stations are in one line, for `systemctl status`."""
    all_of_them = contacts.all().values()
    silent = [contact.station for contact in all_of_them if not contact.reachable]
    text = f"{len(all_of_them) - len(silent)} of {len(all_of_them)} stations answer"
    return f"{text}; silent: {', '.join(silent)}" if silent else text


def _keep_contacts(outbox: Outbox, contacts: ContactBook, kept: dict[str, Contact]) -> dict[str, Contact]:
    """Write the contacts that changed since `kept`, all in one transaction; return what is kept now."""
    now = contacts.all()
    changed = [contact for station, contact in now.items() if kept.get(station) != contact]

    def change(store: OutboxStore) -> None:
        for contact in changed:
            store.note_contact(contact.station, contact.to_json())

    try:
        if changed:
            outbox.write(change)
    except OutboxError as error:
        log.debug("the stations' last contacts could not be kept", reason=str(error))  # the outbox has said so
    return now


def _supervise(name: str, work: Work, outbox: Outbox, stop: threading.Event) -> None:
    """Run one thread's work; after an error that is not the outbox's end it is begun again, and that is said."""
    told = ""
    while not stop.is_set():
        try:
            work(stop)
        except (OutboxClosed, OutboxDamaged) as error:
            log.warning("work ends", thread=name, reason=str(error))
            if isinstance(error, OutboxDamaged):
                outbox.damaged.set()
            return
        except OutboxUnavailable as error:
            if str(error) != told:
                log.warning("work waits for the outbox", thread=name, reason=str(error))
            told = str(error)
            stop.wait(RESTART_PAUSE_S)
        except Exception:  # the edge of a thread: one line's fault must not silence the others
            log.exception("work failed and begins again", thread=name, pause_s=RESTART_PAUSE_S)
            stop.wait(RESTART_PAUSE_S)


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock; two gateways on one outbox would poll one line.

    Raises OutboxUnavailable, OutboxRefused when another gateway has it.
    """
    file = state_dir / "gateway.lock"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = file.open("r" if file.exists() else "w")  # a card that can only be read may be written later
    except OSError as error:
        raise OutboxUnavailable(f"{state_dir}: {error.strerror}; check state_dir and its rights") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutboxRefused(f"{state_dir}: another tram-gateway runs on it; stop that one first") from None
        yield
