"""From the slices a station's records are stored in to observations the rules can judge: no files, no clock.

decode, value in the parameter's unit, gross range, and what follows from several channels of one moment (salinity from
conductivity and temperature). The cloud does the same with calibrations and quality control beside it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from alerts.rules import Observation
from edge_gateway.slices import Slice
from firmware import record
from firmware.record import CLOCK_UNSET_BELOW, FAIL, LAST_EVENT, MISSING, NO_VALUE, NOT_EVALUATED, SUSPECT, Record
from station_config.derive import Channel, Derivation, plan
from station_config.instruments import Instrument
from station_config.network import Network, Station
from station_config.parameters import FIRST_DERIVED_CODE, Parameter, Vocabulary

REQUIRED_FOR_DEPTH = frozenset({"water_pressure"})  # salinity and temperature only refine it
MOMENTS_KEPT = 16
_WORST_FIRST = (NO_VALUE, FAIL, SUSPECT, NOT_EVALUATED)


class Value(NamedTuple):
    """One channel at one moment."""

    value: float | None
    flag: int


class Seen(NamedTuple):
    """An observation, and the last record that led to it."""

    observation: Observation
    seq: int


@dataclass
class _Moment:
    """What a station has said of one time so far."""

    time: int
    values: dict[Channel, Value] = field(default_factory=dict)
    derived: set[int] = field(default_factory=set)  # places in the plan
    over: bool = False  # a later one has begun


class StationReader:
    """Reads one station's records; keeps the last moments, whose records may come in pieces and with others between."""

    def __init__(
        self,
        station: Station,
        instruments: Mapping[str, Instrument],
        vocabulary: Vocabulary,
        wanted: frozenset[str] | None = None,
    ) -> None:
        """`wanted`: names of the parameters somebody asks for; what leads to none of them is passed over."""
        self.unreadable = 0
        self._station = station
        self._vocabulary = vocabulary
        self._plan, self._needed = _what_leads_to(wanted, plan(station, instruments), vocabulary)
        self._limits = {
            Channel(sensor.number, name): limits for sensor in station.sensors for name, limits in sensor.limits.items()
        }
        self._moments: OrderedDict[int, _Moment] = OrderedDict()

    def read(self, piece: Slice) -> Iterator[Seen]:
        """Yield what the records say, in their order. Events, unset clocks and unknown parameters say nothing here."""
        for offset in range(0, len(piece.records), record.SIZE):
            try:
                one = record.decode(piece.records, offset)
            except record.RecordError:
                self.unreadable += 1  # the cloud sets it aside with its bytes
                continue
            yield from self._take(one)

    def _take(self, one: Record) -> Iterator[Seen]:
        parameter = self._vocabulary.by_code.get(one.parameter)
        if parameter is None or parameter.name not in self._needed:
            return
        if one.parameter <= LAST_EVENT or one.parameter >= FIRST_DERIVED_CODE:
            return
        if one.time < CLOCK_UNSET_BELOW:
            return
        moment = self._moments.get(one.time)
        if moment is None:
            for earlier in [m for m in self._moments.values() if m.time < one.time and not m.over]:
                earlier.over = True
                yield from self._derive(earlier, one.seq, complete=True)
            moment = self._moments[one.time] = _Moment(one.time)
            if len(self._moments) > MOMENTS_KEPT:
                self._moments.popitem(last=False)
        channel = Channel(one.sensor, parameter.name)
        value = None if one.count == MISSING else parameter.value(one.count)
        moment.values[channel] = self._judged(channel, parameter, value, one.flag)
        yield self._seen(moment, channel, one.seq)
        yield from self._derive(moment, one.seq, complete=False)

    def _derive(self, moment: _Moment, seq: int, *, complete: bool) -> Iterator[Seen]:
        """Yield what follows. While a moment may still grow, only what has all its inputs."""
        values = moment.values
        for place, step in enumerate(self._plan):
            if place in moment.derived:
                continue
            present = {name: values[channel] for name, channel in step.inputs.items() if channel in values}
            enough = len(present) == len(step.inputs) or (complete and _required(step) <= present.keys())
            if not enough:
                continue
            moment.derived.add(place)
            flag = _worst(value.flag for name, value in present.items() if _counts(step, name, value))
            computed = step.compute({name: math.nan if v.value is None else v.value for name, v in present.items()})
            for name, result in computed.items():
                channel = Channel(step.sensor, name)
                parameter = self._vocabulary.by_name[name]
                values[channel] = self._judged(channel, parameter, None if math.isnan(result) else result, flag)
                yield self._seen(moment, channel, seq)

    def _judged(self, channel: Channel, parameter: Parameter, value: float | None, flag: int) -> Value:
        if value is None:
            return Value(None, NO_VALUE)
        assert parameter.valid_min is not None
        assert parameter.valid_max is not None
        if not parameter.valid_min <= value <= parameter.valid_max:
            return Value(value, _worst((flag, FAIL)))
        low, high = self._limits.get(channel, (-math.inf, math.inf))
        return Value(value, flag if low <= value <= high else _worst((flag, SUSPECT)))

    def _seen(self, moment: _Moment, channel: Channel, seq: int) -> Seen:
        value = moment.values[channel]
        return Seen(
            Observation(self._station.id, channel.parameter, moment.time, value.value, value.flag, channel.sensor),
            seq,
        )


def readers(
    network: Network,
    stations: frozenset[str],
    instruments: Mapping[str, Instrument],
    vocabulary: Vocabulary,
    wanted: frozenset[str] | None = None,
) -> dict[str, StationReader]:
    """Return a reader for each of the gateway's stations that the network knows."""
    return {
        station.id: StationReader(station, instruments, vocabulary, wanted)
        for station in network.stations
        if station.id in stations
    }


def _what_leads_to(
    wanted: frozenset[str] | None, steps: tuple[Derivation, ...], vocabulary: Vocabulary
) -> tuple[tuple[Derivation, ...], frozenset[str]]:
    """Return the steps needed for the wanted parameters, in order, and the names of all parameters needed for them."""
    needed = set(vocabulary.by_name if wanted is None else wanted)
    kept: list[Derivation] = []
    for step in reversed(steps):
        if needed.intersection(step.outputs):
            kept.append(step)
            needed.update(channel.parameter for channel in step.inputs.values())
    return tuple(reversed(kept)), frozenset(needed)


def _required(step: Derivation) -> frozenset[str]:
    return frozenset(step.inputs) if "salinity" in step.outputs else REQUIRED_FOR_DEPTH


def _counts(step: Derivation, name: str, value: Value) -> bool:
    """An input that only refines and has no value was not used, so it says nothing about the result."""
    return name in _required(step) or value.flag != NO_VALUE


def _worst(flags: Iterator[int] | tuple[int, ...]) -> int:
    found = set(flags)
    return next((flag for flag in _WORST_FIRST if flag in found), NOT_EVALUATED)
