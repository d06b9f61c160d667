"""A station without a board: firmware.station with a journal in a file, the host's clock, and a line of the gateway.

So a sample is taken, averaged and recorded by the code a board runs; what differs is what it stands on. A second loop
carries the journal into the outbox as a line's thread carries a board's: stored there first, then acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from edge_gateway.configuration import LineConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.direct.clients import RtuInstruments, TcpInstruments
from edge_gateway.direct.clock import DirectClock
from edge_gateway.direct.journal import DirectJournal
from edge_gateway.errors import OutboxUnavailable
from edge_gateway.host_clock import no_doubt
from edge_gateway.outbox import Outbox
from edge_gateway.outbox_store import OutboxStore
from edge_gateway.slices import Loss, Progress, Series, Slice
from edge_gateway.station_policy import OVERWRITTEN
from firmware import ticks as real_ticks
from firmware.errors import JournalError
from firmware.instruments import Instrument
from firmware.record import EVENT_CLOCK_SET, NO_VALUE, NOT_EVALUATED
from firmware.sampler import Channels
from firmware.station import Station
from station_config.clock import Clock

log = structlog.get_logger()

InstrumentClient = RtuInstruments | TcpInstruments
RECORDS_AT_ONCE = 600
LOOK_S = 0.25
LEAST_SLEEP_MS = 100  # a board looks at its clock every 20 ms; here each look would wake the whole process
CONTACT_EVERY_S = 1.0
REST_S = 5.0  # after a write that failed
HEALTHY_S = 150.0  # firmware.station feeds its watchdog once a second while its loops come round within two minutes


@dataclass(frozen=True)
class DirectPlan:
    """A station without a board: its line, and the configuration a board would have (firmware.configuration)."""

    id: str
    line: LineConfiguration
    board: Any
    journal_records: int

    @property
    def units(self) -> tuple[int, ...]:
        """The addresses of its instruments."""
        return tuple(sensor.address for sensor in self.board.sensors)


class DirectStation:
    """One station's thread."""

    def __init__(
        self,
        plan: DirectPlan,
        client: InstrumentClient,
        journal_path: Path,
        outbox: Outbox,
        contacts: ContactBook,
        clock: Clock,
        host_doubt: Callable[[], str | None] = no_doubt,
    ) -> None:
        self._plan = plan
        self._client = client
        self._outbox = outbox
        self._contacts = contacts
        self._clock = clock
        self._host_doubt = host_doubt
        self._fed_at = 0.0
        self._alarm = ""
        self._log = log.bind(station=plan.id, line=plan.line.name)
        self._journal = DirectJournal(journal_path, plan.journal_records, os.urandom)

    def run(self, stop: threading.Event) -> None:
        """Sample, record and carry into the outbox until `stop` is set.

        Raises OutboxDamaged, OutboxClosed, and OutboxUnavailable when the journal cannot be begun.
        """
        try:
            self._journal.open()
        except JournalError as error:
            self._note(reachable=False, reason=str(error))
            raise OutboxUnavailable(str(error)) from error
        try:
            asyncio.run(self._run(stop))
        except JournalError as error:  # while it runs the station keeps what it cannot store; at the start it waits
            self._note(reachable=False, reason=str(error))
            raise OutboxUnavailable(str(error)) from error
        finally:
            self._journal.close()

    def feed(self) -> None:
        """Note that all loops of the station come round: it calls this where a board feeds its watchdog."""
        self._fed_at = time.monotonic()

    async def _run(self, stop: threading.Event) -> None:
        clock = DirectClock(self._clock, self._note_step, self._host_doubt)
        channels = Channels()
        instruments = [Instrument(sensor, clock, channels) for sensor in self._plan.board.sensors]
        ticks = _Ticks(clock.rate)
        station = Station(
            self._plan.board, clock, self._journal, _Log(self._log), self._client, channels, instruments, ticks
        )
        station.note_start(0)
        self._log.info("the gateway asks a station's instruments itself", sensors=len(instruments))
        self.feed()
        works: list[Coroutine[Any, Any, None]] = [station.run(None, self), self._carry(), self._tell(channels)]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await self._until_stopped(stop, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_stopped(self, stop: threading.Event, tasks: list[asyncio.Task[None]]) -> None:
        """Come round while the station does; a loop that has ended tells why."""
        while time.monotonic() - self._fed_at > HEALTHY_S or not stop.is_set():
            done, _ = await asyncio.wait(tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    def _note_step(self, now: int, step_s: int) -> None:
        self._log.info("the clock was set", step_s=step_s)
        self._journal.append([(now, step_s, 0, EVENT_CLOCK_SET, NOT_EVALUATED)])

    async def _carry(self) -> None:
        """Carry the journal into the outbox. Raises OutboxDamaged, OutboxClosed."""
        settled: dict[Series, Progress] = {}
        while True:
            try:
                moved = await self._carry_once(settled)
            except (OutboxUnavailable, JournalError) as error:
                self._log.error("records stay in the station's journal", error=str(error))
                await asyncio.sleep(REST_S)
                continue
            if not moved:
                await asyncio.sleep(LOOK_S)

    async def _carry_once(self, settled: dict[Series, Progress]) -> bool:
        """Store what comes next, then acknowledge it; say whether anything moved."""
        journal = self._journal
        series, begins_at = Series(self._plan.id, journal.id), journal.first_seq
        if series not in settled:
            settled.clear()
            settled[series] = await self._write(lambda store: _begun(store, series, begins_at, self._clock.now()))
            journal.acknowledge(settled[series].through)
        progress = settled[series]
        if overwritten := progress.missing(0, begins_at - 1):
            loss = Loss(series, *overwritten[0], OVERWRITTEN)
            self._log.error("records lost before they were stored", first_seq=loss.first_seq, last_seq=loss.last_seq)
            settled[series] = await self._write(lambda store: _lost(store, loss, self._clock.now()))
            return True
        self._alarm = ""
        if progress.through >= journal.next_seq:
            self._alarm = f"its journal ends at {journal.next_seq - 1}, {progress.through} are stored here"
        records = journal.read(progress.through + 1, RECORDS_AT_ONCE)
        if not records:
            return False
        piece = Slice(series, progress.through + 1, records)
        settled[series] = await self._write(lambda store: store.append_anywhere(piece, begins_at, self._clock.now()))
        journal.acknowledge(settled[series].through)
        return True

    async def _write(self, change: Any) -> Progress:
        progress: Progress = await asyncio.to_thread(self._outbox.write, change)
        return progress

    async def _tell(self, channels: Any) -> None:
        """Keep the station's contact: what its instruments say, and where its journal stands."""
        while True:
            await asyncio.sleep(CONTACT_EVERY_S)
            values: dict[int, bool] = {}
            for row in range(len(channels)):
                here = channels.live_flag[row] != NO_VALUE
                values[channels.sensor[row]] = values.get(channels.sensor[row], False) or here
            silent = [str(sensor) for sensor, here in values.items() if not here]
            reason = f"no value of sensor {', '.join(silent)}" if silent else "answers"
            self._note(reachable=len(silent) < len(values), reason=self._alarm or reason)

    def _note(self, *, reachable: bool, reason: str) -> None:
        journal, client = self._journal, self._client
        before = self._contacts.all()[self._plan.id]
        self._contacts.update(
            self._plan.id,
            reachable=reachable,
            reason=reason,
            journal=journal.id or None,
            first_seq=journal.first_seq,
            next_seq=journal.next_seq,
            acknowledged=journal.stored_through,
            last_contact=int(self._clock.now()) if reachable else before.last_contact,
            questions=client.polls,
            timeouts=client.timeouts,
            crc_errors=client.crc_errors,
            late_answers=client.late_answers,
        )


class _Ticks:
    """What firmware.station wants of firmware.ticks; on a fast bench its loops look as often as on a board."""

    ticks_ms = staticmethod(real_ticks.ticks_ms)
    ticks_diff = staticmethod(real_ticks.ticks_diff)

    def __init__(self, rate: float) -> None:
        self._least_ms = LEAST_SLEEP_MS if rate == 1.0 else 0

    def sleep_ms(self, duration_ms: float) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(max(duration_ms, self._least_ms) / 1000)


class _Log:
    """What firmware.station wants of a log."""

    def __init__(self, bound: Any) -> None:
        self._log = bound
        self._told = ""

    def write(self, text: str) -> None:
        if text != self._told:
            self._log.warning("the station says", text=text)
        self._told = text

    def fault(self, where: str, error: BaseException) -> None:
        self.write(f"{where}: {type(error).__name__}: {error}")


def _begun(store: OutboxStore, series: Series, first_seq: int, now: float) -> Progress:
    store.begin(series, first_seq, now)
    return store.progress(series)


def _lost(store: OutboxStore, loss: Loss, now: float) -> Progress:
    store.declare_lost(loss, now)
    return store.progress(loss.series)
