"""What a visit tells of the weeks before it: a sensor that had drifted or was overgrown until somebody came.

The practice of USGS Techniques and Methods 1-D3: what a sensor was off when it was serviced is prorated, linearly in
time, back to the service before; what is off by more than the limit for publishing is rejected there, and suspect here.
Nobody tells us fouling and drift from a field meter, so what it was off is taken from the series: it has to show
in the hour beside the visit and in the tidal day beside it, in the same direction, and the smaller of both counts. The
tide alone shows in the first, the weather alone in the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cloud_ingest.qartod import Flags, Times, Values
from cloud_ingest.visits import TIDAL_DAY_S, Believed, Visit
from firmware.record import GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT

DEPLOYMENT_AT_MOST_S = 60 * 86400
BESIDE_S = 3600.0
BESIDE_INTERVALS = 3.5  # the line beside a visit wants three values
FLOOR_PERCENT = 10.0


def visit_drift_test(
    times: Times,
    values: Values,
    visits: Sequence[Visit],
    beyond: float | None,
    beyond_share: float | None,
    above: float = 0.0,
) -> Flags:
    """Suspect what was off by more than `beyond` (or by that share of the right value) by the next visit's measure.

    A time not yet ended by a visit, or whose beginning no visit marks within 60 days, is not evaluated; neither is a
    share where the right level is not above `above`. Values that failed are to be left out (NaN) beforehand.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    believed = Believed(times, values)
    for begin, end in pairwise(visits):
        if end.before - begin.after > DEPLOYMENT_AT_MOST_S:
            continue
        between = _between(times, begin.after, end.before)
        flags[between] = GOOD
        grown = (times[between] - begin.after) / max(1, end.before - begin.after)
        off, share = _off(believed, end, above)
        if beyond is not None:
            flags[between][grown * off > beyond] = SUSPECT
        if beyond_share is not None:
            flags[between][grown * share > beyond_share] = SUSPECT
    flags[np.isnan(values)] = NO_VALUE
    return flags


def visit_fouling_test(times: Times, values: Values, visits: Sequence[Visit], least: float) -> Flags:
    """Suspect a turbidity whose floor had risen by more than `least` by the time somebody cleaned the window.

    Waves and rain raise the peaks for hours; growth raises the lowest values of each tidal day, and a cleaning brings
    them down at once. The time counts, back from the visit, in which the floor of the day that follows (up to the
    visit) was more than half of that above what it was after the visit.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    believed = Believed(times, values)
    earliest = 0
    for visit in visits:
        between = _between(times, max(earliest, visit.before - DEPLOYMENT_AT_MOST_S), visit.before)
        earliest = visit.after
        before, after = believed.day_before(visit), believed.day_after(visit)
        if not len(before) or not len(after):
            continue
        flags[between] = GOOD
        right = float(np.percentile(after, FLOOR_PERCENT))
        risen = float(np.percentile(before, FLOOR_PERCENT)) - right
        if min(risen, -believed.step(visit, _beside_s(believed)).step) > least:
            since = _risen_since(times[between], values[between], right + risen / 2)
            flags[between][times[between] >= since] = SUSPECT
    flags[np.isnan(values)] = NO_VALUE
    return flags


def _between(times: Times, first: int, last: int) -> slice:
    return slice(int(np.searchsorted(times, first)), int(np.searchsorted(times, last, "right")))


def _beside_s(believed: Believed) -> float:
    return max(BESIDE_S, BESIDE_INTERVALS * believed.usual_s)


def _off(believed: Believed, visit: Visit, above: float) -> tuple[float, float]:
    """Return by how much a sensor was off when somebody came, and by which share of what was right; 0.0: unknown."""
    before, after = believed.day_before(visit), believed.day_after(visit)
    step, began = believed.step(visit, _beside_s(believed))
    if not len(before) or not len(after) or np.isnan(step):
        return 0.0, 0.0
    right = float(np.median(after))
    level = right - float(np.median(before))
    if level * step <= 0:
        return 0.0, 0.0
    share = 0.0
    if min(right, began) > max(0.0, above):
        share = min(abs(level) / right, abs(step) / began)
    return min(abs(level), abs(step)), share


def _risen_since(times: Times, values: Values, height: float) -> int:
    """Return since when the floor of the following tidal day stays above a height until the end of the times."""
    last = int(times[-1])
    since = last - TIDAL_DAY_S
    for begin in range(since, int(times[0]) - 1, -3600):
        day = values[_between(times, begin, begin + TIDAL_DAY_S)]
        day = day[~np.isnan(day)]
        if len(day) and float(np.percentile(day, FLOOR_PERCENT)) <= height:
            break
        since = begin
    return since
