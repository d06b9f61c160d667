"""What observations come to over an hour, a day, a month: pure, over columns of one series.

    rows ─ of_rows ─▶ buckets of a minute or an hour ─ combined ─▶ days ─ combined ─▶ months ─ summarised ─▶ answers

Rows make hours, and only hours make what is longer, always in the same order: so stored hours and hours made from the
log again come to the same numbers, to the last bit.

Which flags count: 1 and 2 are usable, 3 when asked for, 4 and 9 never. `n` counts every row, of whatever flag.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Floats, Ints, Shown
from firmware.record import GOOD, NOT_EVALUATED, SUSPECT
from station_config.meteorology import CALM_M_S

BUCKET = np.dtype(
    [
        *((name, "<i8") for name in ("start", "n", "n_usable", "n_good")),
        *((name, "<f8") for name in ("total", "lowest", "highest", "first", "last", "rise")),
        *(("n_vector", "<i8"), ("east", "<f8"), ("north", "<f8")),
    ]
)
Buckets = npt.NDArray[np.void]  # of BUCKET, in order of start; a bucket without rows is not there
USABLE = (GOOD, NOT_EVALUATED)
USABLE_AND_SUSPECT = (*USABLE, SUSPECT)
DIGITS = 6  # of an answer; a float of ours has more than any instrument


class Wind(NamedTuple):
    """East and north part of the wind at each time of a direction series; NaN where speed or direction is unusable."""

    east: Floats
    north: Floats


def usable(rows: Shown, flags: tuple[int, ...] = USABLE) -> npt.NDArray[np.bool_]:
    """Return which rows count."""
    return np.isin(rows.flag, flags) & ~np.isnan(rows.value)


def wind_of(direction: Shown, speed: Shown, flags: tuple[int, ...] = USABLE) -> Wind:
    """Return the wind of one sensor: where it goes to, from where it comes from (degrees) and its speed."""
    speeds = np.full(len(direction.time), np.nan)
    good = usable(speed, flags)
    time, value = speed.time[good], speed.value[good]
    if len(time):
        at = np.minimum(np.searchsorted(time, direction.time), len(time) - 1)
        there = (time[at] == direction.time) & usable(direction, flags)
        speeds[there] = value[at[there]]
    angle = np.radians(direction.value)
    return Wind(-speeds * np.sin(angle), -speeds * np.cos(angle))


def of_rows(
    rows: Shown, starts: Ints, *, counter: bool, wind: Wind | None = None, flags: tuple[int, ...] = USABLE
) -> Buckets:
    """Return the buckets of rows; `starts` is where each row's bucket begins. `counter`: the values are a running
    total, and `rise` what it rose within the bucket."""
    if not len(rows.time):
        return np.zeros(0, BUCKET)
    good = usable(rows, flags)
    group = _Groups(starts)
    made = np.zeros(len(group.edges), BUCKET)
    made["start"] = starts[group.edges]
    made["n"], made["n_usable"], made["n_good"] = (group.count(one) for one in (good | True, good, rows.flag == GOOD))
    made["total"] = group.sum(np.where(good, rows.value, 0.0))
    _extremes(made, group, rows.value, rows.value, rows.value, rows.value, good)
    if counter:
        made["rise"] = group.sum(_rise_within(group, good, rows.value, rows.value))
    if wind is not None:
        blows = ~np.isnan(wind.east)
        made["n_vector"] = group.count(blows)
        made["east"], made["north"] = (group.sum(np.where(blows, part, 0.0)) for part in wind)
    return made


def combined(buckets: Buckets, starts: Ints) -> Buckets:
    """Return longer buckets; `starts` is where the one that each bucket is part of begins."""
    if not len(buckets):
        return buckets
    good = buckets["n_usable"] > 0
    group = _Groups(starts)
    made = np.zeros(len(group.edges), BUCKET)
    made["start"] = starts[group.edges]
    for name in ("n", "n_usable", "n_good", "n_vector"):
        made[name] = np.add.reduceat(buckets[name], group.edges)
    for name in ("total", "east", "north"):
        made[name] = group.sum(buckets[name])
    _extremes(made, group, buckets["lowest"], buckets["highest"], buckets["first"], buckets["last"], good)
    made["rise"] = group.sum(buckets["rise"] + _rise_within(group, good, buckets["first"], buckets["last"]))
    return made


def rain(buckets: Buckets, last_before: float) -> Floats:
    """Return what fell in each bucket: increments belong to where they end. `last_before` is the total before the first
    bucket (NaN: none). NaN where nothing can be known: no usable total, or the very first alone."""
    fell: Floats = np.full(len(buckets), np.nan)
    good = np.flatnonzero(buckets["n_usable"] > 0)
    if len(good):
        before = np.concatenate(([last_before], buckets["last"][good][:-1]))
        fell[good] = buckets["rise"][good] + _steps(before, buckets["first"][good])
        if math.isnan(last_before):
            at = good[0]
            fell[at] = buckets["rise"][at] if buckets["n_usable"][at] > 1 else np.nan
    return fell


def vector_mean(east: float, north: float, number: int) -> tuple[float | None, float | None]:
    """Return (length of the mean vector, direction it comes from) of sums of parts; no direction where they cancel."""
    if not number:
        return None, None
    length = math.hypot(east, north) / number
    if length <= CALM_M_S:
        return 0.0, None
    return length, math.degrees(math.atan2(-east, -north)) % 360.0 % 360.0


class _Groups:
    """Equal neighbours of a column: where each run begins, and to which run each row belongs."""

    def __init__(self, keys: Ints) -> None:
        changes = np.flatnonzero(np.diff(keys)) + 1
        self.edges: Ints = np.concatenate(([0], changes)).astype(np.int64)
        self.of: Ints = np.repeat(np.arange(len(self.edges)), np.diff(self.edges, append=len(keys)))

    def sum(self, values: Floats) -> Floats:
        """Return the sum of each run, from its first row to its last: in that order, so that it is always the same."""
        return np.bincount(self.of, weights=values, minlength=len(self.edges)).astype(np.float64)

    def count(self, rows: npt.NDArray[np.bool_]) -> Ints:
        """Return how many of these rows each run has."""
        number: Ints = np.add.reduceat(rows.astype(np.int64), self.edges)
        return number


def _extremes(
    made: Buckets,
    group: _Groups,
    lowest: Floats,
    highest: Floats,
    first: Floats,
    last: Floats,
    good: npt.NDArray[np.bool_],
) -> None:
    made["lowest"] = np.fmin.reduceat(np.where(good, lowest, np.nan), group.edges)
    made["highest"] = np.fmax.reduceat(np.where(good, highest, np.nan), group.edges)
    at = np.arange(len(good))
    begin = np.minimum.reduceat(np.where(good, at, len(good)), group.edges)
    end = np.maximum.reduceat(np.where(good, at, -1), group.edges)
    made["first"] = np.where(end < 0, np.nan, first[np.minimum(begin, len(good) - 1)])
    made["last"] = np.where(end < 0, np.nan, last[end])


def _rise_within(group: _Groups, good: npt.NDArray[np.bool_], first: Floats, last: Floats) -> Floats:
    """Return what a counter rose from the row before to each row; 0 where that is in another run or not known."""
    rise = np.zeros(len(good))
    rows = np.flatnonzero(good)
    if len(rows) > 1:
        same = group.of[rows[1:]] == group.of[rows[:-1]]
        rise[rows[1:]] = np.where(same, _steps(last[rows[:-1]], first[rows[1:]]), 0.0)
    return rise


def _steps(before: Floats, after: Floats) -> Floats:
    """Return what fell between two totals, as meteorology.rain_increments says."""
    steps: Floats = np.where(after < before, after, after - before)
    return steps
