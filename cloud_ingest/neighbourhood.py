"""What the hours around an observation tell of it: spikes several observations wide, and signals that are only noise.

Same shapes as in qartod.py; windows lie around each observation, by time.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cloud_ingest.qartod import Flags, Mask, Times, Values
from cloud_ingest.windows import around
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT

LEAST_ASIDE = 2  # values before and after, or the end of a slope would look like a spike
CELLS_AT_ONCE = 1_000_000
HOUR_S = 3600
NOISE_WITHIN_S = 3 * HOUR_S
NOISE_LEAST = 24  # observations of a window
# Of the median difference to the next value and the median distance from the median: the square root of 2 for white
# noise, 1 where half of a value is left in the next one, a tenth for a tide at quarter-hours.
NOISE_RATIO = 1.0


def wide_spike_test(times: Times, values: Values, within_s: float, suspect: float | None, fail: float | None) -> Flags:
    """Flag a value further than a threshold from the median of the time around it (`within_s` before and after).

    A spike of QARTOD's form is one observation wide; this one finds all that is narrower than `within_s`, and leaves a
    step and a slope alone. Fewer than two values before or after within that time: not evaluated.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    present = np.flatnonzero(~np.isnan(values))
    value = values[present]
    windows = around(times[present], value, within_s)
    row = np.arange(len(value))
    aside = np.minimum(row - windows.first, windows.end - row - 1)
    judged = np.where(aside >= LEAST_ASIDE, GOOD, NOT_EVALUATED).astype(np.uint8)
    # Only where something around it is that far from something else does the median need to be known.
    lowest = min(one for one in (suspect, fail, np.inf) if one is not None)
    rows = np.flatnonzero((judged == GOOD) & (windows.range() > lowest))
    distance = np.abs(value[rows] - _medians(value, windows.first[rows], windows.end[rows]))
    for threshold, flag in ((suspect, SUSPECT), (fail, FAIL)):
        if threshold is not None:
            judged[rows[distance > threshold]] = flag
    flags[present] = judged
    flags[np.isnan(values)] = NO_VALUE
    return flags


def _medians(value: Values, first: Times, end: Times) -> Values:
    """Return the median of value[first[i]:end[i]] for each i, those of one length together."""
    found = np.zeros(len(first))
    for length in np.unique(end - first).tolist():
        same = np.flatnonzero(end - first == length)
        for some in np.array_split(same, 1 + len(same) * length // CELLS_AT_ONCE):
            found[some] = np.median(value[first[some, None] + np.arange(length)], axis=1)
    return found


def noise_test(times: Times, values: Values, suspect: float) -> Flags:
    """Suspect the values of hours in which each says nothing of the next, by differences larger than `suspect`.

    It is von Neumann's ratio with medians in the place of means, so that single spikes do not count: over six hours, or
    over 24 observations where those take longer, around each hour.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    present = np.flatnonzero(~np.isnan(values))
    if len(present) >= NOISE_LEAST:
        at, value = times[present], values[present]
        flags[present] = np.where(_noisy_hours(at, value, suspect), SUSPECT, GOOD)
    flags[np.isnan(values)] = NO_VALUE
    return flags


def _noisy_hours(at: Times, value: Values, suspect: float) -> Mask:
    usual_s = float(np.median(np.diff(at)))
    within_s = max(NOISE_WITHIN_S, NOISE_LEAST * usual_s / 2)
    hours, hour_of = np.unique(at // HOUR_S, return_inverse=True)
    middle = hours * HOUR_S + HOUR_S // 2
    first = np.searchsorted(at, middle - within_s)
    end = np.searchsorted(at, middle + within_s, "right")
    noisy = np.zeros(len(hours), np.bool_)
    step = np.abs(np.diff(value))
    large = np.concatenate(([0], np.cumsum(step > suspect)))
    # The median difference can only be large where half of the differences are.
    enough = (end - first >= NOISE_LEAST) & (2 * (large[end - 1] - large[first]) >= end - 1 - first)
    for index in np.flatnonzero(enough).tolist():
        here = slice(int(first[index]), int(end[index]))
        difference = float(np.median(step[here.start : here.stop - 1]))
        spread = float(np.median(np.abs(value[here] - np.median(value[here]))))
        noisy[index] = difference > suspect and difference > NOISE_RATIO * spread
    _close(noisy, hours, 2 * within_s / HOUR_S)
    return np.asarray(noisy[hour_of], np.bool_)


def _close(noisy: Mask, hours: Times, apart: float) -> None:
    """Count what lies between noisy hours whose windows touch: by chance values follow each other in noise too."""
    found = np.flatnonzero(noisy)
    for one, next_one in pairwise(found.tolist()):
        if hours[next_one] - hours[one] <= apart:
            noisy[one:next_one] = True
