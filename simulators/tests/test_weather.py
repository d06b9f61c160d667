"""The air over the delta: a dry day, a rainy season, a night."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from simulators.estuary import Place
from simulators.weather import WeatherState, weather

PLACE = Place("hoa-binh", 20.0)
MARCH_1 = 1772298000.0  # 2026-03-01 00:00 in Vietnam
SEPTEMBER_1 = 1788195600.0
HOUR = 3600.0


@pytest.fixture(scope="module")
def march() -> list[WeatherState]:
    return [weather(MARCH_1 + at * 1800.0, PLACE, 1) for at in range(48 * 10)]


@pytest.fixture(scope="module")
def september() -> list[WeatherState]:
    return [weather(SEPTEMBER_1 + at * 1800.0, PLACE, 1) for at in range(48 * 30)]


def test_every_value_is_one_a_station_could_report(march: list[WeatherState], september: list[WeatherState]) -> None:
    lowest, highest = np.min([astuple(one) for one in march + september], 0), np.max([astuple(one) for one in march], 0)
    assert (lowest >= [20.0, 40.0, 1000.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).all()
    assert (highest <= [38.0, 100.0, 1018.0, 15.0, 25.0, 360.0, 1000.0, 120_000.0, 14.0]).all()


def test_gusts_are_never_below_the_wind(march: list[WeatherState], september: list[WeatherState]) -> None:
    assert all(one.wind_speed_of_gust_m_s >= one.wind_speed_m_s for one in march + september)


def test_afternoons_are_warm_and_dry_nights_cool_and_damp(march: list[WeatherState]) -> None:
    by_hour = np.array([astuple(one) for one in march]).reshape(10, 24, 2, -1).mean(axis=(0, 2))
    assert 12 <= int(np.argmax(by_hour[:, 0])) <= 15
    assert int(np.argmax(by_hour[:, 1])) <= 7


def test_pressure_has_two_waves_a_day(march: list[WeatherState]) -> None:
    by_hour = np.array([one.air_pressure_hpa for one in march]).reshape(10, 24, 2).mean(axis=(0, 2))
    assert by_hour[9:11].min() > by_hour[15:17].max() + 2.0
    assert by_hour[21:23].min() > by_hour[3:5].max() + 0.5


def test_there_is_no_light_at_night_and_plenty_at_noon() -> None:
    night, noon = weather(MARCH_1 + 1 * HOUR, PLACE, 1), weather(MARCH_1 + 12 * HOUR, PLACE, 1)
    assert (night.illuminance_lx, night.uv_index) == (0.0, 0.0)
    assert noon.illuminance_lx > 30_000.0


def test_the_rain_gauge_only_counts_up_and_counts_in_september(september: list[WeatherState]) -> None:
    totals = np.array([one.rain_total_mm for one in september])
    assert (np.diff(totals) >= 0.0).all()
    assert 50.0 < totals[-1] - totals[0] < 500.0


def test_rain_falls_in_the_afternoon(september: list[WeatherState]) -> None:
    rain = np.diff([one.rain_total_mm for one in september], prepend=september[0].rain_total_mm)
    by_hour = rain.reshape(30, 24, 2).sum(axis=(0, 2))
    assert by_hour[13:21].sum() == pytest.approx(by_hour.sum())


def test_the_same_moment_is_the_same_weather() -> None:
    assert weather(MARCH_1 + 12345.6, PLACE, 3) == weather(MARCH_1 + 12345.6, PLACE, 3)
