"""The stored rollups within one transaction: buckets of hours and local days by series, and what made them."""

from __future__ import annotations

import sqlite3

import numpy as np

from cloud_ingest.aggregates import BUCKET, Buckets
from cloud_ingest.local_time import By

LEVELS = {By.HOUR: 1, By.DAY: 2}
_COLUMNS = ", ".join(BUCKET.names or ())
_MARKS = "".join(", ?" for _ in BUCKET.names or ())


class RollupTable:
    """Reads on any connection, writes within the writer's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def read(self, series: int, by: By, first: int, last: int) -> Buckets:
        """Return what is stored of a series; the starts are in first <= start < last."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM rollups WHERE series = ? AND level = ? AND start >= ? AND start < ?"  # noqa: S608
            " ORDER BY start",
            (series, LEVELS[by], first, last),
        )
        return np.array([_without_null(row) for row in rows], BUCKET)

    def last_usable(self, series: int, before: int) -> tuple[int, float] | None:
        """Return (start, last value) of the newest hour that begins before `before` and has a usable value."""
        row = self._db.execute(
            "SELECT start, last FROM rollups WHERE series = ? AND level = 1 AND start < ? AND n_usable > 0"
            " ORDER BY start DESC LIMIT 1",
            (series, before),
        ).fetchone()
        return None if row is None else (int(row[0]), float(row[1]))

    def replace(self, series: int, by: By, first: int, last: int, buckets: Buckets) -> None:
        """Store these in place of what begins in first <= start < last."""
        self._db.execute(
            "DELETE FROM rollups WHERE series = ? AND level = ? AND start >= ? AND start < ?",
            (series, LEVELS[by], first, last),
        )
        self._db.executemany(
            f"INSERT INTO rollups (series, level, {_COLUMNS}) VALUES (?, ?{_MARKS})",  # noqa: S608  names of ours
            ((series, LEVELS[by], *row) for row in buckets.tolist()),
        )

    def archived_before(self) -> int:
        """Return the time before which observations have been taken out into archives, 0 when none were."""
        return int(self._db.execute("SELECT coalesce(max(before), 0) FROM archives").fetchone()[0])

    def is_made_with(self, basis: str) -> bool:
        """Return whether what is stored was made with this time zone and these scales."""
        row = self._db.execute("SELECT basis FROM rollup_basis").fetchone()
        return bool(row == (basis,))

    def begin_anew(self, basis: str) -> None:
        """Forget all rollups and mark what they covered; those that only an archive could tell again stay."""
        kept_before = self.archived_before()
        for second in (1, 3600):  # an hour may have something of two blocks
            self._db.execute(
                "INSERT OR IGNORE INTO rollup_marks SELECT DISTINCT (start + ? - 1) / 86400, series FROM rollups"
                " WHERE level = 1 AND start >= ?",
                (second, kept_before),
            )
        self._db.execute("DELETE FROM rollups WHERE start >= ?", (kept_before,))
        self._db.execute("DELETE FROM rollup_basis")
        self._db.execute("INSERT INTO rollup_basis VALUES (?)", (basis,))


def _without_null(row: tuple[float | None, ...]) -> tuple[float, ...]:
    return tuple(np.nan if one is None else one for one in row)
