"""The hot log of observations in SQLite: one row for each series and time, kept in scans (scans.py), clustered by time.

Rows from records have `count`, the instrument's own number, which never changes; derived rows have none. `value` is
what people see: NaN where the count on its scale is that already, else calibrated or derived. `flag` and `failed` (the
set of tests that objected) are layers that quality control may change later.

What a transaction writes waits in memory, so that a scan is written once however many of its rows change; `settle`
writes it, and so does every question but `at`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Counted, DerivedValues, Ints, Layer, Observed, Shown
from cloud_ingest.observations import NOBODY, Changed, Logged, LoggedRow
from cloud_ingest.quality import Test
from cloud_ingest.scan_windows import Key, Window, read_window, take_out
from cloud_ingest.scan_writer import LAYER, OTHER, NewestScans, ScanWriter
from cloud_ingest.scans import GROUP_BITS, Rows, Scans, empty_rows, read_scans, remove_rows
from firmware.record import GOOD, MISSING, NOT_EVALUATED


class ObservationLog:
    """The log within one transaction of its SQLite file, reading or writing."""

    def __init__(
        self, connection: sqlite3.Connection, changed: Changed | None = None, newest: NewestScans | None = None
    ) -> None:
        """`changed` is told of every write before it happens; `newest` is what the one writer remembers."""
        self._db = connection
        self._changed = changed or _nothing
        self._writer = ScanWriter(connection, newest)

    def add(self, rows: Observed) -> npt.NDArray[np.bool_]:
        """Store observations (sorted by time, series); return which are in the log now.

        Not in it is a row whose series and time another record has: the first stays. The same record again is in.
        """
        packed = empty_rows(len(rows.time))
        for name in ("series", "count", "calibration", "flag", "failed", "journal", "seq"):
            packed[name] = getattr(rows, name)
        packed["value"] = np.where(rows.calibration == 0, np.nan, rows.value)
        self._changed(rows.time, rows.series)
        return self._writer.add_first(Scans(rows.time, packed))

    def at(self, series: int, times: Ints) -> list[LoggedRow]:
        """Return the rows of a series at those of `times` (ascending) it has."""
        found = self._writer.at(times, np.full(len(times), series))
        columns = (found.time, *(found.rows[name] for name in ("count", "value", "flag", "failed", "journal")))
        return [
            (time, None if journal == NOBODY else count, None if value != value else value, flag, failed)
            for time, count, value, flag, failed, journal in zip(*(one.tolist() for one in columns), strict=True)
        ]

    def at_each(self, series: Ints, times: Ints) -> Logged:
        """Return the row of each of these (series, time), in their order; flag 0 where there is none."""
        rows, there = self._writer.at_each(times, series)
        flag = np.where(there, rows["flag"], 0).astype(np.uint8)
        return Logged(
            *(times, _ints(rows["count"]), np.array(rows["value"]), _ints(rows["calibration"]), flag),
            *(_ints(rows["failed"]), _ints(rows["journal"]), _ints(rows["seq"])),
        )

    def put_derived(self, rows: DerivedValues) -> None:
        """Store derived values; a later computation of the same moment replaces the earlier one."""
        packed = empty_rows(len(rows.time))
        packed["series"] = rows.series
        packed["value"], packed["flag"], packed["failed"] = rows.value, rows.flag, rows.failed
        self._changed(rows.time, rows.series)
        self._writer.put(Scans(rows.time, packed), OTHER)

    def put_layer(self, series: int, layer: Layer, *, derived: bool) -> None:
        """Change the layers of one series at these times; a derived row that is not there is made."""
        packed = empty_rows(len(layer.time))
        packed["series"], packed["calibration"] = series, layer.calibration
        packed["value"] = layer.value if derived else np.where(layer.calibration == 0, np.nan, layer.value)
        packed["flag"], packed["failed"] = layer.flag, layer.failed
        self._changed(layer.time, series)
        self._writer.put(Scans(layer.time, packed), OTHER if derived else LAYER)

    def settle(self) -> None:
        """Write what waits; the commit of the transaction makes it durable."""
        self._writer.flush()

    def counted(self, series: Iterable[int], first: int, last: int) -> dict[int, Counted]:
        """Return what records said of these series from first to last (times, both included)."""
        return {
            number: Counted(time, _ints(rows["count"]), (rows["failed"] & Test.STATION) > 0)
            for number, (time, rows) in self._split(series, first, last, observed_only=True).items()
            if len(time)
        }

    def layers(self, series: Iterable[int], first: int, last: int) -> dict[int, Layer]:
        """Return the layers of these series as they are stored; derived series too."""
        return {
            number: Layer(
                *(time, np.array(rows["value"]), _ints(rows["calibration"])),
                *(np.array(rows["flag"]), _ints(rows["failed"])),
            )
            for number, (time, rows) in self._split(series, first, last).items()
        }

    def shown(self, scales: Mapping[int, float], first: int, last: int) -> dict[int, Shown]:
        """Return what people see of series from first to last (times, both included); count / scale is a value."""
        found = {}
        for number, (time, rows) in self._split(scales, first, last).items():
            counted = np.where(rows["count"] == MISSING, np.nan, rows["count"] / scales[number])
            value = np.where(np.isnan(rows["value"]), counted, rows["value"])
            found[number] = Shown(time, value, np.array(rows["flag"]))
        return found

    def logged(self, series: Iterable[int], first: int, last: int) -> dict[int, Logged]:
        """Return everything of these series from first to last (times, both included)."""
        return {
            number: Logged(
                *(time, _ints(rows["count"]), np.array(rows["value"]), _ints(rows["calibration"])),
                *(np.array(rows["flag"]), _ints(rows["failed"]), _ints(rows["journal"]), _ints(rows["seq"])),
            )
            for number, (time, rows) in self._split(series, first, last).items()
        }

    def counts(self, series: Iterable[int], first: int, last: int) -> dict[int, tuple[int, int]]:
        """Return (rows, rows of flag 1 or 2 with a value or a count) by series; one without a row is not there."""
        found = {}
        for number, (time, rows) in self._split(series, first, last).items():
            usable = (rows["flag"] == GOOD) | (rows["flag"] == NOT_EVALUATED)
            usable &= ~np.isnan(rows["value"]) | (rows["count"] != MISSING)
            if len(time):
                found[number] = (len(time), int(usable.sum()))
        return found

    def window(self, groups: Iterable[int], begin: Key, last: int, effort: int) -> Window:
        """Return the scans of these groups of series from `begin` to `last` (a time, included), as far as `effort`
        reaches."""
        self.settle()
        return read_window(self._db, groups, begin, last, effort)

    def take_out(self, window: Window, gone: npt.NDArray[np.bool_]) -> None:
        """Take rows of a window of this transaction out: they are in chunks."""
        take_out(self._db, window.scans, gone)

    def remove(self, time: Ints, series: Ints) -> None:
        """Take the rows of these times and series out: they are in chunks, or in an archive."""
        self.settle()
        remove_rows(self._db, time, series)

    def blocks(self, series: Iterable[int], block_s: int, shift_s: int = 0) -> list[int]:
        """Return the beginnings of the blocks of time (multiples of block_s) that have a row of these series at
        begin + shift_s <= time < begin + shift_s + block_s."""
        self.settle()
        wanted = list(series)
        perhaps = self._db.execute(
            "SELECT DISTINCT (time - ?) / ? * ? FROM scans WHERE series_group IN (SELECT value FROM json_each(?))"
            " ORDER BY 1",
            (shift_s, block_s, block_s, json.dumps(_groups(wanted))),
        ).fetchall()
        spans = ((begin, begin + shift_s, begin + shift_s + block_s - 1) for (begin,) in perhaps)
        return [begin for begin, first, last in spans if len(self._read(wanted, first, last).time)]

    def newest_time(self, until: int) -> int | None:
        """Return the time of the newest row that is not after `until`, of any series; None when there is none."""
        self.settle()
        row = self._db.execute("SELECT max(time) FROM scans WHERE time <= ?", (until,)).fetchone()
        return None if row[0] is None else int(row[0])

    def oldest_time(self, since: int) -> int | None:
        """Return the time of the oldest row that is not before `since`, of any series; None when there is none."""
        self.settle()
        row = self._db.execute("SELECT min(time) FROM scans WHERE time >= ?", (since,)).fetchone()
        return None if row[0] is None else int(row[0])

    def _read(self, wanted: list[int], first: int, last: int) -> Scans:
        found = read_scans(self._db, _groups(wanted), first, last)
        return found.take(np.isin(found.rows["series"], np.array(wanted, np.int64)))

    def _split(
        self, series: Iterable[int], first: int, last: int, *, observed_only: bool = False
    ) -> dict[int, tuple[Ints, Rows]]:
        """Return times and rows by series."""
        self.settle()
        wanted = sorted(series)
        found = self._read(wanted, first, last)
        if observed_only:
            found = found.take(found.rows["journal"] != NOBODY)
        of = found.rows["series"]
        order = np.argsort(of, kind="stable")  # the log is in order of time, so each series stays so
        edges = np.searchsorted(of[order], [*wanted, np.iinfo(np.int64).max])
        parts = ((one, order[edges[at] : edges[at + 1]]) for at, one in enumerate(wanted))
        return {one: (found.time[rows], found.rows[rows]) for one, rows in parts}


def _groups(series: Iterable[int]) -> list[int]:
    return sorted({number >> GROUP_BITS for number in series})


def _ints(column: npt.NDArray[Any]) -> Ints:
    return column.astype(np.int64)


def _nothing(_times: Ints, _series: Ints | int) -> None:
    """A reader changes nothing."""
