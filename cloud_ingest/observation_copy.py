"""Observations that another server keeps, as a file of a backup, and back.

The file has what its numbers stand for (`series`, `journals`), the rows in chunks as the store itself has them for
closed days, and for each series how many they are and their SHA-256, row by row, so that nothing depends on how they
were cut. What a backup holds is read through the protocol of any store of observations, and goes back the same way.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from cloud_ingest.book_names import BookNames
from cloud_ingest.book_tables import journals
from cloud_ingest.chunk_table import Chunk, ChunkTable
from cloud_ingest.columns import Floats, Ints, Layer, Observed, read_series
from cloud_ingest.database import raw
from cloud_ingest.errors import BackupRefused, ChunkDamaged
from cloud_ingest.observations import NOBODY, Logged, Moment, ObservationStore, ObservationsWriter
from firmware.record import MISSING

FILE = "observations.sqlite"
DAY_S = 86400
LEAST_S, MOST_S = DAY_S, 512 * DAY_S  # of one question
FEW_ROWS, MANY_ROWS = 20_000, 100_000  # in an answer: then the next question is longer, or shorter
IDENTITY = ("count", "journal", "seq")
LAYERS = ("value", "calibration", "flag", "failed")
ROW = np.dtype([("time", "<i8"), ("count", "<i8"), ("value", "<f8"), ("calibration", "<i8"), ("flag", "u1"),
                ("failed", "<i8"), ("journal", "<i8"), ("seq", "<i8")])  # fmt: skip
_TABLES = (
    "CREATE TABLE series (id INTEGER PRIMARY KEY, station TEXT NOT NULL, sensor INTEGER NOT NULL,"
    " parameter INTEGER NOT NULL)",
    "CREATE TABLE journals (id INTEGER PRIMARY KEY, station TEXT NOT NULL, journal INTEGER NOT NULL)",
    "CREATE TABLE chunks (id INTEGER PRIMARY KEY, series INTEGER NOT NULL, first INTEGER NOT NULL,"
    " last INTEGER NOT NULL, rows INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE UNIQUE INDEX chunks_of_series ON chunks (series, first)",
    "CREATE TABLE copied (series INTEGER PRIMARY KEY, rows INTEGER NOT NULL, sha256 TEXT NOT NULL)",
)

Told = Callable[[int], None]  # how many rows so far


class Copied(NamedTuple):
    """How much a file has."""

    series: int
    rows: int


def copy_observations(moment: Moment, file: Path, told: Told | None = None) -> Copied:
    """Write everything of a moment's observations into a new file. Raises StoreUnavailable.

    Rows of journals that the books do not know yet are left out: their records are not committed and come again.
    """
    keys = read_series(moment.books)
    first, last = moment.log.oldest_time(0), moment.log.newest_time(1 << 32)
    total = 0
    with _opened(file) as copy:
        for statement in _TABLES:
            copy.execute(text(statement))
        known = [
            row._asdict() for row in moment.books.execute(select(journals.c.id, *journals.c["station", "journal"]))
        ]
        _insert(copy, "journals", known)
        _insert(copy, "series", [{"id": number} | key._asdict() for number, key in keys.items()])
        chunks = ChunkTable(raw(copy))
        for number in keys if first is not None and last is not None else ():
            for rows in _read(moment, number, first or 0, last or 0):
                chunks.merge(number, rows)
                total += len(rows.time)
                if told is not None:
                    told(total)
            rows_of, digest = _digest(chunks, number)
            _insert(copy, "copied", [{"series": number, "rows": rows_of, "sha256": digest}])
        copy.commit()
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    return Copied(len(keys), total)


def faults(file: Path) -> list[str]:
    """Return in words where a file's rows are not those that were copied."""
    found = []
    with _opened(file) as copy:
        chunks, keys = ChunkTable(raw(copy)), read_series(copy)
        said = {row.series: (row.rows, row.sha256) for row in copy.execute(text("SELECT * FROM copied"))}
        for number, key in keys.items():
            try:
                same = _digest(chunks, number) == said.get(number, (0, hashlib.sha256().hexdigest()))
            except ChunkDamaged as error:
                found.append(f"{file.name}: {error}")
                continue
            if not same:
                found.append(f"{file.name}: {key.station} sensor {key.sensor} parameter {key.parameter}: other rows")
    return found


def put_back(file: Path, store: ObservationStore, scale: Floats, told: Told | None = None) -> Copied:
    """Write a file's rows into a store of observations and read each back; what is there already stays where it is the
    same record, and gets the layers of the backup. So it may be done again.

    scale: by parameter code. Raises StoreUnavailable, and BackupRefused where the store has another record.
    """
    total = 0
    with _opened(file) as copy:
        chunks, keys = ChunkTable(raw(copy)), read_series(copy)
        writer = store.writer(copy, BookNames(copy), _nothing)
        for number, key in keys.items():
            for chunk in chunks.overlapping_all(number):
                rows = chunks.read(chunk)
                _write(writer, number, rows, float(scale[key.parameter]))
                if not _are_there(writer, chunk, rows, float(scale[key.parameter])):
                    where = f"{key.station} sensor {key.sensor} parameter {key.parameter}"
                    raise BackupRefused(f"{where}: the store of observations has other records: name an empty bucket")
                total += len(rows.time)
                if told is not None:
                    told(total)
    return Copied(len(keys), total)


def _read(moment: Moment, number: int, first: int, last: int) -> Iterator[Logged]:
    """Yield the rows of a series, in pieces that are neither many questions nor large answers."""
    span = LEAST_S * 32
    while first <= last:
        until = min(first + span - 1, last)
        rows = moment.log.logged([number], first, until)[number]
        found = len(rows.time)
        unknown = (rows.journal == NOBODY) & ((rows.count != MISSING) | (rows.seq != 0))
        if unknown.any():
            rows = rows.take(~unknown)
        if len(rows.time):
            yield rows
        first = until + 1
        span = max(span // 2, LEAST_S) if found > MANY_ROWS else min(span * 2, MOST_S) if found < FEW_ROWS else span


def _digest(chunks: ChunkTable, number: int) -> tuple[int, str]:
    digest, total = hashlib.sha256(), 0
    for chunk in chunks.overlapping_all(number):
        rows = chunks.read(chunk)
        packed = np.zeros(len(rows.time), ROW)
        for name in ROW.names or ():
            packed[name] = getattr(rows, name)
        digest.update(packed.tobytes())
        total += len(packed)
    return total, digest.hexdigest()


def _write(writer: ObservationsWriter, number: int, rows: Logged, scale: float) -> None:
    observed = rows.take(rows.journal != NOBODY)
    if len(observed.time):
        of: Ints = np.full(len(observed.time), number)
        columns = (observed.flag, observed.journal, observed.seq, observed.calibration, observed.failed)
        writer.add(Observed(observed.time, of, observed.count, _seen(observed, scale), *columns))
    _put_layers(writer, number, rows.take(rows.journal == NOBODY), scale)
    writer.settle()


def _are_there(writer: ObservationsWriter, chunk: Chunk, rows: Logged, scale: float) -> bool:
    """Return whether the store has these rows now, their layers put right where they were others."""
    there = _found(writer, chunk, rows)
    if there is None or not all(np.array_equal(getattr(there, name), getattr(rows, name)) for name in IDENTITY):
        return False
    other = ~_same_layers(there, rows)
    if other.any():
        for derived in (False, True):
            wrong = other & ((rows.journal == NOBODY) == derived)
            _put_layers(writer, chunk.series, rows.take(wrong), scale)
        writer.settle()
        there = _found(writer, chunk, rows)
    return there is not None and bool(_same_layers(there, rows).all())


def _found(writer: ObservationsWriter, chunk: Chunk, rows: Logged) -> Logged | None:
    """Return the store's rows at these times, None when one is missing."""
    there = writer.logged([chunk.series], chunk.first, chunk.last)[chunk.series]
    there = there.take(np.isin(there.time, rows.time))
    return there if len(there.time) == len(rows.time) else None


def _same_layers(one: Logged, other: Logged) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    same = np.ones(len(one.time), np.bool_)
    for name in LAYERS:
        mine, theirs = getattr(one, name), getattr(other, name)
        same &= (mine == theirs) | ((mine != mine) & (theirs != theirs))
    return same


def _put_layers(writer: ObservationsWriter, number: int, rows: Logged, scale: float) -> None:
    """Put the layers of rows that are all derived or all observed."""
    if len(rows.time):
        layer = Layer(rows.time, _seen(rows, scale), rows.calibration, rows.flag, rows.failed)
        writer.put_layer(number, layer, derived=bool(rows.journal[0] == NOBODY))


def _seen(rows: Logged, scale: float) -> Floats:
    """Return what people see: of a count without a calibration, the count on its scale."""
    counted = (rows.calibration == 0) & (rows.count != MISSING)
    value: Floats = np.where(counted, rows.count / scale, rows.value)
    return value


def _insert(copy: Connection, table: str, rows: Iterable[Mapping[str, object]]) -> None:
    found = [dict(row) for row in rows]
    if found:
        names = list(found[0])
        values = ", ".join(f":{name}" for name in names)
        copy.execute(text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"), found)  # noqa: S608  our own names


@contextmanager
def _opened(file: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
    try:
        with engine.connect() as copy:
            yield copy
    except (DBAPIError, sqlite3.Error) as error:
        raise BackupRefused(f"{file.name}: {getattr(error, 'orig', error)}") from None
    finally:
        engine.dispose()


def _nothing(_times: Ints, _series: Ints | int) -> None:
    """The books are restored as they were: nothing has to be summed up again."""
