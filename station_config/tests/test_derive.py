"""What follows from what at a station."""

from __future__ import annotations

import math

import numpy as np
import pytest

from station_config.derive import Channel, SensorContext, derivable, derive, plan, water_density
from station_config.instruments import Compensation, load_instruments
from station_config.network import Network
from station_config.salinity import conductivity_from_25, practical_salinity

LINEAR = SensorContext(Compensation(kind="linear", alpha=0.0191))


@pytest.mark.parametrize(("salinity", "density"), [(0.0, 996.2), (4.0, 999.2), (30.0, 1018.6)])
def test_density_of_delta_water_at_28_degrees(salinity: float, density: float) -> None:
    assert water_density(salinity, 28.0) == pytest.approx(density, abs=0.05)


@pytest.mark.parametrize(
    ("case", "conductivity_25", "temperature", "salinity"),
    [("the 4 g/L line, warm", 7.277, 30.0, 3.97), ("at the reference", 7.277, 25.0, 4.0), ("fresh", 0.519, 28.0, 0.25)],
)
def test_salinity_from_a_probe_that_compensates(
    case: str, conductivity_25: float, temperature: float, salinity: float
) -> None:
    derived = derive({"conductivity_25": conductivity_25, "water_temperature": temperature}, LINEAR)
    assert derived["salinity"] == pytest.approx(salinity, rel=0.01), case


def test_uncompensated_conductivity_is_taken_as_it_is() -> None:
    values = {"conductivity": 9.0, "conductivity_25": 8.0, "water_temperature": 28.0}
    assert derive(values, LINEAR)["salinity"] == practical_salinity(9.0, 28.0)


def test_without_knowing_the_compensation_there_is_no_salinity() -> None:
    assert derive({"conductivity_25": 8.0, "water_temperature": 28.0}, SensorContext()) == {}


def test_depth_and_level_in_brackish_water() -> None:
    pressure_bar = 3.0 * 999.2 * 9.80665 / 1e5
    values = {"water_pressure": pressure_bar, "water_temperature": 28.0, "salinity": 4.0}
    derived = derive(values, SensorContext(elevation_m=-2.5))
    assert derived == {"water_depth": pytest.approx(3.0, abs=1e-3), "water_level": pytest.approx(0.5, abs=1e-3)}


def test_a_radar_hangs_above_the_water_it_measures_down_to() -> None:
    derived = derive({"water_distance": 3.215}, SensorContext(elevation_m=5.5))
    assert derived == {"water_level": pytest.approx(2.285)}
    assert derive({"water_distance": 3.215}, SensorContext()) == {}


@pytest.mark.parametrize("elevation_m", [4.25, None])
def test_a_radar_leads_to_a_level_where_it_was_levelled(network: Network, elevation_m: float | None) -> None:
    station = network.station("xuan-hoa")
    sensor = station.sensors[2].model_copy(
        update={"number": 4, "instrument": "vega-vegapuls-c21", "elevation_m": elevation_m}
    )
    only = station.model_copy(update={"sensors": (sensor,)})
    planned = plan(only, load_instruments())
    assert [(one.outputs, dict(one.inputs)) for one in planned] == (
        [] if elevation_m is None else [(("water_level",), {"water_distance": Channel(4, "water_distance")})]
    )
    assert all(one.compute({"water_distance": 3.0}) == {"water_level": 1.25} for one in planned)
    assert derivable(["water_distance"]) == ("water_level",)


def test_a_lost_conductivity_probe_costs_the_level_two_percent_at_most() -> None:
    values = {"water_pressure": np.array([0.3, 0.3]), "salinity": np.array([30.0, np.nan])}
    with_salinity, without = derive(values, SensorContext())["water_depth"]
    assert without / with_salinity == pytest.approx(1.0225, abs=1e-3)


def test_arrays_derive_as_floats_do() -> None:
    rows = [(0.4, 26.0, 0.3), (7.0, 29.0, math.nan), (math.nan, 30.0, 0.2)]
    names = ("conductivity_25", "water_temperature", "water_pressure")
    context = SensorContext(LINEAR.compensation, elevation_m=1.0)
    many = derive(
        {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}, context
    )
    one_by_one = [derive(dict(zip(names, row, strict=True)), context) for row in rows]
    for name, column in many.items():
        np.testing.assert_allclose(column, [one[name] for one in one_by_one])


def test_a_plan_feeds_the_level_sensor_with_the_salinity_of_the_probe(network: Network) -> None:
    derivations = plan(network.stations[0], load_instruments())
    found = {(d.sensor, d.outputs): dict(d.inputs) for d in derivations}
    assert found == {
        (1, ("salinity", "specific_conductance")): {
            "conductivity_25": Channel(1, "conductivity_25"),
            "water_temperature": Channel(1, "water_temperature"),
        },
        (2, ("water_depth", "water_level")): {
            "water_pressure": Channel(2, "water_pressure"),
            "water_temperature": Channel(2, "water_temperature"),
            "salinity": Channel(1, "salinity"),
        },
        (3, ("dew_point_computed",)): {
            "air_temperature": Channel(3, "air_temperature"),
            "relative_humidity": Channel(3, "relative_humidity"),
        },
    }


def test_oxygen_is_computed_with_this_water_s_salt_and_this_air_s_pressure(network: Network) -> None:
    station = network.station("xuan-hoa")
    probe = station.sensors[2].model_copy(update={"number": 4, "instrument": "yosemitech-y504"})
    planned = plan(station.model_copy(update={"sensors": (*station.sensors, probe)}), load_instruments())
    oxygen = next(one for one in planned if one.sensor == 4)
    assert oxygen.inputs["salinity"] == Channel(1, "salinity")
    assert oxygen.inputs["air_pressure"] == Channel(3, "air_pressure")
    assert oxygen.optional == {"salinity", "air_pressure"}
    name = next(iter(set(oxygen.inputs) - {"salinity", "air_pressure", "water_temperature"}))
    fresh = oxygen.compute({name: 6.0, "water_temperature": 28.0})
    salty = oxygen.compute({name: 6.0, "water_temperature": 28.0, "salinity": 20.0, "air_pressure": 1000.0})
    (of_fresh,), (of_salty,) = fresh.values(), salty.values()
    assert of_fresh != of_salty


def test_a_barometer_of_known_height_leads_to_the_pressure_at_sea_level(network: Network) -> None:
    station = network.station("xuan-hoa")
    lifted = station.sensors[2].model_copy(update={"elevation_m": 100.0})
    planned = plan(station.model_copy(update={"sensors": (lifted,)}), load_instruments())
    reduced = next(one for one in planned if "air_pressure_at_sea_level" in one.outputs)
    assert reduced.compute({"air_pressure": 1000.0, "air_temperature": 28.0})["air_pressure_at_sea_level"] == (
        pytest.approx(1011.40, abs=0.005)
    )


def test_a_plan_computes_with_the_instruments_own_compensation(network: Network) -> None:
    salinity = plan(network.stations[0], load_instruments())[0]
    expected = practical_salinity(conductivity_from_25(8.0, 30.0, 0.0191), 30.0)
    computed = salinity.compute({"conductivity_25": 8.0, "water_temperature": 30.0})
    assert computed["salinity"] == expected
    assert computed["specific_conductance"] == pytest.approx(8.0, rel=0.01), "the probe's own coefficient is near"


@pytest.mark.parametrize(
    ("measured", "follow"),
    [
        (("conductivity_25", "water_temperature"), ("salinity", "specific_conductance")),
        (("conductivity_25",), ()),
        (("water_pressure",), ("water_depth", "water_level")),
        (("air_temperature", "wind_speed"), ()),
        (("air_temperature", "relative_humidity"), ("dew_point_computed",)),
        (("dissolved_oxygen", "water_temperature"), ("oxygen_saturation_computed",)),
        (("air_pressure",), ("air_pressure_at_sea_level",)),
    ],
)
def test_derivable(measured: tuple[str, ...], follow: tuple[str, ...]) -> None:
    assert derivable(measured) == follow
