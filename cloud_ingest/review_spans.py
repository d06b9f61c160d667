"""Which stations' layers have to be made again, from when to when: noted by whoever changed something below them."""

from __future__ import annotations

import sqlite3
from enum import IntEnum
from typing import NamedTuple


class Depth(IntEnum):
    """How far a review looks: SOON by the hours around, SETTLE by weeks of past."""

    SOON = 1
    SETTLE = 2


# How long a past the layers of a moment depend on: a tidal day and a little; a month and a little.
PAST_S = {Depth.SOON: 26 * 3600, Depth.SETTLE: 35 * 86400}


class Span(NamedTuple):
    """Times of a station, both included."""

    station: str
    first: int
    last: int


def ask_for_review(connection: sqlite3.Connection, station: str, first: int, last: int) -> None:
    """Note, within the caller's transaction, that something below a station's layers changed from first to last.

    What comes late is the past of what is there already: that waits for its review too.
    """
    connection.executemany(
        "INSERT INTO to_review VALUES (?, ?, ?, ?) ON CONFLICT (kind, station) DO UPDATE SET"
        " first = min(first, excluded.first), last = max(last, excluded.last)",
        ((depth, station, first, last + PAST_S[depth]) for depth in Depth),
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
