"""What only the days after tell: a probe that hung at another depth, a sensor that had drifted until somebody came.

Same shapes as in qartod.py. A visit is a pause in the series of a few intervals up to a few hours.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cloud_ingest.qartod import Flags, Mask, Times, Values
from cloud_ingest.windows import trailing
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT

TIDAL_DAY_S = 25 * 3600
MONTH_S = 28 * 86400
WEEK_S = 7 * 86400
BASELINE_STEP_S = 3600
VISIT_AT_MOST_S = 3 * 3600
BESIDE_VISIT_S = 3600
DEPLOYMENT_AT_MOST_S = 60 * 86400
LEAST_BESIDE_VISIT = 3
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
        # The trailing mean of a day lags half a day behind what it describes.
        early = np.minimum(np.searchsorted(at, times + TIDAL_DAY_S // 2), len(at) - 1)
        flags[off[nearest] | off[early]] = SUSPECT
    flags[np.isnan(values)] = NO_VALUE
    return flags


def visit_step_test(times: Times, values: Values, pair: float | None, drift: float | None) -> Flags:
    """Judge the time between two visits by what changed over them; in between nothing looks wrong.

    Fail it when the value stepped by more than `pair` at its beginning and by about as much back at its end: the
    probe was somewhere else. Suspect it when at its end the value stepped by more than `drift`: the sensor had drifted
    or was overgrown, and was cleaned, calibrated or exchanged. A time not yet ended by a visit is not evaluated. With
    fewer than three values in the hour beside a visit nobody can tell the tide's part of a step: it counts for nothing.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    visits = _visits(times, values)
    for (begin, step_in), (end, step_out) in pairwise(visits):
        if times[end] - times[begin] > DEPLOYMENT_AT_MOST_S:
            continue
        between = slice(begin, end)
        flags[between] = GOOD
        if drift is not None and abs(step_out) > drift:
            flags[between] = SUSPECT
        if pair is not None and _returned(step_in, step_out, pair):
            flags[between] = FAIL
    flags[np.isnan(values)] = NO_VALUE
    return flags


def _returned(step_in: float, step_out: float, least: float) -> bool:
    if math.isnan(step_in + step_out) or min(abs(step_in), abs(step_out)) <= least or step_in * step_out >= 0:
        return False
    return abs(step_in + step_out) <= PAIR_ALIKE * max(abs(step_in), abs(step_out))


def _visits(times: Times, values: Values) -> list[tuple[int, float]]:
    """Return (index of the first observation after the visit, by how much the value stepped over it)."""
    present = np.flatnonzero(~np.isnan(values))
    if len(present) < 2:
        return []
    at, value = times[present], values[present]
    pause = np.diff(at)
    usual = float(np.median(pause))
    breaks = np.flatnonzero((pause > 1.5 * usual) & (pause <= VISIT_AT_MOST_S))
    found = []
    for index in breaks:
        middle = (int(at[index]) + int(at[index + 1])) / 2
        before = (at > at[index] - BESIDE_VISIT_S) & (at <= at[index])
        after = (at >= at[index + 1]) & (at < at[index + 1] + BESIDE_VISIT_S)
        step = _line(at[after] - middle, value[after]) - _line(at[before] - middle, value[before])
        found.append((int(present[index + 1]), step))
    return found


def _line(distance: npt.NDArray[np.float64], value: Values) -> float:
    """Return where the straight line through some values is at distance 0: the tide goes on while nobody measures."""
    if len(value) < LEAST_BESIDE_VISIT:
        return float("nan")
    return float(np.polynomial.Polynomial.fit(distance, value, 1)(0.0))


def _hourly(times: Times, values: Values) -> tuple[Times, Values]:
    """Return the first value of each hour: a month's median of a day's mean needs no finer one."""
    _, first = np.unique(times // BASELINE_STEP_S, return_index=True)
    return times[first], values[first]


def _long_excursions(at: Times, mean: Values, suspect: float, lasting_s: float) -> tuple[Mask, Mask]:
    """Return which hours have a past to be judged by, and which belong to a long excursion from it."""
    judged: npt.NDArray[np.bool_] = np.zeros(len(at), np.bool_)
    off: npt.NDArray[np.bool_] = np.zeros(len(at), np.bool_)
    since: int | None = None
    for index in range(len(at)):
        month = slice(int(np.searchsorted(at, at[index] - MONTH_S)), index)
        past = mean[month][~off[month] & ~np.isnan(mean[month])]
        if len(past) < WEEK_S // BASELINE_STEP_S or np.isnan(mean[index]):
            continue
        judged[index] = True
        if abs(mean[index] - float(np.median(past))) <= suspect:
            since = None
            continue
        since = index if since is None else since
        if at[index] - at[since] >= lasting_s:
            off[since : index + 1] = True
    return judged, off
