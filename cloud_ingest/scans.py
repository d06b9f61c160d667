"""The rows of the log as they lie on disk: all that 64 neighbouring series say of one moment, packed in one blob.

A station's series have neighbouring numbers, so a scan is mostly what one station measured at one moment. SQLite takes
it as one row where it would take one for each observation, and reading is one numpy call for many.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Ints, SeriesKey
from cloud_ingest.observations import NOBODY, Logged
from firmware.record import MISSING

GROUP_BITS = 6  # of a series number: the others say which group it is in
GROUP = 1 << GROUP_BITS
ROW_DTYPE = np.dtype(
    [
        ("series", "<u4"),
        ("count", "<i4"),  # MISSING in derived rows
        ("value", "<f8"),  # NaN where there is none, or where the count on its scale is it
        ("calibration", "<u4"),
        ("flag", "u1"),
        ("failed", "<u4"),
        ("journal", "<i4"),  # NOBODY in derived rows
        ("seq", "<u4"),
    ]
)

Rows = npt.NDArray[np.void]  # of ROW_DTYPE
KEY_BITS = 26  # the key of a scan is time << KEY_BITS | group
GROUPS = 1 << KEY_BITS


@dataclass(frozen=True)
class Scans:
    """Rows and their times, sorted by time and series, no two with the same."""

    time: Ints
    rows: Rows

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Scans:
        """Return these rows."""
        at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Scans(self.time.take(at), self.rows.take(at))  # indexing such rows takes 30 times as long

    def find(self, time: Ints, series: Ints) -> npt.NDArray[np.intp]:
        """Return for each (time, series) where it is, -1 where it is not."""
        together = np.concatenate((self.time, time))
        numbers = np.concatenate((self.rows["series"], series)).astype(np.int64)
        order = order_of(together, numbers)  # stable: of two that are alike, ours comes first
        place = np.maximum.accumulate(np.where(order < len(self.time), order, -1))
        found = np.empty(len(together), np.intp)
        found[order] = place
        at = found[len(self.time) :]
        here: npt.NDArray[np.bool_] = at >= 0
        here[here] = (self.time[at[here]] == time[here]) & (self.rows["series"][at[here]] == series[here])
        return np.where(here, at, -1)


def joined(*parts: Scans) -> Scans:
    """Return the rows of all, one after the other."""
    whole = np.dtype((np.void, ROW_DTYPE.itemsize))  # field by field takes 15 times as long
    rows = np.concatenate([part.rows.view(whole) for part in parts]).view(ROW_DTYPE)
    return Scans(np.concatenate([part.time for part in parts]), rows)


NOTHING = Scans(np.zeros(0, np.int64), np.zeros(0, ROW_DTYPE))


class FreeNumbers:
    """Numbers for new series: the next one of the station's group, or the first of a new group.

    Looks through all series once: a new network brings tens of thousands, and each would look through all before it.
    """

    def __init__(self, keys: Mapping[int, SeriesKey]) -> None:
        self._keys = keys
        self._most = max(keys, default=0)
        self._last: dict[str, int] = {}
        for number in sorted(keys):
            self._last[keys[number].station] = number

    def take(self, station: str) -> int:
        """Return a number that is nobody's; it is this station's from now on."""
        following = 1 + self._last.get(station, -1)
        if following % GROUP == 0 or following in self._keys:
            following = (self._most // GROUP + 1) * GROUP
        self._last[station] = following
        self._most = max(self._most, following)
        return following


def order_of(time: Ints, series: Ints) -> npt.NDArray[np.intp]:
    """Return the stable order by time and series."""
    if len(time) and int(time.max()) - int(time.min()) >= 1 << 31:
        return np.lexsort((series, time))
    packed = ((time - (time.min() if len(time) else 0)) << 32) | series
    return np.argsort(packed, kind="stable")  # what is nearly sorted already takes next to no time


def starts_of(*columns: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return where a run of rows begins that agree in all (sorted) columns."""
    new = np.ones(len(columns[0]), np.bool_)
    if len(new):
        new[1:] = False
        for column in columns:
            new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)


def empty_rows(number: int) -> Rows:
    """Return rows to be filled, as derived ones without a value."""
    rows = np.zeros(number, ROW_DTYPE)
    rows["count"], rows["journal"], rows["value"] = MISSING, NOBODY, np.nan
    return rows


def keys_of(scans: Scans) -> tuple[Ints, npt.NDArray[np.intp]]:
    """Return the keys of sorted rows' scans, and where each begins."""
    keys = pack_keys(scans.time, scans.rows["series"])
    starts = starts_of(keys)
    return keys[starts], starts


def pack_keys(time: Ints, series: npt.NDArray[Any]) -> Ints:
    """Return the key of each row's scan."""
    keys: Ints = (time << KEY_BITS) | (series >> GROUP_BITS)
    return keys


def unpacked(found: Sequence[tuple[int, bytes]]) -> Scans:
    """Return scans (time, blob), in order of time and group, as rows."""
    if not found:
        return NOTHING
    times, blobs = zip(*found, strict=True)
    lengths = np.fromiter(map(len, blobs), np.int64, len(blobs)) // ROW_DTYPE.itemsize
    return Scans(np.repeat(np.array(times, np.int64), lengths), np.frombuffer(b"".join(blobs), ROW_DTYPE))


def scans_of(logged: Mapping[int, Logged]) -> Scans:
    """Return the rows of some series together, in order of time and series."""
    parts = []
    for number, columns in logged.items():
        rows = np.zeros(len(columns.time), ROW_DTYPE)
        rows["series"] = number
        for name in ("count", "value", "calibration", "flag", "failed", "journal", "seq"):
            rows[name] = getattr(columns, name)
        parts.append(Scans(columns.time, rows))
    if not parts:
        return NOTHING
    time, packed = np.concatenate([one.time for one in parts]), np.concatenate([one.rows for one in parts])
    return Scans(time, packed).take(order_of(time, packed["series"].astype(np.int64)))


def as_tuples(scans: Scans) -> list[tuple[Any, ...]]:
    """Return (time, series, count, value, flag, journal, seq, calibration, failed) of each row, None for no value."""
    rows = scans.rows
    nobody = rows["journal"] == NOBODY
    value = rows["value"].astype(object)
    value[np.isnan(rows["value"])] = None
    of_records = {name: rows[name].astype(object) for name in ("count", "journal", "seq")}
    for column in of_records.values():
        column[nobody] = None
    columns = (scans.time, rows["series"], of_records["count"], value, rows["flag"], of_records["journal"])
    return list(
        zip(*(one.tolist() for one in (*columns, of_records["seq"], rows["calibration"], rows["failed"])), strict=True)
    )


def read_scans(connection: sqlite3.Connection, groups: Iterable[int] | None, first: int, last: int) -> Scans:
    """Return the rows of these groups of series (None: all) from first to last (times, both included)."""
    if groups is None:
        query = "SELECT time, rows FROM scans WHERE time BETWEEN ? AND ? ORDER BY time, series_group"
        return unpacked(connection.execute(query, (first, last)).fetchall())
    query = (
        "SELECT time, rows FROM scans WHERE time BETWEEN ? AND ?"
        " AND series_group IN (SELECT value FROM json_each(?)) ORDER BY time, series_group"
    )
    return unpacked(connection.execute(query, (first, last, json.dumps(sorted(set(groups))))).fetchall())


def load_scans(connection: sqlite3.Connection, keys: Ints) -> Scans:
    """Return those of the scans with these keys that are there."""
    found = connection.execute(
        "SELECT scans.time, rows FROM json_each(?) AS wanted CROSS JOIN scans ON scans.time = wanted.value >> ?"
        " AND series_group = wanted.value & ?",
        (json.dumps(np.sort(keys).tolist()), KEY_BITS, GROUPS - 1),
    )
    return unpacked(found.fetchall())


def put_scans(connection: sqlite3.Connection, scans: Scans) -> None:
    """Write sorted rows as scans, in place of those with the same keys: each must be whole."""
    keys, starts = keys_of(scans)
    data = scans.rows.tobytes()
    borders = [*(starts * ROW_DTYPE.itemsize).tolist(), len(data)]
    blobs = map(data.__getitem__, map(slice, borders[:-1], borders[1:]))  # no line of Python for each scan
    connection.executemany(
        "INSERT INTO scans VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET rows = excluded.rows",
        zip((keys >> KEY_BITS).tolist(), (keys & (GROUPS - 1)).tolist(), blobs, strict=True),
    )


def remove_rows(connection: sqlite3.Connection, time: Ints, series: Ints) -> None:
    """Take rows out of their scans, and scans out that have none left."""
    keys = np.unique(pack_keys(time, series))
    there = load_scans(connection, keys)
    gone = there.find(time, series)
    left = np.ones(len(there.time), np.bool_)
    left[gone[gone >= 0]] = False
    split = zip((keys >> KEY_BITS).tolist(), (keys & (GROUPS - 1)).tolist(), strict=True)
    connection.executemany("DELETE FROM scans WHERE time = ? AND series_group = ?", split)
    put_scans(connection, there.take(left))


class PackScan:
    """SQL aggregate pack_scan(series, count, value, calibration, flag, failed, journal, seq): rows of the log as it was
    up to schema 6, in order of series, as a blob."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def step(self, *row: Any) -> None:
        """Take one row."""
        defaults = (0, MISSING, float("nan"), 0, 0, 0, NOBODY, 0)
        self._rows.append(tuple(default if one is None else one for one, default in zip(row, defaults, strict=True)))

    def finalize(self) -> bytes:
        """Return the scan."""
        return np.array(sorted(self._rows), ROW_DTYPE).tobytes()
