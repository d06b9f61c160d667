"""What is usual in each month at a station, learnt from its own years: a proposal, never in force by itself.

Only `suspect` is proposed: that something has not happened yet does not make it impossible. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from cloud_ingest.queries import Aggregate

LEAST_HOURS = 240  # of a month, over all its years
LEAST_YEARS = 2
RARE_PERCENT = 0.1
MARGIN = 0.1  # of what lies between the two, added on both sides


class Hour(NamedTuple):
    """What an hour showed at least and at most, and in which local month and year."""

    year: int
    month: int
    lowest: float
    highest: float


class Month(NamedTuple):
    """What a month came to; `suspect` is None where there is too little of it to say."""

    month: int
    hours: int
    years: tuple[int, ...]
    suspect: tuple[float, float] | None


def hours_of(sums: Iterable[Aggregate], zone: ZoneInfo) -> Iterator[Hour]:
    """Yield the hours that have a value that counts."""
    for one in sums:
        if one.minimum is not None and one.maximum is not None:
            local = datetime.fromtimestamp(one.start, zone)
            yield Hour(local.year, local.month, one.minimum, one.maximum)


def learnt(hours: Sequence[Hour], decimals: int) -> list[Month]:
    """Return the twelve months: all but the rarest thousandth of hours on either side, and a tenth more."""
    return [_learnt(month, [one for one in hours if one.month == month], decimals) for month in range(1, 13)]


def _learnt(month: int, hours: Sequence[Hour], decimals: int) -> Month:
    years = tuple(sorted({one.year for one in hours}))
    if len(hours) < LEAST_HOURS or len(years) < LEAST_YEARS:
        return Month(month, len(hours), years, None)
    low = float(np.percentile([one.lowest for one in hours], RARE_PERCENT))
    high = float(np.percentile([one.highest for one in hours], 100 - RARE_PERCENT))
    margin = MARGIN * (high - low)
    return Month(month, len(hours), years, (round(low - margin, decimals), round(high + margin, decimals)))


def as_toml(parameter: str, months: Sequence[Month]) -> str:
    """Return the months as a station's own tests in network.toml, each with what it rests on."""
    lines = [f"[stations.quality.{parameter}]", "climatology = ["]
    for one in months:
        years = ", ".join(map(str, one.years)) or "no year"
        ground = f"{one.hours} hours of {years}"
        if one.suspect is None:
            lines.append(f"    # month {one.month}: {ground}; wants {LEAST_HOURS} hours of {LEAST_YEARS} years")
        else:
            low, high = one.suspect
            lines.append(f"    {{ months = [{one.month}], suspect = [{low:g}, {high:g}] }},  # {ground}")
    return "\n".join([*lines, "]"])
