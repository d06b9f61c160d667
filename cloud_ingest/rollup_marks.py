"""Where rollups no longer say what the log says: (series, block of time) pairs, set with every change of the log.

Blocks are days of UTC, because the log knows no time zone; block b is b * 86400 < time <= (b + 1) * 86400.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

import numpy as np

from cloud_ingest.columns import Ints

BLOCK_S = 86400


def mark(connection: sqlite3.Connection, times: Ints, series: Ints | int) -> None:
    """Note, within the caller's transaction, that rows of these times and series have changed."""
    pairs = np.unique(((times - 1) // BLOCK_S << 32) | series)
    connection.executemany(
        "INSERT OR IGNORE INTO rollup_marks VALUES (?, ?)",
        zip((pairs >> 32).tolist(), (pairs & 0xFFFFFFFF).tolist(), strict=True),
    )


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


def strike(connection: sqlite3.Connection, block: int, series: Iterable[int]) -> None:
    """Take marks away: the rollups say what the log says."""
    connection.executemany(
        "DELETE FROM rollup_marks WHERE block = ? AND series = ?", ((block, number) for number in series)
    )


def mark_all(connection: sqlite3.Connection, series: Iterable[int]) -> None:
    """Have everything of these series summed up again: what the log has, and what only rollups have."""
    wanted = json.dumps(sorted(series))
    pairs = connection.execute(
        "SELECT DISTINCT (time - 1) / 86400, series FROM log WHERE series IN (SELECT value FROM json_each(:series))"
        " UNION SELECT start / 86400, series FROM rollups WHERE series IN (SELECT value FROM json_each(:series))"
        " UNION SELECT (start + 3599) / 86400, series FROM rollups"
        " WHERE level = 1 AND series IN (SELECT value FROM json_each(:series))",
        {"series": wanted},
    ).fetchall()
    connection.executemany("INSERT OR IGNORE INTO rollup_marks VALUES (?, ?)", pairs)
