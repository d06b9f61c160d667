"""What arrived and could not be used: kept with its reason, shown, tried again when a person says so.

A retry goes through the whole pipeline once more. What is usable then (a newer program, a mended configuration) is
stored and leaves the shelf; what is not stays, with the new reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Delete, Select, bindparam, delete, func, select, update

from cloud_ingest.book_tables import counters, journals, set_aside
from cloud_ingest.database import Database, changing, insert_into, person_changes, store_errors
from cloud_ingest.errors import ChangeRefused
from firmware.record import SIZE, batch_header

FORGOTTEN = "set_aside_forgotten"
_COLUMNS = tuple(
    set_aside.c[name] for name in ("id", "topic", "reason", "bytes", "received_at", "times", "retry", "journal")
)


@dataclass(frozen=True)
class Aside:
    """One message, or one record of a batch (`journal` is its journal's number); `times` it came."""

    id: int
    topic: str
    reason: str
    data: bytes
    received_at: int
    times: int
    retry: bool
    journal: int | None


class Message(NamedTuple):
    """As the link would deliver it."""

    topic: str
    payload: bytes


class Shelf:
    """Looks at what is set aside, and asks for a retry, while the service runs or not: `with Shelf(where) as it:`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._opened = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Shelf:
        self._connection = self._opened.enter_context(changing(self._database))
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def all(self, limit: int) -> list[Aside]:
        """Return the newest first."""
        return self._rows(select(*_COLUMNS).order_by(set_aside.c.id.desc()).limit(limit))

    def one(self, number: int) -> Aside:
        """Return one. Raises ChangeRefused when there is none of this number."""
        found = self._rows(select(*_COLUMNS).where(set_aside.c.id == number))
        if not found:
            raise ChangeRefused(f"nothing is set aside under {number}; tram-cloud set-aside list shows what is")
        return found[0]

    def forgotten(self) -> int:
        """Return how many had to go because too many were set aside."""
        connection = self._open()
        with store_errors(), connection.begin():
            return int(connection.scalar(select(counters.c.value).where(counters.c.name == FORGOTTEN)) or 0)

    def ask_for_retry(self, number: int | None) -> int:
        """Have the service try one again, or all; return how many."""
        wanted = update(set_aside).values(retry=1)
        if number is not None:
            self.one(number)
        this = set_aside.c.retry == 0 if number is None else set_aside.c.id == number
        connection = self._open()
        with store_errors(), person_changes(connection):
            return connection.execute(wanted.where(this)).rowcount

    def _rows(self, query: Select[Any]) -> list[Aside]:
        connection = self._open()
        with store_errors(), connection.begin():
            return _read(connection, query)

    def _open(self) -> Connection:
        assert self._connection is not None, "open the shelf first"
        return self._connection


def wanted_again(
    connection: Connection, limit: int, is_own: Callable[[str], bool] | None = None
) -> list[tuple[Aside, Message]]:
    """Return what a person wants tried again, each as a message; a lone record as a batch of one.

    `is_own` tells by its topic what is this writer's to try.
    """
    asked = select(set_aside.c.id, set_aside.c.topic).where(set_aside.c.retry == 1).order_by(set_aside.c.id)
    rows = connection.execute(asked.limit(None if is_own else limit))
    own = [row.id for row in rows if is_own is None or is_own(row.topic)][:limit]
    if not own:
        return []
    found = _read(connection, select(*_COLUMNS).where(set_aside.c.id.in_(own)).order_by(set_aside.c.id))
    return [(one, _message(connection, one)) for one in found]


def settle(connection: Connection, tried: Aside) -> bool:
    """Take a retried one off the shelf, unless it has been set aside once more; return whether it is gone."""
    this = (set_aside.c.id == tried.id) & (set_aside.c.times == tried.times)
    return bool(connection.execute(delete(set_aside).where(this)).rowcount)


def put_aside(
    connection: Connection, topic: str, data: bytes, reason: str, now_s: int, journal: int | None, most: int
) -> bool:
    """Keep bytes once, of more than `most` the beginning; the same again only counts. Return whether they are new."""
    digest = hashlib.sha256(f"{journal}:".encode() + data).digest()
    if len(data) > most:
        reason = f"{reason} (the first {most} of {len(data)} bytes are kept)"
    insert = insert_into(connection, set_aside).values(
        topic=topic, reason=reason, bytes=data[:most], digest=digest, received_at=now_s, journal=journal
    )
    again = {"times": set_aside.c.times + 1, "retry": 0, "reason": insert.excluded.reason}
    upsert = insert.on_conflict_do_update(index_elements=["topic", "digest"], set_=again)
    return bool(connection.scalar(upsert.returning(set_aside.c.times)) == 1)


def make_room(connection: Connection, most: int, most_bytes: int) -> None:
    """Let the oldest go when more than `most`, or more than `most_bytes`, are set aside, and count them."""
    gone = connection.execute(_MAKE_ROOM, {"most": most, "most_bytes": most_bytes}).rowcount
    if gone:
        insert = insert_into(connection, counters).values(name=FORGOTTEN, value=gone)
        more = {"value": counters.c.value + insert.excluded.value}
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=more))


def _beyond(most: ColumnElement[int], most_bytes: ColumnElement[int]) -> Delete:
    newest = set_aside.c.id.desc()
    ranked = select(
        set_aside.c.id,
        func.row_number().over(order_by=newest).label("number"),
        func.sum(func.length(set_aside.c.bytes)).over(order_by=newest).label("total"),
    ).subquery()
    last = select(func.max(ranked.c.id)).where((ranked.c.number > most) | (ranked.c.total > most_bytes))
    return delete(set_aside).where(set_aside.c.id <= last.scalar_subquery())


_MAKE_ROOM = _beyond(bindparam("most", type_=BigInteger), bindparam("most_bytes", type_=BigInteger))


def _message(connection: Connection, one: Aside) -> Message:
    if one.journal is None or len(one.data) != SIZE:
        return Message(one.topic, one.data)
    journal = connection.scalar(select(journals.c.journal).where(journals.c.id == one.journal))
    assert journal is not None, "journals are never taken away"
    return Message(one.topic, bytes(batch_header(journal, 1)) + one.data)


def _read(connection: Connection, query: Select[Any]) -> list[Aside]:
    return [
        Aside(number, topic, reason, bytes(data), received_at, times, bool(retry), journal)
        for number, topic, reason, data, received_at, times, retry, journal in connection.execute(query)
    ]
