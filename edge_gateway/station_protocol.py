"""The bytes between gateway and station: registers of the status block, the clock, and fetched records."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from edge_gateway.errors import NotOurStation
from firmware import record

MAGIC = 0x5452
MAP_VERSION = 1
STATUS_REGISTER = 0
STATUS_COUNT = 31
STATUS_SPARE = 8  # registers at its end that need not be read each time
STATION_ID_REGISTER = 40
STATION_ID_COUNT = 16
CLOCK_REGISTER = 0
FETCH_WRITE_REGISTER = 0x0100
FETCH_READ_REGISTER = 0x0200
REGISTERS_PER_RECORD = record.SIZE // 2
RECORDS_PER_FETCH = 13
ILLEGAL_DATA_VALUE = 3
PADDING = b"\xff" * record.SIZE


@dataclass(frozen=True)
class StationStatus:
    """The status block. Sequence numbers are those of the journal the station writes now."""

    journal: int
    first_seq: int
    next_seq: int
    stored_through: int
    clock_s: int
    clock_is_set: bool
    uptime_s: int
    boot: int
    reset_cause: int


@dataclass(frozen=True)
class Fetched:
    """The good, consecutive records at the front of an answer, and what stopped the reading, if anything did."""

    first_seq: int | None
    records: bytes
    fault: str | None

    @property
    def number(self) -> int:
        """How many records."""
        return len(self.records) // record.SIZE


def decode_status(registers: Sequence[int]) -> StationStatus:
    """Return the status block of input registers 0... Raises NotOurStation when the device is no station of ours."""
    if registers[0] != MAGIC:
        raise NotOurStation(f"the device at this address is no station (register 0 is {registers[0]:#06x})")
    if registers[1] != MAP_VERSION:
        raise NotOurStation(
            f"the station has register map {registers[1]}, this gateway reads {MAP_VERSION}; update one of them"
        )
    return StationStatus(
        journal=_u32(registers, 2),
        first_seq=_u32(registers, 4),
        next_seq=_u32(registers, 6),
        stored_through=_u32(registers, 8),
        clock_s=_u32(registers, 10),
        clock_is_set=registers[12] == 1,
        uptime_s=_u32(registers, 13),
        boot=registers[15],
        reset_cause=registers[16],
    )


def decode_station_id(registers: Sequence[int]) -> str:
    """Return the station id of input registers 40..55 (ASCII, NUL padded)."""
    return struct.pack(f">{len(registers)}H", *registers).rstrip(b"\0").decode("ascii", "backslashreplace")


def encode_clock(unix_s: float, uncertainty_s: float) -> list[int]:
    """Return holding registers 0..3 that set the clock: seconds, milliseconds, uncertainty in milliseconds."""
    seconds, milliseconds = divmod(int(unix_s * 1000), 1000)
    return [*_registers(seconds), milliseconds, min(0xFFFF, int(uncertainty_s * 1000))]


def encode_fetch(journal: int, from_seq: int, stored_through: int) -> list[int]:
    """Return the six registers written by a fetch."""
    return [*_registers(journal), *_registers(from_seq), *_registers(stored_through)]


def decode_records(registers: Sequence[int]) -> Fetched:
    """Return the records of a fetch's answer, up to the padding; each is checked, a bad one ends the reading."""
    data = struct.pack(f">{len(registers)}H", *registers)
    first_seq = None
    for offset in range(0, len(data), record.SIZE):
        if data[offset : offset + record.SIZE] == PADDING:
            return Fetched(first_seq, data[:offset], None)
        try:
            seq = record.decode(data, offset).seq
        except record.RecordError as error:
            return Fetched(first_seq, data[:offset], f"record {offset // record.SIZE + 1} of the answer: {error}")
        first_seq = seq if first_seq is None else first_seq
        if seq != first_seq + offset // record.SIZE:
            return Fetched(first_seq, data[:offset], f"seq {seq} follows {first_seq + offset // record.SIZE - 1}")
    return Fetched(first_seq, data, None)


def _u32(registers: Sequence[int], at: int) -> int:
    return registers[at] << 16 | registers[at + 1]


def _registers(value: int) -> list[int]:
    return [value >> 16 & 0xFFFF, value & 0xFFFF]
