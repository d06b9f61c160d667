"""From stored slices to what the rules judge: the same values the cloud computes, nonsense marked as such."""

from __future__ import annotations

import pytest

from alerts.rules import Observation
from edge_gateway.observations import StationReader
from edge_gateway.slices import Series, Slice
from firmware import record
from firmware.record import FAIL, MISSING, NO_VALUE, NOT_EVALUATED, SUSPECT, Record
from station_config.instruments import load_instruments
from station_config.network import Sensor, Station
from station_config.parameters import load_parameters

NOON = 1_780_000_000 // 60 * 60
WATER_TEMPERATURE, CONDUCTIVITY_25, BOOT = 32, 34, 1
SERIES = Series("xuan-hoa", 7)


def station(**limits: tuple[float, float]) -> Station:
    return Station(
        id="xuan-hoa",
        name_vi="Xuân Hòa",
        name_en="Xuan Hoa",
        latitude=10.3,
        longitude=106.4,
        river="Tiền",
        river_km=42.0,
        gateway="gw-1",
        address=11,
        sample_interval_s=20,
        record_interval_s=60,
        sensors=(
            Sensor(number=1, instrument="yosemitech-y520", address=1, limits=limits),
            Sensor(number=2, instrument="keller-acculevel", address=2, elevation_m=-3.0),
        ),
    )


@pytest.fixture
def reader() -> StationReader:
    return StationReader(station(), load_instruments(), load_parameters())


def raw(seq: int, parameter: int, count: int, when: int = NOON, sensor: int = 1, flag: int = NOT_EVALUATED) -> bytes:
    return record.encode(Record(seq, when, count, sensor, parameter, flag))


def seen(reader: StationReader, *records: bytes, first_seq: int = 1) -> dict[tuple[int, str], Observation]:
    found = [one.observation for one in reader.read(Slice(SERIES, first_seq, b"".join(records)))]
    return {(one.sensor, one.parameter): one for one in found}


def test_salinity_follows_as_soon_as_both_are_there(reader: StationReader) -> None:
    first = seen(reader, raw(1, WATER_TEMPERATURE, 2800))
    then = seen(reader, raw(2, CONDUCTIVITY_25, 5000), first_seq=2)
    assert (1, "salinity") not in first
    salinity = then[1, "salinity"]
    assert salinity.value == pytest.approx(2.6686, abs=1e-4)
    assert (salinity.flag, salinity.time) == (NOT_EVALUATED, NOON)


def test_records_of_other_times_between_do_not_tear_a_moment_apart(reader: StationReader) -> None:
    seen(reader, raw(90, WATER_TEMPERATURE, 2800))
    seen(reader, raw(1, WATER_TEMPERATURE, 2000, NOON - 7200), raw(2, CONDUCTIVITY_25, 1000, NOON - 7200))
    assert (1, "salinity") in seen(reader, raw(91, CONDUCTIVITY_25, 5000), first_seq=91)


def test_an_input_without_a_value_gives_none(reader: StationReader) -> None:
    found = seen(reader, raw(1, WATER_TEMPERATURE, 2800), raw(2, CONDUCTIVITY_25, MISSING, flag=NO_VALUE))
    assert (found[1, "salinity"].value, found[1, "salinity"].flag) == (None, NO_VALUE)


def test_nonsense_fails_and_what_follows_from_it_too(reader: StationReader) -> None:
    found = seen(reader, raw(1, WATER_TEMPERATURE, 2800), raw(2, CONDUCTIVITY_25, 3_999_999))
    assert found[1, "conductivity_25"].flag == FAIL
    assert found[1, "salinity"].flag in (FAIL, NO_VALUE)


def test_beyond_the_stations_own_limits_is_suspect() -> None:
    reader = StationReader(station(conductivity_25=(0.1, 4.0)), load_instruments(), load_parameters())
    found = seen(reader, raw(1, WATER_TEMPERATURE, 2800), raw(2, CONDUCTIVITY_25, 5000))
    assert (found[1, "conductivity_25"].flag, found[1, "salinity"].flag) == (SUSPECT, SUSPECT)


def test_a_level_waits_for_its_salinity_and_goes_without_it_when_the_moment_is_over(reader: StationReader) -> None:
    pressure = load_parameters().by_name["water_pressure"]
    count = round(0.3 * 10**pressure.decimals)
    now = seen(reader, raw(1, pressure.code, count, sensor=2), raw(2, WATER_TEMPERATURE, 2800, sensor=2))
    later = seen(reader, raw(3, WATER_TEMPERATURE, 2800, NOON + 60), first_seq=3)
    assert (2, "water_level") not in now
    assert later[2, "water_level"].value == pytest.approx(0.3e5 / (996.2 * 9.80665) - 3.0, abs=0.01)
    assert later[2, "water_level"].time == NOON


def test_events_clocks_not_set_and_damaged_records_say_nothing(reader: StationReader) -> None:
    damaged = bytearray(raw(3, CONDUCTIVITY_25, 5000))
    damaged[9] ^= 0xFF
    found = seen(reader, raw(1, BOOT, 3, sensor=0), raw(2, CONDUCTIVITY_25, 5000, when=77), bytes(damaged))
    assert (found, reader.unreadable) == ({}, 1)


def test_what_nobody_asks_for_is_passed_over() -> None:
    reader = StationReader(station(), load_instruments(), load_parameters(), frozenset({"salinity"}))
    pressure = load_parameters().by_name["water_pressure"].code
    found = seen(
        reader, raw(1, WATER_TEMPERATURE, 2800), raw(2, CONDUCTIVITY_25, 5000), raw(3, pressure, 300, sensor=2)
    )
    assert (1, "salinity") in found
    assert (2, "water_pressure") not in found
