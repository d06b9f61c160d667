# When something is due by a wall clock that may be moved: pure arithmetic on seconds.

_MOST_MISSED = 60  # after a longer standstill the intervals in between are not made up for


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


class Samples:
    # Aligned sample times. Whoever comes late skips to the next one.
    def __init__(self, length_s):
        self._length_s = length_s
        self._next = None

    def is_due(self, now):
        late_by = 0 if self._next is None else now - self._next
        if -self._length_s <= late_by < 0:
            return False
        self._next = (now // self._length_s + 1) * self._length_s
        return True
