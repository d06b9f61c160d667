"""Opening the outbox's file: made when missing, checked when there. What is damaged, outbox_renewal replaces."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from edge_gateway.errors import OutboxDamaged, OutboxRefused, OutboxUnavailable
from edge_gateway.outbox_schema import APPLICATION_ID, GENERATION, bring_up_to_date, generation

BUSY_TIMEOUT_S = 10.0
COMPANIONS = ("", "-wal", "-shm")
DAMAGED_FILES_KEPT = 3
WAL_BYTES_KEPT = 4 << 20
SYNCHRONOUS = "FULL"  # each commit is on disk when it returns


def open_file(path: Path) -> sqlite3.Connection:
    """Return a checked connection for the writer, journal WAL, synchronous FULL. Reads the whole file once.

    Raises OutboxDamaged when the file is corrupt or not ours, OutboxRefused when it is of a newer program's,
    OutboxUnavailable when it cannot be used for another reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_place(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
    except (OSError, sqlite3.Error) as error:
        raise OutboxUnavailable(
            f"{path}: cannot be opened ({error}); check state_dir, its rights and the disk"
        ) from error
    try:
        _prepare(connection, path)
    except BaseException:  # whatever it was, the file is not left open; it is raised on
        connection.close()
        raise
    return connection


def translated(error: sqlite3.Error, path: Path) -> OutboxDamaged | OutboxUnavailable:
    """Return the gateway's error for SQLite's: only a corrupt file is damage; a full or read-only disk is not."""
    if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    ):
        return OutboxDamaged(f"{path}: {error}")
    return OutboxUnavailable(f"{path}: {error}; nothing is acknowledged until it can be written again")


def set_aside(path: Path) -> Path:
    """Rename the file with its companions and return the new name; of older damaged ones the newest few are kept."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = path.with_name(f"{path.stem}.damaged-{stamp}{path.suffix}")
    for ending in COMPANIONS:
        companion = path.with_name(path.name + ending)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + ending))
    for old in damaged_files(path)[:-DAMAGED_FILES_KEPT]:
        remove(old)
    return aside


def damaged_files(path: Path) -> list[Path]:
    """Return the outbox files that were set aside, oldest first."""
    return sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}"))


def remove(path: Path) -> None:
    """Take a file with its companions away; a folder stays."""
    for ending in COMPANIONS:
        with suppress(IsADirectoryError, PermissionError):
            path.with_name(path.name + ending).unlink(missing_ok=True)


def was_emptied(path: Path) -> bool:
    """Return whether there is a file with nothing in it: a start that was cut off leaves that, or a loss of data."""
    with suppress(OSError):  # opening it says what is wrong
        return path.is_file() and path.stat().st_size == 0
    return False


def _check_place(path: Path) -> None:
    """Raise OutboxDamaged for what SQLite would take for a new file, and would delete the WAL for."""
    if path.is_dir():
        raise OutboxDamaged(f"{path}: a folder is in its place")
    wal = path.with_name(path.name + "-wal")
    if wal.is_file() and wal.stat().st_size and (not path.exists() or was_emptied(path)):
        raise OutboxDamaged(f"{path}: the file is gone, its WAL is not")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    try:
        _check_owner(connection, path)
        found = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            raise OutboxDamaged(f"{path}: {found[0]}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        bring_up_to_date(connection)
    except UnicodeDecodeError as error:  # SQLite tells of damage in the damaged bytes' own words
        raise OutboxDamaged(f"{path}: its table of contents is damaged") from error
    except sqlite3.Error as error:
        raise translated(error, path) from error


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    has_tables = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
    if owner != APPLICATION_ID and (owner or has_tables):
        raise OutboxDamaged(f"{path}: made by another program")
    found = generation(connection)
    if owner == APPLICATION_ID and found > GENERATION:
        raise OutboxRefused(
            f"{path}: made by a newer program (generation {found}, this program knows {GENERATION}); "
            "install that program again, or move the file away"
        )
