"""Where rollups no longer say what the log says: (series, block of time) pairs, set with every change of the log.

Blocks are days of UTC, because the log knows no time zone; block b is b * 86400 < time <= (b + 1) * 86400.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from cloud_ingest.columns import Ints
from cloud_ingest.observations import Observations

BLOCK_S = 86400
REMEMBERED = 200_000


class Marks:
    """Sets marks; the writer's one remembers which are set, so that the next batch of the same day costs nothing.

    Only the writer takes marks away, by `strike`. A transaction that failed may have taken some back: `forget`.
    """

    def __init__(self) -> None:
        self._known: set[int] = set()

    def set(self, connection: sqlite3.Connection, times: Ints, series: Ints | int) -> None:
        """Note, within the caller's transaction, that rows of these times (sorted) and series have changed."""
        if not len(times):
            return
        blocks = (times - 1) // BLOCK_S
        borders = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(times)]
        for begin, end in pairwise(borders):
            changed = [series] if isinstance(series, int) else np.flatnonzero(np.bincount(series[begin:end])).tolist()
            self._set(connection, int(blocks[begin]), changed)

    def strike(self, connection: sqlite3.Connection, block: int, series: Iterable[int]) -> None:
        """Take marks away: the rollups say what the log says."""
        for number in series:
            connection.execute("DELETE FROM rollup_marks WHERE block = ? AND series = ?", (block, number))
            self._known.discard(block << 32 | number)

    def forget(self) -> None:
        """Look into the table again."""
        self._known.clear()

    def _set(self, connection: sqlite3.Connection, block: int, series: list[int]) -> None:
        new = [number for number in series if block << 32 | number not in self._known]
        if not new:
            return
        connection.executemany("INSERT OR IGNORE INTO rollup_marks VALUES (?, ?)", ((block, number) for number in new))
        if len(self._known) > REMEMBERED:
            self._known.clear()
        self._known.update(block << 32 | number for number in new)


def marked_blocks(connection: sqlite3.Connection, series: Iterable[int], first: int, last: int) -> list[int]:
    """Return the blocks that are marked for any of these series and have something of first < time <= last."""
    rows = connection.execute(
        "SELECT DISTINCT block FROM rollup_marks WHERE block BETWEEN ? AND ?"
        " AND series IN (SELECT value FROM json_each(?)) ORDER BY block",
        (first // BLOCK_S, (last - 1) // BLOCK_S, json.dumps(sorted(series))),
    )
    return [row[0] for row in rows]


def waiting(connection: sqlite3.Connection, closed_s: int, limit: int) -> tuple[int, list[int]] | None:
    """Return (block, up to `limit` of its marked series) of the newest marked block that ended before `closed_s`."""
    row = connection.execute("SELECT max(block) FROM rollup_marks WHERE block < ?", (closed_s // BLOCK_S,)).fetchone()
    if row[0] is None:
        return None
    series = connection.execute("SELECT series FROM rollup_marks WHERE block = ? LIMIT ?", (row[0], limit))
    return row[0], [one[0] for one in series]


def mark_all(connection: sqlite3.Connection, log: Observations, series: Iterable[int]) -> None:
    """Have everything of these series summed up again: what the log has, and what only rollups have."""
    numbers = sorted(series)
    pairs = connection.execute(
        "SELECT start / 86400, series FROM rollups WHERE series IN (SELECT value FROM json_each(:series))"
        " UNION SELECT (start + 3599) / 86400, series FROM rollups"
        " WHERE level = 1 AND series IN (SELECT value FROM json_each(:series))",
        {"series": json.dumps(numbers)},
    ).fetchall()
    pairs += [(begin // BLOCK_S, number) for begin in log.blocks(numbers, BLOCK_S, 1) for number in numbers]
    connection.executemany("INSERT OR IGNORE INTO rollup_marks VALUES (?, ?)", pairs)
