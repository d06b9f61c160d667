"""An instrument simulated from its file: what station_config says of it, served as registers.

    truth (parameter -> value, NaN = it has none) -> raw numbers -> bytes in the instrument's order -> registers

It minds its manners: until it was started, has measured and is warm its values are zeros; asleep it loses messages.
Bench time says what is warm; waking and measuring take real time, as the station's waits do.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from simulators.instruments import (
    ILLEGAL_ADDRESS,
    Fault,
    FaultImpossible,
    Instrument,
    NoAnswer,
    Refused,
    laid_out,
    picked,
)
from station_config.clock import Clock
from station_config.instruments import Field, Order, Read, Start, Status, Wiper
from station_config.instruments import Instrument as Definition
from station_config.instruments.model import SIZES

Truth = Callable[[float], Mapping[str, float]]

_FORMATS = {"u8": ">B", "u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "f32": ">f"}
_SLEEPS_AFTER_S = 5.0
_WAKES_WITHIN = 0.9  # of the time its file allows
_MEASURES_WITHIN = 0.9
_WIPES_WITHIN = 0.9
_SAYS_IT_MEASURES_MS = 100


class TomlInstrument(Instrument):
    """One instrument of any model. `truth` is asked with bench time, whenever the instrument is."""

    possible_faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.DRY}

    def __init__(
        self,
        model: str,
        definition: Definition,
        address: int,
        truth: Truth,
        clock: Clock,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(address, clock)
        self.model = model
        self.fails = False  # its status says that its values are not to be trusted
        self.starts = 0  # how often it was told to measure
        self.lost = 0  # messages lost while it slept
        self.wipes = 0  # how often its brush was ordered to turn
        self.parks_wrong = 0  # so many turns more end with the brush in the light
        self._wipes_until = -math.inf
        self._is_parked = True
        self._definition = definition
        self._truth = truth
        self._seconds = seconds
        self._warm_since = clock.now()
        self._measured_at: float | None = None if definition.start else -math.inf
        self._awake_at = math.inf
        self._asked_at = -math.inf

    def set_fault(self, fault: Fault, on: bool, amount: float = 0.0) -> None:
        """Begin or end a fault; `amount` is % per hour, or turns of the brush. Raises FaultImpossible."""
        if fault is Fault.WIPER and self._definition.wiper is None:
            raise FaultImpossible(f"{self.model} has no wiper")
        super().set_fault(fault, on, amount)
        if fault is Fault.WIPER:
            self.parks_wrong = int(amount) if on else 0

    def _power_on(self) -> None:
        super()._power_on()
        self._warm_since = self._clock.now()
        self._measured_at = None if self._definition.start else -math.inf

    def _read(self, function: int, address: int, count: int) -> list[int]:
        self._hear()
        start = self._definition.start
        if start is not None and function == start.fc and address == start.first_register:
            self._begin(start)
            return [0] * count
        registers = picked(self._map(function), address, count)
        if registers is None:
            raise Refused(ILLEGAL_ADDRESS)
        return registers

    def _write(self, function: int, address: int, registers: list[int]) -> None:
        self._hear()
        start = self._definition.start
        orders: tuple[Order | None, ...] = (start, self._definition.stop, self._definition.wiper)
        wanted = [o for o in orders if o and (o.fc, o.first_register) == (function, address)]
        if not wanted or list(wanted[0].values) != registers:
            raise Refused(ILLEGAL_ADDRESS)
        if start is not None and wanted[0] is start:
            self._begin(start)
        elif isinstance(wanted[0], Wiper):
            self._wipe(wanted[0].busy_ms)

    def _hear(self) -> None:
        """Lose the message that only wakes it, and those before it is awake. Raises NoAnswer."""
        wake_ms = self._definition.timing.wake_ms
        if wake_ms is None:
            return
        now = self._seconds()
        if now - self._asked_at > _SLEEPS_AFTER_S:
            self._awake_at = now + _WAKES_WITHIN * wake_ms / 1000.0
        self._asked_at = now
        if now < self._awake_at:
            self.lost += 1
            raise NoAnswer

    def _begin(self, start: Start) -> None:
        self.starts += 1
        wait = start.wait
        takes_ms = 0.0 if wait is None else (wait.fixed_ms or _SAYS_IT_MEASURES_MS * wait.factor)
        self._measured_at = self._seconds() + _MEASURES_WITHIN * takes_ms / 1000.0
        if not start.each_sample:
            self._warm_since = self._clock.now()

    def _wipe(self, busy_ms: int) -> None:
        self.wipes += 1
        self._wipes_until = self._clock.now() + _WIPES_WITHIN * busy_ms / 1000.0
        self._is_parked = self.parks_wrong == 0
        self.parks_wrong = max(0, self.parks_wrong - 1)

    def _is_brush_away(self) -> bool:
        return self._is_parked and self._clock.now() >= self._wipes_until

    def _map(self, function: int) -> dict[int, int]:
        truth = self._truth(self._measuring_time()) if self._has_measured() else None
        registers: dict[int, int] = {}
        for read in self._definition.reads:
            if read.fc == function:
                registers |= laid_out(read.first_register, self._data(read, truth))
        wait = self._definition.start.wait if self._definition.start else None
        if wait is not None and wait.register_ms is not None and function == 3:
            registers[wait.register_ms] = _SAYS_IT_MEASURES_MS
        return registers

    def _has_measured(self) -> bool:
        warm = self._clock.now() - self._warm_since >= self._definition.timing.warmup_ms / 1000.0
        return warm and self._is_brush_away() and self._measured_at is not None and self._seconds() >= self._measured_at

    def _data(self, read: Read, truth: Mapping[str, float] | None) -> bytes:
        data = bytearray(2 * read.count)
        if truth is not None:
            for field in read.fields:
                _put(data, field.at, _raw_bytes(field, self._aged(truth[field.parameter])), field.effective_order)
        if read.status is not None:
            is_bad = self.fails or not self._is_brush_away()
            raw = next(_bad_codes(read.status)) if is_bad else read.status.ok[0]
            encoded = struct.pack(_FORMATS[read.status.type], raw)
            _put(data, read.status.at, encoded, read.status.order or "ABCD"[: len(encoded)])
        return bytes(data)


def _raw_bytes(field: Field, value: float) -> bytes:
    """Return a value as the instrument holds it, most significant byte first."""
    if math.isnan(value):
        return _no_value(field)
    raw = (value - field.offset) / field.scale
    return struct.pack(_FORMATS[field.type], raw if field.type == "f32" else round(raw))


def _no_value(field: Field) -> bytes:
    if field.invalid:
        return (field.invalid[0] & 0xFFFFFFFF).to_bytes(4, "big")[-SIZES[field.type] :]
    if field.type == "f32":
        return struct.pack(">f", math.nan)
    raise ValueError(f"{field.parameter}: this instrument has no way to say that it has no value")


def _bad_codes(status: Status) -> Iterator[int]:
    return (code for code in range(256) if code & status.mask not in status.ok)


def _put(data: bytearray, at: int, value: bytes, order: str) -> None:
    for place, letter in enumerate(order[: len(value)]):
        data[at + place] = value["ABCD".index(letter)]
