"""A new outbox file in the place of a damaged one, with what can still be read of that.

The order makes every cut of the power harmless: the new file is made whole beside the damaged one, under another name;
then the damaged one goes aside; then the new one takes its name; each is on disk before the next begins.
`finish_renewal` at the next start carries on where a cut came between.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from edge_gateway.errors import OutboxDamaged, OutboxUnavailable
from edge_gateway.outbox_file import COMPANIONS, remove, set_aside, translated
from edge_gateway.outbox_salvage import Salvaged, salvage
from edge_gateway.outbox_schema import bring_up_to_date
from edge_gateway.slices import Series, Slice

ROWS_AT_ONCE = 500
REASON_CHARACTERS = 200


class Renewed(NamedTuple):
    """What became of a damaged file: its new name, and how many records could be read from it."""

    aside: Path
    records: int


def renew(path: Path, why: str, now: float, alive: Callable[[], None]) -> Renewed:
    """Begin a new file in the place of a damaged one; `alive` is called now and then. Raises OutboxUnavailable.

    The records found are in the new file, their series begun at nothing: stations are read again from what their
    journals hold, and what neither has is declared lost.
    """
    fresh = _fresh(path)
    try:
        remove(fresh)
        records = _make(fresh, salvage(path), why, now, alive)
        _sync_folder(path)
        aside = set_aside(path)
        _sync_folder(path)
        fresh.rename(path)
        _sync_folder(path)
    except sqlite3.Error as error:
        raise OutboxUnavailable(str(translated(error, fresh))) from error
    except OSError as error:
        raise OutboxUnavailable(f"{path}: a damaged file cannot be replaced: {error.strerror}") from error
    return Renewed(aside, records)


def finish_renewal(path: Path) -> Path | None:
    """Carry on a renewal that a cut interrupted; return the damaged file's new name when one went aside.

    Raises OutboxUnavailable.
    """
    fresh = _fresh(path)
    aside = None
    try:
        if not fresh.exists():
            return None
        if not _is_complete(fresh):
            remove(fresh)
            return None
        if any(path.with_name(path.name + ending).exists() for ending in COMPANIONS):
            aside = set_aside(path)
        _sync_folder(path)
        fresh.rename(path)
        _sync_folder(path)
    except OSError as error:
        raise OutboxUnavailable(f"{path}: {error.strerror}; check state_dir, its rights and the disk") from error
    return aside


def _make(fresh: Path, found: Iterator[Salvaged], why: str, now: float, alive: Callable[[], None]) -> int:
    """Write the whole new file in one transaction behind its tables; return how many records are in it."""
    with closing(sqlite3.connect(fresh, isolation_level=None)) as sql:
        sql.execute("PRAGMA synchronous = FULL")
        bring_up_to_date(sql)
        sql.execute("BEGIN")
        for number, (piece, received_at) in enumerate(found):
            if number % ROWS_AT_ONCE == 0:
                alive()
            # Of two slices that begin alike, one is what was left of the other.
            sql.execute(
                """INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                     last_seq = excluded.last_seq, records = excluded.records WHERE excluded.last_seq > last_seq""",
                (*piece.series, piece.first_seq, piece.last_seq, received_at, piece.records),
            )
        records = sum(_begin_series(sql, Series(*row)) for row in _series(sql))
        sql.execute("INSERT INTO predecessor VALUES (1, ?, ?)", (now, why[:REASON_CHARACTERS]))
        sql.execute("COMMIT")
    return records


def _series(sql: sqlite3.Connection) -> list[tuple[str, int]]:
    return sql.execute("SELECT DISTINCT station, journal FROM slice").fetchall()


def _begin_series(sql: sqlite3.Connection, series: Series) -> int:
    """Take overlaps out of a series' slices and begin it with nothing settled; return how many records it has."""
    through, records, overlapping = -1, 0, []
    for first, last in sql.execute(
        "SELECT first_seq, last_seq FROM slice WHERE station = ? AND journal = ? ORDER BY first_seq", series
    ):
        if first <= through:
            overlapping.append((first, through))
        records += max(0, last - max(first, through + 1) + 1)
        through = max(through, last)
    for first, through in overlapping:
        _cut_beginning(sql, series, first, through)
    sql.execute(
        "INSERT INTO series (station, journal, stored_through, buffered) VALUES (?, ?, 0, ?)", (*series, records)
    )
    return records


def _cut_beginning(sql: sqlite3.Connection, series: Series, first: int, through: int) -> None:
    """Take the records up to `through` out of the slice that begins with `first`."""
    received_at, records = sql.execute(
        "DELETE FROM slice WHERE station = ? AND journal = ? AND first_seq = ? RETURNING received_at, records",
        (*series, first),
    ).fetchone()
    piece = Slice(series, first, records)
    if piece.last_seq > through:
        rest = piece.part(through + 1, piece.last_seq)
        sql.execute(
            "INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?)",
            (*series, rest.first_seq, rest.last_seq, received_at, rest.records),
        )


def _is_complete(fresh: Path) -> bool:
    try:
        with closing(sqlite3.connect(fresh)) as sql:
            made = sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'predecessor'").fetchone()
            return made is not None and sql.execute("SELECT 1 FROM predecessor").fetchone() is not None
    except sqlite3.Error as error:
        found = translated(error, fresh)
        if isinstance(found, OutboxDamaged):
            return False
        raise found from error


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.stem}.new{path.suffix}")


def _sync_folder(path: Path) -> None:
    """Have renames in the file's folder on disk before anything else happens."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
