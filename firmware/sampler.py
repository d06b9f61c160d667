# From samples to the value of an interval: pure accumulators.
#
# Samples are whole counts (value times 10^decimals), so the sum of a mean is an exact integer whatever the
# floats of the board can hold. Directions are added as vectors, each as long as its wind was strong.
import math

from firmware.record import FAIL, MISSING, NO_VALUE, NOT_EVALUATED

STATISTICS = ("mean", "max", "min", "last", "direction")

COUNT_LIMIT = 4_000_000  # no parameter's count reaches this: single-precision floats stay exact below it
_CALM = 0.001  # a mean vector this much shorter than its parts points nowhere


def to_count(value, decimals):
    # value (float) as a whole count, or None when it is not a number or not in a record's range.
    if value != value or not -COUNT_LIMIT < value < COUNT_LIMIT:
        return None
    count = round(value * 10**decimals)
    return count if -COUNT_LIMIT < count < COUNT_LIMIT else None


class Channel:
    # One parameter of one sensor. add() for each sample, close() at the end of the interval.
    # live_count and live_flag are those of the latest sample.
    def __init__(self, sensor, parameter, decimals, statistic):
        self.sensor = sensor
        self.parameter = parameter
        self.decimals = decimals
        self.live_count = MISSING
        self.live_flag = NO_VALUE
        self._statistic = statistic
        self._start_over(NO_VALUE)

    def live_value(self):
        # The latest sample as a float, NaN when it has none.
        return float("nan") if self.live_count == MISSING else self.live_count / 10**self.decimals

    def _start_over(self, flag):
        self._flag = flag
        self._number = 0
        self._value = 0
        self._east = self._north = self._length = 0.0
        self._unit_east = self._unit_north = 0.0

    def add(self, count, good, weight=None):
        # count None = the sample is missing; good False = the instrument's status said it is not to be trusted, and
        # then it only stands where an interval has nothing better. weight: the wind speed of a direction, any unit.
        usable = count is not None and (weight is not None or self._statistic != "direction")
        flag = NO_VALUE if not usable else NOT_EVALUATED if good else FAIL
        self.live_count, self.live_flag = (count, flag) if usable else (MISSING, NO_VALUE)
        if not usable or (flag == FAIL and self._flag == NOT_EVALUATED):
            return
        if flag != self._flag:
            self._start_over(flag)
        self._number += 1
        self._accumulate(count, weight)

    def _accumulate(self, count, weight):
        statistic = self._statistic
        if statistic == "direction":
            self._add_vector(count, weight)
        elif statistic == "mean":
            self._value += count
        elif (
            statistic == "last"
            or self._number == 1
            or (statistic == "max" and count > self._value)
            or (statistic == "min" and count < self._value)
        ):
            self._value = count

    def _add_vector(self, count, weight):
        angle = math.radians(count / 10**self.decimals)
        east, north = math.sin(angle), math.cos(angle)
        self._unit_east += east
        self._unit_north += north
        self._east += weight * east
        self._north += weight * north
        self._length += weight

    def close(self):
        # (count, flag) of the interval; starts the next one.
        flag = self._flag
        count = self._result() if self._number else None
        self._start_over(NO_VALUE)
        return (MISSING, NO_VALUE) if count is None else (count, flag)

    def _result(self):
        if self._statistic == "mean":
            return (2 * self._value + self._number) // (2 * self._number)
        if self._statistic == "direction":
            return self._direction()
        return self._value

    def _direction(self):
        # Where no wind blew in any sample the vane's own positions count alike.
        east, north, length = self._east, self._north, self._length
        if length <= 0:
            east, north, length = self._unit_east, self._unit_north, self._number
        if math.sqrt(east * east + north * north) <= _CALM * length:
            return None
        turn = 360 * 10**self.decimals
        return round(math.degrees(math.atan2(east, north)) * 10**self.decimals) % turn
