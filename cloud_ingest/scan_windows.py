"""The log read, and cleared, window by window: in order of time and group, each going on where the last one ended.

A window costs about the same whatever lies in it, how wide a station is or how often it measures: it ends when enough
rows were read, or enough scans passed by that nobody asked for.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_ingest.scans import GROUPS, KEY_BITS, ROW_DTYPE, Scans, pack_keys, put_scans, starts_of, unpacked

Key = int  # of a scan: time << KEY_BITS | group
SCAN_EFFORT = 10  # in rows: to fetch a scan costs as much as so many of its rows
_WINDOW = (
    "SELECT time, series_group, CASE WHEN series_group IN (SELECT value FROM json_each(?)) THEN rows END FROM scans"
    " WHERE (time, series_group) >= (?, ?) AND time <= ? ORDER BY time, series_group"
)


class Window(NamedTuple):
    """Whole scans, and the key that the next window begins with; None: there is nothing more."""

    scans: Scans
    following: Key | None


def beginning(time: int) -> Key:
    """Return the least key of a time."""
    return time << KEY_BITS


def read_window(connection: sqlite3.Connection, groups: Iterable[int], begin: Key, last: int, effort: int) -> Window:
    """Return the scans of these groups from `begin` to `last` (a time, included), as far as `effort` (rows) reaches."""
    found: list[tuple[int, bytes]] = []
    asked = (json.dumps(sorted(groups)), begin >> KEY_BITS, begin & (GROUPS - 1), last)
    with closing(connection.execute(_WINDOW, asked)) as cursor:
        for time, group, rows in cursor:
            if effort <= 0:
                return Window(unpacked(found), time << KEY_BITS | group)
            if rows is None:
                effort -= 1
                continue
            found.append((time, rows))
            effort -= SCAN_EFFORT + len(rows) // ROW_DTYPE.itemsize
    return Window(unpacked(found), None)


def take_out(connection: sqlite3.Connection, there: Scans, gone: npt.NDArray[np.bool_]) -> None:
    """Take rows out of whole scans as read_window returns them, and scans out that have none left."""
    if not gone.any():
        return
    keys = pack_keys(there.time, there.rows["series"])
    starts = starts_of(keys)
    rows = np.diff(starts, append=len(keys))
    leaving = np.add.reduceat(gone, starts)
    emptied = keys[starts[leaving == rows]].tolist()
    connection.executemany(
        "DELETE FROM scans WHERE time = ? AND series_group = ?",
        ((key >> KEY_BITS, key & (GROUPS - 1)) for key in emptied),
    )
    changed = np.repeat((leaving > 0) & (leaving < rows), rows)
    put_scans(connection, there.take(changed & ~gone))
