"""Instruments on the table, without a wire: registers, bytes, timing, faults; our driver tables read against them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

import pytest

from simulators.estuary import WaterState
from simulators.instruments import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    EcowittWn90lp,
    Fault,
    FaultImpossible,
    Instrument,
    KellerAcculevel,
    NoAnswer,
    Refused,
    SurroundedInstrument,
    YosemitechY520,
)
from simulators.weather import WeatherState
from station_config.derive import SensorContext, derive
from station_config.instruments import Field, load_instruments
from station_config.salinity import practical_salinity

WATER = WaterState(salinity=4.0, conductivity_ms_cm=7.75, water_temperature_c=28.25, level_m=0.5)
AIR = WeatherState(30.04, 71.2, 1009.83, 3.44, 5.15, 359.8, 655.36, 82_340.0, 9.1)
START_S = 1772000000.0
FORMATS = {"u8": "B", "u16": "H", "f32": "f"}


@dataclass
class HandClock:
    """A clock set by hand."""

    time: float = START_S

    def now(self) -> float:
        return self.time


@dataclass
class Table:
    """Surroundings that are what the test says."""

    now: WaterState = WATER
    air: WeatherState = AIR
    elevation_m: float = -3.0

    def water(self, time: float) -> WaterState:
        return replace(self.now, level_m=self.now.level_m + (time - START_S) / 3600.0)

    def weather(self, time: float) -> WeatherState:
        return replace(self.air, wind_speed_m_s=time % 60.0, air_temperature_c=20.0 + (time - START_S) % 60.0)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def table() -> Table:
    return Table()


def built(kind: type[SurroundedInstrument], table: Table, clock: HandClock, noise: float = 0.0) -> Instrument:
    return kind(1, table, clock, "bench 1", seed=1, noise=noise)


def as_bytes(registers: list[int]) -> bytes:
    return struct.pack(f">{len(registers)}H", *registers)


def y520_values(probe: Instrument) -> tuple[float, float, int]:
    return struct.unpack("<ffB", as_bytes(probe.read(3, YosemitechY520.VALUES, 5))[:9])


def keller_values(transmitter: Instrument) -> tuple[float, float]:
    return struct.unpack(">ff", as_bytes(transmitter.read(3, KellerAcculevel.P1, 4)))


def value_of(field: Field, data: bytes) -> float:
    """Decode one value the way a driver table says, independently of our drivers."""
    size = struct.calcsize(FORMATS[field.type])
    raw = data[field.at : field.at + size]
    value = struct.unpack(("<" if field.effective_order in ("DCBA", "BA") else ">") + FORMATS[field.type], raw)[0]
    return float(value) * field.scale + field.offset


def by_driver_table(instrument: Instrument) -> dict[str, float]:
    return {
        field.parameter: value_of(field, as_bytes(instrument.read(read.fc, read.first_register, read.count)))
        for read in load_instruments()[instrument.model].reads
        for field in read.fields
    }


def test_our_driver_tables_read_what_the_instruments_stand_in(table: Table, clock: HandClock) -> None:
    instruments = [built(kind, table, clock) for kind in (YosemitechY520, KellerAcculevel, EcowittWn90lp)]
    clock.time += 8.75 * 40
    probe, transmitter, sky = (by_driver_table(instrument) for instrument in instruments)
    field = load_instruments()["yosemitech-y520"].reads[0].fields[1]
    salinity = derive(probe, SensorContext(compensation=field.compensation))["salinity"]
    level = derive({**transmitter, "salinity": salinity}, SensorContext(elevation_m=-3.0))["water_level"]
    air = table.weather(clock.time - clock.time % 8.75)
    assert salinity == pytest.approx(practical_salinity(7.75, 28.25), abs=1e-5)
    assert level == pytest.approx(table.water(clock.time).level_m, abs=0.002)
    assert sky == {
        "illuminance": pytest.approx(air.illuminance_lx, abs=5.0),
        "uv_index": pytest.approx(air.uv_index, abs=0.05),
        "air_temperature": pytest.approx(air.air_temperature_c, abs=0.051),
        "relative_humidity": pytest.approx(air.relative_humidity_percent, abs=0.5),
        "wind_speed": pytest.approx((clock.time - clock.time % 2.0) % 60.0, abs=0.051),
        "wind_speed_of_gust": pytest.approx(air.wind_speed_of_gust_m_s, abs=0.051),
        "wind_from_direction": 0.0,  # 359.8, rounded
        "rain_total": pytest.approx(air.rain_total_mm, abs=0.051),
        "air_pressure": pytest.approx(air.air_pressure_hpa, abs=0.051),
    }


def test_the_probe_shows_no_conductivity_until_it_is_warm(table: Table, clock: HandClock) -> None:
    probe = built(YosemitechY520, table, clock)
    shown = []
    for clock.time in (START_S, START_S + 2.3, START_S + 2.41):
        shown.append(round(y520_values(probe)[1], 3))
    assert shown == [0.0, 0.0, round(7.75 / (1 + 0.0191 * 3.25), 3)]


def test_a_start_command_begins_the_warm_up_again_and_a_stop_holds_the_last_value(
    table: Table, clock: HandClock
) -> None:
    probe = built(YosemitechY520, table, clock)
    clock.time += 10.0
    warm = y520_values(probe)
    probe.read(3, YosemitechY520.STOP, 1)
    table.now = replace(WATER, conductivity_ms_cm=20.0)
    assert y520_values(probe) == warm
    probe.write(16, YosemitechY520.START, [])
    assert y520_values(probe)[1] == 0.0
    clock.time += 2.5
    assert y520_values(probe)[1] == pytest.approx(20.0 / (1 + 0.0191 * 3.25))


def test_the_probes_own_calibration_is_applied_and_read_back(table: Table, clock: HandClock) -> None:
    probe = built(YosemitechY520, table, clock)
    clock.time += 10.0
    plain = y520_values(probe)[1]
    registers = list(struct.unpack(">4H", struct.pack("<ff", 1.5, 0.25)))
    probe.write(16, YosemitechY520.CALIBRATION, registers)
    assert probe.read(3, YosemitechY520.CALIBRATION, 4) == registers
    assert y520_values(probe)[1] == pytest.approx(1.5 * plain + 0.25)


def test_a_value_the_file_does_not_know_is_the_probes_own_fault(table: Table, clock: HandClock) -> None:
    probe = built(YosemitechY520, table, clock)
    clock.time += 10.0
    table.now = WaterState(math.nan, math.nan, math.nan, math.nan)
    temperature, conductivity_25, status = y520_values(probe)
    assert math.isnan(temperature)
    assert math.isnan(conductivity_25)
    assert status == YosemitechY520.STATUS_FAULT
    assert all(math.isnan(value) for value in keller_values(built(KellerAcculevel, table, clock)))


@pytest.mark.parametrize(("function", "register", "count"), [(3, 0x4444, 1), (3, 0x2600, 9), (4, 0x2600, 5)])
def test_the_probe_says_nothing_to_what_it_does_not_know(
    table: Table, clock: HandClock, function: int, register: int, count: int
) -> None:
    with pytest.raises(NoAnswer):
        built(YosemitechY520, table, clock).read(function, register, count)


def test_the_probe_takes_a_new_address_and_also_hears_255(table: Table, clock: HandClock) -> None:
    probe = built(YosemitechY520, table, clock)
    probe.write(16, YosemitechY520.ID, [0x1400])
    assert [probe.answers_to(address) for address in (1, 0x14, 0xFF)] == [False, True, True]


def test_the_level_transmitter_gives_gauge_pressure_of_the_water_above_it(table: Table, clock: HandClock) -> None:
    pressure_bar, temperature_c = keller_values(built(KellerAcculevel, table, clock))
    density = 999.2  # 28 °C, salinity 4
    assert pressure_bar == pytest.approx(density * 9.80665 * 3.5 / 1e5, rel=2e-4)
    assert temperature_c == pytest.approx(28.25)


@pytest.mark.parametrize(
    ("function", "register", "count", "code"), [(4, 0x0100, 4, ILLEGAL_FUNCTION), (3, 0x0100, 5, ILLEGAL_ADDRESS)]
)
def test_the_level_transmitter_refuses_by_exception(
    table: Table, clock: HandClock, function: int, register: int, count: int, code: int
) -> None:
    with pytest.raises(Refused) as refused:
        built(KellerAcculevel, table, clock).read(function, register, count)
    assert refused.value.code == code


def test_the_weather_station_scales_as_documented(table: Table, clock: HandClock) -> None:
    clock.time = START_S - START_S % 60.0 + 120.0
    registers = built(EcowittWn90lp, table, clock).read(3, EcowittWn90lp.VALUES, 10)
    # light x10 lux, UV /10, RH %, wind and gust /10 m/s, direction, rain /10 mm, pressure x10 Pa; 655.36 mm wraps to 0
    light, uv, _, humidity, _, gust, direction, rain, pressure, fine_rain = registers
    assert (light, uv, humidity, gust, direction) == (8234, 91, 71, 52, 0)
    assert (rain, pressure, fine_rain) == (6554, 10098, 0)


def test_wind_is_new_every_two_seconds_and_the_rest_every_nine(table: Table, clock: HandClock) -> None:
    station = built(EcowittWn90lp, table, clock)
    begin = START_S - START_S % 70.0  # both rhythms begin together every 70 s
    winds, temperatures = set(), set()
    for clock.time in [begin + at / 4.0 for at in range(140)]:
        registers = station.read(3, EcowittWn90lp.VALUES, 10)
        temperatures.add(registers[2])
        winds.add(registers[4])
    assert (len(winds), len(temperatures)) == (18, 4)


def test_what_does_not_fit_into_a_register_is_no_value(table: Table, clock: HandClock) -> None:
    table.air = replace(AIR, illuminance_lx=700_000.0, uv_index=math.nan)
    assert built(EcowittWn90lp, table, clock).read(3, EcowittWn90lp.VALUES, 2) == [0xFFFF, 0xFFFF]


def test_noise_is_small_repeatable_and_can_be_nothing(table: Table, clock: HandClock) -> None:
    clock.time += 100.0
    quiet, first, again = (built(YosemitechY520, table, clock, noise) for noise in (0.0, 1.0, 1.0))
    clock.time += 100.0
    assert y520_values(first) == y520_values(again) != y520_values(quiet)
    assert y520_values(first)[1] == pytest.approx(y520_values(quiet)[1], rel=0.007)


def test_a_stuck_sensor_repeats_itself_until_it_is_freed(table: Table, clock: HandClock) -> None:
    transmitter = built(KellerAcculevel, table, clock)
    transmitter.set_fault(Fault.STUCK, True)
    before = keller_values(transmitter)
    clock.time += 3600.0
    stuck = keller_values(transmitter)
    transmitter.set_fault(Fault.STUCK, False)
    assert stuck == before
    assert keller_values(transmitter)[0] > before[0] + 0.09


def test_a_dry_probe_reads_nothing_and_the_temperature_of_the_air(table: Table, clock: HandClock) -> None:
    probe, transmitter = built(YosemitechY520, table, clock), built(KellerAcculevel, table, clock)
    clock.time += 30.0
    for one in (probe, transmitter):
        one.set_fault(Fault.DRY, True)
    assert y520_values(probe) == (50.0, 0.0, YosemitechY520.STATUS_OK)
    assert keller_values(transmitter) == (0.0, 50.0)


def test_a_silent_instrument_hears_neither_questions_nor_orders(table: Table, clock: HandClock) -> None:
    probe = built(YosemitechY520, table, clock)
    probe.set_fault(Fault.SILENT, True)
    with pytest.raises(NoAnswer):
        probe.read(3, YosemitechY520.VALUES, 5)
    with pytest.raises(NoAnswer):
        probe.write(16, YosemitechY520.START, [])


def test_a_weather_station_cannot_be_dry(table: Table, clock: HandClock) -> None:
    with pytest.raises(FaultImpossible, match="possible: restart, silent, stuck"):
        built(EcowittWn90lp, table, clock).set_fault(Fault.DRY, True)


def test_drift_adds_and_fouling_takes_away_with_time(table: Table, clock: HandClock) -> None:
    transmitter = built(KellerAcculevel, table, clock)
    transmitter.set_fault(Fault.STUCK, True)  # the same water at all times

    def pressure() -> float:
        return struct.unpack(">f", struct.pack(">2H", *transmitter.read(3, KellerAcculevel.P1, 2)))[0]  # type: ignore[no-any-return]

    before = pressure()
    transmitter.set_fault(Fault.STUCK, False)
    transmitter.set_fault(Fault.DRIFT, True, 10.0)
    clock.time += 2 * 3600
    transmitter.set_fault(Fault.STUCK, True)
    drifted = pressure()
    transmitter.set_fault(Fault.DRIFT, False)
    right = pressure()
    transmitter.set_fault(Fault.STUCK, False)
    assert before > 0
    assert drifted == pytest.approx(1.2 * right, rel=1e-3)
    transmitter.set_fault(Fault.FOULING, True, 50.0)
    clock.time += 3600
    transmitter.set_fault(Fault.STUCK, True)
    fouled = pressure()
    transmitter.set_fault(Fault.FOULING, False)
    assert fouled == pytest.approx(pressure() * math.exp(-0.5), rel=1e-3)


def test_an_instrument_without_power_is_silent_and_then_warms_up_again(table: Table, clock: HandClock) -> None:
    probe = built(YosemitechY520, table, clock)
    clock.time += 60
    assert values_of(probe)[1] > 0
    probe.set_fault(Fault.RESTART, True)
    with pytest.raises(NoAnswer):
        probe.read(3, YosemitechY520.VALUES, 5)
    probe.set_fault(Fault.RESTART, False)
    assert values_of(probe)[1] == 0.0
    clock.time += 60
    assert values_of(probe)[1] > 0


def values_of(probe: Instrument) -> tuple[float, float]:
    """Return temperature and conductivity of a Y520."""
    raw = struct.pack(">5H", *probe.read(3, YosemitechY520.VALUES, 5))
    temperature, conductivity, _ = struct.unpack("<ffBx", raw)
    return temperature, conductivity
