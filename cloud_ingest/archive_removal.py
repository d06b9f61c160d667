"""Taking out of the store what an archive holds: row by row the same in both, or it stays.

Each group of rows is one transaction, in which the raw records go and the ledger learns that an archive has them, so
that a crash leaves every record in the store, in the archive, or in both. The same command goes on where it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_ingest import schema
from cloud_ingest.archive import records_of
from cloud_ingest.archive_files import ArchiveFile, ArchiveManifest, read_back
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.errors import BackupRefused
from cloud_ingest.ledger import Range, RangeSet, ranges_of
from cloud_ingest.scans import as_tuples, scans_of
from cloud_ingest.schema import sqlite_errors
from firmware.record import SIZE

if TYPE_CHECKING:
    import pyarrow as pa

WAIT_S = 30.0


@dataclass
class Removed:
    """How many rows went, and how many stay because the store has something else by now, or nothing."""

    observations: int = 0
    records: int = 0
    observations_kept: int = 0


@dataclass
class Removal:
    """Removes the content of one archive, whose files have been verified, from a store."""

    database: Path
    out: Path
    manifest: ArchiveManifest

    def run(self, now_s: float) -> Removed:
        """Remove it. Raises BackupRefused when something still depends on it, StoreUnavailable."""
        removed = Removed()
        with sqlite_errors(), closing(schema.open_for_writing(self.database)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {WAIT_S * 1000:.0f}")
            require_settled(connection, self.manifest.before)
            archive = self._enter(connection, now_s)
            for file in self.manifest.files:
                for rows in read_back(self.out, file):
                    with _transaction(connection):
                        if file.kind == "records":
                            removed.records += _remove_records(connection, archive, file, rows)
                        else:
                            gone = _remove_observations(connection, file, rows)
                            removed.observations += gone
                            removed.observations_kept += rows.num_rows - gone
        return removed

    def _enter(self, connection: sqlite3.Connection, now_s: float) -> int:
        with _transaction(connection):
            connection.execute(
                "INSERT OR IGNORE INTO archives (digest, before, folder, made_at, observations) VALUES (?, ?, ?, ?, ?)",
                (
                    *(self.manifest.digest, self.manifest.before, str(self.out.resolve()), int(now_s)),
                    self.manifest.rows("observations"),
                ),
            )
            digest = (self.manifest.digest,)
            number = connection.execute("SELECT id FROM archives WHERE digest = ?", digest).fetchone()[0]
        return int(number)


def require_settled(connection: sqlite3.Connection, before: int) -> None:
    """Refuse while reviews or rollups still need what would go. Raises BackupRefused."""
    waiting = connection.execute("SELECT DISTINCT station FROM to_review WHERE first <= ?", (before,)).fetchall()
    if waiting:
        names = ", ".join(sorted(row[0] for row in waiting)[:5])
        raise BackupRefused(f"the quality review of {names} is not finished: let tram-cloud run do it, then come again")
    if connection.execute("SELECT 1 FROM rollup_marks WHERE block * 86400 < ? LIMIT 1", (before,)).fetchone():
        raise BackupRefused("sums of hours and days are not made yet: let tram-cloud run do it, then come again")


def _remove_observations(connection: sqlite3.Connection, file: ArchiveFile, rows: pa.Table) -> int:
    series = {row[1:]: row[0] for row in _query(connection, "SELECT id, sensor, parameter FROM series", file.station)}
    numbers = {row[1]: row[0] for row in _query(connection, "SELECT id, journal FROM journals", file.station)}
    archived = _archived_rows(rows, series, numbers)
    times = rows.column("time").to_numpy()
    log = ChunkedLog(connection)
    there = as_tuples(scans_of(log.logged(series.values(), int(times.min()), int(times.max()))))
    same = sorted(row[:2] for row in archived.intersection(there))
    if same:
        log.remove(*(np.array(column, np.int64) for column in zip(*same, strict=True)))
    return len(same)


def _archived_rows(rows: pa.Table, series: dict[tuple[Any, ...], int], numbers: dict[int, int]) -> set[tuple[Any, ...]]:
    """Return the rows as the log has them: without a value where it is the count on its scale."""
    names = ("time", "sensor", "parameter", "count", "value", "flag", "journal", "seq", "calibration", "failed")
    columns = (rows.column(name).to_pylist() for name in names)
    return {
        (
            *(time, series.get((sensor, parameter)), count, value if count is None or calibration else None),
            *(flag, numbers.get(journal), seq, calibration, failed),
        )
        for time, sensor, parameter, count, value, flag, journal, seq, calibration, failed in zip(*columns, strict=True)
    }


def _remove_records(connection: sqlite3.Connection, archive: int, file: ArchiveFile, rows: pa.Table) -> int:
    """Cut the archived records out of the raw slices, and enter them as archived."""
    (journal,) = set(rows.column("journal").to_pylist())
    found = connection.execute(
        "SELECT id FROM journals WHERE station = ? AND journal = ?", (file.station, journal)
    ).fetchone()
    if found is None:
        return 0
    records = records_of(rows)
    archived = {int(one["seq"]): one.tobytes() for one in records}
    gone: list[int] = []
    for number, first, data in _slices(connection, found[0], min(archived), max(archived)):
        same = [seq for seq, record in _records_of(first, data) if archived.get(seq) == record]
        if same:
            _cut(connection, found[0], number, first, data, same)
            gone += same
    _enter_archived(connection, archive, found[0], ranges_of(np.array(gone, np.int64)))
    return len(gone)


def _slices(connection: sqlite3.Connection, journal: int, first: int, last: int) -> list[tuple[int, int, bytes]]:
    return connection.execute(
        "SELECT id, first_seq, records FROM raw WHERE journal = ? AND first_seq <= ? AND last_seq >= ?",
        (journal, last, first),
    ).fetchall()


def _records_of(first: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data), SIZE):
        yield first + at // SIZE, data[at : at + SIZE]


def _cut(connection: sqlite3.Connection, journal: int, number: int, first: int, data: bytes, seqs: list[int]) -> None:
    """Replace a slice by what is left of it without these seqs."""
    connection.execute("DELETE FROM raw WHERE id = ?", (number,))
    last = first + len(data) // SIZE - 1
    for begin, end in RangeSet(ranges_of(np.array(seqs, np.int64))).missing(first, last):
        left = data[(begin - first) * SIZE : (end - first + 1) * SIZE]
        connection.execute(
            "INSERT INTO raw (journal, first_seq, last_seq, records) VALUES (?, ?, ?, ?)", (journal, begin, end, left)
        )


def _enter_archived(connection: sqlite3.Connection, archive: int, journal: int, ranges: list[Range]) -> None:
    """Add ranges to what this archive has of a journal, as the fewest."""
    known = connection.execute(
        "SELECT first, last FROM archived WHERE journal = ? AND archive = ?", (journal, archive)
    ).fetchall()
    connection.execute("DELETE FROM archived WHERE journal = ? AND archive = ?", (journal, archive))
    connection.executemany(
        "INSERT INTO archived VALUES (?, ?, ?, ?)",
        ((archive, journal, *one) for one in RangeSet([*known, *ranges])),
    )


def _query(connection: sqlite3.Connection, query: str, station: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"{query} WHERE station = ?", (station,)).fetchall()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
