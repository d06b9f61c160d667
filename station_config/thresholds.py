"""Salinity thresholds of crops: dated rows with their source, from thresholds.toml.

These are station thresholds. Official disaster-risk levels are set by the authorities and are none of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from station_config.toml_config import Fault, Several, StrictModel, Table, load, rows

Salinity = Annotated[float, Field(gt=0.0, le=42.0)]


class Threshold(StrictModel):
    """The salinity in g/L from which water harms a crop, by one source, on the days from..to (both included)."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    vi: str = Field(min_length=1)
    en: str = Field(min_length=1)
    level_g_l: Salinity
    clear_g_l: Salinity
    source: str = Field(min_length=1)
    effective_from: date
    effective_to: date | None = None
    confirmed: bool  # the source was read; otherwise it is a default from memory

    @model_validator(mode="after")
    def _ordered(self) -> Threshold:
        if self.clear_g_l >= self.level_g_l:
            raise ValueError("clear_g_l must be below level_g_l, or an alert would come and go with every wave")
        if self.effective_to is not None and self.effective_to < self.effective_from:
            raise ValueError("effective_to is before effective_from")
        return self

    def in_force(self, day: date) -> bool:
        """Return whether the row counts on this day."""
        return self.effective_from <= day and (self.effective_to is None or day <= self.effective_to)


class _Rows(StrictModel):
    threshold: Several[Threshold]


@cache
def load_thresholds() -> tuple[Threshold, ...]:
    """Return all rows of thresholds.toml, past ones too. Raises ConfigurationError."""
    return read_thresholds(Path(__file__).with_name("thresholds.toml"))


def read_thresholds(path: Path) -> tuple[Threshold, ...]:
    """Return all rows of a file. Raises ConfigurationError."""
    return load(path, _Rows, check=_find_overlaps).threshold


def thresholds_in_force(thresholds: Iterable[Threshold], day: date) -> tuple[Threshold, ...]:
    """Return the rows that count on this day: one for each crop, lowest level first."""
    return tuple(sorted((t for t in thresholds if t.in_force(day)), key=lambda t: (t.level_g_l, t.id)))


def _find_overlaps(data: Table) -> Iterator[Fault]:
    last_day: dict[str, date] = {}
    dated = [(path, row) for path, row in rows(data, "threshold") if isinstance(row.get("effective_from"), date)]
    for path, row in sorted(dated, key=lambda item: item[1]["effective_from"]):
        crop, until = str(row.get("id")), row.get("effective_to")
        if crop in last_day and row["effective_from"] <= last_day[crop]:
            yield Fault((*path, "effective_from"), "two rows of this id count on one day; end the earlier one before")
        last_day[crop] = until if isinstance(until, date) else date.max
