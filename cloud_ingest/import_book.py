"""Imports handed over to whoever writes the store: `imports.sqlite` in the state directory, beside the store.

`tram-cloud import` puts batches in, the ingest thread takes them out in pieces once they are stored. A crash in between
repeats a piece: its records are duplicates then. What was brought in stays in the book for ever: who, when, which file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from cloud_ingest.errors import StoreRefused
from cloud_ingest.imports import Import
from cloud_ingest.schema import sqlite_errors
from cloud_ingest.set_aside import Message

DATABASE = "imports.sqlite"
BATCHES_AT_ONCE = 200  # of one transaction that hands over: two megabytes
_PAGES_GIVEN_BACK = 500  # to the disk, with each piece
# Both may be made by the command and by the service at once, so the first step may find them made.
_STEPS = (
    """
    CREATE TABLE IF NOT EXISTS imports (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, by_whom TEXT NOT NULL,
        station TEXT NOT NULL, journal INTEGER NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL, map TEXT NOT NULL,
        records INTEGER NOT NULL, refused_lines INTEGER NOT NULL, refused_cells INTEGER NOT NULL,
        batches INTEGER NOT NULL,
        state TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0, stored INTEGER NOT NULL DEFAULT 0,
        duplicates INTEGER NOT NULL DEFAULT 0, set_aside INTEGER NOT NULL DEFAULT 0, finished_at REAL, reason TEXT);
    CREATE INDEX IF NOT EXISTS imports_by_state ON imports (state);
    CREATE TABLE IF NOT EXISTS import_batches (
        import INTEGER NOT NULL, number INTEGER NOT NULL, topic TEXT NOT NULL, batch BLOB NOT NULL,
        PRIMARY KEY (import, number));
    CREATE TRIGGER IF NOT EXISTS imports_stay BEFORE DELETE ON imports
        BEGIN SELECT RAISE(ABORT, 'imports are never removed'); END;
    CREATE TRIGGER IF NOT EXISTS imports_are_what_they_were
        BEFORE UPDATE OF id, at, by_whom, station, journal, file, sha256, map, records ON imports
        BEGIN SELECT RAISE(ABORT, 'who brought in what is never changed'); END;
    """,
)


class ImportState(StrEnum):
    """Where an import is."""

    ARRIVING = "arriving"  # the command has not handed all of it over
    WAITING = "waiting"  # for the ingest thread, which may have begun
    DONE = "done"
    FAILED = "failed"


class Origin(NamedTuple):
    """Who brings in what."""

    by: str
    file: str
    sha256: str
    map: str


class ImportEntry(NamedTuple):
    """An import as the book has it."""

    id: int
    at: float
    by_whom: str
    station: str
    journal: int
    file: str
    sha256: str
    map: str
    records: int
    refused_lines: int
    refused_cells: int
    batches: int
    state: ImportState
    taken: int
    stored: int
    duplicates: int
    set_aside: int
    finished_at: float | None
    reason: str | None


class Piece(NamedTuple):
    """Batches to be stored next, of one import."""

    id: int
    last: int
    messages: list[Message]


class ImportBook:
    """`with ImportBook(state_dir) as book:`. One thread each; any process. Raises StoreUnavailable, StoreRefused."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / DATABASE
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> ImportBook:
        with sqlite_errors():
            self._connection = sqlite3.connect(self._file, timeout=10.0, isolation_level=None)
            self._file.chmod(0o600)
            for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            _prepare(self._connection)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def begin(self, brought: Import, origin: Origin, now_s: float) -> ImportEntry:
        """Note an import, or return the one of the same file that has not ended: it goes on."""
        number: int
        with sqlite_errors(), self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            found = db.execute(
                "SELECT id FROM imports WHERE station = ? AND journal = ? AND state IN (?, ?)",
                (brought.station, brought.journal, ImportState.ARRIVING, ImportState.WAITING),
            ).fetchone()
            if found is None:
                found = db.execute(
                    "INSERT INTO imports (at, by_whom, station, journal, file, sha256, map, records, refused_lines,"
                    " refused_cells, batches, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                    (
                        *(now_s, origin.by, brought.station, brought.journal, origin.file, origin.sha256, origin.map),
                        *(len(brought.records), brought.refused_lines, brought.refused_cells, brought.batches),
                        ImportState.ARRIVING,
                    ),
                ).fetchone()
            number = found[0]
        return self.entry(number)

    def handed_over(self, number: int) -> int:
        """Return how many batches of an arriving import are in the book."""
        found: int = self._one("SELECT coalesce(max(number), 0) FROM import_batches WHERE import = ?", number)[0]
        return found

    def hand_over(self, number: int, first: int, messages: Sequence[Message]) -> None:
        """Put batches in, the first of which has this number (from 1)."""
        rows = ((number, at, one.topic, one.payload) for at, one in enumerate(messages, first))
        with sqlite_errors(), self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO import_batches VALUES (?, ?, ?, ?)", rows)

    def all_handed_over(self, number: int) -> None:
        """Let the ingest thread begin."""
        with sqlite_errors():
            self._opened().execute(
                "UPDATE imports SET state = ? WHERE id = ? AND state = ?",
                (ImportState.WAITING, number, ImportState.ARRIVING),
            )

    def next_piece(self, batches: int, owns: Callable[[str], bool] = lambda _: True) -> Piece | None:
        """Return what is to be stored next: of the oldest import that waits, for a station that the writer `owns`."""
        with sqlite_errors():
            db = self._opened()
            waiting = db.execute("SELECT id, station FROM imports WHERE state = ? ORDER BY id", (ImportState.WAITING,))
            number = next((number for number, station in waiting if owns(station)), None)
            rows = db.execute(
                "SELECT number, topic, batch FROM import_batches WHERE import = ? ORDER BY number LIMIT ?",
                (number, batches),
            ).fetchall()
        if number is None or not rows:
            return None
        return Piece(number, rows[-1][0], [Message(topic, batch) for _, topic, batch in rows])

    def taken(self, piece: Piece, stored: int, duplicates: int, set_aside: int, now_s: float) -> None:
        """Strike a piece off that is stored; the import is done with its last batch."""
        with sqlite_errors(), self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM import_batches WHERE import = ? AND number <= ?", (piece.id, piece.last))
            db.execute(
                "UPDATE imports SET taken = ?, stored = stored + ?, duplicates = duplicates + ?,"
                " set_aside = set_aside + ? WHERE id = ?",
                (piece.last, stored, duplicates, set_aside, piece.id),
            )
            db.execute(
                "UPDATE imports SET state = ?, finished_at = ? WHERE id = ? AND taken = batches",
                (ImportState.DONE, now_s, piece.id),
            )
            db.execute(f"PRAGMA incremental_vacuum({_PAGES_GIVEN_BACK})").fetchall()

    def fail(self, number: int, reason: str, now_s: float) -> None:
        """End an import that cannot go on; what was stored stays."""
        with sqlite_errors(), self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(
                "UPDATE imports SET state = ?, reason = ?, finished_at = ? WHERE id = ?",
                (ImportState.FAILED, reason, now_s, number),
            )
            db.execute("DELETE FROM import_batches WHERE import = ?", (number,))

    def entry(self, number: int) -> ImportEntry:
        """Return an import."""
        return _entry(self._one("SELECT * FROM imports WHERE id = ?", number))

    def entries(self) -> list[ImportEntry]:
        """Return all of them, the newest first."""
        with sqlite_errors():
            return [_entry(row) for row in self._opened().execute("SELECT * FROM imports ORDER BY id DESC")]

    def _one(self, question: str, number: int) -> tuple[Any, ...]:
        with sqlite_errors():
            row: tuple[Any, ...] = self._opened().execute(question, (number,)).fetchone()
        return row

    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "open the book first"
        return self._connection


def _entry(row: tuple[Any, ...]) -> ImportEntry:
    entry = ImportEntry(*row)
    return entry._replace(state=ImportState(entry.state))


def _prepare(connection: sqlite3.Connection) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(_STEPS):
        raise StoreRefused(f"{DATABASE} has schema {version}, this program knows {len(_STEPS)}: install the newer one")
    for number in range(version, len(_STEPS)):
        connection.executescript(f"BEGIN IMMEDIATE; {_STEPS[number]} PRAGMA user_version = {number + 1}; COMMIT;")
