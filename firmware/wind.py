# What a wind needs and other channels do not: means of directions as vectors, and the gust. Pure, and only loaded where
# a station has such a channel. Both are what sampler.Channels adds to: add, interrupt, clear, result.
import math

from firmware import const

_GUST_SAMPLES = const(3)  # a gust is the highest mean of 3 s (WMO-No. 8), and its instrument is sampled every second
_CALM = 0.001  # a mean vector this much shorter than its parts points nowhere


def accumulator(statistic, decimals):
    return Gust() if statistic == "gust" else Direction(decimals)


class Direction:
    # Counts of degrees, each as long as its wind was strong. Where no wind blew in any sample the vane's own positions
    # count alike.
    def __init__(self, decimals):
        self._decimals = decimals
        self.clear()

    def clear(self):
        self._number = 0
        self._east = self._north = self._length = 0.0
        self._unit_east = self._unit_north = 0.0

    def interrupt(self):
        pass

    def add(self, count, weight):
        angle = math.radians(count / 10**self._decimals)
        east, north = math.sin(angle), math.cos(angle)
        self._number += 1
        self._unit_east += east
        self._unit_north += north
        self._east += weight * east
        self._north += weight * north
        self._length += weight

    def result(self):
        # A count, or None when the vectors cancel out.
        east, north, length = self._east, self._north, self._length
        if length <= 0:
            east, north, length = self._unit_east, self._unit_north, self._number
        if math.sqrt(east * east + north * north) <= _CALM * length:
            return None
        turn = 360 * 10**self._decimals
        return round(math.degrees(math.atan2(east, north)) * 10**self._decimals) % turn


class Gust:
    # The highest running mean of three samples in a row; the first of an interval reach back into the one before.
    def __init__(self):
        self._last = []
        self._highest = None

    def clear(self):
        self._highest = None

    def interrupt(self):
        # A sample is missing: no mean reaches across the gap.
        self._last.clear()

    def add(self, count, weight):
        last = self._last
        last.append(count)
        if len(last) > _GUST_SAMPLES:
            last.pop(0)
        if len(last) == _GUST_SAMPLES:
            mean = (2 * sum(last) + _GUST_SAMPLES) // (2 * _GUST_SAMPLES)
            if self._highest is None or mean > self._highest:
                self._highest = mean

    def result(self):
        # A count, or None when no three samples came in a row.
        return self._highest
