"""The faults an RS-485 line can have, as pure decisions: what becomes of a chunk of bytes, and why.

cut      nothing passes                         noise    chance that stray bytes come before or after a chunk
stuck    a driver holds the line: zeros arrive  drop     chance that a chunk is lost
echo     the sender hears itself                corrupt  chance that one bit of a chunk is flipped
delay_ms everything comes later                 double   chance that a chunk comes twice
wrong_slave  chance that a frame comes under the next address, with a good CRC

A chunk is what a sender wrote in one go: nearly always one Modbus frame. Randomness is handed in, so that a seed gives
the same run again.
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from firmware.record import crc16
from simulators.errors import SimulatorError

NOISE_BYTES = 4  # at most, per burst
SHORTEST_FRAME_BYTES, HIGHEST_ADDRESS = 4, 247
LONGEST_DELAY_MS = 600_000.0
SWITCHES = frozenset({"cut", "stuck", "echo"})
CHANCES = frozenset({"noise", "drop", "corrupt", "double", "wrong_slave"})


class FaultUnknown(SimulatorError):
    """There is no such fault, or it cannot have this value; the text lists what there is."""


@dataclass(frozen=True)
class LineFaults:
    """The faults of one line at a moment. The default is a good line."""

    cut: bool = False
    stuck: bool = False
    echo: bool = False
    noise: float = 0.0
    drop: float = 0.0
    corrupt: float = 0.0
    double: float = 0.0
    wrong_slave: float = 0.0
    delay_ms: float = 0.0

    def with_fault(self, name: str, value: bool | float) -> LineFaults:
        """Return these faults with one changed: a switch, a chance (True is 1), a delay in ms. Raises FaultUnknown."""
        if name not in {field.name for field in fields(self)}:
            raise FaultUnknown(f"no fault {name!r}; there are {', '.join(field.name for field in fields(self))}")
        changed: dict[str, Any] = {name: _checked(name, value)}
        return replace(self, **changed)

    def as_dict(self) -> dict[str, bool | float]:
        """Return {name: value} of the faults that are on."""
        return {name: value for name, value in asdict(self).items() if value}


def _checked(name: str, value: bool | float) -> bool | float:
    if name in SWITCHES:
        if not isinstance(value, bool):
            raise FaultUnknown(f"{name} is on or off: true or false, not {value!r}")
        return value
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value) or value < 0:
        raise FaultUnknown(f"{name} must be a number from 0, not {value!r}")
    if name in CHANCES:
        if value > 1:
            raise FaultUnknown(f"{name} is a chance per chunk: 0 to 1, not {value}")
        return float(value)
    if value is True or value > LONGEST_DELAY_MS:
        raise FaultUnknown(f"{name} is a time: 0 to {LONGEST_DELAY_MS:.0f} ms, not {value}")
    return float(value)


@dataclass(frozen=True)
class Passage:
    """What became of a chunk: the bytes that arrive (maybe none), how much later, and the faults that acted on it."""

    data: bytes
    delay_s: float
    reasons: tuple[str, ...]


def pass_chunk(faults: LineFaults, chunk: bytes, chance: random.Random) -> Passage:
    """Decide what becomes of a chunk that a participant put on the line."""
    if faults.cut:
        return Passage(b"", 0.0, ("cut",))
    if faults.stuck:
        return Passage(bytes(len(chunk)), 0.0, ("stuck",))
    if chance.random() < faults.drop:
        return Passage(b"", 0.0, ("drop",))
    data, reasons = chunk, []
    if faults.wrong_slave and chance.random() < faults.wrong_slave and _is_frame(data):
        data = _under_next_address(data)
        reasons.append("wrong_slave")
    if chance.random() < faults.corrupt:
        data = _flip_one_bit(data, chance)
        reasons.append("corrupt")
    if chance.random() < faults.double:
        data += data
        reasons.append("double")
    if chance.random() < faults.noise:
        burst = chance.randbytes(chance.randint(1, NOISE_BYTES))
        data = burst + data if chance.random() < 0.5 else data + burst
        reasons.append("noise")
    if faults.delay_ms:
        reasons.append("delay_ms")
    return Passage(data, faults.delay_ms / 1000.0, tuple(reasons))


def _is_frame(data: bytes) -> bool:
    return len(data) >= SHORTEST_FRAME_BYTES and crc16(data) == 0


def _under_next_address(frame: bytes) -> bytes:
    """Return the frame as the next address's; twice does not lead back, so no answer is made right again."""
    body = bytes((frame[0] % HIGHEST_ADDRESS + 1,)) + frame[1:-2]
    return body + crc16(body).to_bytes(2, "little")


def _flip_one_bit(data: bytes, chance: random.Random) -> bytes:
    bit = chance.randrange(8 * len(data))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
