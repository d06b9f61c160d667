"""The river as a gauge reader knows it."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.estuary import Estuary, Place, conductivity_ms_cm, discharge_m3_s, level_m, salinity, tide_m
from simulators.noise import Array, uniform
from station_config.salinity import practical_salinity

YEAR = 1767225600.0 + np.arange(0.0, 365 * 86400.0, 600.0)  # 2026
DAYS = (365, 144)
FEBRUARY_AND_MARCH = slice(31, 90)


def daily_maxima(river_km: float, seed: int = 1) -> Array:
    maxima: Array = salinity(YEAR, river_km, seed).reshape(DAYS).max(axis=1)
    return maxima


def test_spring_tides_are_more_than_twice_as_high_as_neap_tides() -> None:
    by_day = tide_m(YEAR).reshape(DAYS)
    ranges = by_day.max(axis=1) - by_day.min(axis=1)
    assert 2.0 < np.percentile(ranges, 95) / np.percentile(ranges, 5) < 3.5


def test_spring_tides_come_with_new_and_full_moon() -> None:
    by_day = tide_m(YEAR).reshape(DAYS)
    spectrum = np.abs(np.fft.rfft((by_day.max(axis=1) - by_day.min(axis=1)) - 2.7))
    assert 365 / int(np.argmax(spectrum[5:]) + 5) == pytest.approx(14.2, abs=0.8)


def test_the_tide_arrives_late_and_smaller_at_my_tho() -> None:
    at_mouth, at_my_tho = tide_m(YEAR), tide_m(YEAR, 46.0)
    lags_min = np.arange(0, 300, 10)
    likeness = [np.corrcoef(at_mouth[: -30 or None], np.roll(at_my_tho, -lag // 10)[:-30])[0, 1] for lag in lags_min]
    assert 120 <= lags_min[int(np.argmax(likeness))] <= 150
    assert 0.7 < at_my_tho.std() / at_mouth.std() < 0.9


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("river_km", "lowest", "highest"),
    [(2.0, 15.0, 28.0), (20.0, 6.0, 16.0), (42.0, 0.1, 5.0)],
    ids=["Vàm Kênh", "Hòa Bình", "Xuân Hòa"],
)
def test_dry_season_maxima_are_those_of_the_gauges(river_km: float, lowest: float, highest: float, seed: int) -> None:
    maxima = daily_maxima(river_km, seed)[FEBRUARY_AND_MARCH]
    assert lowest <= maxima.min()
    assert maxima.max() <= highest


def test_xuan_hoa_passes_four_grams_at_the_highest_springs_only() -> None:
    maxima = daily_maxima(42.0)
    assert maxima.max() > 3.5
    assert np.median(maxima[FEBRUARY_AND_MARCH]) < 3.0


def test_the_flood_season_is_fresh_at_hoa_binh() -> None:
    assert daily_maxima(20.0)[230:300].max() < 1.0


def test_salinity_falls_with_every_kilometre_inland() -> None:
    means = [float(salinity(YEAR[:8640], km, 1).mean()) for km in range(0, 70, 10)]
    assert means == sorted(means, reverse=True)


def test_salinity_falls_with_discharge() -> None:
    means = [float(salinity(YEAR[:8640], 20.0, 1, discharge).mean()) for discharge in (1500, 3000, 6000, 20000)]
    assert means == sorted(means, reverse=True)


def test_the_river_is_lowest_before_the_rains() -> None:
    assert 90 <= int(np.argmin(discharge_m3_s(YEAR, 1).reshape(DAYS).mean(axis=1))) <= 125


def test_every_moment_can_be_asked_in_any_order_and_alone() -> None:
    together = salinity(YEAR[:500], 20.0, 7)
    alone = [float(salinity(moment, 20.0, 7)) for moment in reversed(YEAR[:500])]
    assert alone[::-1] == pytest.approx(together.tolist(), rel=1e-12)


def test_seeds_differ() -> None:
    assert not np.allclose(level_m(YEAR[:500], 20.0, 1), level_m(YEAR[:500], 20.0, 2))


def test_salinity_and_level_have_no_jumps() -> None:
    minutes = 1772000000.0 + np.arange(0.0, 5 * 86400.0, 60.0)
    assert np.abs(np.diff(salinity(minutes, 20.0, 1))).max() < 0.1
    assert np.abs(np.diff(level_m(minutes, 20.0, 1))).max() < 0.03


@pytest.mark.parametrize("practical", [0.1, 0.5, 1.0, 4.0, 15.0, 35.0])
@pytest.mark.parametrize("temperature_c", [24.0, 28.0, 34.0])
def test_conductivity_is_what_pss78_turns_back_into_salinity(practical: float, temperature_c: float) -> None:
    conductivity = conductivity_ms_cm(practical, temperature_c)
    assert practical_salinity(conductivity, temperature_c) == pytest.approx(practical, abs=1e-9)


def test_unknown_salinity_gives_unknown_conductivity_and_fresh_gives_none() -> None:
    assert np.isnan(conductivity_ms_cm(float("nan"), 28.0))
    assert conductivity_ms_cm(0.0, 28.0) == 0.0


def test_a_water_state_holds_together() -> None:
    state = Estuary(1).water(Place("hoa-binh", 20.0), 1772000000.0)
    assert practical_salinity(state.conductivity_ms_cm, state.water_temperature_c) == pytest.approx(state.salinity)
    assert 24.0 < state.water_temperature_c < 33.0
    assert -3.0 < state.level_m < 2.5


def test_chance_is_even_and_repeatable() -> None:
    draws = uniform(5, "anything", np.arange(20000))
    assert np.histogram(draws, 10, (0.0, 1.0))[0] == pytest.approx(2000, abs=200)
    assert float(uniform(5, "anything", 1234)) == draws[1234]
