"""Archiving: what is dated before a day, written as Parquet, read back, and only then perhaps taken out of the store.

Nothing waits for an archive and an archive holds up nothing: it reads in short transactions beside the service. A row
belongs to the interval that ends with its time, so `before` itself is archived too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_ingest.archive_files import ArchiveFile, ArchiveManifest, Part, PartWriter, begin, finish
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.columns import Ints
from cloud_ingest.decode import RECORD_DTYPE, Records, crc16_of
from cloud_ingest.errors import BackupRefused
from cloud_ingest.reading import true_times
from cloud_ingest.registry import Registry
from cloud_ingest.scans import as_tuples, scans_of
from cloud_ingest.schema import sqlite_errors
from firmware.record import MISSING, VERSION

if TYPE_CHECKING:
    import pyarrow as pa

SLICES_AT_ONCE = 500
WINDOW_S = 2 * 86400  # of one station
FIELDS = ("seq", "time", "sensor", "parameter", "count", "flag")


@dataclass
class Archiver:
    """Writes one archive of one store."""

    database: Path
    out: Path
    registry: Registry
    before: int  # unix seconds, included
    _open: dict[Part, PartWriter] = field(default_factory=dict, init=False)
    _files: list[ArchiveFile] = field(default_factory=list, init=False)

    def write(self, program: str, now_s: float) -> ArchiveManifest:
        """Write everything up to `before`. Raises BackupRefused, StoreUnavailable; then there is no archive."""
        try:
            begin(self.out)
            with sqlite_errors(), closing(_reading(self.database)) as connection:
                self._write_observations(connection)
                self._write_records(connection)
        except OSError as error:
            raise BackupRefused(f"{self.out}: {error.strerror or error}; the same command goes on") from None
        finally:
            for writer in self._open.values():
                writer.abandon()
        manifest = ArchiveManifest(
            program=program,
            made_at=int(now_s),
            before=self.before,
            timezone=self.registry.network.timezone,
            files=sorted(self._files, key=lambda one: one.path),
        ).sealed()
        finish(self.out, manifest)
        return manifest

    def _write_observations(self, connection: sqlite3.Connection) -> None:
        keys = {row[0]: row[1:] for row in connection.execute("SELECT id, station, sensor, parameter FROM series")}
        journals = dict(connection.execute("SELECT id, journal FROM journals"))
        numbers: dict[str, list[int]] = {}
        for number, (station, *_) in keys.items():
            numbers.setdefault(station, []).append(number)
        log = ChunkedLog(connection)
        for month, first, last in self._months(log):
            for station, own in numbers.items():
                part = Part("observations", station, month)
                for begin_s in range(first, last, WINDOW_S):
                    rows = as_tuples(scans_of(log.logged(own, begin_s + 1, min(begin_s + WINDOW_S, last))))
                    if rows:
                        table = self._observations(rows, keys, journals)
                        self._part(part, observation_schema()).add(table, np.array([row[0] for row in rows]))
                self._close_parts()

    def _observations(
        self, rows: list[tuple[Any, ...]], keys: dict[int, tuple[str, int, int]], journals: dict[int, int]
    ) -> pa.Table:
        import pyarrow as pa

        times, series, counts, values, flags, numbers, seqs, calibrations, failed = zip(*rows, strict=True)
        codes = [keys[one][2] for one in series]
        return pa.table(
            {
                "time": times,
                "sensor": [keys[one][1] for one in series],
                "parameter": codes,
                "name": [known.name if (known := self.registry.parameter(code)) else None for code in codes],
                "value": [self._seen(*one) for one in zip(codes, counts, values, strict=True)],
                "flag": flags,
                "failed": failed,
                "count": counts,
                "calibration": calibrations,
                "journal": [None if one is None else journals[one] for one in numbers],
                "seq": seqs,
            },
            schema=observation_schema(),
        )

    def _seen(self, code: int, count: int | None, value: float | None) -> float | None:
        """Return what people see, as the reader shows it."""
        if value is not None or count is None or count == MISSING:
            return value
        scaled = count / float(self.registry.scale[code])
        return None if scaled != scaled else scaled

    def _write_records(self, connection: sqlite3.Connection) -> None:
        journals = connection.execute("SELECT id, station, journal FROM journals ORDER BY id").fetchall()
        for number, station, journal in journals:
            for records in raw_slices(connection, number):
                times = dated(connection, number, records)
                wanted = (times >= 0) & (times <= self.before)
                self._add_records(station, journal, records[wanted], times[wanted])
            self._close_parts()

    def _add_records(self, station: str, journal: int, records: Records, times: Ints) -> None:
        months = np.array([self._month(time) for time in times.tolist()], dtype="U7")
        for month in np.unique(months).tolist():
            rows = np.flatnonzero(months == month)
            own, own_times = records[rows], times[rows]
            part = self._part(Part("records", station, month, f"{journal:08x}"), record_schema())
            seqs = {f"{journal:08x}": own["seq"].astype(np.int64)}
            part.add(record_table(own, own_times, journal), own_times, seqs)

    def _months(self, log: ChunkedLog) -> Iterator[tuple[str, int, int]]:
        """Yield (month, after, until) of all local months with something in them up to `before`."""
        oldest = log.oldest_time(0)
        while oldest is not None and oldest <= self.before:
            begin_of = self._local(oldest).replace(day=1, hour=0, minute=0, second=0)
            after = int(begin_of.timestamp())
            until = min(int((begin_of + timedelta(days=32)).replace(day=1).timestamp()), self.before)
            yield self._month(oldest), after, until
            oldest = log.oldest_time(until + 1)

    def _local(self, time_s: int) -> datetime:
        return datetime.fromtimestamp(time_s - 1, self.registry.zone)

    def _month(self, time_s: int) -> str:
        return self._local(time_s).strftime("%Y-%m")

    def _part(self, part: Part, schema: pa.Schema) -> PartWriter:
        if part not in self._open:
            self._open[part] = PartWriter(self.out, part, schema)
        return self._open[part]

    def _close_parts(self) -> None:
        for part in list(self._open):
            self._files.append(self._open.pop(part).close())


def raw_slices(connection: sqlite3.Connection, journal: int) -> Iterator[Records]:
    """Yield a journal's raw records (its number), some slices at a time, in order of seq."""
    after = -1
    while True:
        rows = connection.execute(
            "SELECT first_seq, records FROM raw WHERE journal = ? AND first_seq > ? ORDER BY first_seq LIMIT ?",
            (journal, after, SLICES_AT_ONCE),
        ).fetchall()
        if not rows:
            return
        after = rows[-1][0]
        yield np.frombuffer(b"".join(row[1] for row in rows), RECORD_DTYPE)


def dated(connection: sqlite3.Connection, journal: int, records: Records) -> Ints:
    """Return the true times of records; -1 while the board's clock is unknown."""
    stamps = connection.execute("SELECT first_seq, last_seq, offset_s FROM stamps WHERE journal = ?", (journal,))
    return true_times(records, stamps.fetchall())


def record_table(records: Records, times: Ints, journal: int) -> pa.Table:
    """Return records as columns: all of a record but its version and its checksum, which follow."""
    import pyarrow as pa

    columns: dict[str, Any] = {name: np.ascontiguousarray(records[name]) for name in FIELDS}
    columns |= {"true_time": times, "journal": np.full(len(records), journal, np.uint32)}
    return pa.table(columns, schema=record_schema())


def records_of(table: pa.Table) -> Records:
    """Return the records of such columns, as the station made them."""
    records = np.zeros(table.num_rows, RECORD_DTYPE)
    records["version"] = VERSION
    for name in FIELDS:
        records[name] = table.column(name).to_numpy()
    records["crc"] = crc16_of(records)
    return records


def observation_schema() -> pa.Schema:
    """Return the columns of observations; times in unix seconds UTC.

    `value` is what people saw: `count` on its scale, or calibrated (by `calibration`), or derived (without a count).
    """
    import pyarrow as pa

    text, number, byte = pa.string(), pa.int64(), pa.uint8()
    types = {"time": number, "sensor": byte, "parameter": byte, "name": text, "value": pa.float64(), "flag": byte}
    layers = {"failed": number, "count": pa.int32(), "calibration": number}
    return pa.schema({**types, **layers, "journal": pa.uint32(), "seq": pa.uint32()})


def record_schema() -> pa.Schema:
    """Return the columns of raw records; `time` is the record's own, seconds since boot before the clock was set."""
    import pyarrow as pa

    whole, byte = pa.uint32(), pa.uint8()
    first = {"true_time": pa.int64(), "journal": whole, "seq": whole, "time": whole, "sensor": byte, "parameter": byte}
    return pa.schema({**first, "count": pa.int32(), "flag": byte})


def _reading(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0, isolation_level=None)
