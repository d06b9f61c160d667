"""What is known about series: scale, limits and derivations, compiled from the network and the vocabulary.

A series nobody knows (station, sensor or parameter) has no scale or limits: its records are kept, its flags say "not
evaluated".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import SeriesKey
from cloud_ingest.derivation import Recipe
from firmware.record import LAST_EVENT
from station_config.derive import Channel, Derivation, plan
from station_config.instruments import Instrument
from station_config.network import Network, Station
from station_config.parameters import FIRST_DERIVED_CODE, Parameter, Vocabulary
from station_config.quality import ParameterTests


class Limits(NamedTuple):
    """Spans of the gross range test in the parameter's unit; NaN where there is none."""

    fail_min: float = np.nan
    fail_max: float = np.nan
    suspect_min: float = np.nan
    suspect_max: float = np.nan


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
        self._recipes = {
            station.id: tuple(self._recipe(station.id, one) for one in plan(station, instruments))
            for station in network.stations
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

    def _recipe(self, station: str, derivation: Derivation) -> Recipe:
        return Recipe(
            outputs={name: self._key(station, Channel(derivation.sensor, name)) for name in derivation.outputs},
            inputs={name: self._key(station, channel) for name, channel in derivation.inputs.items()},
            optional=derivation.optional,
            compute=derivation.compute,
        )

    def _key(self, station: str, channel: Channel) -> SeriesKey:
        return SeriesKey(station, channel.sensor, self.vocabulary.by_name[channel.parameter].code)


def is_event(parameters: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which codes are journal events."""
    events: npt.NDArray[np.bool_] = (parameters >= 1) & (parameters <= LAST_EVENT)
    return events


def may_not_be_recorded(parameters: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which codes no station may put into a record: 0, and the derived ones, which would collide with ours."""
    refused: npt.NDArray[np.bool_] = (parameters == 0) | (parameters >= FIRST_DERIVED_CODE)
    return refused
