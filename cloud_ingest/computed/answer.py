"""What a computed quantity is asked and answered with, and how its inputs are read.

Inputs are sums over local time, so an answer never depends on how far the rollups have come. Nothing is filled in: what
an input lacks is said, of the station (`QuestionRefused`) or of the span (`reason`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cloud_ingest.columns import SeriesKey
from cloud_ingest.errors import QuestionRefused
from cloud_ingest.local_time import By, widened
from cloud_ingest.queries import Aggregate, Sums
from cloud_ingest.registry import Registry
from station_config.network import Station

LEAST_PERCENT = 75.0  # of the rows that a span should have, for an input to count


class Input(NamedTuple):
    """A series that a computed quantity is made of, and how it goes into it."""

    sensor: int
    parameter: str
    unit: str | None
    use: str


class Class(NamedTuple):
    """The class that a value belongs to."""

    vi: str
    en: str
    colour: str


@dataclass(frozen=True)
class Value:
    """The quantity over start < time <= end; `reason` says why there is no value."""

    start: int
    end: int
    value: float | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    inputs: Mapping[str, float] = field(default_factory=dict)
    quality_class: Class | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Computed:
    """An answer. `partial`: it is not the whole of what its source defines, for want of `missing` (by group)."""

    station: str
    quantity: str
    unit: str
    by: By
    timezone: str
    method: str
    source: str
    demands: str
    inputs: tuple[Input, ...]
    values: list[Value]
    partial: bool = False
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    resolution: float | None = None


@dataclass(frozen=True)
class Question:
    """Who asks what of which moment of the store; `span` is widened to whole spans of `by`."""

    sums: Sums
    registry: Registry
    numbers: Mapping[SeriesKey, int]
    station: Station
    by: By
    span: tuple[int, int]
    suspect: bool = False

    @property
    def whole(self) -> tuple[int, int]:
        """Return the span in whole hours, days, months."""
        return widened(*self.span, self.by, self.registry.zone)

    def key(self, parameter: str, sensor: int | None = None) -> SeriesKey | None:
        """Return the series of a parameter: this sensor's where it has one, else that of the lowest."""
        code = self.registry.vocabulary.by_name[parameter].code
        having = sorted(one for one in self.numbers if one.station == self.station.id and one.parameter == code)
        own = [one for one in having if one.sensor == sensor]
        return next(iter(own or having), None)

    def sums_of(self, key: SeriesKey, by: By, span: tuple[int, int]) -> dict[int, Aggregate]:
        """Return what a series came to, by start of the span."""
        return {one.start: one for one in self.sums.of(key, by, span, suspect=self.suspect)}

    def input(self, key: SeriesKey, use: str) -> Input:
        """Return how a series is named in the answer."""
        parameter = self.registry.vocabulary.by_code[key.parameter]
        return Input(key.sensor, parameter.name, parameter.unit, use)


def lack(name: str, one: Aggregate | None, now_s: int) -> str | None:
    """Return why an input does not serve for a span, in words; None when it does."""
    if one is None:
        return f"{name}: no value"
    if one.end > now_s:
        return "not over yet"
    if one.expected and 100 * one.n_usable < LEAST_PERCENT * one.expected:
        return f"{name}: {one.n_usable} of {one.expected} values are usable"
    return None


def refuse(quantity: str, station: str, needs: list[str]) -> None:
    """Refuse when a station lacks what the quantity needs. Raises QuestionRefused."""
    if needs:
        raise QuestionRefused(f"{quantity} of {station} cannot be computed, it needs {'; '.join(needs)}")


def allow(question: Question, quantity: str, *spans: By) -> None:
    """Refuse spans that the quantity is not defined for. Raises QuestionRefused."""
    if question.by not in spans:
        raise QuestionRefused(f"{quantity} is computed by {' or '.join(spans)}, not by {question.by}")


Compute = Callable[[Question], Computed]
