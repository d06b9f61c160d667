"""The stored rollups within one transaction: buckets of hours and local days by series, and what made them."""

from __future__ import annotations

import numpy as np
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from cloud_ingest.aggregates import BUCKET, Buckets
from cloud_ingest.book_tables import archives, rollup_basis, rollup_marks, rollups
from cloud_ingest.database import Lock, insert_into, lock
from cloud_ingest.local_time import By
from cloud_ingest.rollup_marks import BLOCK_S

LEVELS = {By.HOUR: 1, By.DAY: 2}
_NAMES = BUCKET.names or ()
_COLUMNS = tuple(rollups.c[name] for name in _NAMES)


class RollupTable:
    """Reads on any connection, writes within the writer's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def read(self, series: int, by: By, first: int, last: int) -> Buckets:
        """Return what is stored of a series; the starts are in first <= start < last."""
        rows = self._db.execute(select(*_COLUMNS).where(*_within(series, by, first, last)).order_by(rollups.c.start))
        columns = list(zip(*rows.fetchall(), strict=True))
        made = np.zeros(len(columns[0]) if columns else 0, BUCKET)
        for name, column in zip(_NAMES, columns, strict=False):
            made[name] = np.array(column, BUCKET[name])  # None is NaN
        return made

    def last_usable(self, series: int, before: int) -> tuple[int, float] | None:
        """Return (start, last value) of the newest hour that begins before `before` and has a usable value."""
        wanted = _within(series, By.HOUR, 0, before)
        query = select(rollups.c.start, rollups.c.last).where(*wanted, rollups.c.n_usable > 0)
        row = self._db.execute(query.order_by(rollups.c.start.desc()).limit(1)).first()
        return None if row is None else (int(row.start), float(row.last))

    def replace(self, series: int, by: By, first: int, last: int, buckets: Buckets) -> None:
        """Store these in place of what begins in first <= start < last."""
        self._db.execute(delete(rollups).where(*_within(series, by, first, last)))
        of = {"series": series, "level": LEVELS[by]}
        rows = [of | dict(zip(_NAMES, map(_or_null, row), strict=True)) for row in buckets.tolist()]
        if rows:
            self._db.execute(insert(rollups), rows)

    def archived_before(self) -> int:
        """Return the time before which observations have been taken out into archives, 0 when none were."""
        return int(self._db.scalar(select(func.coalesce(func.max(archives.c.before), 0))) or 0)

    def is_made_with(self, basis: str) -> bool:
        """Return whether what is stored was made with this time zone and these scales."""
        return bool(self._db.scalar(select(rollup_basis.c.basis)) == basis)

    def begin_anew(self, basis: str) -> None:
        """Forget all rollups and mark what they covered; those that only an archive could tell again stay. Nothing is
        done when another writer was faster."""
        lock(self._db, Lock.ROLLUPS)
        if self.is_made_with(basis):
            return
        kept_before = self.archived_before()
        for second in (1, 3600):  # an hour may have something of two blocks
            blocks = select((rollups.c.start + (second - 1)) // BLOCK_S, rollups.c.series).distinct()
            wanted = blocks.where(rollups.c.level == 1, rollups.c.start >= kept_before)
            marks = insert_into(self._db, rollup_marks).from_select(["block", "series"], wanted)
            self._db.execute(marks.on_conflict_do_nothing())
        self._db.execute(delete(rollups).where(rollups.c.start >= kept_before))
        self._db.execute(delete(rollup_basis))
        self._db.execute(insert(rollup_basis).values(basis=basis))


def _within(series: int, by: By, first: int, last: int) -> tuple[ColumnElement[bool], ...]:
    start = rollups.c.start
    return (rollups.c.series == series, rollups.c.level == LEVELS[by], start >= first, start < last)


def _or_null(value: float) -> float | None:
    return None if value != value else value
