"""A timeline as a whole, checked: what will be injected, what is expected, and when it ends."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from simulators.errors import SimulatorError
from simulators.faults.parts import Parts
from simulators.faults.plan import FaultPlan, Injection
from simulators.timeline.verdict import Expectation, ExpectMissing, ExpectRecords, ExpectValue

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_MOMENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)\s*")


class TimelineRefused(SimulatorError):
    """The timeline cannot be run; the text names every fault of it, each with what was written."""


@dataclass(frozen=True)
class Script:
    """A checked timeline: injections in field seconds, expectations, the end."""

    end_s: float
    injections: tuple[Injection, ...]
    expectations: tuple[Expectation, ...]
    written: tuple[tuple[float, str], ...]

    @property
    def plan(self) -> FaultPlan:
        """The faults as a plan."""
        return FaultPlan(0, self.end_s, self.injections)

    @property
    def values(self) -> list[tuple[str, str]]:
        """(station, parameter) of all values that are looked at."""
        looked_at = [one for one in self.expectations if isinstance(one, ExpectValue | ExpectMissing)]
        return sorted({(one.station, one.parameter) for one in looked_at})

    def __str__(self) -> str:
        lines = [f"{at_s:7.0f} s  {said}" for at_s, said in sorted(self.written)]
        return "\n".join([f"{len(self.written)} steps in {self.end_s:g} field seconds", *lines])


@dataclass(frozen=True)
class Place:
    """What a timeline can name: stations with their sensors' numbers, parameters, parts with faults."""

    stations: Mapping[str, Sequence[int]]
    parameters: Sequence[str]
    parts: Parts
    truths: Sequence[str] = ()
    """Parameters of which it is known what the instruments stand in."""

    def station(self, name: str | None) -> str:
        """Return the station meant; the only one when none is named. Raises LookupError with what to do."""
        if name is None and len(self.stations) == 1:
            return next(iter(self.stations))
        if name is None:
            raise LookupError(f"which station? {', '.join(self.stations)}")
        if name not in self.stations:
            raise LookupError(f"no station {name!r}; there are {', '.join(self.stations)}")
        return name

    def target(self, scope: str, station: str | None, sensor: int | None) -> str:
        """Return the name of the part meant. Raises LookupError with what to do."""
        if scope in ("bus", "board"):
            return self.station(station)
        if scope == "instrument":
            return f"{self.station(station)}/{self._sensor(self.station(station), sensor)}"
        names = self.parts.targets.get(scope, [])
        if len(names) != 1:
            raise LookupError(f"this bench has {', '.join(names) or 'no ' + scope}; name one with target=")
        return names[0]

    def _sensor(self, station: str, sensor: int | None) -> int:
        numbers = self.stations[station]
        if sensor is None and len(numbers) == 1:
            return numbers[0]
        if sensor is None or sensor not in numbers:
            raise LookupError(f"which sensor? {station} has {', '.join(map(str, numbers))}; say sensor=")
        return sensor


def field_seconds(moment: float | str) -> float:
    """Return field seconds of a number, or of "90 s", "35 min", "1.5 h". Raises ValueError."""
    if isinstance(moment, str):
        match = _MOMENT.fullmatch(moment)
        if match is None:
            raise ValueError(f'{moment!r} is no moment: a number of field seconds, or "90 s", "35 min", "1.5 h"')
        return float(match[1]) * _UNITS[match[2]]
    if isinstance(moment, bool) or not math.isfinite(moment) or moment < 0:
        raise ValueError(f"{moment!r} is no moment: field seconds from 0")
    return float(moment)


def problems(script: Script, said: Mapping[Injection, str], place: Place) -> Iterator[str]:
    """Yield in words everything that is wrong with a script as a whole."""
    hardware = hardware_reasons(script, place.parts)
    for injection in script.injections:
        why = place.parts.why_not(injection)
        if why and why not in hardware:
            yield f"{said[injection]}: {why}"
        if injection.at_s >= script.end_s:
            yield f"{said[injection]}: begins at or after the end, {script.end_s:g} s"
    for one, other in combinations(script.injections, 2):
        if one.overlaps(other) and one.until_s != other.at_s and other.until_s != one.at_s:
            yield f"{said[one]} and {said[other]}: overlap at {one.target}"
    yield from _wrong_expectations(script, place)


def _wrong_expectations(script: Script, place: Place) -> Iterator[str]:
    for one in script.expectations:
        if one.last_s > script.end_s:
            yield f"{one.said}: after the end, {script.end_s:g} s"
        if isinstance(one, ExpectValue | ExpectMissing) and one.parameter not in place.parameters:
            yield f"{one.said}: no parameter {one.parameter!r}"
        elif isinstance(one, ExpectValue) and one.near is None and one.parameter not in place.truths:
            known = ", ".join(place.truths) or "nothing"
            yield f"{one.said}: the truth is known of {known} here; say near=number"
        if isinstance(one, ExpectRecords):
            last = max((injection.until_s for injection in script.injections), default=0.0)
            if one.last_s < last:
                yield f"{one.said}: the account is taken at the end, and faults last until {last:g} s"


def hardware_reasons(script: Script, parts: Parts) -> list[str]:
    """Return why faults of the script cannot be had on this hardware."""
    sound = [injection for injection in script.injections if not list(injection.faults())]
    return [why for injection in sound if (why := parts.not_on_hardware(injection))]
