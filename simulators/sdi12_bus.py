"""SDI-12 sensors on one data wire, each simulated from its file.

    bytes on the pty -> break (a zero byte) and questions ("0C1!") -> the sensor with that address -> lines of text

A sensor minds its manners (SDI-12 1.4): it sleeps until a break, is deaf before it has warmed up, measures for as long
as it says, tells when it is ready after M, and has no values for who asks too early. Bench time says what is warm;
measuring takes real time, as the station's waits do.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import time
import tty
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from simulators.instrument_bus import PortMissing
from simulators.instruments import Fault, FaultImpossible
from station_config.clock import Clock
from station_config.instruments import Instrument as Definition
from station_config.instruments import Measurement, Value
from station_config.instruments.sdi12_frames import crc

Truth = Callable[[float], Mapping[str, float]]
Answer = tuple[float, str]  # after so many seconds, this line

_ANSWERS_AFTER_S = 0.009  # within 15 ms, after the 8.33 ms its marking takes
_SLEEPS_AFTER_S = 0.1
_MEASURES_S = 1  # what it says; it is ready sooner
_READY_AFTER = 0.4
_DIGITS = 7
_LONGEST_LINE = {"M": 35, "C": 75, "R": 75}
_REOPEN_S = 0.25
_CHUNK_BYTES = 256


class Sdi12Sensor:
    """One sensor of any model. `truth` is asked with bench time when a measurement begins."""

    possible_faults: ClassVar[frozenset[Fault]] = frozenset({Fault.SILENT, Fault.STUCK})

    def __init__(
        self,
        model: str,
        definition: Definition,
        address: str,
        truth: Truth,
        clock: Clock,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.address = address
        self.measured = 0  # how many measurements were begun
        self.early = 0  # how often it was asked for values it did not have yet
        self._definition = definition
        self._truth = truth
        self._clock = clock
        self._seconds = seconds
        self._faults: dict[Fault, float] = {}
        self._warm_since = clock.now()
        self._awake_until = -math.inf
        self._lines: list[str] = []  # what D0, D1 … bring
        self._ready_at = -math.inf
        self._is_concurrent = False

    def set_fault(self, fault: Fault, on: bool, _amount: float = 0.0) -> None:
        """Begin or end a fault. Raises FaultImpossible where the sensor cannot have it."""
        if fault not in self.possible_faults:
            raise FaultImpossible(
                f"{self.model} cannot be {fault}; possible: {', '.join(sorted(self.possible_faults))}"
            )
        if on:
            self._faults.setdefault(fault, self._clock.now())
        else:
            self._faults.pop(fault, None)

    def hear_break(self) -> None:
        """Wake up, and break off a measurement under way unless others are meant to be asked meanwhile."""
        self._awake_until = self._seconds() + _SLEEPS_AFTER_S
        if self._seconds() < self._ready_at and not self._is_concurrent:
            self._lines = []

    def answer(self, question: str) -> list[Answer]:
        """Return what this sensor says to a question, and when; nothing when it is not meant, sleeps or is not warm."""
        if Fault.SILENT in self._faults or question[:1] != self.address or not self._is_awake_and_warm():
            return []
        self._awake_until = self._seconds() + _SLEEPS_AFTER_S
        command = question[1:-1]
        if command == "":
            return [(_ANSWERS_AFTER_S, self.address)]
        if command[0] == "D":
            return [(_ANSWERS_AFTER_S, self._data(int(command[1:] or 0)))]
        for measurement in self._definition.measurements:
            if command == measurement.full_command:
                return list(self._begin(measurement))
        return []

    def _is_awake_and_warm(self) -> bool:
        warm = self._clock.now() - self._warm_since >= self._definition.timing.warmup_ms / 1000.0
        return warm and self._seconds() <= self._awake_until

    def _begin(self, measurement: Measurement) -> Iterator[Answer]:
        self.measured += 1
        self._lines = self._measure(measurement)
        kind = measurement.command[0]
        self._is_concurrent = kind == "C"
        if kind == "R":
            yield _ANSWERS_AFTER_S, self._lines[0]
            return
        takes_s = _READY_AFTER * _MEASURES_S
        self._ready_at = self._seconds() + takes_s
        digits = 2 if kind == "C" else 1
        yield _ANSWERS_AFTER_S, f"{self.address}{_MEASURES_S:03d}{measurement.count:0{digits}d}"
        if kind == "M":
            yield takes_s, self.address

    def _data(self, number: int) -> str:
        if self._seconds() < self._ready_at:
            self.early += 1
            return self.address
        return self._lines[number] if number < len(self._lines) else self.address

    def _measure(self, measurement: Measurement) -> list[str]:
        truth = self._truth(self._faults.get(Fault.STUCK, self._clock.now()))
        values = ["+0"] * measurement.count
        for field in measurement.fields:
            values[field.at] = _text(field, truth[field.parameter])
        lines = [self.address]
        for value in values:
            if len(lines[-1]) + len(value) > _LONGEST_LINE[measurement.command[0]]:
                lines.append(self.address)
            lines[-1] += value
        return [line + crc(line) for line in lines] if measurement.crc else lines


def _text(field: Value, value: float) -> str:
    """Return a value as the sensor says it: a sign and at most seven digits."""
    if math.isnan(value):
        if not field.invalid:
            raise ValueError(f"{field.parameter}: this sensor has no way to say that it has no value")
        return f"{field.invalid[0]:+d}"
    raw = (value - field.offset) / field.scale
    return f"{raw:+.{max(0, _DIGITS - len(str(int(abs(raw)))))}f}"


class Sdi12Bus:
    """Serves sensors on one port for as long as `run` runs; opens the port again when the line comes back."""

    def __init__(self, port: Path, sensors: Iterable[Sdi12Sensor]) -> None:
        self.port = port
        self._sensors = list(sensors)
        self._heard = b""
        self.serving = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            with contextlib.suppress(FileNotFoundError):
                await self._serve_once()
            await asyncio.sleep(_REOPEN_S)

    async def wait_until_serving(self, timeout_s: float) -> None:
        """Return once the port is open. Raises PortMissing."""
        try:
            await asyncio.wait_for(self.serving.wait(), timeout_s)
        except TimeoutError:
            raise PortMissing(
                f"{self.port}: cannot be opened as a serial port; start `tram-sim lines` first, or correct the path"
            ) from None

    async def _serve_once(self) -> None:
        fd = os.open(self.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        loop, lost = asyncio.get_running_loop(), asyncio.Event()
        try:
            tty.setraw(fd)
            loop.add_reader(fd, self._receive, fd, lost)
            self.serving.set()
            await lost.wait()
        finally:
            self.serving.clear()
            loop.remove_reader(fd)
            os.close(fd)

    def _receive(self, fd: int, lost: asyncio.Event) -> None:
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            lost.set()
            return
        for byte in data:
            self._hear(byte & 0x7F, fd, lost)

    def _hear(self, byte: int, fd: int, lost: asyncio.Event) -> None:
        if byte == 0:
            self._heard = b""
            for sensor in self._sensors:
                sensor.hear_break()
            return
        self._heard = (self._heard + bytes((byte,)))[-_CHUNK_BYTES:]
        if byte != ord("!"):
            return
        question, self._heard = self._heard.decode("ascii"), b""
        for sensor in self._sensors:
            for after_s, line in sensor.answer(question):
                asyncio.get_running_loop().call_later(after_s, self._send, fd, lost, line)

    def _send(self, fd: int, lost: asyncio.Event, line: str) -> None:
        if not lost.is_set():
            with contextlib.suppress(BlockingIOError):  # nobody reads at the other end
                os.write(fd, line.encode("ascii") + b"\r\n")
