"""The hot log of observations: one row for each series and time, clustered by time.

Rows from records have `count`, the instrument's own number, which never changes; derived rows have none. `value` is
what people see: NULL where the count on its scale is that already, else calibrated or derived. `flag` and `failed` (the
set of tests that objected) are layers that quality control may change later.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from cloud_ingest.columns import Counted, DerivedValues, Ints, Layer, Observed, Shown
from cloud_ingest.database import raw
from cloud_ingest.observations import NOBODY, Changed, Logged, LoggedRow, Names
from cloud_ingest.quality import Test
from firmware.record import MISSING

_PUT_OBSERVED = "UPDATE log SET value = ?, calibration = ?, flag = ?, failed = ? WHERE time = ? AND series = ?"
_PUT_DERIVED = (
    "INSERT INTO log (value, calibration, flag, failed, time, series) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (time, series) DO UPDATE SET value = excluded.value, flag = excluded.flag, failed = excluded.failed"
)
_ROWS = (
    "SELECT series, time, count, value, calibration, flag, failed, journal, seq FROM log WHERE time BETWEEN ? AND ?"
    " AND series IN (SELECT value FROM json_each(?))"
)
_OBSERVED_ROWS = f"{_ROWS} AND journal IS NOT NULL"
_COUNTS = (
    "SELECT series, count(*), sum(flag IN (1, 2) AND (value IS NOT NULL OR count != ?)) FROM log"
    " WHERE time BETWEEN ? AND ? AND series IN (SELECT value FROM json_each(?)) GROUP BY series"
)


class ObservationLog:
    """The log within one transaction of its SQLite file, reading or writing."""

    def __init__(self, connection: sqlite3.Connection, changed: Changed) -> None:
        """`changed` is told of every write before it happens."""
        self._db = connection
        self._changed = changed

    def add(self, rows: Observed) -> npt.NDArray[np.bool_]:
        """Store observations (sorted by time, series); return which are in the log now.

        Not in it is a row whose series and time another record has: the first stays. The same record again is in.
        """
        value = rows.value.astype(object)
        value[rows.calibration == 0] = None
        columns = (*(rows.time, rows.series, rows.count, value), *(rows.flag, rows.journal, rows.seq))
        inserted = self._db.executemany(
            "INSERT OR IGNORE INTO log (time, series, count, value, flag, journal, seq, calibration, failed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            zip(*(column.tolist() for column in (*columns, rows.calibration, rows.failed)), strict=True),
        ).rowcount
        self._changed(rows.time, rows.series)
        kept = np.ones(len(rows.time), np.bool_)
        if inserted != len(kept):
            for row in range(len(kept)):
                kept[row] = self._is_in(rows, row)
        return kept

    def at(self, series: int, times: Ints) -> list[LoggedRow]:
        """Return the rows of a series at those of `times` it has."""
        found = self._db.execute(
            "SELECT log.time, count, log.value, flag, failed FROM json_each(?) AS wanted"
            " JOIN log ON log.time = wanted.value AND series = ?",
            (str(times.tolist()), series),
        )
        return found.fetchall()

    def put_derived(self, rows: DerivedValues) -> None:
        """Store derived values; a later computation of the same moment replaces the earlier one."""
        self._db.executemany(
            f"INSERT INTO log (time, series, value, flag, failed) VALUES (?, {rows.series:d}, ?, ?, ?)"  # noqa: S608  a number
            " ON CONFLICT (time, series) DO UPDATE SET"
            " value = excluded.value, flag = excluded.flag, failed = excluded.failed",
            zip(*(column.tolist() for column in (rows.time, rows.value, rows.flag, rows.failed)), strict=True),
        )
        self._changed(rows.time, rows.series)

    def counted(self, series: Iterable[int], first: int, last: int) -> dict[int, Counted]:
        """Return what records said of these series from first to last (times, both included)."""
        return {
            number: Counted(rows["time"], rows["count"], (rows["failed"] & Test.STATION) > 0)
            for number, rows in self._columns(series, first, last).items()
            if len(rows["time"])
        }

    def layers(self, series: Iterable[int], first: int, last: int) -> dict[int, Layer]:
        """Return the layers of these series as they are stored; derived series too."""
        return {
            number: Layer(*(rows[name] for name in ("time", "value", "calibration", "flag", "failed")))
            for number, rows in self._columns(series, first, last, observed_only=False).items()
        }

    def shown(self, scales: Mapping[int, float], first: int, last: int) -> dict[int, Shown]:
        """Return what people see of series from first to last (times, both included); count / scale is a value."""
        found = {}
        for number, rows in self._columns(scales, first, last, observed_only=False).items():
            counted = np.where(rows["count"] == MISSING, np.nan, rows["count"] / scales[number])
            value = np.where(np.isnan(rows["value"]), counted, rows["value"])
            found[number] = Shown(rows["time"], value, rows["flag"])
        return found

    def logged(self, series: Iterable[int], first: int, last: int) -> dict[int, Logged]:
        """Return everything of these series from first to last (times, both included)."""
        return {
            number: Logged(*(rows[name] for name in Logged.__dataclass_fields__))
            for number, rows in self._columns(series, first, last, observed_only=False).items()
        }

    def counts(self, series: Iterable[int], first: int, last: int) -> dict[int, tuple[int, int]]:
        """Return (rows, rows of flag 1 or 2 with a value or a count) by series; one without a row is not there."""
        rows = self._db.execute(_COUNTS, (MISSING, first, last, json.dumps(sorted(series))))
        return {number: (came, usable or 0) for number, came, usable in rows}

    def settle(self) -> None:
        """Return: the commit of the transaction makes it durable."""

    def put_layer(self, series: int, layer: Layer, *, derived: bool) -> None:
        """Change the layers of one series at these times; a derived row that is not there is made."""
        value = layer.value.astype(object)
        value[np.isnan(layer.value) if derived else layer.calibration == 0] = None
        of = np.full(len(layer.time), series)
        columns = (value, layer.calibration, layer.flag, layer.failed, layer.time, of)
        self._db.executemany(
            _PUT_DERIVED if derived else _PUT_OBSERVED, zip(*(column.tolist() for column in columns), strict=True)
        )
        self._changed(layer.time, series)

    def blocks(self, series: Iterable[int], block_s: int, shift_s: int = 0) -> list[int]:
        """Return the beginnings of the blocks of time (multiples of block_s) that have a row of these series at
        begin + shift_s <= time < begin + shift_s + block_s."""
        rows = self._db.execute(
            "SELECT DISTINCT (time - ?) / ? * ? FROM log WHERE series IN (SELECT value FROM json_each(?)) ORDER BY 1",
            (shift_s, block_s, block_s, json.dumps(sorted(series))),
        )
        return [row[0] for row in rows]

    def newest_time(self, until: int) -> int | None:
        """Return the time of the newest row that is not after `until`, of any series; None when there is none."""
        row = self._db.execute("SELECT max(time) FROM log WHERE time <= ?", (until,)).fetchone()
        return None if row[0] is None else int(row[0])

    def oldest_time(self, since: int) -> int | None:
        """Return the time of the oldest row that is not before `since`, of any series; None when there is none."""
        row = self._db.execute("SELECT min(time) FROM log WHERE time >= ?", (since,)).fetchone()
        return None if row[0] is None else int(row[0])

    def _columns(
        self, series: Iterable[int], first: int, last: int, *, observed_only: bool = True
    ) -> dict[int, dict[str, npt.NDArray[Any]]]:
        wanted = sorted(series)
        query = _OBSERVED_ROWS if observed_only else _ROWS
        rows: list[tuple[Any, ...]] = self._db.execute(query, (first, last, json.dumps(wanted))).fetchall()
        columns_of: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * 9
        number, time, count, value, calibration, flag, failed, journal, seq = columns_of
        of = np.array(number, np.int64)
        columns: dict[str, npt.NDArray[Any]] = {
            "time": np.array(time, np.int64),
            "count": np.array([MISSING if one is None else one for one in count], np.int64),
            "value": np.array([np.nan if one is None else one for one in value], np.float64),
            "calibration": np.array(calibration, np.int64),
            "flag": np.array(flag, np.uint8),
            "failed": np.array(failed, np.int64),
            "journal": np.array([NOBODY if one is None else one for one in journal], np.int64),
            "seq": np.array([0 if one is None else one for one in seq], np.int64),
        }
        order = np.argsort(of, kind="stable")  # the log is in order of time, so each series stays so
        edges = np.searchsorted(of[order], [*wanted, np.iinfo(np.int64).max])
        return {
            one: {name: column[order[edges[at] : edges[at + 1]]] for name, column in columns.items()}
            for at, one in enumerate(wanted)
        }

    def _is_in(self, rows: Observed, row: int) -> bool:
        key = (int(rows.time[row]), int(rows.series[row]))
        winner = self._db.execute("SELECT journal, seq FROM log WHERE time = ? AND series = ?", key).fetchone()
        return bool(winner == (int(rows.journal[row]), int(rows.seq[row])))


class LogStore:
    """Observations in the SQLite file of the books: an ObservationStore."""

    def writer(self, books: Connection, _names: Names, changed: Changed) -> ObservationLog:
        """Return the log within the writer's transaction."""
        return ObservationLog(raw(books), changed)

    def reader(self, books: Connection, _names: Names) -> ObservationLog:
        """Return the log within a reading transaction."""
        return ObservationLog(raw(books), _nothing)


def _nothing(_times: Ints, _series: Ints | int) -> None:
    """A reader changes nothing."""
