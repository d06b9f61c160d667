# When something is due by a wall clock that may be moved: pure arithmetic on seconds.
from firmware import const

# What the end of a station's interval is to a channel that has its own rhythm
CLOSE = 2  # its interval ends here too: it gets a record
BEGIN = 1  # what it averages begins here: samples so far do not count
GO_ON = 0

_MOST_MISSED = const(60)  # after a longer standstill the intervals in between are not made up for


class Intervals:
    # Ends of record intervals, aligned to whole multiples of their length. Each end is handed out once, also when the
    # loop comes late: a station that was busy still says for every interval that it has no value.
    def __init__(self, length_s):
        self._length_s = length_s
        self._end = None

    def due(self, now):
        # The interval end that has passed and has not been handed out yet, or None. Ask until None.
        if self._end is None or now >= self._end + _MOST_MISSED * self._length_s:
            self._end = self._after(now)
        if now < self._end:
            return None
        end = self._end
        self._end += self._length_s
        return end

    def clock_moved(self, now):
        # A small step keeps the running interval, so that no end comes twice; a large one starts afresh.
        if self._end is not None and not -2 * self._length_s <= now - self._end < self._length_s:
            self._end = self._after(now)

    def _after(self, now):
        return (now // self._length_s + 1) * self._length_s


def part_of(end, rhythm):
    # rhythm: (record_s, average_s), both multiples of the station's interval; the average is of the last average_s
    # before each record. None: the station's rhythm, every interval is the channel's own.
    if rhythm is None or end % rhythm[0] == 0:
        return CLOSE
    return BEGIN if (end + rhythm[1]) % rhythm[0] == 0 else GO_ON


class Samples:
    # Aligned sample times. Whoever comes late skips to the next one.
    def __init__(self, length_s):
        self._length_s = length_s
        self._next = None

    def left_s(self, now):
        # Seconds until the next one; 0 when it is due.
        return 0 if self._next is None else max(0, min(self._next - now, self._length_s))

    def is_due(self, now):
        late_by = 0 if self._next is None else now - self._next
        if -self._length_s <= late_by < 0:
            return False
        self._next = (now // self._length_s + 1) * self._length_s
        return True
