"""Batches of records into numpy columns, many batches in one go.

What cannot be read is returned with the reason, never raised: one bad record does not stop its batch, one bad batch
does not stop the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware import record

RECORD_DTYPE = np.dtype(
    [
        ("version", "u1"),
        ("seq", "<u4"),
        ("time", "<u4"),
        ("count", "<i4"),
        ("sensor", "u1"),
        ("parameter", "u1"),
        ("flag", "u1"),
        ("crc", "<u2"),
    ]
)
assert RECORD_DTYPE.itemsize == record.SIZE

Records = npt.NDArray[np.void]  # of RECORD_DTYPE
_BODY_SIZE = record.SIZE - 2


@dataclass(frozen=True)
class UnusableRecord:
    """One record of a batch that cannot be read; `seq` only where it is beyond doubt."""

    batch: int
    position: int
    seq: int | None
    data: bytes
    reason: str


@dataclass(frozen=True)
class UnusableBatch:
    """A payload that is not a batch at all."""

    batch: int
    reason: str


@dataclass(frozen=True)
class Decoded:
    """The readable records of several batches, in order of arrival, and what could not be read."""

    records: Records
    batch: npt.NDArray[np.intp]  # for each record: index of its payload
    journals: list[int | None]  # for each payload: its journal, None when it is not a batch
    unusable_records: list[UnusableRecord]
    unusable_batches: list[UnusableBatch]


@cache
def _crc_columns() -> npt.NDArray[np.uint16]:
    """Return [column][byte] -> what that byte adds (XOR) to the CRC of a 16-byte body.

    A CRC without its start value is linear over XOR, so the columns of a whole batch are looked up independently
    instead of byte after byte.
    """
    table = np.zeros((_BODY_SIZE, 256), np.uint16)
    for column in range(_BODY_SIZE):
        for byte in range(256):
            table[column, byte] = record.crc16(bytes(column) + bytes([byte]) + bytes(_BODY_SIZE - 1 - column), 0)
    return table


def crc16_of(records: Records) -> npt.NDArray[np.uint16]:
    """Return the CRC-16/MODBUS of the first 16 bytes of each record."""
    table = _crc_columns()
    columns = np.ascontiguousarray(records.view(np.uint8).reshape(-1, record.SIZE).T)
    crc = np.full(len(records), record.crc16(bytes(_BODY_SIZE)), np.uint16)
    for column in range(_BODY_SIZE):
        crc ^= table[column][columns[column]]
    return crc


def decode(payloads: Sequence[bytes]) -> Decoded:
    """Decode batches (each `TRB1` header + records end to end)."""
    journals: list[int | None] = []
    bodies: list[bytes] = []
    sizes: list[int] = []
    unusable_batches: list[UnusableBatch] = []
    for index, payload in enumerate(payloads):
        try:
            journal, body = record.split_batch(payload)
        except record.RecordError as error:
            unusable_batches.append(UnusableBatch(index, str(error)))
            journal, body = None, b""
        journals.append(journal)
        bodies.append(body)
        sizes.append(len(body) // record.SIZE)
    records: Records = np.frombuffer(b"".join(bodies), RECORD_DTYPE)
    batch = np.repeat(np.arange(len(payloads)), sizes)
    bad_crc = crc16_of(records) != records["crc"]
    bad_version = ~bad_crc & (records["version"] != record.VERSION)
    good = ~(bad_crc | bad_version)
    unusable = [_unusable(records, batch, good, bad_crc, int(row)) for row in np.flatnonzero(~good)]
    if unusable:
        records, batch = records.take(np.flatnonzero(good)), batch[good]
    return Decoded(records, batch, journals, unusable, unusable_batches)


def _unusable(
    records: Records, batch: npt.NDArray[np.intp], good: npt.NDArray[np.bool_], bad_crc: npt.NDArray[np.bool_], row: int
) -> UnusableRecord:
    first = int(np.searchsorted(batch, batch[row]))
    end = int(np.searchsorted(batch, batch[row], side="right"))
    if bad_crc[row]:
        seq = seq_by_neighbours(records["seq"][first:end].astype(np.int64), good[first:end], row - first)
        reason = "CRC does not match"
    else:
        seq = int(records["seq"][row])
        reason = f"record version {int(records['version'][row])}, this program reads {record.VERSION}"
    return UnusableRecord(int(batch[row]), row - first, seq, records[row : row + 1].tobytes(), reason)


def seq_by_neighbours(seqs: npt.NDArray[np.int64], good: npt.NDArray[np.bool_], position: int) -> int | None:
    """Return the seq of the damaged record at `position`, or None where the batch leaves a doubt.

    A commit that names a wrong seq would make the gateway forget a record nobody stored, so the number must follow
    from the readable records on both sides, or from one side and the damaged record's own bytes.
    """
    before, after = np.flatnonzero(good[:position]), np.flatnonzero(good[position + 1 :])
    guesses = set()
    if len(before):
        guesses.add(int(seqs[before[-1]]) + position - int(before[-1]))
    if len(after):
        guesses.add(int(seqs[position + 1 + after[0]]) - 1 - int(after[0]))
    if not (len(before) and len(after)):
        guesses.add(int(seqs[position]))
    alone = not (len(before) or len(after))
    return None if alone or len(guesses) != 1 else guesses.pop()


def as_dicts(payload: bytes) -> list[dict[str, Any]]:
    """Return every record of one batch for people and scripts; unusable ones with their reason.

    Raises firmware.record.RecordError when the payload is not a batch.
    """
    record.split_batch(payload)
    decoded = decode([payload])
    journal = decoded.journals[0]
    rows: list[dict[str, Any]] = [
        {"journal": journal, "unusable": bad.reason, "seq": bad.seq, "data": bad.data.hex(), "position": bad.position}
        for bad in decoded.unusable_records
    ]
    fields = ("seq", "time", "count", "sensor", "parameter", "flag")
    for values in zip(*(decoded.records[field].tolist() for field in fields), strict=True):
        rows.append({"journal": journal, **dict(zip(fields, values, strict=True))})
    return rows
