"""Observations in SQLite: the hot log, and chunks of what is closed, read as one.

Where a series has rows in both for the same time, the chunk has the count and whose record it is, the log the layers:
so what ingest writes may always go to the log, whatever is packed already. `put_layer` changes chunks at once, together
with what the log has for them. Nothing is ever in neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from cloud_ingest.chunk_table import Chunk, ChunkTable, merge_columns, merged
from cloud_ingest.chunks import COLUMNS
from cloud_ingest.columns import Bytes, Counted, DerivedValues, Floats, Ints, Layer, Observed, Shown
from cloud_ingest.database import raw, unsettled
from cloud_ingest.errors import ChunkDamaged, Overtaken
from cloud_ingest.observation_log import ObservationLog
from cloud_ingest.observations import NOBODY, Changed, Layered, Logged, LoggedRow, Names, each_at
from cloud_ingest.quality import Test
from cloud_ingest.scan_writer import NewestScans
from firmware.record import GOOD, MISSING, NOT_EVALUATED

_SHOWN = ("time", "count", "value", "flag")
_LAYERED = tuple(Layered.__dataclass_fields__)
_LAYER = ("time", "value", "calibration", "flag", "failed")
_NO_INTS, _NO_FLOATS, _NO_BYTES = np.zeros(0, np.int64), np.zeros(0, np.float64), np.zeros(0, np.uint8)
NO_ROWS = Logged(_NO_INTS, _NO_INTS, _NO_FLOATS, _NO_INTS, _NO_BYTES, _NO_INTS, _NO_INTS, _NO_INTS)


class NewestChunk:
    """The newest time that is in a chunk, as one transaction sees it.

    One that is prepared while another is being committed takes what was known, and looks before it writes.
    """

    def __init__(self, known: int | None = None) -> None:
        self.time = known
        self._guessed = known is not None

    def of(self, chunks: ChunkTable) -> int:
        """Return it; where nothing was known, the table is asked once."""
        if self.time is None:
            self.time = chunks.newest_of_all()
        return self.time

    def check(self, chunks: ChunkTable) -> None:
        """Raise Overtaken when something newer has been packed than what was known."""
        guessed, self._guessed = self._guessed, False
        if guessed and self.time is not None and chunks.newest_of_all() > self.time:
            raise Overtaken("closed observations have been packed")


class ChunkedLog:
    """Log and chunks within one transaction of their SQLite file, reading or writing; see observations.py."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        log: ObservationLog | None = None,
        changed: Changed | None = None,
        changed_since: set[int] | None = None,
        newest: NewestChunk | None = None,
    ) -> None:
        """`changed` is told of every write before it happens; `changed_since` gets the series whose chunks change;
        `newest` is what the one writer remembers."""
        self.log = log or ObservationLog(connection)
        self.changed_since = set() if changed_since is None else changed_since
        self.chunks = ChunkTable(connection)
        self._changed = changed or _nothing
        self._newest = newest or NewestChunk()

    # the writer's side

    def add(self, rows: Observed) -> npt.NDArray[np.bool_]:
        """Store observations (sorted by time, series); return which are in the store now."""
        late = int(np.searchsorted(rows.time, self._newest.of(self.chunks), side="right"))
        if not late:
            return self.log.add(rows)
        taken, same = self._in_chunks(rows, late)
        kept = np.ones(len(rows.time), np.bool_)
        kept[taken] = same[taken]
        kept[~taken] = self.log.add(rows.take(~taken))
        return kept

    def put_derived(self, rows: DerivedValues) -> None:
        """Store derived values; a later computation of the same moment replaces the earlier one."""
        self.log.put_derived(rows)

    def put_layer(self, series: int, layer: Layer, *, derived: bool) -> None:
        """Change the layers of one series at these times: of observed rows that are there; a derived one is made."""
        if not len(layer.time):
            return
        left = np.ones(len(layer.time), np.bool_)
        for chunk in self.chunks.overlapping(series, int(layer.time[0]), int(layer.time[-1])):
            own = (layer.time >= chunk.first) & (layer.time <= chunk.last)
            if own.any():
                self._changed(layer.time[own], series)
                self._put_into(chunk, _rows_of(layer, own), derived=derived)
                left &= ~own
        if left.any():
            self.log.put_layer(series, _rows_of(layer, left), derived=derived)

    def touch(self, chunk: Chunk) -> None:
        """Have everything that was made of a chunk's time made again."""
        self.changed_since.add(chunk.series)
        self._changed(np.append(np.arange(chunk.first, chunk.last, 43200), chunk.last), chunk.series)

    def remove(self, time: Ints, series: Ints) -> None:
        """Take the rows of these times (ascending) and series out: they are in an archive."""
        for number in np.unique(series).tolist():
            self.changed_since.add(number)
            own = time[series == number]
            for chunk in self.chunks.overlapping(number, int(own[0]), int(own[-1])):
                rows = self.chunks.read(chunk)
                gone = np.isin(rows.time, own)
                if gone.any():
                    self.chunks.replace(chunk, rows.take(~gone))
        self.log.remove(time, series)

    def settle(self) -> None:
        """Return: the commit of the transaction makes it durable. Raises Overtaken."""
        self._newest.check(self.chunks)
        self.log.settle()

    # the reader's side

    def at(self, series: int, times: Ints) -> list[LoggedRow]:
        """Return the rows of a series at those of `times` (ascending) it has."""
        if not len(times) or not self.chunks.overlapping(series, int(times[0]), int(times[-1])):
            return self.log.at(series, times)
        try:
            rows = self.logged([series], int(times[0]), int(times[-1]))[series]
        except ChunkDamaged:  # ingest goes on; the review makes what follows from it once it can be read again
            return self.log.at(series, times)
        rows = rows.take(np.isin(rows.time, times))
        columns = (rows.time, rows.count, rows.value, rows.flag, rows.failed, rows.journal)
        return [
            (time, None if journal == NOBODY else count, None if value != value else value, flag, failed)
            for time, count, value, flag, failed, journal in zip(*(one.tolist() for one in columns), strict=True)
        ]

    def at_each(self, series: Ints, times: Ints) -> Logged:
        """Return the row of each of these (series, time), in their order; flag 0 where there is none."""
        if len(times) and int(times.min()) <= self._newest.of(self.chunks):
            return each_at(self.at, series, times)
        return self.log.at_each(series, times)

    def counted(self, series: Iterable[int], first: int, last: int) -> dict[int, Counted]:
        """Return what records said of these series; a series without a row is not there."""
        found = {}
        for number, rows in self._columns(series, first, last, ("time", "count", "failed", "journal")).items():
            observed = rows["journal"] != NOBODY
            if observed.any():
                time, count, failed = (rows[name][observed] for name in ("time", "count", "failed"))
                found[number] = Counted(time, count, (failed & Test.STATION) > 0)
        return found

    def layers(self, series: Iterable[int], first: int, last: int) -> dict[int, Layer]:
        """Return the layers of these series as they are stored; derived series too."""
        columns = self._columns(series, first, last, _LAYER)
        return {number: Layer(*(rows[name] for name in _LAYER)) for number, rows in columns.items()}

    def shown(self, scales: Mapping[int, float], first: int, last: int) -> dict[int, Shown]:
        """Return what people see of these series; count / scale is a value."""
        found = {}
        for number, rows in self._columns(scales, first, last, _SHOWN).items():
            counted = np.where(rows["count"] == MISSING, np.nan, rows["count"] / scales[number])
            value: Floats = np.where(np.isnan(rows["value"]), counted, rows["value"])
            flag: Bytes = rows["flag"]
            found[number] = Shown(rows["time"], value, flag)
        return found

    def layered(self, series: Iterable[int], first: int, last: int) -> dict[int, Layered]:
        """Return counts and layers of these series."""
        columns = self._columns(series, first, last, _LAYERED)
        return {number: Layered(**rows) for number, rows in columns.items()}

    def logged(self, series: Iterable[int], first: int, last: int) -> dict[int, Logged]:
        """Return everything of these series."""
        return {number: Logged(**rows) for number, rows in self._columns(series, first, last, COLUMNS).items()}

    def counts(self, series: Iterable[int], first: int, last: int) -> dict[int, tuple[int, int]]:
        """Return (rows, rows of flag 1 or 2 with a value or a count) by series; one without a row is not there."""
        found = {}
        for number, rows in self._columns(series, first, last, _SHOWN).items():
            if len(rows["time"]):
                usable = (rows["flag"] == GOOD) | (rows["flag"] == NOT_EVALUATED)
                usable &= (rows["count"] != MISSING) | ~np.isnan(rows["value"])
                found[number] = (len(rows["time"]), int(usable.sum()))
        return found

    def blocks(self, series: Iterable[int], block_s: int, shift_s: int = 0) -> list[int]:
        """Return the beginnings of the blocks of time (multiples of block_s) that have a row of these series at
        begin + shift_s <= time < begin + shift_s + block_s."""
        wanted = sorted(series)
        found = set(self.log.blocks(wanted, block_s, shift_s))
        for number in wanted:
            for chunk in self.chunks.overlapping(number, 0, 1 << 62):
                begin, end = ((time - shift_s) // block_s * block_s for time in (chunk.first, chunk.last))
                if not found.issuperset(range(begin, end + 1, block_s)):
                    times = self.chunks.read(chunk).time
                    found.update(((times - shift_s) // block_s * block_s).tolist())
        return sorted(found)

    def newest_time(self, until: int) -> int | None:
        """Return the time of the newest row that is not after `until`, of any series; None when there is none."""
        return max(_there(self.log.newest_time(until), self.chunks.newest_time(until)), default=None)

    def oldest_time(self, since: int) -> int | None:
        """Return the time of the oldest row that is not before `since`, of any series; None when there is none."""
        return min(_there(self.log.oldest_time(since), self.chunks.oldest_time(since)), default=None)

    def _columns(
        self, series: Iterable[int], first: int, last: int, names: Collection[str]
    ) -> dict[int, dict[str, npt.NDArray[Any]]]:
        wanted = sorted(series)
        oldest = self.log.oldest_time(0)
        in_log = self.log.logged(wanted, first, last) if oldest is not None and oldest <= last else {}
        found = {}
        for number in wanted:
            pieces = list(self.chunks.columns(number, first, last, names))
            rows = in_log.get(number, NO_ROWS)
            hot = {name: getattr(rows, name) for name in names}
            packed = _joined(pieces, names)
            found[number] = hot if not pieces else merge_columns(packed, hot) if len(rows.time) else packed
        return found

    def _in_chunks(self, rows: Observed, late: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which rows have a series and time that a chunk has, and which of them are the same record."""
        taken, same = np.zeros((2, len(rows.time)), np.bool_)
        for number in np.unique(rows.series[:late]).tolist():
            own = np.flatnonzero(rows.series[:late] == number)
            times = rows.time[own]
            for chunk in self.chunks.overlapping(number, int(times[0]), int(times[-1])):
                try:
                    there = self.chunks.read(chunk)
                except ChunkDamaged:
                    continue  # what it has cannot be told: a record of its time is kept in the log
                at = np.minimum(np.searchsorted(there.time, times), len(there.time) - 1)
                known = there.time[at] == times
                taken[own[known]] = True
                as_there = (there.journal[at] == rows.journal[own]) & (there.seq[at] == rows.seq[own])
                same[own[known]] = as_there[known]
        return taken, same

    def _put_into(self, chunk: Chunk, layer: Layer, *, derived: bool) -> None:
        self.changed_since.add(chunk.series)
        waiting = self.log.logged([chunk.series], chunk.first, chunk.last)[chunk.series]
        rows = merged(self.chunks.read(chunk), waiting)
        self.chunks.replace(chunk, with_layer(rows, layer, derived=derived))
        if len(waiting.time):
            self.log.remove(waiting.time, np.full(len(waiting.time), chunk.series))


def with_layer(rows: Logged, layer: Layer, *, derived: bool) -> Logged:
    """Return rows with another layer at its times: observed rows that are there; derived ones are made."""
    there = np.isin(layer.time, rows.time)
    if derived and not there.all():
        made = _derived_rows(layer, ~there)
        rows, there = merged(rows, made), np.ones(len(there), np.bool_)
    at = np.searchsorted(rows.time, layer.time[there])
    columns = {name: getattr(rows, name).copy() for name in ("value", "calibration", "flag", "failed")}
    value = layer.value if derived else np.where(layer.calibration == 0, np.nan, layer.value)
    columns["value"][at], columns["flag"][at] = value[there], layer.flag[there]
    columns["failed"][at] = layer.failed[there]
    if not derived:
        columns["calibration"][at] = layer.calibration[there]
    return Logged(**{name: columns.get(name, getattr(rows, name)) for name in COLUMNS})


def _derived_rows(layer: Layer, wanted: npt.NDArray[np.bool_]) -> Logged:
    number = int(wanted.sum())
    nothing = np.zeros(number, np.int64)
    return Logged(
        time=layer.time[wanted],
        count=nothing + MISSING,
        value=layer.value[wanted],
        calibration=layer.calibration[wanted],
        flag=layer.flag[wanted],
        failed=layer.failed[wanted],
        journal=nothing + NOBODY,
        seq=nothing,
    )


def _joined(pieces: list[dict[str, npt.NDArray[Any]]], names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names} if pieces else {}


def _rows_of(layer: Layer, rows: npt.NDArray[np.bool_]) -> Layer:
    return Layer(*(getattr(layer, name)[rows] for name in _LAYER))


def _there(*times: int | None) -> list[int]:
    return [time for time in times if time is not None]


class LogStore:
    """Observations in the SQLite file of the books: an ObservationStore."""

    is_apart = False

    def __init__(self) -> None:
        self._newest = NewestScans()
        self._newest_chunk = NewestChunk()  # as the last transaction saw it
        self._changed_since: set[int] = set()

    def writer(self, books: Connection, names: Names, changed: Changed) -> ChunkedLog:
        """Return the log within the writer's transaction."""
        file = raw(books)
        self._newest_chunk = NewestChunk(self._newest_chunk.time if unsettled(books) else None)
        log = ObservationLog(file, changed, self._newest)
        return ChunkedLog(file, log, changed, self._changed_since, self._newest_chunk)

    def reader(self, books: Connection, names: Names) -> ChunkedLog:
        """Return the log within a reading transaction."""
        return ChunkedLog(raw(books))


def _nothing(_times: Ints, _series: Ints | int) -> None:
    """A reader changes nothing."""
