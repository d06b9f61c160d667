"""Which stations' layers have to be made again, from when to when: noted by whoever changed something below them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy import Connection, case, delete, select, update

from cloud_ingest.book_tables import to_review
from cloud_ingest.database import insert_into


class Depth(IntEnum):
    """How far a review looks: SOON by the hours around, SETTLE by weeks of past."""

    SOON = 1
    SETTLE = 2


# How long a past the layers of a moment depend on: a tidal day and a little; a month and a little.
PAST_S = {Depth.SOON: 26 * 3600, Depth.SETTLE: 35 * 86400}
BESIDE_S = 3600  # what an observation can change of those before it, and what after it is needed


class Span(NamedTuple):
    """Times of a station, both included."""

    station: str
    first: int
    last: int


def ask_for_review(connection: Connection, spans: Mapping[str, tuple[int, int]]) -> None:
    """Note, within the caller's transaction, that something below stations' layers changed: first and last time each.

    What comes late is the past of what is there already: that waits for its review too. So does the hour before: at its
    end a block of settled layers depends on the first hour of the next one.
    """
    rows = [
        {"kind": int(depth), "station": station, "first": max(0, first - BESIDE_S), "last": last + PAST_S[depth]}
        for depth in Depth
        for station, (first, last) in sorted(spans.items())
    ]
    if not rows:
        return
    insert = insert_into(connection, to_review)
    known, new = to_review.c, insert.excluded
    wider = {
        "first": case((new.first < known.first, new.first), else_=known.first),
        "last": case((new.last > known.last, new.last), else_=known.last),
    }
    connection.execute(insert.on_conflict_do_update(index_elements=["kind", "station"], set_=wider), rows)


def waiting_spans(connection: Connection, depth: Depth) -> list[Span]:
    """Return what waits for a review of this depth."""
    columns = (to_review.c.station, to_review.c.first, to_review.c.last)
    rows = connection.execute(select(*columns).where(to_review.c.kind == int(depth)).order_by(to_review.c.station))
    return [Span(*row) for row in rows]


def reviewed(connection: Connection, depth: Depth, span: Span, left_until: int) -> None:
    """Strike a span off, but for what is left of it: from its first time to `left_until`."""
    this = (to_review.c.kind == int(depth)) & (to_review.c.station == span.station)
    connection.execute(update(to_review).where(this).values(last=left_until))
    connection.execute(delete(to_review).where(this, to_review.c.last < to_review.c.first))
