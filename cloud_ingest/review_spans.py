"""Which stations' layers have to be made again, from when to when: noted by whoever changed something below them."""

from __future__ import annotations

import sqlite3
from enum import IntEnum
from typing import NamedTuple


class Depth(IntEnum):
    """How far a review looks: SOON by the hours around, SETTLE by weeks of past."""

    SOON = 1
    SETTLE = 2


class Span(NamedTuple):
    """Times of a station, both included."""

    station: str
    first: int
    last: int


def ask_for_review(connection: sqlite3.Connection, station: str, first: int, last: int) -> None:
    """Note, within the caller's transaction, that a station's layers from first to last have to be made again."""
    connection.executemany(
        "INSERT INTO to_review VALUES (?, ?, ?, ?) ON CONFLICT (kind, station) DO UPDATE SET"
        " first = min(first, excluded.first), last = max(last, excluded.last)",
        ((depth, station, first, last) for depth in Depth),
    )


def waiting_spans(connection: sqlite3.Connection, depth: Depth) -> list[Span]:
    """Return what waits for a review of this depth."""
    rows = connection.execute("SELECT station, first, last FROM to_review WHERE kind = ? ORDER BY station", (depth,))
    return [Span(*row) for row in rows]


def reviewed(connection: sqlite3.Connection, depth: Depth, span: Span, left_until: int) -> None:
    """Strike a span off, but for what is left of it: from its first time to `left_until`."""
    connection.execute(
        "UPDATE to_review SET last = ? WHERE kind = ? AND station = ?", (left_until, depth, span.station)
    )
    connection.execute("DELETE FROM to_review WHERE kind = ? AND station = ? AND last < first", (depth, span.station))
