"""Old data brought in: each usable cell of a file of columns becomes a record, the file a journal of its own.

The journal's id comes from the file and its map, the sequence numbers from the order of its lines: the same file again
gives the same identities, so nothing is stored twice, and an import that was cut off goes on where it was. Records go
through the pipeline like any other: raw is kept, layers are made, the ledger knows them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_ingest.column_files import Column, ColumnMap, ColumnTable, FileColumn, read_columns
from cloud_ingest.decode import RECORD_DTYPE, Records, crc16_of
from cloud_ingest.errors import FileRefused
from cloud_ingest.set_aside import Message
from cloud_ingest.topics import RECORDS, shard_of
from firmware.record import CLOCK_UNSET_BELOW, FAIL, NOT_EVALUATED, batch_header
from station_config.parameters import COUNT_LIMIT, load_parameters

RECORDS_PER_BATCH = 600
GATEWAY = "import"
LATEST_TIME_S = 0xFFFFFFFF


@dataclass(frozen=True)
class Import:
    """A file as records: its journal, how many cells could not become one, and the lines that could not be used."""

    station: str
    journal: int
    records: Records
    refused_cells: int
    refused_lines: int
    faults: list[str]

    @property
    def batches(self) -> int:
        """Return how many messages there are."""
        return -(-len(self.records) // RECORDS_PER_BATCH)

    def messages(self) -> Iterator[Message]:
        """Yield batches as a gateway would send them."""
        topic = f"{RECORDS}/{shard_of(self.station)}/{GATEWAY}/{self.station}"
        for at in range(0, len(self.records), RECORDS_PER_BATCH):
            piece = self.records[at : at + RECORDS_PER_BATCH]
            yield Message(topic, bytes(batch_header(self.journal, len(piece))) + piece.tobytes())


def read_import(path: Path, column_map: ColumnMap, station: str) -> Import:
    """Return a file's records. Raises FileRefused."""
    table = read_columns(path, column_map)
    parts, refused = [], 0
    for column in column_map.columns:
        part, without = _records_of(table, column)
        parts.append(part)
        refused += without
    records: Records = np.concatenate(parts)
    # By time, then by the map's columns: the order of a board's records.
    records = records[np.argsort(records["time"], kind="stable")]
    records["seq"] = np.arange(1, len(records) + 1)
    records["crc"] = crc16_of(records)
    return Import(station, _journal(path, column_map, station), records, refused, table.refused, table.faults)


def _records_of(table: ColumnTable, column: Column) -> tuple[Records, int]:
    """Return one column's records, without numbers yet, and how many of its cells were refused."""
    parameter = load_parameters().by_name[column.parameter]
    if parameter.kind in ("derived", "event"):
        raise FileRefused(
            f"column {column.name!r}: {column.parameter} is derived by us and cannot be brought in as measured; "
            "map what was measured (a salinity meter's own number is salinity_measured)"
        )
    of: FileColumn = table.columns[column.name]
    counts = np.rint(of.values * 10.0**parameter.decimals)
    there = ~np.isnan(of.values)
    usable = there & (np.abs(counts) < COUNT_LIMIT)
    usable &= (table.times >= CLOCK_UNSET_BELOW) & (table.times <= LATEST_TIME_S)
    records: Records = np.zeros(int(usable.sum()), RECORD_DTYPE)
    records["version"], records["sensor"], records["parameter"] = 1, column.sensor, parameter.code
    records["time"], records["count"] = table.times[usable], counts[usable]
    rejected = np.zeros(len(usable), np.bool_) if of.said_rejected is None else of.said_rejected
    records["flag"] = np.where(rejected[usable], FAIL, NOT_EVALUATED)
    return records, int((there & ~usable).sum() + of.unreadable.sum())


def _journal(path: Path, column_map: ColumnMap, station: str) -> int:
    digest = hashlib.sha256(f"{station}\0{column_map.model_dump_json()}\0".encode())
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return int.from_bytes(digest.digest()[:4], "big")
