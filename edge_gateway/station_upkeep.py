"""The bytes of a station's care for itself: facts, live values, commands and files (firmware/REGISTERS.md)."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

FACTS_REGISTER, FACTS_COUNT = 13, 18
LIVE_REGISTER, LIVE_COUNT = 100, 100
REGISTERS_PER_CHANNEL = 4
CHANNELS_PER_READ = LIVE_COUNT // REGISTERS_PER_CHANNEL
CARE_REGISTER, CARE_COUNT = 10, 6
CHUNK_BYTES = 244  # the most that fits a frame
PART_BYTES = 242
DESCRIPTION = 100  # file 100 + n describes file n
DESCRIPTION_BYTES = 40
_NO_CHANNEL = 0xFFFF


class StationFile(IntEnum):
    """The files of a station."""

    CONFIGURATION_IN_FORCE = 1
    LOG = 2
    FIRMWARE = 3
    OLDER_LOG = 4
    CONFIGURATION = 5


class StationCommand(IntEnum):
    """What a station can be told to do."""

    APPLY_CONFIGURATION = 1
    APPLY_UPDATE = 2
    RESTART = 3
    FORGET = 4
    CALIBRATION = 5


class CareResult(IntEnum):
    """What a station says of the last command."""

    NONE = 0
    WORKING = 1
    DONE = 2
    UNKNOWN_COMMAND = 10
    NOTHING_STAGED = 11
    NO_KEY = 12
    BAD_SIGNATURE = 13
    BAD_IMAGE = 14
    NOT_NEWER = 15
    OTHER_BYTECODE = 16
    FLASH_FULL = 17
    ON_TRIAL = 18
    BAD_CONFIGURATION = 19
    FLASH_FAILED = 20
    BAD_ARGUMENT = 21
    FAULT = 22

    @property
    def in_words(self) -> str:
        """As firmware/REGISTERS.md says it."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class StationFacts:
    """What a station is at the moment."""

    uptime_s: int
    boot: int
    reset_cause: int
    free_heap_kib: int
    configuration_hash: int
    version: tuple[int, int, int]


@dataclass(frozen=True)
class Care:
    """The last command, and what is on trial: 0 nothing, 1 firmware, 2 configuration."""

    command: int
    argument: int
    result: int
    trial: int


@dataclass(frozen=True)
class LiveValue:
    """The latest sample of a channel; None is no value."""

    sensor: int
    parameter: int
    flag: int
    value: float | None


@dataclass(frozen=True)
class FileDescription:
    """A file of a station; of a staged one what it is to be, and how much of it is there."""

    length: int
    sha256: bytes
    held: int


def decode_facts(registers: Sequence[int]) -> StationFacts:
    """Return the facts of input registers 13..30."""
    return StationFacts(
        uptime_s=registers[0] << 16 | registers[1],
        boot=registers[2],
        reset_cause=registers[3],
        free_heap_kib=registers[4],
        configuration_hash=registers[5] << 16 | registers[6],
        version=(registers[15], registers[16], registers[17]),
    )


def decode_live(registers: Sequence[int]) -> list[LiveValue]:
    """Return the channels of a block of live registers, up to the first one there is not."""
    found = []
    for at in range(0, len(registers), REGISTERS_PER_CHANNEL):
        which, flag, *words = registers[at : at + REGISTERS_PER_CHANNEL]
        if which == _NO_CHANNEL:
            break
        (value,) = struct.unpack(">f", struct.pack(">2H", *words))
        found.append(LiveValue(which >> 8, which & 0xFF, flag, float(value) if math.isfinite(value) else None))
    return found


def decode_care(registers: Sequence[int]) -> Care:
    """Return holding registers 10..15."""
    return Care(registers[0], registers[1] << 16 | registers[2], registers[3], registers[5])


def encode_command(command: StationCommand, argument: int) -> list[int]:
    """Return the three registers of a command."""
    return [command, argument >> 16 & 0xFFFF, argument & 0xFFFF]


def decode_description(data: bytes) -> FileDescription:
    """Return the description of a file."""
    length, sha256, held = struct.unpack(">I32sI", data[:DESCRIPTION_BYTES])
    return FileDescription(length, sha256, held)


def declaration(data: bytes) -> bytes:
    """Return what is written to announce a file."""
    return struct.pack(">I", len(data)) + hashlib.sha256(data).digest()


def file_argument(data: bytes) -> int:
    """Return the argument of a command that means this staged file: the first 4 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


def configuration_hash(data: bytes) -> int:
    """Return how a station shows this configuration: the first 31 bits of its SHA-256."""
    return file_argument(data) >> 1
