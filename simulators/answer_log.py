"""What simulated instruments answered, written down by themselves: the truth that records are held against.

One line for each answer: bench time, station, sensor, first register, registers in hex. Written in blocks; what was
asked for in the last second before a kill -9 may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from station_config.clock import Clock

FLUSH_AFTER_S = 1.0


class Answer(NamedTuple):
    """One answer as it left the instrument; `time` in bench seconds, `data` the registers, high byte first."""

    time: float
    station: str
    sensor: int
    address: int
    data: bytes


class AnswerLog:
    """Use as a context manager."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = path.open("a", encoding="ascii")
        self._clock = clock
        self._flushed_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    def note(self, station: str, sensor: int, address: int, registers: Sequence[int]) -> None:
        """Write down an answer."""
        data = "".join(f"{register:04x}" for register in registers)
        self._file.write(f"{self._clock.now():.3f},{station},{sensor},{address},{data}\n")
        if time.monotonic() - self._flushed_at > FLUSH_AFTER_S:
            self._file.flush()
            self._flushed_at = time.monotonic()


def read_answers(path: Path) -> Iterator[Answer]:
    """Yield what was written down; a last line without its end is left out."""
    with path.open(encoding="ascii") as file:
        for line in file:
            if line.endswith("\n"):
                moment, station, sensor, address, data = line.rstrip("\n").split(",")
                yield Answer(float(moment), station, int(sensor), int(address), bytes.fromhex(data))
