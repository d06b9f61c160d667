"""Where rollups no longer say what the log says: (series, block of time) pairs, set with every change of the log.

Blocks are days of UTC, because the log knows no time zone; block b is b * 86400 < time <= (b + 1) * 86400.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from sqlalchemy import Connection, bindparam, delete, func, select, union

from cloud_ingest.book_tables import rollup_marks, rollups
from cloud_ingest.columns import Ints
from cloud_ingest.database import among, insert_into
from cloud_ingest.observations import Observations

BLOCK_S = 86400
REMEMBERED = 200_000


class Marks:
    """Sets marks; the writer's one remembers which are set, so that the next batch of the same day costs nothing.

    Only the writer takes marks away, by `strike`. A transaction that failed may have taken some back: `forget`.
    """

    def __init__(self) -> None:
        self._known: set[int] = set()

    def set(self, connection: Connection, times: Ints, series: Ints | int) -> None:
        """Note, within the caller's transaction, that rows of these times (sorted) and series have changed."""
        if not len(times):
            return
        blocks = (times - 1) // BLOCK_S
        borders = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(times)]
        for begin, end in pairwise(borders):
            changed = [series] if isinstance(series, int) else np.flatnonzero(np.bincount(series[begin:end])).tolist()
            self._set(connection, int(blocks[begin]), changed)

    def strike(self, connection: Connection, block: int, series: Iterable[int]) -> None:
        """Take marks away: the rollups say what the log says."""
        struck = list(series)
        this = (rollup_marks.c.block == block) & (rollup_marks.c.series == bindparam("number"))
        if struck:
            connection.execute(delete(rollup_marks).where(this), [{"number": number} for number in struck])
        self._known.difference_update(block << 32 | number for number in struck)

    def forget(self) -> None:
        """Look into the table again."""
        self._known.clear()

    def _set(self, connection: Connection, block: int, series: list[int]) -> None:
        new = [number for number in series if block << 32 | number not in self._known]
        if not new:
            return
        _mark(connection, ((block, number) for number in new))
        if len(self._known) > REMEMBERED:
            self._known.clear()
        self._known.update(block << 32 | number for number in new)


def marked_blocks(connection: Connection, series: Iterable[int], first: int, last: int) -> list[int]:
    """Return the blocks that are marked for any of these series and have something of first < time <= last."""
    return sorted({block for block, _ in marked(connection, series, first, last)})


def marked(connection: Connection, series: Iterable[int], first: int, last: int) -> list[tuple[int, int]]:
    """Return (block, series) of the marks of these series that have something of first < time <= last."""
    query = select(rollup_marks.c.block, rollup_marks.c.series).where(
        rollup_marks.c.block.between(first // BLOCK_S, (last - 1) // BLOCK_S),
        among(connection, rollup_marks.c.series, series),
    )
    return [(block, number) for block, number in connection.execute(query)]


def waiting(
    connection: Connection, closed_s: int, limit: int, own: Iterable[int] | None = None
) -> tuple[int, list[int]] | None:
    """Return (block, up to `limit` of its marked series) of the newest marked block that ended before `closed_s`.

    `own`: only marks of these series.
    """
    mine = [] if own is None else [among(connection, rollup_marks.c.series, own)]
    newest = select(func.max(rollup_marks.c.block)).where(rollup_marks.c.block < closed_s // BLOCK_S, *mine)
    block = connection.scalar(newest)
    if block is None:
        return None
    series = select(rollup_marks.c.series).where(rollup_marks.c.block == block, *mine).limit(limit)
    return block, list(connection.scalars(series))


def mark_all(connection: Connection, log: Observations, series: Iterable[int]) -> None:
    """Have everything of these series summed up again: what the log has, and what only rollups have."""
    numbers = sorted(series)
    mine = among(connection, rollups.c.series, numbers)
    begun = select(rollups.c.start // BLOCK_S, rollups.c.series).where(mine)
    ended = select((rollups.c.start + 3599) // BLOCK_S, rollups.c.series).where(mine, rollups.c.level == 1)
    pairs = [(block, number) for block, number in connection.execute(union(begun, ended))]
    pairs += [(begin // BLOCK_S, number) for begin in log.blocks(numbers, BLOCK_S, 1) for number in numbers]
    _mark(connection, pairs)


def _mark(connection: Connection, pairs: Iterable[tuple[int, int]]) -> None:
    rows = [{"block": block, "series": number} for block, number in pairs]
    if rows:
        connection.execute(insert_into(connection, rollup_marks).on_conflict_do_nothing(), rows)
