"""Oxygen, weather, evapotranspiration, specific conductance, water quality index: against published check values."""

from __future__ import annotations

import math
from datetime import date

import gsw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station_config import evapotranspiration as et
from station_config.meteorology import (
    dew_point,
    mean_wind,
    pressure_at_sea_level,
    rain_increments,
    rain_intensity,
)
from station_config.oxygen import oxygen_concentration, oxygen_saturation, oxygen_solubility
from station_config.salinity import practical_salinity, specific_conductance
from station_config.water_quality_index import index_in_force, load_indices, oxygen_saturation_of_the_decision


@pytest.mark.parametrize(
    ("temperature_c", "mg_l"),
    [(0, 14.621), (10, 11.288), (20, 9.092), (25, 8.263), (28, 7.828), (30, 7.559), (35, 6.949)],
)
def test_fresh_water_holds_what_the_usgs_tables_say(temperature_c: float, mg_l: float) -> None:
    assert oxygen_solubility(temperature_c) == pytest.approx(mg_l, abs=0.0006)


def test_salt_and_thin_air_leave_less_oxygen() -> None:
    assert oxygen_solubility(28.0, 4.0) == pytest.approx(7.655, abs=0.001)
    assert oxygen_solubility(28.0, 20.0) == pytest.approx(7.003, abs=0.001)
    assert oxygen_solubility(28.0, 35.0) == pytest.approx(6.442, abs=0.001)
    assert oxygen_solubility(25.0, 0.0, 750 * 1.333224) == pytest.approx(8.151, abs=0.001)


def test_oxygen_agrees_with_teos_10_tools() -> None:
    for temperature_c in (5.0, 15.0, 25.0, 35.0):
        for salinity in (0.0, 10.0, 30.0):
            micromole_kg = gsw.O2sol_SP_pt(salinity, temperature_c)
            density = gsw.rho_t_exact(gsw.SR_from_SP(salinity), temperature_c, 0)
            mg_l = micromole_kg * 31.9988e-3 * density / 1000
            assert oxygen_solubility(temperature_c, salinity) == pytest.approx(mg_l, rel=0.004)


@given(st.floats(0, 200), st.floats(0, 40), st.floats(0, 40), st.floats(900, 1050))
def test_per_cent_and_milligrams_lead_to_each_other(
    percent: float, temperature_c: float, salinity: float, pressure_hpa: float
) -> None:
    mg_l = oxygen_concentration(percent, temperature_c, salinity, pressure_hpa)
    assert oxygen_saturation(mg_l, temperature_c, salinity, pressure_hpa) == pytest.approx(percent, abs=1e-9)


@pytest.mark.parametrize(
    ("temperature_c", "humidity", "expected"),
    [(30, 80, 26.169), (25, 60, 16.693), (35, 45, 21.292), (20, 50, 9.255), (25, 100, 25.0)],
)
def test_dew_point(temperature_c: float, humidity: float, expected: float) -> None:
    assert dew_point(float(temperature_c), float(humidity)) == pytest.approx(expected, abs=0.001)


def test_dew_point_of_arrays_and_of_a_dead_sensor() -> None:
    found = dew_point(np.array([30.0, 25.0, 25.0]), np.array([80.0, 0.0, np.nan]))
    assert found[0] == pytest.approx(26.169, abs=0.001)
    assert np.isnan(found[1:]).all()
    assert math.isnan(dew_point(25.0, 0.0))
    assert math.isnan(dew_point(25.0, math.nan))


def test_pressure_at_sea_level() -> None:
    assert pressure_at_sea_level(1000.0, 100.0, 28.0) == pytest.approx(1011.40, abs=0.005)
    assert pressure_at_sea_level(1010.0, 2.0, 28.0) == pytest.approx(1010.23, abs=0.005)


def test_wind_from_both_sides_of_north_comes_from_north() -> None:
    wind = mean_wind([(5, 350), (5, 10)])
    assert wind is not None
    assert wind.vector_speed == pytest.approx(4.924, abs=0.001)
    assert wind.from_direction == pytest.approx(0.0, abs=1e-9)
    other = mean_wind([(3, 0), (4, 90)])
    assert other is not None
    assert (other.vector_speed, other.from_direction) == pytest.approx((2.5, 53.13), abs=0.01)


def test_opposite_winds_have_a_speed_and_no_direction() -> None:
    wind = mean_wind([(2, 90), (2, 270)])
    assert wind is not None
    assert (wind.speed, wind.from_direction) == (2.0, None)
    assert mean_wind([]) is None


def test_rain_from_a_counter_is_never_negative_and_a_reset_is_not_a_loss_of_what_fell_since() -> None:
    increments = rain_increments(np.array([10.0, 10.2, np.nan, 11.0, 0.4, 0.4]))
    assert increments[[1, 3, 4, 5]] == pytest.approx([0.2, 0.8, 0.4, 0.0])
    assert np.isnan(increments[[0, 2]]).all()
    assert rain_intensity(0.2, 600) == pytest.approx(1.2)


def test_fao_example_17_a_day_in_bangkok() -> None:
    site = et.Site(13.73, 2)
    radiation = (0.25 + 0.5 * 8.5 / 12.31) * et.extraterrestrial_daily(site, 105)
    assert et.extraterrestrial_daily(site, 105) == pytest.approx(38.06, abs=0.01)
    eto = et.daily(
        site,
        105,
        temperature_min=25.6,
        temperature_max=34.8,
        vapour_pressure_kpa=2.85,
        wind_2m=2,
        radiation_mj_m2=radiation,
        soil_heat_mj_m2=0.14,
    )
    assert eto == pytest.approx(5.72, abs=0.01)


def test_fao_example_18_a_day_in_uccle() -> None:
    site = et.Site(50.8, 100)
    vapour = (et.saturation_kpa(12.3) * 0.84 + et.saturation_kpa(21.5) * 0.63) / 2
    assert vapour == pytest.approx(1.409, abs=0.001)
    assert et.wind_at_2m(2.78, 10) == pytest.approx(2.078, abs=0.002)
    radiation = (0.25 + 0.5 * 9.25 / 16.1) * et.extraterrestrial_daily(site, 187)
    eto = et.daily(
        site,
        187,
        temperature_min=12.3,
        temperature_max=21.5,
        vapour_pressure_kpa=vapour,
        wind_2m=2.078,
        radiation_mj_m2=radiation,
    )
    assert eto == pytest.approx(3.88, abs=0.01)


def test_fao_example_19_an_hour_at_noon_and_one_at_night_in_n_diaye() -> None:
    site = et.Site(16.2167, 8, -16.25)
    noon = et.hourly(
        site,
        274,
        16.0,
        temperature=38,
        vapour_pressure_kpa=et.saturation_kpa(38) * 0.52,
        wind_2m=3.3,
        radiation_mj_m2=2.450,
    )
    night = et.hourly(
        site,
        274,
        4.0,
        temperature=28,
        vapour_pressure_kpa=et.saturation_kpa(28) * 0.9,
        wind_2m=1.9,
        radiation_mj_m2=0.0,
    )
    assert et.extraterrestrial_hourly(site, 274, 16.0) == pytest.approx(3.543, abs=0.01)
    assert noon == pytest.approx(0.63, abs=0.005)
    assert night == pytest.approx(0.00, abs=0.005)


def test_the_hours_of_a_day_add_up_to_the_day_above_the_atmosphere() -> None:
    site = et.Site(10.3, 2, 106.4)
    hours = sum(et.extraterrestrial_hourly(site, 100, hour) for hour in range(1, 25))
    assert hours == pytest.approx(et.extraterrestrial_daily(site, 100), rel=0.005)


@pytest.mark.parametrize(("salinity", "ms_cm"), [(0.5, 1.015), (1, 1.969), (4, 7.277), (20, 32.09), (35, 53.07)])
def test_specific_conductance_of_diluted_sea_water_is_the_same_at_every_temperature(
    salinity: float, ms_cm: float
) -> None:
    for temperature_c in (15.0, 25.0, 28.0, 33.0):
        in_situ = float(gsw.C_from_SP(salinity, temperature_c, 0))
        assert specific_conductance(in_situ, temperature_c) == pytest.approx(ms_cm, rel=0.001)


@given(st.floats(0, 80), st.floats(0, 40))
def test_specific_conductance_has_the_salinity_it_came_from(conductivity_ms_cm: float, temperature_c: float) -> None:
    found = specific_conductance(conductivity_ms_cm, temperature_c)
    salinity = practical_salinity(conductivity_ms_cm, temperature_c)
    assert practical_salinity(found, 25.0) == pytest.approx(salinity, abs=2e-4)
    array = specific_conductance(np.array([conductivity_ms_cm]), np.array([temperature_c]))
    assert array[0] == pytest.approx(found, abs=1e-6)


def test_the_water_quality_index_by_the_decision_s_break_points() -> None:
    index = index_in_force(load_indices(), date(2026, 11, 22))
    assert index is not None
    for parameter, value, score in [
        ("ph", 5.4, 10),
        ("ph", 5.75, 75),
        ("ph", 7.0, 100),
        ("ph", 9.1, 10),
        ("oxygen_saturation", 35, 37.5),
        ("oxygen_saturation", 100, 100),
        ("oxygen_saturation", 201, 10),
        ("ammonium_nitrogen", 0.1, 100),
        ("ammonium_nitrogen", 0.45, 62.5),
        ("ammonium_nitrogen", 6.0, 10),
    ]:
        assert index.sub_index(parameter, value) == pytest.approx(score), (parameter, value)
    assert index.sub_index("turbidity", 10.0) is None


def test_a_partial_index_says_which_groups_it_has_and_needs_the_fourth() -> None:
    index = index_in_force(load_indices(), date(2026, 11, 22))
    assert index is not None
    partial = index.partial({"ph": 7.0, "oxygen_saturation": 60.0, "ammonium_nitrogen": 0.45, "turbidity": 3.0})
    assert partial is not None
    assert partial.groups == ("I", "IV")
    assert partial.score == round((60.0 + 62.5) / 2)
    assert index.quality_class(partial.score).en == "medium"
    assert index.partial({"ph": 7.0}) is None
    assert index_in_force(load_indices(), date(2019, 1, 1)) is None


def test_the_decision_s_own_saturation_is_for_fresh_water() -> None:
    assert oxygen_saturation_of_the_decision(8.0, 25.0) == pytest.approx(100 * 8.0 / 8.18, rel=0.02)
