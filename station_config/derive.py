"""How one quantity follows from others: pure functions over floats or numpy arrays.

    salinity      <- conductivity, or conductivity_25 with its compensation undone, and water_temperature
    water_depth   <- water_pressure and the density of that water (from salinity and water_temperature)
    water_level   <- elevation of the sensor's membrane + water_depth, or of its lens - water_distance (radar)

`plan` says which of them follow for the sensors of a station and from which channels; `derive` computes them. NaN means
"no value" and travels through; only density, a correction of 2 % at most, goes on with the context's assumed water.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from station_config.salinity import Values, conductivity_from_25, conductivity_from_25_nlf, practical_salinity

if TYPE_CHECKING:
    from station_config.instruments import Compensation, Instrument
    from station_config.network import Sensor, Station

STANDARD_GRAVITY_M_S2 = 9.80665
_PASCAL_PER_BAR = 1e5


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

    def compute(self, values: Mapping[str, Values]) -> dict[str, Values]:
        """Return the outputs from values by the inputs' names; what misses an input is absent."""
        derived = derive(values, self.context)
        return {name: derived[name] for name in self.outputs if name in derived}


def plan(station: Station, instruments: Mapping[str, Instrument]) -> tuple[Derivation, ...]:
    """Return what can be derived for a station, each after those whose outputs it needs.

    A level sensor takes its salinity from the station's first conductivity sensor, if there is one.
    """
    salinities = [d for s in station.sensors if (d := _salinity_of(s, instruments[s.instrument]))]
    water = Channel(salinities[0].sensor, "salinity") if salinities else None
    levels = [d for s in station.sensors if (d := _level_of(s, instruments[s.instrument], water))]
    return (*salinities, *levels)


def derivable(parameters: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the parameters that follow from these (of one sensor)."""
    names = set(parameters)
    found = []
    if "water_temperature" in names and names & {"conductivity", "conductivity_25"}:
        found.append("salinity")
    if "water_pressure" in names:
        found += ["water_depth", "water_level"]
    elif "water_distance" in names:
        found.append("water_level")
    return tuple(found)


def derive(values: Mapping[str, Values], context: SensorContext) -> dict[str, Values]:
    """Return every derived parameter that follows from `values` (parameter name -> value in its unit).

    `values` may hold the salinity of another sensor in the same water. Floats or arrays of one length.
    """
    derived: dict[str, Values] = {}
    conductivity = _conductivity(values, context.compensation)
    if conductivity is not None and "water_temperature" in values:
        derived["salinity"] = practical_salinity(conductivity, values["water_temperature"])
    if "water_pressure" in values:
        pressure = values["water_pressure"]
        salinity = _known_or(derived.get("salinity", values.get("salinity")), context.assumed_salinity)
        temperature = _known_or(values.get("water_temperature"), context.assumed_temperature_c)
        derived["water_depth"] = water_depth(pressure, water_density(salinity, temperature))
        if context.elevation_m is not None:
            derived["water_level"] = derived["water_depth"] + context.elevation_m
    elif "water_distance" in values and context.elevation_m is not None:
        derived["water_level"] = context.elevation_m - values["water_distance"]
    return derived


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
    return Derivation(sensor.number, ("salinity",), inputs, SensorContext(instrument.compensation))


def _level_of(sensor: Sensor, instrument: Instrument, salinity: Channel | None) -> Derivation | None:
    if "water_pressure" not in instrument.parameters:
        return _level_from_above(sensor, instrument)
    wanted = {"water_pressure", "water_temperature"}.intersection(instrument.parameters)
    inputs = {name: Channel(sensor.number, name) for name in sorted(wanted)}
    if salinity is not None:
        inputs["salinity"] = salinity
    outputs = ("water_depth",) if sensor.elevation_m is None else ("water_depth", "water_level")
    return Derivation(sensor.number, outputs, inputs, SensorContext(elevation_m=sensor.elevation_m))


def _level_from_above(sensor: Sensor, instrument: Instrument) -> Derivation | None:
    """Return the level under a radar, which says how far below it the water stands; it must have been levelled."""
    if "water_distance" not in instrument.parameters or sensor.elevation_m is None:
        return None
    inputs = {"water_distance": Channel(sensor.number, "water_distance")}
    return Derivation(sensor.number, ("water_level",), inputs, SensorContext(elevation_m=sensor.elevation_m))
