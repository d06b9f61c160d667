"""Instruments as their makers document them: register map, byte order, timing and bad manners.

An instrument is asked in Modbus terms and answers with registers, with an exception code, or not at all. It knows
nothing of wires: `instrument_bus` puts several of them on one line. Every value is computed at the moment it is asked
for, from bench time, so nothing runs while nobody asks.

Three stand in the simulated river and weather, with their own noise and bad manners; any other instrument we have a
file of can be simulated from that file (`toml_instrument`).

    Yosemitech Y520     conductivity at 25 °C, water temperature    DCBA floats, start command without registers
    Keller Acculevel    water pressure, water temperature           ABCD floats
    Ecowitt WN90LP      weather                                     scaled integers, 0xFFFF means no value
"""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

from simulators.errors import SimulatorError
from simulators.estuary import WaterState
from simulators.noise import normal
from simulators.weather import WeatherState
from station_config.clock import Clock

Registers = Mapping[int, int]

Y520_ALPHA_PER_C = 0.0191
_BAR_PER_METRE_OF_FRESH_WATER = 9.80665 * 1000.0 / 1e5


class Fault(StrEnum):
    """What can be wrong with an instrument; set and taken back while it runs."""

    SILENT = "silent"  # no answer to anything
    STUCK = "stuck"  # goes on giving the values of the moment the fault began
    DRY = "dry"  # out of the water
    DRIFT = "drift"  # shows more and more too much
    FOULING = "fouling"  # growth takes away a share of what it shows, more with time
    RESTART = "restart"  # without power while it lasts, then as new: not started, not warm
    WIPER = "wiper-parked-wrong"  # its brush stops in the light, so many turns


class FaultImpossible(SimulatorError):
    """This instrument cannot have this fault."""


class NoAnswer(Exception):
    """The instrument says nothing; the one who asked runs into its timeout."""


@dataclass(frozen=True)
class Refused(Exception):
    """The instrument answers with a Modbus exception code."""

    code: int


ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3


class Surroundings(Protocol):
    """What an instrument stands in."""

    def water(self, time: float) -> WaterState:
        """Return the water at this moment."""

    def weather(self, time: float) -> WeatherState:
        """Return the air at this moment."""

    @property
    def elevation_m(self) -> float:
        """Height of the pressure sensor above the datum of `WaterState.level_m`."""


class Instrument(ABC):
    """What all have in common: a model, an address, bench time, faults."""

    model: str
    possible_faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.WIPER}
    sends_exceptions: ClassVar[bool] = True

    def __init__(self, address: int, clock: Clock) -> None:
        self.address = address
        self._clock = clock
        self._faults: dict[Fault, float] = {}
        self._amounts: dict[Fault, float] = {}

    def set_fault(self, fault: Fault, on: bool, amount: float = 0.0) -> None:
        """Begin or end a fault; `amount` is % per hour of drift and fouling. Raises FaultImpossible.

        A fault the instrument cannot have is refused.
        """
        if fault not in self.possible_faults:
            raise FaultImpossible(
                f"{self.model} cannot be {fault}; possible: {', '.join(sorted(self.possible_faults))}"
            )
        if on:
            self._faults.setdefault(fault, self._clock.now())
            self._amounts[fault] = amount
        elif self._faults.pop(fault, None) is not None and fault is Fault.RESTART:
            self._power_on()

    def _power_on(self) -> None:
        """Be as after power on: whatever was stuck is free again."""
        self._faults.pop(Fault.STUCK, None)

    def read(self, function: int, address: int, count: int) -> list[int]:
        """Return `count` registers. Raises NoAnswer or Refused."""
        self._hold_tongue()
        return self._read(function, address, count)

    def write(self, function: int, address: int, registers: list[int]) -> None:
        """Take registers. Raises NoAnswer or Refused."""
        self._hold_tongue()
        self._write(function, address, registers)

    def _hold_tongue(self) -> None:
        if Fault.SILENT in self._faults or Fault.RESTART in self._faults:
            raise NoAnswer

    def answers_to(self, address: int) -> bool:
        """Say whether a request to this address is for this instrument."""
        return address == self.address

    @abstractmethod
    def _read(self, function: int, address: int, count: int) -> list[int]: ...

    def _write(self, function: int, address: int, registers: list[int]) -> None:
        raise Refused(ILLEGAL_FUNCTION)

    def _measuring_time(self) -> float:
        """Return the moment whose values are shown: now, or when the values got stuck."""
        return self._faults.get(Fault.STUCK, self._clock.now())

    def _aged(self, value: float) -> float:
        """Return what a sensor that drifts or is overgrown shows of a value."""
        drift = 1.0 + self._grown(Fault.DRIFT)
        return value * drift * math.exp(-self._grown(Fault.FOULING))

    def _grown(self, fault: Fault) -> float:
        """Return rate times hours since the fault began, as a share; 0 without it."""
        if fault not in self._faults:
            return 0.0
        hours = max(0.0, self._measuring_time() - self._faults[fault]) / 3600.0
        return self._amounts[fault] / 100.0 * hours


class SurroundedInstrument(Instrument):
    """An instrument that stands in the simulated water and air, and adds its own noise."""

    def __init__(
        self, address: int, surroundings: Surroundings, clock: Clock, name: str, seed: int, noise: float
    ) -> None:
        super().__init__(address, clock)
        self._surroundings = surroundings
        self._name = name
        self._seed = seed
        self._noise = noise

    def _disturbed(self, value: float, deviation: float, what: str) -> float:
        """Add the instrument's own noise; the same second gives the same noise."""
        if self._noise == 0.0:
            return value
        return value + self._noise * deviation * normal(self._seed, f"{self._name} {what}", int(self._measuring_time()))

    @property
    def _dry(self) -> bool:
        return Fault.DRY in self._faults


def picked(registers: Registers, address: int, count: int) -> list[int] | None:
    """Return the registers asked for, or None when one of them does not exist."""
    wanted = [registers.get(at) for at in range(address, address + count)]
    return None if None in wanted else [register for register in wanted if register is not None]


def laid_out(address: int, data: bytes) -> dict[int, int]:
    """Return bytes as registers from `address` on, padded to a whole register."""
    padded = data + b"\0" * (len(data) % 2)
    return {address + at: register for at, (register,) in enumerate(struct.iter_unpack(">H", padded))}


class YosemitechY520(SurroundedInstrument):
    """Conductivity probe: compensates to 25 °C itself, shows 0.000 while it warms up, silent where others refuse."""

    model = "yosemitech-y520"
    sends_exceptions = False

    START, STOP, VALUES, SERIAL, VERSION, CALIBRATION, ID = 0x1C00, 0x2E00, 0x2600, 0x0900, 0x0700, 0x1100, 0x3000
    ANY_ADDRESS = 0xFF
    WARM_UP_S = 2.4
    STATUS_OK, STATUS_FAULT = 0x00, 0xFF

    def __init__(
        self, address: int, surroundings: Surroundings, clock: Clock, name: str, seed: int, noise: float
    ) -> None:
        super().__init__(address, surroundings, clock, name, seed, noise)
        self._started_at: float | None = clock.now()  # measures by itself after power on
        self._k, self._b = 1.0, 0.0
        self._held = (0.0, 0.0)

    def _power_on(self) -> None:
        super()._power_on()
        self._started_at = self._clock.now()

    def answers_to(self, address: int) -> bool:
        """Say whether a request is for this probe: it also takes 0xFF, for "which address have you?"."""
        return address in (self.address, self.ANY_ADDRESS)

    def _read(self, function: int, address: int, count: int) -> list[int]:
        registers = picked(self._map(address), address, count) if function == 3 else None
        if registers is None:
            raise NoAnswer
        if address == self.STOP:
            self._held, self._started_at = self._values(), None
        return registers

    def _map(self, address: int) -> Registers:
        answers: dict[int, Callable[[], bytes]] = {
            self.VALUES: lambda: struct.pack("<ffB", *self._shown()),
            self.SERIAL: lambda: b"\x09YL" + f"09{self._seed % 10**8:08d}".encode() + b"\0",
            self.VERSION: lambda: b"\x01\x00\x01\x00",
            self.CALIBRATION: lambda: struct.pack("<ff", self._k, self._b),
            self.ID: lambda: bytes((self.address, 0)),
            self.STOP: lambda: b"\0\0",
        }
        return laid_out(address, answers[address]()) if address in answers else {}

    def _write(self, function: int, address: int, registers: list[int]) -> None:
        data = struct.pack(f">{len(registers)}H", *registers)
        if function == 16 and address == self.START and not data:
            self._started_at = self._clock.now()
        elif function == 16 and address == self.CALIBRATION and len(data) == 8:
            self._k, self._b = struct.unpack("<ff", data)
        elif function == 16 and address == self.ID and len(data) == 2 and 1 <= data[0] <= 247:
            self.address = data[0]
        else:
            raise NoAnswer

    def _shown(self) -> tuple[float, float, int]:
        """Return temperature, conductivity at 25 °C and the status byte."""
        temperature, conductivity_25 = self._values() if self._started_at is not None else self._held
        broken = math.isnan(temperature) or math.isnan(conductivity_25)
        return temperature, conductivity_25, self.STATUS_FAULT if broken else self.STATUS_OK

    def _values(self) -> tuple[float, float]:
        time = self._measuring_time()
        if self._dry:
            return self._disturbed(self._surroundings.weather(time).air_temperature_c, 0.02, "temperature"), 0.0
        water = self._surroundings.water(time)
        temperature = self._disturbed(water.water_temperature_c, 0.01, "temperature")
        if self._started_at is None or self._clock.now() - self._started_at < self.WARM_UP_S:
            return temperature, 0.0
        compensated = self._aged(water.conductivity_ms_cm)
        compensated /= 1.0 + Y520_ALPHA_PER_C * (water.water_temperature_c - 25.0)
        disturbed = self._disturbed(compensated, 0.001 * compensated + 0.0005, "conductivity")
        raw = disturbed if math.isnan(disturbed) else max(0.0, disturbed)
        return temperature, self._k * raw + self._b


class KellerAcculevel(SurroundedInstrument):
    """Level transmitter: pressure of the water above it (vented to the air) in bar, and its own temperature."""

    model = "keller-acculevel"

    P1, TOB1, SERIAL = 0x0100, 0x0102, 0x0202

    def _read(self, function: int, address: int, count: int) -> list[int]:
        if function != 3:
            raise Refused(ILLEGAL_FUNCTION)
        registers = picked(self._map(), address, count)
        if registers is None:
            raise Refused(ILLEGAL_ADDRESS)
        return registers

    def _map(self) -> Registers:
        pressure_bar, temperature_c = self._values()
        return {
            **laid_out(self.P1, struct.pack(">ff", pressure_bar, temperature_c)),
            **laid_out(self.SERIAL, struct.pack(">I", 400_000 + self._seed % 100_000)),
        }

    def _values(self) -> tuple[float, float]:
        time = self._measuring_time()
        if self._dry:
            return self._disturbed(0.0, 2e-5, "pressure"), self._surroundings.weather(time).air_temperature_c
        water = self._surroundings.water(time)
        pressure = self._aged(pressure_bar(water, self._surroundings.elevation_m))
        temperature = self._disturbed(water.water_temperature_c, 0.02, "temperature")
        return self._disturbed(pressure, 5e-5, "pressure"), temperature


def pressure_bar(water: WaterState, elevation_m: float) -> float:
    """Return the pressure of the water above a sensor, 0 when it stands dry, NaN where the level is not known."""
    depth_m = water.level_m - elevation_m
    above_m = depth_m if math.isnan(depth_m) else max(0.0, depth_m)
    return above_m * _BAR_PER_METRE_OF_FRESH_WATER * _relative_density(water)


def _relative_density(water: WaterState) -> float:
    """Return density over 1000 kg/m3: fresh water by Tanaka's form, and 0.75 kg/m3 per unit of salinity (28 °C)."""
    temperature, salt = water.water_temperature_c, water.salinity
    fresh = 999.974 * (1.0 - (temperature - 3.983) ** 2 * (temperature + 301.797) / (522528.9 * (temperature + 69.349)))
    return (fresh + 0.75 * (0.0 if math.isnan(salt) else salt)) / 1000.0


class EcowittWn90lp(SurroundedInstrument):
    """Weather station: wind is new every 2 s, everything else every 8.75 s."""

    model = "ecowitt-wn90lp"
    possible_faults = frozenset({Fault.SILENT, Fault.STUCK, Fault.RESTART})

    ID, VALUES = 0x0162, 0x0165
    WIND_PERIOD_S, REST_PERIOD_S = 2.0, 8.75

    def _read(self, function: int, address: int, count: int) -> list[int]:
        if function != 3:
            raise Refused(ILLEGAL_FUNCTION)
        registers = picked(self._map(), address, count)
        if registers is None:
            raise Refused(ILLEGAL_ADDRESS)
        return registers

    def _map(self) -> Registers:
        time = self._measuring_time()
        wind = self._surroundings.weather(time - time % self.WIND_PERIOD_S)
        rest = self._surroundings.weather(time - time % self.REST_PERIOD_S)
        values = (
            _scaled(rest.illuminance_lx, 0.1),
            _scaled(rest.uv_index, 10),
            _scaled(self._disturbed(rest.air_temperature_c, 0.05, "temperature"), 10, 400),
            _scaled(rest.relative_humidity_percent, 1),
            _scaled(wind.wind_speed_m_s, 10),
            _scaled(wind.wind_speed_of_gust_m_s, 10),
            _scaled(wind.wind_from_direction_deg, 1) % 360,
            _scaled(rest.rain_total_mm, 10),
            _scaled(rest.air_pressure_hpa, 10),
            round(rest.rain_total_mm * 100) % 0x10000,  # this one is not checked against 0xFFFF, and wraps
        )
        return {self.ID: self.address} | {self.VALUES + at: value for at, value in enumerate(values)}


def _scaled(value: float, per_unit: float, offset: int = 0) -> int:
    """Return a register of 16 bits; what does not fit is 0xFFFF, no value."""
    if math.isnan(value):
        return 0xFFFF
    raw = round(value * per_unit) + offset
    return raw if 0 <= raw < 0xFFFF else 0xFFFF


MODELS: Mapping[str, type[SurroundedInstrument]] = {
    model.model: model for model in (YosemitechY520, KellerAcculevel, EcowittWn90lp)
}
