"""What happened in the time before each observation: smallest, largest, spread, over windows of seconds.

Windows are by time, not by count, so a series with gaps or a changed interval is judged by the clock. Extremes come
from a table of ranges of lengths 1, 2, 4, … (two of them cover a window of any length): n·log n, nothing per window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

LEAST_SHARE_PRESENT = 0.5  # of the observations a window of that length would usually have
LEAST_OBSERVATIONS = 3


@dataclass(frozen=True)
class Windows:
    """A window for each observation: from index `first` to before index `end`."""

    values: Values
    first: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]  # of values that are there
    full: npt.NDArray[np.bool_]  # whether the past reaches back that far, and enough of it is there

    def range(self) -> Values:
        """Return the largest less the smallest value of each window; NaN where there is none."""
        high = np.where(np.isnan(self.values), -np.inf, self.values)
        low = np.where(np.isnan(self.values), np.inf, self.values)
        spread = _extreme(high, self.first, self.end, np.maximum) - _extreme(low, self.first, self.end, np.minimum)
        return np.where(self.number > 0, spread, np.nan)

    def mean(self) -> Values:
        """Return the mean of each window; NaN where there is no value."""
        return self._sums(1) / np.where(self.number > 0, self.number, np.nan) + self._centre()

    def std(self) -> Values:
        """Return the population standard deviation of each window; NaN where there is no value."""
        number = np.where(self.number > 0, self.number, np.nan)
        mean = self._sums(1) / number
        return np.sqrt(np.maximum(0.0, self._sums(2) / number - mean * mean))

    def _centre(self) -> float:
        present = self.values[~np.isnan(self.values)]
        return float(present.mean()) if len(present) else 0.0

    def _sums(self, power: int) -> Values:
        """Return each window's sum of the values' distance from the series' mean, to a power."""
        # Around the mean of all, or the difference of two long sums would eat the digits.
        terms = np.nan_to_num((self.values - self._centre()) ** power)
        total = np.concatenate(([0.0], np.cumsum(terms)))
        return np.asarray(total[self.end] - total[self.first], np.float64)


def trailing(times: Times, values: Values, duration_s: float) -> Windows:
    """Return the window of `duration_s` that ends with each observation of a series (times ascending)."""
    first, end = np.searchsorted(times, times - duration_s, "left"), np.arange(1, len(times) + 1)
    number = _number(values, first, end)
    if len(times) < 2:
        return Windows(values, first, end, number, np.zeros(len(times), np.bool_))
    interval_s = float(np.median(np.diff(times)))
    least = max(LEAST_OBSERVATIONS, LEAST_SHARE_PRESENT * duration_s / interval_s)
    reaches_back = times - times[0] >= duration_s
    return Windows(values, first, end, number, reaches_back & (number >= least))


def around(times: Times, values: Values, within_s: float) -> Windows:
    """Return the window from `within_s` before each observation to as long after it (times ascending)."""
    first = np.searchsorted(times, times - within_s, "left")
    end = np.searchsorted(times, times + within_s, "right")
    number = _number(values, first, end)
    return Windows(values, first, end, number, number > 0)


def _number(values: Values, first: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    present = np.concatenate(([0], np.cumsum(~np.isnan(values))))
    return np.asarray(present[end] - present[first], np.int64)


def _extreme(values: Values, first: npt.NDArray[np.int64], beyond: npt.NDArray[np.int64], choose: np.ufunc) -> Values:
    """Return the extreme of values[first[i]:beyond[i]] for each i."""
    last = beyond - 1
    length = beyond - first
    result = values.copy()
    level, table = 0, values
    longest = int(length.max(initial=1))
    while True:
        here = (length >= 1 << level) & (length < 2 << level)
        start, end = first[here], last[here] - (1 << level) + 1
        result[here] = choose(table[start], table[end])
        level += 1
        if 1 << level > longest:
            return result
        half = 1 << (level - 1)
        table = choose(table[: len(table) - half], table[half:])
