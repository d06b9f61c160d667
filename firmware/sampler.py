# From samples to the value of an interval: pure accumulators.
#
# Samples are whole counts (value times 10^decimals), so the sum of a mean is an exact integer whatever the
# floats of the board can hold. What only a wind needs stands in firmware.wind.
from firmware.record import FAIL, MISSING, NO_VALUE, NOT_EVALUATED

STATISTICS = ("mean", "max", "min", "last", "direction", "gust")
_OF_WIND = ("direction", "gust")

COUNT_LIMIT = 4_000_000  # no parameter's count reaches this: single-precision floats stay exact below it


def to_count(value, decimals):
    # value (float) as a whole count, or None when it is not a number or not in a record's range.
    if value != value or not -COUNT_LIMIT < value < COUNT_LIMIT:
        return None
    count = round(value * 10**decimals)
    return count if -COUNT_LIMIT < count < COUNT_LIMIT else None


def _accumulator(statistic, decimals):
    if statistic not in _OF_WIND:
        return None
    from firmware import wind

    return wind.accumulator(statistic, decimals)


class Channel:
    # One parameter of one sensor. add() for each sample, close() at the end of the interval.
    # live_count and live_flag are those of the latest sample.
    # rhythm: (record_s, average_s) where they are not the station's; see schedule.part_of.
    def __init__(self, sensor, parameter, decimals, statistic, rhythm=None):
        self.sensor = sensor
        self.parameter = parameter
        self.decimals = decimals
        self.rhythm = rhythm
        self.live_count = MISSING
        self.live_flag = NO_VALUE
        self._statistic = statistic
        self._accumulator = _accumulator(statistic, decimals)
        self._start_over(NO_VALUE)

    def live_value(self):
        # The latest sample as a float, NaN when it has none.
        return float("nan") if self.live_count == MISSING else self.live_count / 10**self.decimals

    def _start_over(self, flag):
        self._flag = flag
        self._number = 0
        self._value = 0
        if self._accumulator is not None:
            self._accumulator.clear()

    def add(self, count, good, weight=None):
        # count None = the sample is missing; good False = the instrument's status said it is not to be trusted, and
        # then it only stands where an interval has nothing better. weight: the wind speed of a direction, any unit.
        usable = count is not None and (weight is not None or self._statistic != "direction")
        flag = NO_VALUE if not usable else NOT_EVALUATED if good else FAIL
        if self._accumulator is not None and flag != self.live_flag:
            self._accumulator.interrupt()
        self.live_count, self.live_flag = (count, flag) if usable else (MISSING, NO_VALUE)
        if not usable or (flag == FAIL and self._flag == NOT_EVALUATED):
            return
        if flag != self._flag:
            self._start_over(flag)
        self._number += 1
        if self._accumulator is not None:
            self._accumulator.add(count, weight)
        else:
            self._accumulate(count)

    def _accumulate(self, count):
        statistic = self._statistic
        if statistic == "mean":
            self._value += count
        elif (
            statistic == "last"
            or self._number == 1
            or (statistic == "max" and count > self._value)
            or (statistic == "min" and count < self._value)
        ):
            self._value = count

    def close(self):
        # (count, flag) of the interval; starts the next one.
        flag = self._flag
        count = self._result() if self._number else None
        self._start_over(NO_VALUE)
        return (MISSING, NO_VALUE) if count is None else (count, flag)

    def _result(self):
        if self._accumulator is not None:
            return self._accumulator.result()
        if self._statistic == "mean":
            return (2 * self._value + self._number) // (2 * self._number)
        return self._value
