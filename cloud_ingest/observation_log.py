"""The hot log of observations: one row for each series and time, clustered by time.

Rows from records have `count`, the instrument's own number, which never changes; derived rows have none. `value` is
what people see: NULL where the count on its scale is that already, else calibrated or derived. `flag` and `failed` (the
set of tests that objected) are layers that quality control may change later.
"""

from __future__ import annotations

import sqlite3

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import DerivedValues, Ints, Observed

LoggedRow = tuple[int, int | None, float | None, int, int]  # time, count, value, flag, failed


class ObservationLog:
    """The log within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

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

    def _is_in(self, rows: Observed, row: int) -> bool:
        key = (int(rows.time[row]), int(rows.series[row]))
        winner = self._db.execute("SELECT journal, seq FROM log WHERE time = ? AND series = ?", key).fetchone()
        return bool(winner == (int(rows.journal[row]), int(rows.seq[row])))
