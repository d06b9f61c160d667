"""What is known about series: scale, limits and derivations, compiled from the network and the vocabulary.

A series nobody knows (station, sensor or parameter) has no scale or limits: its records are kept, its flags say "not
evaluated".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import SeriesKey
from cloud_ingest.derivation import Compute, Recipe
from cloud_ingest.quality import Values
from firmware.record import LAST_EVENT
from station_config.derive import Channel, Derivation, plan
from station_config.instruments import Instrument
from station_config.network import Network, Station
from station_config.parameters import FIRST_DERIVED_CODE, Parameter, Vocabulary
from station_config.quality import ParameterTests

DERIVED_DIGITS = 1  # more than the parameter's decimals: rounding adds a hundredth to the variance that counts have
MEMBER_SHIFT = 35  # a moment of one of several stations: which << MEMBER_SHIFT | seconds since the first


class Limits(NamedTuple):
    """Spans of the gross range test in the parameter's unit; NaN where there is none."""

    fail_min: float = np.nan
    fail_max: float = np.nan
    suspect_min: float = np.nan
    suspect_max: float = np.nan


@dataclass(frozen=True)
class Build:
    """Stations that differ in nothing a recipe asks for but their elevations; recipes name series of no station ("").

    Their recipes take moments (member << MEMBER_SHIFT | anything) for times.
    """

    stations: tuple[str, ...]
    recipes: tuple[Recipe, ...]


class Registry:
    """The network as ingest needs it. Immutable after it is made."""

    def __init__(self, network: Network, instruments: Mapping[str, Instrument], vocabulary: Vocabulary) -> None:
        self.network = network
        self.vocabulary = vocabulary
        self.zone = ZoneInfo(network.timezone)
        self.stations: dict[str, Station] = {station.id: station for station in network.stations}
        self.scale: npt.NDArray[np.float64] = np.full(256, np.nan)  # count / scale[parameter] = value
        for parameter in vocabulary:
            if parameter.kind not in ("event", "derived"):
                self.scale[parameter.code] = 10.0**parameter.decimals
        plans = {station.id: plan(station, instruments) for station in network.stations}
        self._recipes = {
            station: tuple(self._recipe(station, one, compute_alone(one)) for one in derivations)
            for station, derivations in plans.items()
        }
        self.builds = tuple(self._builds(plans))
        self.build_of = {
            station: (number, member)
            for number, build in enumerate(self.builds)
            for member, station in enumerate(build.stations)
        }

    def recipes(self, station: str) -> tuple[Recipe, ...]:
        """Return what is derived for a station, in order; nothing for an unknown station."""
        return self._recipes.get(station, ())

    def parameter(self, code: int) -> Parameter | None:
        """Return the parameter of a code, None when the vocabulary does not have it."""
        return self.vocabulary.by_code.get(code)

    def own_tests(self, station: str) -> Mapping[str, ParameterTests]:
        """Return the quality tests that a station changes, by parameter name."""
        found = self.stations.get(station)
        return found.quality if found else {}

    def limits(self, key: SeriesKey) -> Limits:
        """Return the spans for a series: the vocabulary's for fail, the station's narrower ones for suspect."""
        parameter = self.parameter(key.parameter)
        if parameter is None or parameter.valid_min is None or parameter.valid_max is None:
            return Limits()
        narrowed = self._narrowed(key).get(parameter.name, (np.nan, np.nan))
        return Limits(parameter.valid_min, parameter.valid_max, *narrowed)

    def _narrowed(self, key: SeriesKey) -> Mapping[str, tuple[float, float]]:
        station = self.stations.get(key.station)
        sensors = {sensor.number: sensor for sensor in station.sensors} if station else {}
        return sensors[key.sensor].limits if key.sensor in sensors else {}

    def _builds(self, plans: Mapping[str, tuple[Derivation, ...]]) -> Iterator[Build]:
        alike: dict[str, list[str]] = {}
        for station, derivations in plans.items():
            alike.setdefault(repr([_shape(one) for one in derivations]), []).append(station)
        for stations in alike.values():
            each = zip(*(plans[station] for station in stations), strict=True)
            recipes = (self._recipe("", of[0], compute_together(of)) for of in each)
            yield Build(tuple(stations), tuple(recipes))

    def _recipe(self, station: str, derivation: Derivation, compute: Compute) -> Recipe:
        return Recipe(
            outputs={name: self._key(station, Channel(derivation.sensor, name)) for name in derivation.outputs},
            inputs={name: self._key(station, channel) for name, channel in derivation.inputs.items()},
            optional=derivation.optional,
            compute=compute_rounded(compute, {name: self._digits(name) for name in derivation.outputs}),
        )

    def _digits(self, parameter: str) -> int:
        return self.vocabulary.by_name[parameter].decimals + DERIVED_DIGITS

    def _key(self, station: str, channel: Channel) -> SeriesKey:
        return SeriesKey(station, channel.sensor, self.vocabulary.by_name[channel.parameter].code)


def _shape(derivation: Derivation) -> object:
    elevation = derivation.context.elevation_m is not None
    context = replace(derivation.context, elevation_m=None)
    inputs = sorted(derivation.inputs.items())
    return (derivation.sensor, derivation.outputs, inputs, context, elevation, sorted(derivation.optional))


def compute_alone(derivation: Derivation) -> Compute:
    """Return what computes the derivation of one station."""
    return lambda values, _times: derivation.compute(values)


def compute_together(alike: Sequence[Derivation]) -> Compute:
    """Return what computes the same derivation of several stations, each with its elevation."""
    one = alike[0]
    if one.context.elevation_m is None:
        return lambda values, _moments: one.compute(values)
    elevations = np.array([of.context.elevation_m for of in alike], np.float64)
    return lambda values, moments: one.at_elevation(elevations[moments >> MEMBER_SHIFT]).compute(values)


def compute_rounded(compute: Compute, digits: Mapping[str, int]) -> Compute:
    """Return what computes the same, each output rounded to so many decimals: the doubles that decimal text reads as.

    Ingest, reviews and recompute all take their recipes from here, so what they store is the same to the last bit.
    """
    return lambda values, times: {
        name: rounded(output, digits[name]) for name, output in compute(values, times).items()
    }


def rounded(values: Values, digits: int) -> Values:
    """Return whole numbers over 10**digits, nearest to the values; NaN stays, and zero is never negative."""
    found: Values = np.rint(values * 10.0**digits) / 10.0**digits + 0.0
    return found


def is_event(parameters: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which codes are journal events."""
    events: npt.NDArray[np.bool_] = (parameters >= 1) & (parameters <= LAST_EVENT)
    return events


def may_not_be_recorded(parameters: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which codes no station may put into a record: 0, and the derived ones, which would collide with ours."""
    refused: npt.NDArray[np.bool_] = (parameters == 0) | (parameters >= FIRST_DERIVED_CODE)
    return refused
