"""Who carries out which command: the line of its station, its line, or the gateway itself."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Protocol

from edge_gateway import station_jobs
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.errands import Details, Errand
from edge_gateway.errors import JobFailed, OutboxError
from edge_gateway.host_clock import no_doubt
from edge_gateway.line_jobs import Job, Result, Steps
from edge_gateway.slices import Range
from edge_gateway.station_link import StationLink
from edge_gateway.update_jobs import Update, configuration_update, firmware_update, update
from station_config import command as kinds
from station_config.clock import Clock
from station_config.command import AnyCommand

THIS_GATEWAY = "gateway"
RANGES_TOLD = 100  # of each journal
Remember = Callable[[Mapping[str, object]], None]
Asked = Future[dict[int, list[Range]]]
AskAgain = Callable[[str, Mapping[int, Sequence[Range]]], Asked]
NO_DIRECT: Mapping[str, AskAgain] = {}


class JobLine(Protocol):
    """A line that does jobs (poller.LinePoller)."""

    def submit(self, job: Job[Result], address: int) -> Future[Result]:
        """Have a job done for the station at `address`."""

    def ask_again(self, station: str, in_cloud: Mapping[int, Sequence[Range]]) -> Asked:
        """Have what the cloud has not of a station fetched again; the Future tells what, by journal."""


class Place(NamedTuple):
    """Where a station is."""

    line: str
    address: int


class CommandWork:
    """Carries commands out. `restart` has the gateway's process begin anew; `recent_log` returns its newest lines;
    `direct` has what of stations without a board is fetched again."""

    def __init__(
        self,
        configuration: GatewayConfiguration,
        lines: Mapping[str, JobLine],
        clock: Clock,
        recent_log: Callable[[], list[str]],
        restart: Callable[[], None],
        host_clock_doubt: Callable[[], str | None] = no_doubt,
        direct: Mapping[str, AskAgain] = NO_DIRECT,
    ) -> None:
        self._lines = lines
        self._direct = direct
        self._clock = clock
        self._host_clock_doubt = host_clock_doubt
        self._recent_log = recent_log
        self._restart = restart
        self._places = {
            station.id: Place(line.name, station.address) for line in configuration.lines for station in line.stations
        }
        self._process = uuid.uuid4().hex

    def target(self, command: AnyCommand) -> str | None:
        """Return what a command is for, the queue it waits in; None when that is not here."""
        if isinstance(command, kinds.BusScan):
            return f"line {command.arguments.line}" if command.arguments.line in self._lines else None
        station = command.arguments.station
        if station is None:
            return THIS_GATEWAY
        is_here = station in self._places or (isinstance(command, kinds.ReadAgain) and station in self._direct)
        return f"station {station}" if is_here else None

    def first_progress(self, command: AnyCommand) -> dict[str, object]:
        """Return what has to be on disk before a command starts."""
        is_own = isinstance(command, kinds.Reboot) and command.arguments.station is None
        return {"process": self._process} if is_own else {}

    def submit(self, command: AnyCommand, progress: Mapping[str, Any], remember: Remember) -> Future[Details]:
        """Carry a command out; a CommandError comes out of the Future when that cannot be."""
        if isinstance(command, kinds.BusScan):
            arguments = command.arguments
            errand = Errand("", self._clock.now, command.expires_at)
            return self._on_line(
                arguments.line, 0, lambda link, _: station_jobs.scan(link, arguments.first, arguments.last, errand)
            )
        station = command.arguments.station
        if station is None:
            return self._at_the_gateway(command, progress)
        errand = Errand(station, self._clock.now, command.expires_at, remember, dict(progress))
        place = self._places.get(station)
        if isinstance(command, kinds.ReadAgain) and station in self._direct:
            return _ask_again(command, self._direct[station])
        if place is None:
            return _failed(f"this gateway no longer has station {station}")
        if isinstance(command, kinds.ReadAgain) and place.line in self._lines:
            return _ask_again(command, self._lines[place.line].ask_again)
        doubt = self._host_clock_doubt() if isinstance(command, kinds.SetClock) else None
        if doubt is not None:
            return _failed(f"{doubt}: it sets no other")
        return self._on_line(place.line, place.address, partial(_station_job, command, errand))

    def _on_line(self, line: str, address: int, job: Job[Details]) -> Future[Details]:
        if line not in self._lines:
            return _failed(f"this gateway no longer has line {line}")
        return self._lines[line].submit(job, address)

    def _at_the_gateway(self, command: AnyCommand, progress: Mapping[str, Any]) -> Future[Details]:
        if isinstance(command, kinds.Logs):
            return _done({"log": "\n".join(self._recent_log())})
        if progress.get("process") != self._process:  # the process that was to end has ended
            return _done({"restarted": True})
        self._restart()
        return Future()  # its result comes from the next process


def _station_job(command: AnyCommand, errand: Errand, link: StationLink, address: int) -> Steps[Details]:
    match command:
        case kinds.ReadNow():
            return station_jobs.read_now(link, address, errand)
        case kinds.SetClock():
            return station_jobs.set_clock(link, address, errand)
        case kinds.CalibrationMode():
            return station_jobs.calibration_mode(link, address, errand, command.arguments.sensor, command.arguments.on)
        case kinds.Logs():
            return station_jobs.read_logs(link, address, errand)
        case kinds.Reboot():
            return station_jobs.reboot(link, address, errand)
        case kinds.Configuration():
            return update(link, address, errand, _checked(command.arguments.data, errand.station, address))
        case kinds.Firmware():
            return update(link, address, errand, firmware_update(command.arguments.data))
        case _:
            raise JobFailed(f"{command.kind} is nothing a station does")


def _ask_again(command: kinds.ReadAgain, ask: AskAgain) -> Future[Details]:
    told: Future[Details] = Future()
    in_cloud = {one.journal: one.ranges for one in command.arguments.in_cloud}
    ask(command.arguments.station, in_cloud).add_done_callback(partial(_tell_what_is_asked, told))
    return told


def _tell_what_is_asked(told: Future[Details], asked: Asked) -> None:
    error = asked.exception()
    if error is not None:
        told.set_exception(JobFailed(str(error)) if isinstance(error, OutboxError) else error)
        return
    by_journal = asked.result()
    records = sum(last - first + 1 for ranges in by_journal.values() for first, last in ranges)
    shown = {f"{journal:08x}": ranges[:RANGES_TOLD] for journal, ranges in by_journal.items()}
    told.set_result({"records": records, "ranges": shown})


def _checked(content: bytes, station: str, address: int) -> Update:
    """Return the update; a configuration that would take the station away from this gateway is not even sent."""
    try:
        found = json.loads(content)
    except ValueError as error:
        raise JobFailed(f"this configuration is not JSON: {error}") from None
    named = (found.get("station"), found.get("address")) if isinstance(found, dict) else (None, None)
    if named != (station, address):
        raise JobFailed(
            f"this configuration is of station {named[0]!r} at address {named[1]!r}, not {station!r} at {address}"
        )
    return configuration_update(content)


def _done(details: Details) -> Future[Details]:
    future: Future[Details] = Future()
    future.set_result(details)
    return future


def _failed(reason: str) -> Future[Details]:
    future: Future[Details] = Future()
    future.set_exception(JobFailed(reason))
    return future
