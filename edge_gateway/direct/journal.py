"""The journal of a station without a board: its records in the order they were made, in one SQLite file.

It stands where the flash journal of a board stands (firmware.journal), so firmware.station and the outbox find the same
things in it: a random id, numbers that are never given twice, a ring that declares what it overwrites unsent, and a
record that counts once `append` has returned. A lost outbox is read again from it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from edge_gateway.outbox_file import set_aside
from firmware.errors import JournalError
from firmware.record import (
    CLOCK_UNSET_BELOW,
    EVENT_CONFIGURATION,
    EVENT_OVERWRITTEN,
    NOT_EVALUATED,
    Record,
    decode,
    encode,
)

log = structlog.get_logger()

SCHEMA_VERSION = 1
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE record (seq INTEGER PRIMARY KEY, raw BLOB NOT NULL);
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL, next_seq INTEGER NOT NULL,
    stored_through INTEGER NOT NULL, boots INTEGER NOT NULL, configuration_hash INTEGER NOT NULL);
"""
REMOVED_AT_ONCE = 64  # parts of the ring: one of them goes when it is full
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
WAL_BYTES_KEPT = 4 << 20

Entry = tuple[int, int, int, int, int]
"""time, count, sensor, parameter, flag"""


class _State(NamedTuple):
    id: int
    next_seq: int
    stored_through: int
    boots: int
    configuration_hash: int


class DirectJournal:
    """One thread. `open` before anything else."""

    def __init__(self, path: Path, most_records: int, random_bytes: Callable[[int], bytes]) -> None:
        self.first_seq = 1
        self._path = path
        self._most = most_records
        self._random_bytes = random_bytes
        self._state = _State(0, 1, 0, 0, 0)
        self._sql: sqlite3.Connection | None = None

    @property
    def id(self) -> int:
        """The random id, made with the file."""
        return self._state.id

    @property
    def next_seq(self) -> int:
        """The number the next record gets."""
        return self._state.next_seq

    @property
    def stored_through(self) -> int:
        """The highest number acknowledged."""
        return self._state.stored_through

    @property
    def boots(self) -> int:
        """How often the station has begun."""
        return self._state.boots

    @property
    def configuration_hash(self) -> int:
        """The configuration an event last told."""
        return self._state.configuration_hash

    def open(self) -> None:
        """Open the file, make it when it is not there; a damaged one is set aside and said. Raises JournalError."""
        try:
            self._open()
        except sqlite3.Error as error:
            self.close()
            if not _is_damage(error):
                raise JournalError(f"{self._path}: {error}; check state_dir, its rights and the disk") from error
            self._replace(error)

    def close(self) -> None:
        """Close the file."""
        if self._sql is not None:
            self._sql.close()
            self._sql = None

    def append(self, entries: Sequence[Entry]) -> int:
        """Store records in one transaction; return the first one's seq. They are durable then. Raises JournalError."""
        try:
            return self._append(entries)
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise JournalError(f"{self._path}: {error}; {len(entries)} records not stored") from error
            self.close()
            self._replace(error)
        try:
            return self._append(entries)
        except sqlite3.Error as error:
            raise JournalError(f"{self._path}: {error}; {len(entries)} records not stored") from error

    def read(self, from_seq: int, most: int) -> bytes:
        """Return up to `most` consecutive records from `from_seq` on, end to end. Raises JournalError."""
        try:
            rows = self._opened().execute(
                "SELECT seq, raw FROM record WHERE seq >= ? ORDER BY seq LIMIT ?", (from_seq, most)
            )
            return b"".join(raw for at, (seq, raw) in enumerate(rows) if seq == from_seq + at)
        except sqlite3.Error as error:
            raise JournalError(f"{self._path}: {error}") from error

    def newest_time(self) -> int | None:
        """Return the unix time of the newest record; None when there is none or its clock was not set."""
        raw = self.read(self.next_seq - 1, 1)
        time = decode(raw).time if raw else 0
        return time if time >= CLOCK_UNSET_BELOW else None

    def acknowledge(self, seq: int) -> None:
        """Everything up to `seq` is stored elsewhere. On disk with the next append: an older mark costs nothing."""
        self._state = self._state._replace(stored_through=max(self.stored_through, min(seq, self.next_seq - 1)))

    def start_boot(self, configuration_hash: int) -> tuple[int, bool]:
        """Count this start; return its number, and whether the configuration is not the one told. JournalError."""
        try:
            self._keep(self._state._replace(boots=self.boots + 1))
        except sqlite3.Error as error:
            raise JournalError(f"{self._path}: {error}; start not counted") from error
        return self.boots, configuration_hash != self.configuration_hash

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One thread at a time: the station's. It is not always the one that opened it.
        connection = self._sql = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            found = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
        except UnicodeDecodeError:  # SQLite tells of damage in the damaged bytes' own words
            found = []
        if found != ["ok"]:
            raise _damaged("quick_check")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise JournalError(f"{self._path}: made by a newer version; install that again, or move the file away")
        if version == 0:
            identity = int.from_bytes(self._random_bytes(4), "little")
            connection.executescript(
                f"{SCHEMA} INSERT INTO state VALUES (1, {identity}, 1, 0, 0, 0);"  # noqa: S608  a number
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        row = connection.execute("SELECT id, next_seq, stored_through, boots, configuration_hash FROM state").fetchone()
        if row is None:
            raise _damaged("no state")
        self._state = _State(*row)
        self._find_first()

    def _replace(self, error: sqlite3.Error) -> None:
        aside = set_aside(self._path)
        log.critical("a journal is damaged and was set aside", error=str(error), kept_as=str(aside))
        try:
            self._open()
        except sqlite3.Error as again:
            raise JournalError(f"{self._path}: {again}; check state_dir, its rights and the disk") from again

    def _append(self, entries: Sequence[Entry]) -> int:
        sql = self._opened()
        sql.execute("BEGIN IMMEDIATE")
        try:
            first_seq, declared = self._make_room(sql, len(entries), entries[0][0])
            sql.executemany(
                "INSERT INTO record VALUES (?, ?)",
                [(seq, encode(Record(seq, *entry))) for seq, entry in enumerate([*declared, *entries], self.next_seq)],
            )
            told = [count for _, count, _, parameter, _ in entries if parameter == EVENT_CONFIGURATION]
            after = self._state._replace(
                next_seq=self.next_seq + len(declared) + len(entries),
                configuration_hash=told[-1] if told else self.configuration_hash,
            )
            sql.execute(
                "UPDATE state SET next_seq = ?, stored_through = ?, configuration_hash = ?",
                (after.next_seq, after.stored_through, after.configuration_hash),
            )
            sql.execute("COMMIT")
        except BaseException:  # whatever it was, nothing of it stays in the file; it is raised on
            if sql.in_transaction:
                sql.execute("ROLLBACK")
            raise
        self._state = after
        self.first_seq = first_seq
        return after.next_seq - len(entries)

    def _make_room(self, sql: sqlite3.Connection, number: int, time: int) -> tuple[int, list[Entry]]:
        """Remove the oldest part of a full ring; return its first seq then, and the event that declares the unsent."""
        if self.next_seq - self.first_seq + number <= self._most:
            return self.first_seq, []
        part = max(number + 1, self._most // REMOVED_AT_ONCE)
        first_seq = min(self.first_seq + part, self.next_seq)
        sql.execute("DELETE FROM record WHERE seq < ?", (first_seq,))
        unsent = first_seq - 1 - max(self.first_seq - 1, self.stored_through)
        return first_seq, [(time, unsent, 0, EVENT_OVERWRITTEN, NOT_EVALUATED)] if unsent > 0 else []

    def _keep(self, state: _State) -> None:
        self._opened().execute(
            "UPDATE state SET next_seq = ?, stored_through = ?, boots = ?, configuration_hash = ?", state[1:]
        )
        self._state = state

    def _find_first(self) -> None:
        first = self._opened().execute("SELECT min(seq) FROM record").fetchone()[0]
        self.first_seq = self.next_seq if first is None else first

    def _opened(self) -> sqlite3.Connection:
        if self._sql is None:
            self._open()
        assert self._sql is not None
        return self._sql


def _damaged(what: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE
