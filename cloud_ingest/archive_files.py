"""The files of an archive: Parquet by kind, station and local month, and a manifest with hashes, counts and seq ranges.

    OUT/manifest.json
    OUT/observations/station=xuan-hoa/month=2024-03/part.parquet       what people saw, with its layers
    OUT/records/station=xuan-hoa/month=2024-03/1234abcd.parquet        what the station made, a file for each journal

The folders are named so that pyarrow, DuckDB, Spark and pandas read the whole as one table with these two columns.
Without a manifest an archive is unfinished, and begun again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_ingest.backup import MANIFEST, file_digest, sync_folder, write_durably
from cloud_ingest.errors import BackupRefused
from cloud_ingest.ledger import Range, ranges_of

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_IN_GROUP = 50_000
UNFINISHED = "unfinished"
RISING = frozenset({"time", "true_time", "seq"})
Kind = Literal["observations", "records"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArchiveFile(_Entry):
    """One Parquet file; `seqs` by journal (eight hex digits) only for records."""

    path: str = Field(pattern=r"^(observations|records)/station=[a-z0-9-]{1,32}/month=\d{4}-\d{2}/\w{1,16}\.parquet$")
    kind: Kind
    station: str
    month: str
    rows: int
    bytes: int
    sha256: str
    first_time: int
    last_time: int
    seqs: dict[str, list[Range]] = {}


class ArchiveManifest(_Entry):
    """What an archive holds: all of the store that was dated before `before` when it was made."""

    format: Literal["tram-archive-1"] = "tram-archive-1"
    program: str
    made_at: int
    before: int
    timezone: str
    files: list[ArchiveFile]
    digest: str = ""

    def sealed(self) -> ArchiveManifest:
        """Return it with the digest over all the rest."""
        return self.model_copy(update={"digest": self._digest()})

    def is_whole(self) -> bool:
        """Return whether nobody changed it."""
        return self.digest == self._digest()

    def rows(self, kind: Kind) -> int:
        """Return how many rows of a kind there are."""
        return sum(one.rows for one in self.files if one.kind == kind)

    def _digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"digest"}).encode()).hexdigest()


class Part(NamedTuple):
    """Which file a row goes to."""

    kind: Kind
    station: str
    month: str
    name: str = "part"

    @property
    def path(self) -> str:
        """Return its path within the archive."""
        return f"{self.kind}/station={self.station}/month={self.month}/{self.name}.parquet"


class PartWriter:
    """Writes one file, in groups of rows."""

    def __init__(self, folder: Path, part: Part, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._file = folder / part.path
        self._part = part
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # times and numbers that count up: their differences; everything else: what repeats
        rising = {name: "DELTA_BINARY_PACKED" for name in schema.names if name in RISING}
        repeating = [name for name in schema.names if name not in RISING]
        self._writer = pq.ParquetWriter(
            self._file, schema, compression="zstd", version="2.6", use_dictionary=repeating, column_encoding=rising
        )
        self._waiting: list[pa.Table] = []
        self._rows, self._waiting_rows = 0, 0
        self._first, self._last = 1 << 62, -1
        self._seqs: dict[str, list[Any]] = {}

    def add(self, table: pa.Table, times: np.ndarray[Any, Any], seqs: dict[str, Any] | None = None) -> None:
        """Add rows, with their times, and of records their seqs by journal."""
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        self._rows += table.num_rows
        self._first = min(self._first, int(times.min()))
        self._last = max(self._last, int(times.max()))
        for journal, numbers in (seqs or {}).items():
            self._seqs.setdefault(journal, []).append(numbers)
        if self._waiting_rows >= ROWS_IN_GROUP:
            self._flush()

    def close(self) -> ArchiveFile:
        """Finish the file; it is on disk when this returns."""
        if self._waiting:
            self._flush()
        self._writer.close()
        with self._file.open("rb") as opened:
            os.fsync(opened.fileno())
        sync_folder(self._file.parent)
        return ArchiveFile(
            path=self._part.path,
            kind=self._part.kind,
            station=self._part.station,
            month=self._part.month,
            rows=self._rows,
            bytes=self._file.stat().st_size,
            sha256=file_digest(self._file),
            first_time=self._first,
            last_time=self._last,
            seqs={journal: ranges_of(np.concatenate(numbers)) for journal, numbers in self._seqs.items()},
        )

    def abandon(self) -> None:
        """Close the file after a fault."""
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=ROWS_IN_GROUP)
        self._waiting, self._waiting_rows = [], 0


def begin(out: Path) -> None:
    """Make the folder of a new archive, or take one that was never finished. Raises BackupRefused."""
    ours = {UNFINISHED, f"{UNFINISHED}.part"}  # the second: a crash at its first write
    if out.exists() and any(out.iterdir()) and not ours & {file.name for file in out.iterdir()}:
        raise BackupRefused(f"{out}: not empty; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / UNFINISHED, b"tram-cloud archive was not done with this folder; the same command goes on\n")


def finish(out: Path, manifest: ArchiveManifest) -> None:
    """Make it an archive. Files that an earlier, unfinished attempt left and the manifest does not name go."""
    named = {one.path for one in manifest.files}
    for file in out.rglob("*.parquet"):
        if str(file.relative_to(out)) not in named:
            file.unlink()
    write_durably(out / MANIFEST, manifest.model_dump_json(indent=1).encode())
    (out / UNFINISHED).unlink(missing_ok=True)
    sync_folder(out)


def is_archive(out: Path) -> bool:
    """Return whether there is a finished archive."""
    return (out / MANIFEST).exists()


def read_archive(out: Path) -> ArchiveManifest:
    """Return the manifest of an archive whose files are as they were written. Raises BackupRefused."""
    try:
        manifest = ArchiveManifest.model_validate_json((out / MANIFEST).read_bytes())
    except OSError as error:
        raise BackupRefused(f"{out}: no finished archive: {error.strerror}") from None
    except ValidationError:
        raise BackupRefused(f"{out / MANIFEST}: not the manifest of an archive") from None
    if not manifest.is_whole():
        raise BackupRefused(f"{out / MANIFEST}: changed after the archive was made")
    for one in manifest.files:
        try:
            digest = file_digest(out / one.path)
        except OSError as error:
            raise BackupRefused(f"{out / one.path}: {error.strerror}") from None
        if digest != one.sha256:
            raise BackupRefused(f"{out / one.path}: torn or altered: its SHA-256 is not the manifest's")
    return manifest


def read_back(out: Path, file: ArchiveFile) -> Iterator[pa.Table]:
    """Yield the rows of a file, group by group. Raises BackupRefused when it cannot be read or lacks rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    try:
        with pq.ParquetFile(out / file.path) as opened:
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group)
                rows += table.num_rows
                yield table
    except (OSError, pa.ArrowException) as error:
        raise BackupRefused(f"{out / file.path}: cannot be read: {error}") from None
    if rows != file.rows:
        raise BackupRefused(f"{out / file.path}: {rows} rows instead of {file.rows}")
