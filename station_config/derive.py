"""How one quantity follows from others: pure functions over floats or numpy arrays.

    salinity      <- conductivity, or conductivity_25 with its compensation undone, and water_temperature
    water_depth   <- water_pressure and the density of that water (from salinity and water_temperature)
    water_level   <- elevation of the sensor's membrane + water_depth, or of its lens - water_distance (radar)
    specific_conductance       <- conductivity in situ, made as for salinity
    oxygen_saturation_computed <- dissolved_oxygen, water_temperature; salinity, air pressure where the station has them
    dissolved_oxygen_computed  <- oxygen_saturation, likewise
    dew_point_computed         <- air_temperature, relative_humidity
    air_pressure_at_sea_level  <- air_pressure and the barometer's elevation

`plan` says which of them follow for the sensors of a station and from which channels; `derive` computes them. NaN means
"no value" and travels through; only density, a correction of 2 % at most, goes on with the context's assumed water.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from station_config.meteorology import dew_point, pressure_at_sea_level
from station_config.oxygen import STANDARD_PRESSURE_HPA, oxygen_concentration, oxygen_saturation
from station_config.salinity import (
    Values,
    conductivity_from_25,
    conductivity_from_25_nlf,
    practical_salinity,
    specific_conductance,
)

if TYPE_CHECKING:
    from station_config.instruments import Compensation, Instrument
    from station_config.network import Sensor, Station

STANDARD_GRAVITY_M_S2 = 9.80665
_PASCAL_PER_BAR = 1e5
_OXYGEN = {"dissolved_oxygen": "oxygen_saturation_computed", "oxygen_saturation": "dissolved_oxygen_computed"}


class Channel(NamedTuple):
    """One series of a station: sensor number and parameter name."""

    sensor: int
    parameter: str


@dataclass(frozen=True)
class SensorContext:
    """What must be known of a sensor, besides its values, to derive from them."""

    compensation: Compensation | None = None  # of conductivity_25
    elevation_m: float | None = None  # above the station's datum, of what it measures from: its membrane, its lens
    assumed_salinity: float = 0.0  # for density, where no salinity is known: fresh water
    assumed_temperature_c: float = 28.0


@dataclass(frozen=True)
class Derivation:
    """What one sensor's channels lead to: `outputs` are parameters of `sensor`, `inputs` name the channels needed."""

    sensor: int
    outputs: tuple[str, ...]
    inputs: Mapping[str, Channel]
    context: SensorContext
    optional: frozenset[str] = frozenset()  # inputs that may be absent: what is assumed then changes the result little

    def at_elevation(self, elevation_m: Any) -> Derivation:
        """Return the same for sensors that stand elsewhere: one elevation, or one for each value."""
        return replace(self, context=replace(self.context, elevation_m=elevation_m))

    def compute(self, values: Mapping[str, Values]) -> dict[str, Values]:
        """Return the outputs from values by the inputs' names; what misses an input is absent."""
        derived = derive(values, self.context)
        return {name: derived[name] for name in self.outputs if name in derived}


def plan(station: Station, instruments: Mapping[str, Instrument]) -> tuple[Derivation, ...]:
    """Return what can be derived for a station, each after those whose outputs it needs.

    A level or an oxygen sensor takes its salinity from the station's first conductivity sensor, and an oxygen sensor
    the air pressure from its first barometer, if there is one.
    """
    sensors = [(sensor, instruments[sensor.instrument]) for sensor in station.sensors]
    salinities = [found for sensor, one in sensors if (found := _salinity_of(sensor, one))]
    water = Channel(salinities[0].sensor, "salinity") if salinities else None
    barometers = [Channel(sensor.number, "air_pressure") for sensor, one in sensors if "air_pressure" in one.parameters]
    levels = [found for sensor, one in sensors if (found := _level_of(sensor, one, water))]
    oxygen = [found for sensor, one in sensors if (found := _oxygen_of(sensor, one, water, barometers))]
    weather = [found for sensor, one in sensors for found in _weather_of(sensor, one)]
    return (*salinities, *levels, *oxygen, *weather)


def derivable(parameters: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the parameters that follow from these (of one sensor)."""
    names = set(parameters)
    found = []
    if "water_temperature" in names and names & {"conductivity", "conductivity_25"}:
        found += ["salinity", "specific_conductance"]
    if "water_pressure" in names:
        found += ["water_depth", "water_level"]
    elif "water_distance" in names:
        found.append("water_level")
    if "water_temperature" in names:
        found += [output for measured, output in _OXYGEN.items() if measured in names]
    if {"air_temperature", "relative_humidity"} <= names:
        found.append("dew_point_computed")
    if "air_pressure" in names:
        found.append("air_pressure_at_sea_level")
    return tuple(found)


def derive(values: Mapping[str, Values], context: SensorContext) -> dict[str, Values]:
    """Return every derived parameter that follows from `values` (parameter name -> value in its unit).

    `values` may hold the salinity of another sensor in the same water. Floats or arrays of one length.
    """
    derived: dict[str, Values] = {}
    conductivity = _conductivity(values, context.compensation)
    if conductivity is not None and "water_temperature" in values:
        derived["salinity"] = practical_salinity(conductivity, values["water_temperature"])
        derived["specific_conductance"] = specific_conductance(conductivity, values["water_temperature"])
    if "water_pressure" in values:
        pressure = values["water_pressure"]
        salinity = _known_or(derived.get("salinity", values.get("salinity")), context.assumed_salinity)
        temperature = _known_or(values.get("water_temperature"), context.assumed_temperature_c)
        derived["water_depth"] = water_depth(pressure, water_density(salinity, temperature))
        if context.elevation_m is not None:
            derived["water_level"] = derived["water_depth"] + context.elevation_m
    elif "water_distance" in values and context.elevation_m is not None:
        derived["water_level"] = context.elevation_m - values["water_distance"]
    derived.update(_derive_oxygen(values, context))
    derived.update(_derive_weather(values, context))
    return derived


def _derive_oxygen(values: Mapping[str, Values], context: SensorContext) -> Iterator[tuple[str, Values]]:
    if "water_temperature" not in values:
        return
    water = (
        values["water_temperature"],
        _known_or(values.get("salinity"), context.assumed_salinity),
        _known_or(values.get("air_pressure"), STANDARD_PRESSURE_HPA),
    )
    if "dissolved_oxygen" in values:
        yield "oxygen_saturation_computed", oxygen_saturation(values["dissolved_oxygen"], *water)
    if "oxygen_saturation" in values:
        yield "dissolved_oxygen_computed", oxygen_concentration(values["oxygen_saturation"], *water)


def _derive_weather(values: Mapping[str, Values], context: SensorContext) -> Iterator[tuple[str, Values]]:
    if "air_temperature" in values and "relative_humidity" in values:
        yield "dew_point_computed", dew_point(values["air_temperature"], values["relative_humidity"])
    if "air_pressure" in values and context.elevation_m is not None:
        temperature = _known_or(values.get("air_temperature"), context.assumed_temperature_c)
        reduced = pressure_at_sea_level(values["air_pressure"], context.elevation_m, temperature)
        yield "air_pressure_at_sea_level", reduced


def water_density(salinity: Any, temperature_c: Any) -> Any:
    """Return kg/m³ at one atmosphere: the equation of state EOS-80 (UNESCO technical paper 44), 0..42, -2..40 °C."""
    s, t = salinity, temperature_c
    pure = 999.842594 + t * (
        6.793952e-2 + t * (-9.095290e-3 + t * (1.001685e-4 + t * (-1.120083e-6 + t * 6.536332e-9)))
    )
    linear = 8.24493e-1 + t * (-4.0899e-3 + t * (7.6438e-5 + t * (-8.2467e-7 + t * 5.3875e-9)))
    root = -5.72466e-3 + t * (1.0227e-4 - t * 1.6546e-6)
    return pure + s * (linear + root * s**0.5 + s * 4.8314e-4)


def water_depth(pressure_bar: Values, density_kg_m3: Any) -> Values:
    """Return metres of water above a membrane from gauge pressure, with standard gravity (0.25 % low at 10° north)."""
    depth: Values = pressure_bar * _PASCAL_PER_BAR / (density_kg_m3 * STANDARD_GRAVITY_M_S2)
    return depth


def _conductivity(values: Mapping[str, Values], compensation: Compensation | None) -> Values | None:
    """Return conductivity in situ, mS/cm; None when it is not measured or its compensation is not known."""
    if "conductivity" in values:
        return values["conductivity"]
    if "conductivity_25" not in values or "water_temperature" not in values or compensation is None:
        return None
    compensated, temperature = values["conductivity_25"], values["water_temperature"]
    if compensation.kind == "nlf":
        return conductivity_from_25_nlf(compensated, temperature)
    if compensation.alpha is not None:
        return conductivity_from_25(compensated, temperature, compensation.alpha)
    return None


def _known_or(values: Any, assumed: float) -> Any:
    """Return values with NaN (and nothing at all) replaced by the assumed one."""
    if values is None:
        return assumed
    if isinstance(values, float | int):
        return assumed if math.isnan(values) else values
    import numpy as np

    return np.where(np.isnan(values), assumed, values)


def _salinity_of(sensor: Sensor, instrument: Instrument) -> Derivation | None:
    if "salinity" not in derivable(instrument.parameters):
        return None
    source = "conductivity" if "conductivity" in instrument.parameters else "conductivity_25"
    inputs = {name: Channel(sensor.number, name) for name in (source, "water_temperature")}
    outputs = ("salinity", "specific_conductance")
    return Derivation(sensor.number, outputs, inputs, SensorContext(instrument.compensation))


def _level_of(sensor: Sensor, instrument: Instrument, salinity: Channel | None) -> Derivation | None:
    if "water_pressure" not in instrument.parameters:
        return _level_from_above(sensor, instrument)
    wanted = {"water_pressure", "water_temperature"}.intersection(instrument.parameters)
    inputs = {name: Channel(sensor.number, name) for name in sorted(wanted)}
    if salinity is not None:
        inputs["salinity"] = salinity
    outputs = ("water_depth",) if sensor.elevation_m is None else ("water_depth", "water_level")
    context = SensorContext(elevation_m=sensor.elevation_m)
    return Derivation(sensor.number, outputs, inputs, context, frozenset(inputs) - {"water_pressure"})


def _level_from_above(sensor: Sensor, instrument: Instrument) -> Derivation | None:
    """Return the level under a radar, which says how far below it the water stands; it must have been levelled."""
    if "water_distance" not in instrument.parameters or sensor.elevation_m is None:
        return None
    inputs = {"water_distance": Channel(sensor.number, "water_distance")}
    return Derivation(sensor.number, ("water_level",), inputs, SensorContext(elevation_m=sensor.elevation_m))


def _oxygen_of(
    sensor: Sensor, instrument: Instrument, salinity: Channel | None, barometers: list[Channel]
) -> Derivation | None:
    """Return the other way to say how much oxygen there is, with this water's salinity and this air's pressure."""
    measured = [name for name in _OXYGEN if name in instrument.parameters]
    if not measured or "water_temperature" not in instrument.parameters:
        return None
    inputs = {name: Channel(sensor.number, name) for name in (*measured, "water_temperature")}
    elsewhere = {"salinity": salinity, "air_pressure": barometers[0] if barometers else None}
    inputs |= {name: channel for name, channel in elsewhere.items() if channel is not None}
    outputs = tuple(_OXYGEN[name] for name in measured)
    # An instrument may give both; each is made from the other where the other is there.
    optional = frozenset(inputs) - {"water_temperature", *measured}
    return Derivation(sensor.number, outputs, inputs, SensorContext(), optional)


def _weather_of(sensor: Sensor, instrument: Instrument) -> Iterator[Derivation]:
    own = {name: Channel(sensor.number, name) for name in instrument.parameters}
    if {"air_temperature", "relative_humidity"} <= own.keys():
        inputs = {name: own[name] for name in ("air_temperature", "relative_humidity")}
        yield Derivation(sensor.number, ("dew_point_computed",), inputs, SensorContext())
    if "air_pressure" in own and sensor.elevation_m is not None:
        inputs = {name: own[name] for name in ("air_pressure", "air_temperature") if name in own}
        context = SensorContext(elevation_m=sensor.elevation_m)
        optional = frozenset(inputs) - {"air_pressure"}
        yield Derivation(sensor.number, ("air_pressure_at_sea_level",), inputs, context, optional)
