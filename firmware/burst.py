# Several readings taken one after the other for one sample: the median puts spikes out (bubbles, weed in front of a
# turbidity probe), the mean evens out noise. Only loaded where a sensor is read in bursts.
from firmware import ticks as real_ticks


class Reader:
    # burst: a configuration.Burst
    def __init__(self, burst, ticks=real_ticks):
        self._burst = burst
        self._ticks = ticks
        self._combine = median if burst.statistic == "median" else mean

    async def read(self, read_once, counts, good):
        # read_once(): fills counts and good, a place per channel, and says whether the instrument answered. Leaves in
        # them what the readings come to together.
        readings = []
        for number in range(self._burst.readings):
            if number and self._burst.pause_ms:
                await self._ticks.sleep_ms(self._burst.pause_ms)
            for i in range(len(counts)):
                counts[i], good[i] = None, True
            if not await read_once():
                break
            readings.append((tuple(counts), tuple(good)))
        for i in range(len(counts)):
            counts[i], good[i] = self._together([(one[i], fine[i]) for one, fine in readings])

    def _together(self, readings):
        # (count, good) of one channel. Those the instrument does not vouch for stand only where nothing better is.
        for wanted in (True, False):
            chosen = [count for count, good in readings if good is wanted]
            count = self._combine(chosen + [None] * (self._burst.readings - len(chosen)))
            if count is not None:
                return count, wanted
        return None, True


def median(counts):
    # Of whole counts, None where a reading is missing; None when most are: half a burst proves nothing.
    there = sorted([count for count in counts if count is not None])
    if 2 * len(there) <= len(counts):
        return None
    middle = len(there) // 2
    return there[middle] if len(there) % 2 else (there[middle - 1] + there[middle] + 1) // 2


def mean(counts):
    # Of the readings that are there, rounded to the nearest count; None when most are missing.
    there = [count for count in counts if count is not None]
    number = len(there)
    return None if 2 * number <= len(counts) else (2 * sum(there) + number) // (2 * number)
