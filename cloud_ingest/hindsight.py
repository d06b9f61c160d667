"""What only the days after tell: a probe that hung at another depth, a sensor that has stood still since yesterday.

Same shapes as in qartod.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cloud_ingest.qartod import Flags, Mask, Times, Values
from cloud_ingest.visits import TIDAL_DAY_S, Believed, Visit
from cloud_ingest.windows import trailing
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT

MONTH_S = 28 * 86400
WEEK_S = 7 * 86400
BASELINE_STEP_S = 3600
BESIDE_VISIT_S = 3600
DEPLOYMENT_AT_MOST_S = 60 * 86400
ROUNDING = 1e-9  # what floating point makes of equal values
PAIR_ALIKE = 0.35  # of the larger one


def level_shift_test(times: Times, values: Values, suspect: float, lasting_s: float) -> Flags:
    """Suspect every value while the mean of a tidal day is further than `suspect` from the median of the month before.

    It has to stay so for `lasting_s`: a storm surge passes sooner. The whole time counts then, and is kept out of the
    month that later values are held against. Needs a week of past.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    if len(times):
        windows = trailing(times, values, TIDAL_DAY_S)
        at, mean = _hourly(times, np.where(windows.full, windows.mean(), np.nan))
        judged, off = _long_excursions(at, mean, suspect, lasting_s)
        nearest = np.minimum(np.searchsorted(at, times), len(at) - 1)
        flags[judged[nearest]] = GOOD
        # The trailing mean of a day is that of the time half a day before it.
        middle = np.minimum(np.searchsorted(at, times + TIDAL_DAY_S // 2), len(at) - 1)
        flags[off[middle]] = SUSPECT
    flags[np.isnan(values)] = NO_VALUE
    return flags


def visit_step_test(times: Times, values: Values, visits: Sequence[Visit], pair: float) -> Flags:
    """Fail the time between two visits when the value stepped by more than `pair` at its beginning and about as much
    back at its end: the probe was somewhere else; in between nothing looks wrong.

    A time not yet ended by a visit is not evaluated. With fewer than three values in the hour beside a visit nobody can
    tell the tide's part of a step: it counts for nothing.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    believed = Believed(times, values)
    steps = [(visit, believed.step(visit, BESIDE_VISIT_S).step) for visit in visits]
    for (begin, step_in), (end, step_out) in pairwise(steps):
        if end.after - begin.after > DEPLOYMENT_AT_MOST_S:
            continue
        between = slice(int(np.searchsorted(times, begin.after)), int(np.searchsorted(times, end.after)))
        flags[between] = FAIL if _returned(step_in, step_out, pair) else GOOD
    flags[np.isnan(values)] = NO_VALUE
    return flags


def stillness_test(times: Times, values: Values, period_s: float, steps: float) -> Flags:
    """Suspect a value when the signal stood still for `period_s` and usually moves by `steps` of its resolution in it.

    The attenuated signal test with what the series itself shows: its resolution is the smallest step it makes, its
    usual movement the median range over the month before (a week at least). An electrode read to a tenth rests for
    days; one read to a hundredth does not.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    steps_made = np.abs(np.diff(values[~np.isnan(values)]))
    steps_made = steps_made[steps_made > ROUNDING]
    if len(steps_made):
        resolution = float(np.percentile(steps_made, 1))
        windows = trailing(times, values, period_s)
        life = np.where(windows.full, windows.range(), np.nan)
        at, hourly = _hourly(times, life)
        usual = _usual(at, hourly)[np.minimum(np.searchsorted(at, times), len(at) - 1)]
        flags[windows.full & (usual >= steps * resolution)] = GOOD
        flags[(flags == GOOD) & (life < resolution / 2)] = SUSPECT
    flags[np.isnan(values)] = NO_VALUE
    return flags


def with_beginning(times: Times, flags: Flags, flag: int, duration_s: float) -> Flags:
    """Return the flags with the time that led to each `flag` flagged as well, but for what is worse already."""
    flagged = np.flatnonzero(flags == flag)
    marks = np.zeros(len(flags) + 1, np.int64)
    np.add.at(marks, np.searchsorted(times, times[flagged] - duration_s), 1)
    np.add.at(marks, flagged + 1, -1)
    led = np.cumsum(marks[:-1]) > 0
    return np.where(led & (flags != FAIL) & (flags != NO_VALUE), flag, flags).astype(np.uint8)


def _returned(step_in: float, step_out: float, least: float) -> bool:
    if math.isnan(step_in + step_out) or min(abs(step_in), abs(step_out)) <= least or step_in * step_out >= 0:
        return False
    return abs(step_in + step_out) <= PAIR_ALIKE * max(abs(step_in), abs(step_out))


def _usual(at: Times, life: Values) -> Values:
    """Return the median of the month before each hour; NaN with less than a week of it."""
    usual = np.full(len(at), np.nan)
    for index, begin in enumerate(np.searchsorted(at, at - MONTH_S).tolist()):
        past = life[begin:index]
        past = past[~np.isnan(past)]
        if len(past) >= WEEK_S // BASELINE_STEP_S:
            usual[index] = np.median(past)
    return usual


def _hourly(times: Times, values: Values) -> tuple[Times, Values]:
    """Return the first value of each hour: a month's median of a day's mean needs no finer one."""
    _, first = np.unique(times // BASELINE_STEP_S, return_index=True)
    return times[first], values[first]


def _long_excursions(at: Times, mean: Values, suspect: float, lasting_s: float) -> tuple[Mask, Mask]:
    """Return which hours have a past to be judged by, and which belong to a long excursion from it."""
    distance = np.full(len(at), np.nan)
    off: npt.NDArray[np.bool_] = np.zeros(len(at), np.bool_)
    since: int | None = None
    for index in range(len(at)):
        month = slice(int(np.searchsorted(at, at[index] - MONTH_S)), index)
        past = mean[month][~off[month] & ~np.isnan(mean[month])]
        if len(past) < WEEK_S // BASELINE_STEP_S or np.isnan(mean[index]):
            continue
        distance[index] = mean[index] - float(np.median(past))
        if abs(distance[index]) <= suspect:
            since = None
            continue
        since = index if since is None else since
        if at[index] - at[since] >= lasting_s:
            off[since : index + 1] = True
    return ~np.isnan(distance), _to_half_way(distance, off)


def _to_half_way(distance: Values, off: Mask) -> Mask:
    """Return excursions from where a mean over a day is half way out to where it is half way back: so a step, which it
    smears over a day, begins and ends when it does."""
    half_way = off.copy()
    edges = np.flatnonzero(np.diff(np.concatenate(([0], off.astype(np.int8), [0]))))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        height = float(np.nanmedian(distance[begin:end]))
        out = distance / height > 0.5
        while begin > 0 and out[begin - 1]:
            begin -= 1
        while end < len(out) and out[end]:
            end += 1
        half_way[begin:end] = True
        half_way[begin:end] &= out[begin:end] | np.isnan(distance[begin:end])
    return half_way
