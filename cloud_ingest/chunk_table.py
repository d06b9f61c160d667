"""The chunks of closed observations within one transaction of their SQLite file: found, read, merged, written.

A chunk is all that is kept of one series from `first` to `last` (times, both included); chunks of a series never
overlap. It takes what follows it until it has about ten thousand rows or spans a month: a week of minutes, a month of
hours. So neither head nor half-filled page weighs much, and what a question decodes needlessly stays under a
millisecond. The table has row ids: in a table clustered by key the same blobs take three times the room.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_ingest.chunks import COLUMNS, pack, unpack, unpack_columns
from cloud_ingest.columns import Ints
from cloud_ingest.errors import ChunkDamaged
from cloud_ingest.observations import Logged

ROWS = 10_000  # a chunk with fewer takes what follows
MOST_ROWS = 12_500  # late rows make it grow to this, then it is cut
MOST_S = 32 * 86400
MERGE_EFFORT = 2_000  # of one chunk that is written, in rows: its head and its columns, however few rows it has

_OVERLAPPING = "FROM chunks WHERE series = ? AND first BETWEEN ? AND ? AND last >= ? ORDER BY first"
_INSERT = "INSERT INTO chunks (series, first, last, rows, data) VALUES (?, ?, ?, ?, ?)"
_UPDATE = "UPDATE chunks SET first = ?, last = ?, rows = ?, data = ? WHERE id = ?"


class Chunk(NamedTuple):
    """Where a chunk lies, and what of."""

    id: int
    series: int
    first: int
    last: int
    rows: int


class Merged(NamedTuple):
    """How many rows went into a chunk; `effort` in rows that were read or written."""

    rows: int
    effort: int


class ChunkTable:
    """Reads on any connection, writes within the writer's transaction. Reading raises ChunkDamaged."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = self.connection = connection

    def overlapping(self, series: int, first: int, last: int) -> list[Chunk]:
        """Return the chunks of a series that may have rows from first to last, in order of time."""
        rows = self._db.execute(
            f"SELECT id, series, first, last, rows {_OVERLAPPING}",
            (series, first - MOST_S, last, first),
        )
        return [Chunk(*row) for row in rows]

    def overlapping_all(self, series: int) -> list[Chunk]:
        """Return all chunks of a series, in order of time."""
        return self.overlapping(series, 0, 1 << 62)

    def read(self, chunk: Chunk) -> Logged:
        """Return all rows of a chunk."""
        (data,) = self._db.execute("SELECT data FROM chunks WHERE id = ?", (chunk.id,)).fetchone()
        return Logged(**_unpacked(chunk, data, COLUMNS))

    def columns(
        self, series: int, first: int, last: int, names: Collection[str]
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield columns of a series from first to last (times, both included), piece by piece in order of time;
        `names` has "time"."""
        found = self._db.execute(
            f"SELECT id, series, first, last, rows, data {_OVERLAPPING}",
            (series, first - MOST_S, last, first),
        )
        for *where, data in found:
            chunk = Chunk(*where)
            columns = _unpacked(chunk, data, names)
            if chunk.first < first or chunk.last > last:
                begin, end = np.searchsorted(columns["time"], (first, last + 1))
                columns = {name: column[begin:end] for name, column in columns.items()}
            yield columns

    def merge(self, series: int, rows: Logged) -> None:
        """Put rows of a series (times ascending) into chunks: those that are there, or new ones."""
        while len(rows.time):
            rows = rows.take(slice(self.merge_some(series, rows).rows, None))

    def merge_some(self, series: int, rows: Logged) -> Merged:
        """Put the first of these rows into one chunk, no more than a chunk has; return how many, and what it cost."""
        rows = rows.take(slice(0, ROWS))
        known = self.overlapping(series, int(rows.time[0]) - MOST_S, int(rows.time[-1]))
        target = assigned(known, rows.time)
        number = int(np.argmin(np.append(target == target[0], False)))
        own = rows.take(slice(0, number))
        if target[0] < 0:
            self._write(None, series, own)
            return Merged(number, MERGE_EFFORT + number)
        chunk = known[int(target[0])]
        self.replace(chunk, merged(self.read(chunk), own))
        return Merged(number, MERGE_EFFORT + 2 * chunk.rows + number)

    def replace(self, chunk: Chunk, rows: Logged) -> None:
        """Write rows in place of a chunk's; none of them is before or after what other chunks leave free."""
        if len(rows.time):
            self._write(chunk.id, chunk.series, rows)
        else:
            self._db.execute("DELETE FROM chunks WHERE id = ?", (chunk.id,))

    def newest_time(self, until: int) -> int | None:
        """Return the time of the newest row that is not after `until`."""
        newest = self._db.execute("SELECT max(last) FROM chunks WHERE last <= ?", (until,)).fetchone()[0]
        across = self._across(until)
        times = [int(time[time <= until][-1]) for time in across]
        return max([*times, newest] if newest is not None else times, default=None)

    def oldest_time(self, since: int) -> int | None:
        """Return the time of the oldest row that is not before `since`."""
        oldest = self._db.execute("SELECT min(first) FROM chunks WHERE first >= ?", (since,)).fetchone()[0]
        times = [int(time[time >= since][0]) for time in self._across(since)]
        return min([*times, oldest] if oldest is not None else times, default=None)

    def newest_of_all(self) -> int:
        """Return the time of the newest row, 0 without one."""
        return int(self._db.execute("SELECT coalesce(max(last), 0) FROM chunks").fetchone()[0])

    def changes_of_others(self) -> int:
        """Return a number that is another one when another connection has changed the file."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def damaged(self) -> list[int]:
        """Return the ids of the chunks that cannot be read."""
        found = []
        rows = self._db.execute("SELECT id, data FROM chunks ORDER BY id")
        for number, data in rows:
            try:
                unpack(data)
            except ChunkDamaged:
                found.append(number)
        return found

    def set_aside(self, number: int) -> Chunk | None:
        """Take a damaged chunk out of what is read, and keep its bytes; None when it is not there."""
        row = self._db.execute("SELECT id, series, first, last, rows FROM chunks WHERE id = ?", (number,)).fetchone()
        if row is None:
            return None
        self._db.execute(
            "INSERT INTO damaged_chunks (series, first, last, rows, data)"
            " SELECT series, first, last, rows, data FROM chunks WHERE id = ?",
            (number,),
        )
        self._db.execute("DELETE FROM chunks WHERE id = ?", (number,))
        return Chunk(*row)

    def size(self) -> tuple[int, int, int]:
        """Return how many chunks there are, of how many rows and bytes."""
        found = self._db.execute("SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(length(data)), 0) FROM chunks")
        number, rows, size = found.fetchone()
        return int(number), int(rows), int(size)

    def _across(self, moment: int) -> Iterator[Ints]:
        """Yield the times of each chunk that a moment is in."""
        found = self._db.execute(
            "SELECT id, series, first, last, rows, data FROM chunks WHERE last BETWEEN ? AND ? AND first <= ?",
            (moment, moment + MOST_S, moment),
        )
        for *where, data in found:
            yield _unpacked(Chunk(*where), data, ("time",))["time"]

    def _write(self, number: int | None, series: int, rows: Logged) -> None:
        for piece in cut(rows):
            row = (int(piece.time[0]), int(piece.time[-1]), len(piece.time), pack(piece))
            if number is None:
                self._db.execute(_INSERT, (series, *row))
            else:
                self._db.execute(_UPDATE, (*row, number))
            number = None


def assigned(known: list[Chunk], times: Ints) -> npt.NDArray[np.intp]:
    """Return for each row which of the known chunks (in order of time) takes it; -1, -2 …: a new one for each gap."""
    if not known:
        return np.full(len(times), -1)
    first, last, number = (np.array(column) for column in list(zip(*known, strict=True))[2:5])
    before = np.searchsorted(first, times, side="right") - 1
    at = np.maximum(before, 0)
    room = (number[at] < ROWS) & (times - first[at] <= MOST_S)
    taken = (before >= 0) & ((times <= last[at]) | room)
    return np.where(taken, before, -2 - before)


def merged(older: Logged, newer: Logged) -> Logged:
    """Return the rows of both. Where both have a row, counts and identity are the older's, layers the newer's."""
    if len(newer.time) == 0 or len(older.time) == 0 or older.time[-1] < newer.time[0]:
        return Logged(*(np.concatenate((getattr(older, name), getattr(newer, name))) for name in COLUMNS))
    both = merge_columns(*({name: getattr(rows, name) for name in COLUMNS} for rows in (older, newer)))
    return Logged(**both)


def merge_columns(
    older: dict[str, npt.NDArray[Any]], newer: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """The same for some of the columns; "time" is one of them."""
    time = np.concatenate((older["time"], newer["time"]))
    order = np.argsort(time, kind="stable")
    again = np.zeros(len(order), np.bool_)
    again[1:] = time[order[1:]] == time[order[:-1]]
    kept = order[~again]
    layer = kept.copy()
    follows = np.append(again[1:], False)[~again]
    layer[follows] = order[np.flatnonzero(again)]
    both = {name: np.concatenate((older[name], newer[name])) for name in older}
    return {name: column[layer if name in ("value", "flag", "failed") else kept] for name, column in both.items()}


def cut(rows: Logged) -> Iterator[Logged]:
    """Yield rows in pieces that are no longer than a chunk may be."""
    number = len(rows.time)
    pieces = 1 if number <= MOST_ROWS else -(-number // ROWS)
    for at in np.array_split(np.arange(number), pieces):
        begin = int(at[0])
        while begin <= at[-1]:
            end = int(np.searchsorted(rows.time, rows.time[begin] + MOST_S, side="right"))
            end = min(end, int(at[-1]) + 1)
            yield rows.take(slice(begin, end))
            begin = end


def _unpacked(chunk: Chunk, data: bytes, names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    try:
        return unpack_columns(data, names)
    except ChunkDamaged as error:
        first, last = (datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%MZ") for time in chunk[2:4])
        text = f"series {chunk.series} from {first} to {last}: {error}: tram-cloud compact --repair"
        raise ChunkDamaged(text, chunk.id) from None
