# From samples to the value of an interval: pure accumulators.
#
# Samples are whole counts (value times 10^decimals), so the sum of a mean is an exact integer whatever the
# floats of the board can hold. What only a wind needs stands in firmware.wind.
from array import array

from firmware import const
from firmware.record import FAIL, MISSING, NO_VALUE, NOT_EVALUATED

STATISTICS = ("mean", "max", "min", "last", "direction", "gust")
_MEAN = const(0)  # their places
_MAX = const(1)
_MIN = const(2)
_DIRECTION = const(4)

COUNT_LIMIT = 4_000_000  # no parameter's count reaches this: single-precision floats stay exact below it


def to_count(value, decimals):
    # value (float) as a whole count, or None when it is not a number or not in a record's range.
    if value != value or not -COUNT_LIMIT < value < COUNT_LIMIT:
        return None
    count = round(value * 10**decimals)
    return count if -COUNT_LIMIT < count < COUNT_LIMIT else None


class Channels:
    # All channels of a station in one table, a row for each: one parameter of one sensor. Columns instead of an object
    # per channel, which would take four times the heap. sample() for each sample, close() at the end of the interval.
    # live_count and live_flag are those of the latest sample.
    def __init__(self):
        self.sensor = bytearray()
        self.parameter = bytearray()
        self.decimals = bytearray()
        self.live_flag = bytearray()
        self.live_count = array("i")
        self._statistic = bytearray()  # its place in STATISTICS
        self._flag = bytearray()  # of the interval so far, as are the next two
        self._number = array("I")
        self._value = array("q")
        self._accumulators = {}  # row: a wind's
        self._rhythms = {}  # row: (record_s, average_s) where they are not the station's; see schedule.part_of

    def __len__(self):
        return len(self.sensor)

    def add(self, sensor, parameter, decimals, statistic, rhythm=None):
        # A row more; returns its number.
        row = len(self.sensor)
        self.sensor.append(sensor)
        self.parameter.append(parameter)
        self.decimals.append(decimals)
        self.live_flag.append(NO_VALUE)
        self.live_count.append(MISSING)
        self._statistic.append(STATISTICS.index(statistic))
        self._flag.append(NO_VALUE)
        self._number.append(0)
        self._value.append(0)
        if self._statistic[row] >= _DIRECTION:
            from firmware import wind

            self._accumulators[row] = wind.accumulator(statistic, decimals)
        if rhythm is not None:
            self._rhythms[row] = rhythm
        return row

    def rhythm(self, row):
        return self._rhythms.get(row)

    def live_value(self, row):
        # The latest sample as a float, NaN when it has none.
        count = self.live_count[row]
        return float("nan") if count == MISSING else count / 10 ** self.decimals[row]

    def sample(self, row, count, good, weight=None):
        # count None = the sample is missing; good False = the instrument's status said it is not to be trusted, and
        # then it only stands where an interval has nothing better. weight: the wind speed of a direction, any unit.
        accumulator = self._accumulators.get(row)
        if count is None or (weight is None and self._statistic[row] == _DIRECTION):
            count, flag = MISSING, NO_VALUE
        else:
            flag = NOT_EVALUATED if good else FAIL
        if accumulator is not None and flag != self.live_flag[row]:
            accumulator.interrupt()
        self.live_count[row] = count
        self.live_flag[row] = flag
        if flag == NO_VALUE or (flag == FAIL and self._flag[row] == NOT_EVALUATED):
            return
        if flag != self._flag[row]:
            self._start_over(row, flag)
        self._number[row] += 1
        if accumulator is not None:
            accumulator.add(count, weight)
        else:
            self._accumulate(row, count)

    def _accumulate(self, row, count):
        statistic, value = self._statistic[row], self._value[row]
        if statistic == _MEAN:
            self._value[row] = value + count
        elif (
            self._number[row] == 1
            or (statistic == _MAX and count > value)
            or (statistic == _MIN and count < value)
            or statistic > _MIN
        ):
            self._value[row] = count

    def _start_over(self, row, flag):
        self._flag[row] = flag
        self._number[row] = 0
        self._value[row] = 0
        if row in self._accumulators:
            self._accumulators[row].clear()

    def close(self, row):
        # (count, flag) of the interval; starts the next one.
        flag = self._flag[row]
        count = self._result(row) if self._number[row] else None
        self._start_over(row, NO_VALUE)
        return (MISSING, NO_VALUE) if count is None else (count, flag)

    def _result(self, row):
        if row in self._accumulators:
            return self._accumulators[row].result()
        number, value = self._number[row], self._value[row]
        return (2 * value + number) // (2 * number) if self._statistic[row] == _MEAN else value
