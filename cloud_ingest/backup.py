"""Backups: every database of the state directory as it is at one moment, and a manifest that tells what must be in it.

A copy is made by SQLite's own backup within one read transaction, while the service writes. The store comes last: so it
is never older than what the alerts have evaluated of it. Whoever wants to know whether a backup is whole counts and
hashes it again by the same function that made the manifest.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cloud_ingest.database import DATABASE
from cloud_ingest.errors import BackupRefused
from cloud_ingest.ledger import Range, RangeSet
from cloud_ingest.transaction import STORED, UNUSABLE
from firmware.record import SIZE

MANIFEST = "manifest.json"
FORMAT: Literal["tram-backup-1"] = "tram-backup-1"
BLOCK = 1 << 20


def _go_up(ranges: list[Range]) -> list[Range]:
    if any(last < first for first, last in ranges):
        raise ValueError("a range ends before it begins")
    return ranges


Ranges = Annotated[list[Range], AfterValidator(_go_up)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseCopy(_Entry):
    """One file of a backup; `schema_version` is SQLite's user_version."""

    bytes: int
    sha256: str
    schema_version: int
    rows: dict[str, int]


class JournalCopy(_Entry):
    """What the store of a backup has of one journal; `raw_sha256` over its raw records in order of seq."""

    station: str
    journal: int
    records: int
    raw_sha256: str
    stored: Ranges
    unusable: Ranges
    archived: Ranges = []


class Manifest(_Entry):
    """What a backup is, and what it is not. `digest` is over all the rest."""

    format: Literal["tram-backup-1"] = FORMAT
    program: str
    made_at: int
    databases: dict[str, DatabaseCopy]
    journals: list[JournalCopy]
    not_included: list[str]
    digest: str = ""

    def sealed(self) -> Manifest:
        """Return it with its digest."""
        return self.model_copy(update={"digest": self._digest()})

    def is_whole(self) -> bool:
        """Return whether nobody changed it."""
        return self.digest == self._digest()

    def _digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"digest"}).encode()).hexdigest()


class Content(_Entry):
    """What is found in a folder of database files."""

    databases: dict[str, DatabaseCopy] = Field(default_factory=dict)
    journals: list[JournalCopy] = Field(default_factory=list)


def make(
    state_dir: Path | None,
    folder: Path,
    program: str,
    now_s: float,
    not_included: Sequence[str],
    observations: Callable[[Path], object] | None = None,
) -> Manifest:
    """Copy all databases of state_dir (None: none of them) into an empty folder; after them `observations` puts those
    that are kept elsewhere there, so that there may be more than the books speak of, never less.

    Raises BackupRefused, StoreUnavailable.
    """
    sources = (
        sorted(state_dir.glob("*.sqlite"), key=lambda file: (file.name == DATABASE, file.name)) if state_dir else []
    )
    if state_dir is not None and not any(file.name == DATABASE for file in sources):
        raise BackupRefused(f"{state_dir}: no store here; tram-cloud run makes it")
    with _disk_errors(folder):
        for source in sources:
            _copy(source, folder / source.name)
        if observations is not None:
            observations(folder)
        found = content(folder)
        manifest = Manifest(
            program=program,
            made_at=int(now_s),
            databases=found.databases,
            journals=found.journals,
            not_included=list(not_included),
        ).sealed()
        write_durably(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    return manifest


def read_manifest(data: bytes) -> Manifest:
    """Return a manifest. Raises BackupRefused when it is none, or not as it was written."""
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BackupRefused(f"{MANIFEST}: not the manifest of a backup: {where} {first['msg']}") from None
    if not manifest.is_whole():
        raise BackupRefused(f"{MANIFEST}: changed after the backup was made: its digest does not fit")
    return manifest


def content(folder: Path) -> Content:
    """Count and hash the databases of a folder nobody writes to. Raises BackupRefused when one is damaged."""
    databases, journals = {}, []
    for file in sorted(folder.glob("*.sqlite")):
        try:
            with closing(sqlite3.connect(f"{file.resolve().as_uri()}?immutable=1", uri=True)) as connection:
                databases[file.name] = _describe(file, connection)
                if file.name == DATABASE:
                    journals = [_journal(connection, *row) for row in _journals(connection)]
        except (sqlite3.DatabaseError, UnicodeDecodeError, ValidationError) as error:
            raise BackupRefused(f"{file.name}: damaged: {error}") from None
    return Content(databases=databases, journals=journals)


def differences(manifest: Manifest, found: Content) -> list[str]:
    """Return in words where databases are not what the manifest says; none when all is equal."""
    texts: list[str] = []
    for name in sorted(manifest.databases.keys() | found.databases.keys()):
        texts += _difference(name, manifest.databases.get(name), found.databases.get(name))
    there = {(one.station, one.journal): one for one in found.journals}
    for journal in manifest.journals:
        if there.pop((journal.station, journal.journal), None) != journal:
            texts.append(f"journal {journal.journal:08x} of {journal.station} is not what the manifest says")
    return texts + [f"journal {number:08x} of {station} is not in the manifest" for station, number in there]


def contradictions(journals: Sequence[JournalCopy]) -> list[str]:
    """Return where ledger and raw records of a store do not agree."""
    texts = []
    for one in journals:
        stored, archived = RangeSet(one.stored), RangeSet(one.archived)
        if one.records + archived.count != stored.count:
            texts.append(
                f"journal {one.journal:08x} of {one.station}: the ledger has {stored.count} records,"
                f" the store {one.records}, archives {archived.count}"
            )
    return texts


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_durably(file: Path, data: bytes) -> None:
    """Write a file that is whole and on disk when this returns, or not there."""
    part = file.with_name(file.name + ".part")
    with part.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    """Copy a database as it is now, in one read transaction: writers go on and cannot make it start again."""
    uri = f"{source.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=10.0)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        faults = [row[0] for row in copy.execute("PRAGMA quick_check(3)")]
    if faults != ["ok"]:
        raise BackupRefused(f"{source.name} is damaged: {'; '.join(faults)}; look at older backups")
    with target.open("rb") as opened:
        os.fsync(opened.fileno())


def _describe(file: Path, connection: sqlite3.Connection) -> DatabaseCopy:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    tables = sorted(row[0] for row in names)
    return DatabaseCopy(
        bytes=file.stat().st_size,
        sha256=file_digest(file),
        schema_version=connection.execute("PRAGMA user_version").fetchone()[0],
        rows={name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables},  # noqa: S608  names of the file's own tables
    )


def _journals(connection: sqlite3.Connection) -> list[tuple[int, str, int]]:
    return connection.execute("SELECT id, station, journal FROM journals ORDER BY station, id").fetchall()


def _journal(connection: sqlite3.Connection, number: int, station: str, journal: int) -> JournalCopy:
    digest, size = hashlib.sha256(), 0
    for (data,) in connection.execute("SELECT records FROM raw WHERE journal = ? ORDER BY first_seq", (number,)):
        digest.update(data)
        size += len(data)
    return JournalCopy(
        station=station,
        journal=journal,
        records=size // SIZE,
        raw_sha256=digest.hexdigest(),
        stored=_ranges(connection, "ledger WHERE kind = ? AND journal = ?", STORED, number),
        unusable=_ranges(connection, "ledger WHERE kind = ? AND journal = ?", UNUSABLE, number),
        archived=_ranges(connection, "archived WHERE journal = ?", number) if _has_archives(connection) else [],
    )


def _ranges(connection: sqlite3.Connection, of: str, *values: int) -> list[Range]:
    return connection.execute(f"SELECT first, last FROM {of} ORDER BY first", values).fetchall()  # noqa: S608  our own words


def _has_archives(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'archived'").fetchone() is not None


def _difference(name: str, said: DatabaseCopy | None, found: DatabaseCopy | None) -> Iterator[str]:
    if said is None or found is None:
        yield f"{name}: {'not in the manifest' if said is None else 'missing'}"
        return
    if said.sha256 != found.sha256:
        yield f"{name}: SHA-256 {found.sha256[:12]}… instead of {said.sha256[:12]}… ({found.bytes} bytes, {said.bytes})"
    for table in sorted(said.rows.keys() | found.rows.keys()):
        if said.rows.get(table) != found.rows.get(table):
            yield f"{name}: {table} has {found.rows.get(table)} rows instead of {said.rows.get(table)}"


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupRefused(f"{folder}: {error.strerror or error}; nothing was backed up") from None
    except sqlite3.Error as error:
        raise BackupRefused(f"{folder}: {error}; nothing was backed up") from None
