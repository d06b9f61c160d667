"""VN_WQI, partial: sub-indices 0..100 of what our stations measure, from dated break points.

    index = index_in_force(load_indices(), date(2026, 11, 22))
    index.sub_index("ph", 7.4)                      100.0
    index.partial({"ph": 7.4, "oxygen_saturation": 60.0})

A partial index is no VN_WQI: whoever shows it says so. See water_quality_index.toml for why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from station_config.parameters import load_parameters
from station_config.toml_config import Fault, Several, StrictModel, Table, load, rows

Point = Annotated[tuple[float, float], Field(strict=False)]
GroupId = Literal["I", "II", "III", "IV", "V"]
Score = Annotated[float, Field(ge=0, le=100, strict=False)]


class SubIndex(StrictModel):
    """Break points (value, score) of one parameter; `below` and `above` count outside of them."""

    parameter: str
    group: GroupId
    below: Score
    above: Score
    points: Several[Point] = Field(min_length=2)

    @model_validator(mode="after")
    def _ascending(self) -> SubIndex:
        values = [value for value, _ in self.points]
        if values != sorted(set(values)):
            raise ValueError("the values of the break points go up")
        return self

    def score(self, value: float) -> float:
        """Return 0..100; NaN of NaN."""
        if math.isnan(value):
            return math.nan
        if value < self.points[0][0]:
            return self.below
        for (low, at_low), (high, at_high) in zip(self.points, self.points[1:], strict=False):
            if value <= high:
                return at_low + (value - low) * (at_high - at_low) / (high - low)
        return self.above


class QualityClass(StrictModel):
    """A class of the index: from this score on."""

    score: Score = Field(alias="from")
    vi: str
    en: str
    colour: str = Field(pattern=r"^#[0-9a-f]{6}$")


class Partial(NamedTuple):
    """What can be said of the groups measured; never called VN_WQI."""

    score: int
    sub_indices: Mapping[str, float]
    groups: tuple[str, ...]


class Group(StrictModel):
    """What the decision wants measured for one group."""

    id: GroupId
    members: Several[str] = Field(min_length=1)


class Index(StrictModel):
    """The index as one decision defines it, on the days from..to."""

    id: str
    source: str
    effective_from: date
    effective_to: date | None = None
    confirmed: bool
    least_groups: int = Field(ge=1, le=5)
    least_of_group_four: int = Field(ge=1)
    groups: Several[Group]
    classes: Several[QualityClass]
    sub_indices: Several[SubIndex] = Field(alias="sub_index")

    def sub_index(self, parameter: str, value: float) -> float | None:
        """Return the parameter's score; None when the index has none for it."""
        for one in self.sub_indices:
            if one.parameter == parameter:
                return one.score(value)
        return None

    def partial(self, values: Mapping[str, float]) -> Partial | None:
        """Return the partial index of what is there: group I times the mean of group IV; None without group IV."""
        scores = {name: self.sub_index(name, value) for name, value in values.items()}
        known = {name: score for name, score in scores.items() if score is not None and not math.isnan(score)}
        groups = {one.parameter: one.group for one in self.sub_indices}
        fourth = [score for name, score in known.items() if groups[name] == "IV"]
        if not fourth:
            return None
        first = [score for name, score in known.items() if groups[name] == "I"]
        share = first[0] / 100 if first else 1.0
        score = round(share * sum(fourth) / len(fourth))
        return Partial(score, known, tuple(sorted({groups[name] for name in known})))

    def missing(self, measured: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return by group what the decision names and nobody measured; a group without any gap is not there."""
        there = set(measured)
        absent = {one.id: tuple(name for name in one.members if name not in there) for one in self.groups}
        return {group: names for group, names in absent.items() if names}

    def is_partial(self, measured: Iterable[str]) -> bool:
        """Return whether what was measured is less than a VN_WQI may be made of."""
        there = set(measured)
        having = [one for one in self.groups if there.intersection(one.members)]
        fourth = sum(len(there.intersection(one.members)) for one in having if one.id == "IV")
        return len(having) < self.least_groups or fourth < self.least_of_group_four

    def quality_class(self, score: float) -> QualityClass:
        """Return the class of a score."""
        return max((one for one in self.classes if one.score <= score), key=lambda one: one.score)


class _Indices(StrictModel):
    index: Several[Index]


def oxygen_saturation_of_the_decision(oxygen_mg_l: Any, temperature_c: Any) -> Any:
    """Return the decision's own per cent of saturation: fresh water at sea level, whatever the real salinity."""
    t = temperature_c
    return 100.0 * oxygen_mg_l / (14.652 + t * (-0.41022 + t * (0.0079910 - t * 0.000077774)))


@cache
def load_indices() -> tuple[Index, ...]:
    """Return the indices of water_quality_index.toml. Raises ConfigurationError."""
    return load(Path(__file__).with_name("water_quality_index.toml"), _Indices, check=_unknown).index


def index_in_force(indices: Iterable[Index], day: date) -> Index | None:
    """Return the index that counts on a day, the newest one if there are two."""
    found = [
        one for one in indices if one.effective_from <= day and (one.effective_to is None or day <= one.effective_to)
    ]
    return max(found, key=lambda one: one.effective_from, default=None)


def _unknown(data: Table) -> Iterable[Fault]:
    names = load_parameters().by_name
    for at, index in rows(data, "index"):
        for path, row in rows(index, "sub_index", at):
            if row.get("parameter") not in names:
                yield Fault((*path, "parameter"), "no parameter of this name in parameters.toml")
