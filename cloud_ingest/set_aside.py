"""What arrived and could not be used: kept with its reason, shown, tried again when a person says so.

A retry goes through the whole pipeline once more. What is usable then (a newer program, a mended configuration) is
stored and leaves the shelf; what is not stays, with the new reason.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cloud_ingest import schema
from cloud_ingest.errors import ChangeRefused
from cloud_ingest.schema import sqlite_errors
from firmware.record import SIZE, batch_header

FORGOTTEN = "set_aside_forgotten"
_COLUMNS = "id, topic, reason, bytes, received_at, times, retry, journal"


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
    """Looks at what is set aside, and asks for a retry, while the service runs or not. `with Shelf(path) as shelf:`."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Shelf:
        with sqlite_errors():
            self._connection = schema.open_for_writing(self._database)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def all(self, limit: int) -> list[Aside]:
        """Return the newest first."""
        return self._rows("ORDER BY id DESC LIMIT ?", limit)

    def one(self, number: int) -> Aside:
        """Return one. Raises ChangeRefused when there is none of this number."""
        found = self._rows("WHERE id = ?", number)
        if not found:
            raise ChangeRefused(f"nothing is set aside under {number}; tram-cloud set-aside list shows what is")
        return found[0]

    def forgotten(self) -> int:
        """Return how many had to go because too many were set aside."""
        with sqlite_errors():
            row = self._opened().execute("SELECT value FROM counters WHERE name = ?", (FORGOTTEN,)).fetchone()
        return 0 if row is None else int(row[0])

    def ask_for_retry(self, number: int | None) -> int:
        """Have the service try one again, or all; return how many."""
        with sqlite_errors(), self._opened() as connection:
            if number is None:
                return connection.execute("UPDATE set_aside SET retry = 1 WHERE retry = 0").rowcount
            self.one(number)
            return connection.execute("UPDATE set_aside SET retry = 1 WHERE id = ?", (number,)).rowcount

    def _rows(self, rest: str, *values: int) -> list[Aside]:
        with sqlite_errors():
            return _read(self._opened(), rest, *values)

    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "open the shelf first"
        return self._connection


def wanted_again(connection: sqlite3.Connection, limit: int) -> list[tuple[Aside, Message]]:
    """Return what a person wants tried again, each as a message; a lone record as a batch of one."""
    found = _read(connection, "WHERE retry = 1 ORDER BY id LIMIT ?", limit)
    return [(one, _message(connection, one)) for one in found]


def settle(connection: sqlite3.Connection, tried: Aside) -> bool:
    """Take a retried one off the shelf, unless it has been set aside once more; return whether it is gone."""
    return bool(
        connection.execute("DELETE FROM set_aside WHERE id = ? AND times = ?", (tried.id, tried.times)).rowcount
    )


def make_room(connection: sqlite3.Connection, most: int, most_bytes: int) -> None:
    """Let the oldest go when more than `most`, or more than `most_bytes`, are set aside, and count them."""
    gone = connection.execute(
        "DELETE FROM set_aside WHERE id <= (SELECT max(id) FROM (SELECT id, row_number() OVER newest AS number,"
        " sum(length(bytes)) OVER newest AS total FROM set_aside WINDOW newest AS (ORDER BY id DESC))"
        " WHERE number > ? OR total > ?)",
        (most, most_bytes),
    ).rowcount
    if gone:
        connection.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (FORGOTTEN, gone),
        )


def _message(connection: sqlite3.Connection, one: Aside) -> Message:
    if one.journal is None or len(one.data) != SIZE:
        return Message(one.topic, one.data)
    journal = connection.execute("SELECT journal FROM journals WHERE id = ?", (one.journal,)).fetchone()[0]
    return Message(one.topic, bytes(batch_header(journal, 1)) + one.data)


def _read(connection: sqlite3.Connection, rest: str, *values: int) -> list[Aside]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM set_aside {rest}", values)  # noqa: S608  our own words only
    return [
        Aside(number, topic, reason, data, received_at, times, bool(retry), journal)
        for number, topic, reason, data, received_at, times, retry, journal in rows
    ]
