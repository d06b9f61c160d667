"""Every Modbus instrument we have a file of, from end to end; those of SDI-12 in test_every_sdi12_instrument.

file -> station.json -> the firmware's own checking, asking and decoding -> a pty -> pymodbus -> the instrument,
simulated from the same file. What the instrument stands in must be what the channel holds.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from firmware.bus import Client
from firmware.instruments import Instrument as Driver
from firmware.line import Line
from firmware.record import FAIL, MISSING, NO_VALUE, NOT_EVALUATED
from firmware.sampler import Channels
from firmware.tests.one_instrument import station_of
from simulators.instrument_bus import InstrumentBus
from simulators.instruments import Fault
from simulators.toml_instrument import TomlInstrument
from station_config.instruments import Instrument, load_instruments
from station_config.parameters import load_parameters
from station_config.toml_config import parse as parse_toml

INSTRUMENTS = {name: one for name, one in load_instruments().items() if one.protocol == "modbus"}
RATE = 5  # real time passes so many times faster for both sides
A_DAY_S = 86400
TRUTH = {
    "water_temperature": 28.4,
    "conductivity": 7.75,
    "conductivity_25": 7.28,
    "water_pressure": 0.31,
    "ph": 7.24,
    "dissolved_oxygen": 6.42,
    "turbidity": 83.5,
    "oxygen_saturation": 84.2,
    "oxidation_reduction_potential": -35.5,
    "ammonium_nitrogen": 0.375,
    "chlorophyll": 12.25,
    "blue_green_algae": 1.75,
    "ph_potential": -14.5,
    "water_distance": 3.215,
    "air_temperature": 31.2,
    "relative_humidity": 78.0,
    "air_pressure": 1009.0,
    "wind_speed": 3.4,
    "wind_from_direction": 118.0,
    "wind_speed_of_gust": 6.1,
    "rain_total": 12.4,
    "illuminance": 54000.0,
    "uv_index": 7.3,
    "solar_radiation": 640.5,
    "dew_point": 26.9,
    "precipitation_type": 60.0,
    "rain_intensity": 2.5,
    "noise_level": 52.3,
    "pm2_5": 18.0,
    "pm10": 31.0,
}


class Hours:
    """Bench time and the board's uptime: a day later each time it is told to go on."""

    def __init__(self) -> None:
        self.time = 1_780_000_000.0

    def now(self) -> float:
        return self.time

    def uptime_s(self) -> int:
        return int(self.time) - 1_780_000_000 + 1


class FastTicks:
    """firmware.ticks with time that passes RATE times faster."""

    def ticks_ms(self) -> int:
        return int(time.monotonic() * 1000 * RATE)

    def ticks_diff(self, end: int, start: int) -> int:
        return end - start

    async def sleep_ms(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1000 / RATE)


class PtyUart:
    """machine.UART as far as the firmware uses it, on one end of a pty."""

    def __init__(self, port: int) -> None:
        self._port = port

    def any(self) -> int:
        return int.from_bytes(fcntl.ioctl(self._port, termios.FIONREAD, b"\0\0\0\0"), "little")

    def readinto(self, buffer: memoryview) -> int:
        data = os.read(self._port, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, frame: bytes) -> int:
        return os.write(self._port, frame)

    def txdone(self) -> bool:
        return True

    def flush(self) -> None:
        pass


@dataclass
class Pier:
    """One instrument in the water and the driver that reads it."""

    name: str
    definition: Instrument
    truth: dict[str, float] = field(default_factory=dict)
    hours: Hours = field(default_factory=Hours)
    wipe_every_s: int | None = None

    def __post_init__(self) -> None:
        address = self.definition.default_address
        self.truth = {name: TRUTH[name] for name in self.definition.parameters} | self.truth
        self.instrument = TomlInstrument(
            self.name, self.definition, address, lambda _: self.truth, self.hours, lambda: time.monotonic() * RATE
        )
        sensor = station_of(self.name, self.definition, address, wipe_every_s=self.wipe_every_s).sensors[0]
        self.channels = Channels()
        self.driver = Driver(sensor._replace(timeout_ms=1000), self.hours, self.channels, FastTicks())

    def sample(self, rounds: int = 2) -> dict[str, tuple[int, int]]:
        """Sample so many times, hours apart; return the last (count, flag) of each parameter."""
        with _pty() as (ours, theirs):
            asyncio.run(self._sample(ours, theirs, rounds))
        by_code = load_parameters().by_code
        channels = self.channels
        rows = zip(channels.parameter, channels.live_count, channels.live_flag, strict=True)
        return {by_code[parameter].name: (count, flag) for parameter, count, flag in rows}

    async def _sample(self, ours: int, theirs: Path, rounds: int) -> None:
        bus = InstrumentBus(theirs, [self.instrument], seed=1)
        running = asyncio.create_task(bus.run())
        try:
            await bus.wait_until_serving(10)
            client = Client(Line(PtyUart(ours), 115200, ticks=FastTicks()), FastTicks())
            for _ in range(rounds):
                await self.driver.start(client)
                await self.driver.sample(client)
                self.hours.time += A_DAY_S
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@contextmanager
def _pty() -> Iterator[tuple[int, Path]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        yield master, Path(os.ttyname(slave))
    finally:
        os.close(master)
        os.close(slave)


def expected(truth: Mapping[str, float], flag: int = NOT_EVALUATED) -> dict[str, tuple[int, int]]:
    return {name: (round(v * 10 ** load_parameters().by_name[name].decimals), flag) for name, v in truth.items()}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_what_it_stands_in_is_what_the_station_holds(name: str) -> None:
    pier = Pier(name, INSTRUMENTS[name])
    assert pier.sample() == expected(pier.truth)


@pytest.mark.parametrize("name", [name for name, one in INSTRUMENTS.items() if any(read.status for read in one.reads)])
def test_values_its_status_does_not_vouch_for_are_flagged(name: str) -> None:
    pier = Pier(name, INSTRUMENTS[name])
    pier.instrument.fails = True
    flags = {flag for _, flag in pier.sample().values()}
    assert flags == {FAIL}


NO_VALUE_CODES = [
    (name, f.parameter)
    for name, one in INSTRUMENTS.items()
    for read in one.reads
    for f in read.fields
    if f.invalid and f.parameter != "wind_speed"  # without it the direction has no weight either
]


@pytest.mark.parametrize(("name", "parameter"), NO_VALUE_CODES)
def test_a_code_for_no_value_is_no_value(name: str, parameter: str) -> None:
    pier = Pier(name, INSTRUMENTS[name], truth={parameter: float("nan")})
    held = pier.sample()
    assert held.pop(parameter) == (MISSING, NO_VALUE)
    assert held == expected({n: v for n, v in pier.truth.items() if n != parameter})


def test_before_it_is_warm_nothing_is_kept() -> None:
    pier = Pier("yosemitech-y504", INSTRUMENTS["yosemitech-y504"])
    assert set(pier.sample(rounds=1).values()) == {(MISSING, NO_VALUE)}
    assert pier.instrument.starts == 1


def test_a_probe_that_measures_on_demand_is_started_before_each_sample_and_waited_for() -> None:
    pier = Pier("aqualabo-c4e", INSTRUMENTS["aqualabo-c4e"])
    assert pier.sample(rounds=3) == expected(pier.truth)
    assert pier.instrument.starts == 3


def test_a_sleeper_loses_one_message_and_is_asked_again() -> None:
    pier = Pier("insitu-rdo-pro", INSTRUMENTS["insitu-rdo-pro"])
    pier.hours.time += A_DAY_S  # it is warm
    assert pier.sample(rounds=1) == expected(pier.truth)
    assert pier.instrument.lost == 1


def test_a_silent_instrument_is_silence() -> None:
    pier = Pier("keller-nanolevel", INSTRUMENTS["keller-nanolevel"])
    pier.instrument.set_fault(Fault.SILENT, True)
    assert set(pier.sample().values()) == {(MISSING, NO_VALUE)}


RADAR = """vendor = "VEGA"
model = "VEGAPULS C 21, its process value in the order a register is for"
source = "VEGAPULS C 21 manual (easymanua.ls), pages 49 to 52"
from_memory = []
confirmed_on_device = false
default_address = 246
[[reads]]
fc = 4
register = {register}
count = 2
fields = [{{ parameter = "water_distance", at = 0, type = "f32", order = "{order}" }}]
"""


@pytest.mark.parametrize(("register", "order"), [(2002, "ABCD"), (106, "CDAB"), (2102, "DCBA"), (2202, "BADC")])
def test_a_float_arrives_in_all_four_orders(register: int, order: str) -> None:
    definition = parse_toml(RADAR.format(register=register, order=order), Instrument, "radar.toml")
    pier = Pier("radar", definition)
    assert pier.sample(rounds=1) == expected({"water_distance": 3.215})


@pytest.mark.parametrize(
    "start",
    [
        "fc = 3, register = 9, count = 1",
        "fc = 6, register = 9, values = [7]",
        "fc = 16, register = 9, values = [1, 2]",
        "fc = 16, register = 9",
        "fc = 16, register = 9, values = [7], each_sample = true, wait = { fixed_ms = 400 }",
        "fc = 6, register = 9, values = [7], each_sample = true, wait = { register_ms = 164, factor = 1.5 }",
    ],
)
def test_every_way_to_start_a_measurement_is_understood(start: str) -> None:
    text = RADAR.format(register=2002, order="ABCD").replace("[[reads]]", f"start = {{ {start} }}\n[[reads]]", 1)
    pier = Pier("radar", parse_toml(text, Instrument, "radar.toml"))
    assert pier.sample() == expected({"water_distance": 3.215})
    assert pier.instrument.starts == (2 if "each_sample" in start else 1)


def test_a_slow_instrument_is_read_with_each_nth_sample_only() -> None:
    text = RADAR.format(register=2002, order="ABCD") + "[timing]\nminimum_interval_ms = 60000\n"
    definition = parse_toml(text, Instrument, "radar.toml")
    sensor = station_of("radar", definition, 246).sensors[0]._replace(every=3)
    asked: list[bytes] = []

    async def ask(request: bytes, *_: object) -> bytes:
        asked.append(request)
        return struct.pack(">f", 3.215)

    async def sample(times: int) -> None:
        client = SimpleNamespace(ask=ask)
        for _ in range(times):
            await driver.start(client)
            await driver.sample(client)

    channels = Channels()
    driver = Driver(sensor, Hours(), channels)
    asyncio.run(sample(7))
    assert (len(asked), channels.close(0)) == (3, (3215, NOT_EVALUATED))
