"""Somebody came to the probe: when, and by how much each value differed afterwards. A visit is a pause of it all.

    step    from the straight line through the last hour before to the one through the first hour after: the tide goes
            on while nobody measures
    level   from the median of the last tidal day before to that of the first one after

A pause may also be a power cut; then neither changes by much.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cloud_ingest.qartod import Times, Values

TIDAL_DAY_S = 25 * 3600
AT_MOST_S = 3 * 3600
LEAST_BESIDE = 3
LEAST_OF_DAY = 0.5  # of the observations a tidal day would usually have


class Visit(NamedTuple):
    """When an instrument measured for the last time before somebody came, and for the first time after."""

    before: int
    after: int


class Step(NamedTuple):
    """By how much a value changed over a visit, and where it began after it; NaN where it cannot be told."""

    step: float
    began: float


def visits_in(recorded: Times) -> list[Visit]:
    """Return the visits by the times at which the instrument measured anything: pauses of up to three hours."""
    pause = np.diff(recorded)
    if not len(pause):
        return []
    found = np.flatnonzero((pause > 1.5 * float(np.median(pause))) & (pause <= AT_MOST_S))
    return [Visit(int(recorded[one]), int(recorded[one + 1])) for one in found]


class Believed:
    """One parameter's values without those that are missing or have failed, looked at beside visits."""

    def __init__(self, times: Times, values: Values) -> None:
        present = ~np.isnan(values)
        self._at, self._value = times[present], values[present]
        self.usual_s = float(np.median(np.diff(self._at))) if len(self._at) > 1 else 0.0

    def step(self, visit: Visit, beside_s: float) -> Step:
        """Return the step over a visit; it wants three values within `beside_s` on both sides."""
        middle = (visit.before + visit.after) / 2
        began = self._line(middle, visit.after - 1, visit.after + beside_s - 1)
        return Step(began - self._line(middle, visit.before - beside_s, visit.before), began)

    def day_before(self, visit: Visit) -> Values:
        """Return the values of the last tidal day before a visit; none where too few are there."""
        return self._day(visit.before - TIDAL_DAY_S - 1, visit.before)

    def day_after(self, visit: Visit) -> Values:
        """Return the values of the first tidal day after a visit; none where too few are there."""
        return self._day(visit.after - 1, visit.after + TIDAL_DAY_S)

    def _day(self, after: float, until: float) -> Values:
        values = self._value[self._between(after, until)]
        return values if len(values) * self.usual_s >= LEAST_OF_DAY * TIDAL_DAY_S else values[:0]

    def _line(self, middle: float, after: float, until: float) -> float:
        """Return where the straight line through the values of a time is at another."""
        here = self._between(after, until)
        distance: Values = self._at[here].astype(np.float64) - middle
        if len(distance) < LEAST_BESIDE:
            return float("nan")
        return float(np.polynomial.Polynomial.fit(distance, self._value[here], 1)(0.0))

    def _between(self, after: float, until: float) -> slice:
        return slice(int(np.searchsorted(self._at, after, "right")), int(np.searchsorted(self._at, until, "right")))
