# What time it is: unix seconds UTC once the clock is set, seconds since boot before.
#
# MicroPython counts from 1970 on some ports and from 2000 on others; only this file knows. A clock that shows a year
# before 2024 at the start has not been set: dead clocks show 1970, 2000 or, on the RP2040, 2021. One with a battery may
# show anything, so it must also fit the newest record. Seconds since boot come from the same counter, corrected by
# every step: both run at one rate.
from firmware import const
from firmware.errors import ClockRefused

_EARLIEST = const(1_262_304_000)  # 2010-01-01: what the gateway may set; old enough to replay a measured series
_BELIEVED_FROM = const(1_704_067_200)  # 2024-01-01: what is believed of a clock that nobody has set since the start
_LATEST = const(4_102_444_800)  # 2100-01-01
_FROM_1970_TO_2000 = const(946_684_800)
_TOLERATED_STEP_S = const(1)
_DAY_S = const(86_400)
_LONGEST_ABSENCE_S = const(400 * _DAY_S)  # a station that was off for longer waits for the gateway's time
_SAY_AGAIN_AFTER_S = const(60)
_SAYS_THE_SAME_S = const(60)


class Clock:
    # time: has time() and gmtime() as MicroPython's module; rtc: has datetime(tuple) as machine.RTC
    def __init__(self, time, rtc):
        self._time = time
        self._rtc = rtc
        self._offset = _FROM_1970_TO_2000 if time.gmtime(0)[0] == 2000 else 0
        self._started = self._unix()
        self.is_set = _BELIEVED_FROM <= self._started < _LATEST
        self.uncertainty_ms = 0
        self.steps = 0  # how often the clock has been moved: who plans ahead looks here
        self._looked = self._started  # what the counter showed when it was last looked at
        self._leap = None  # a leap that was asked for: (its time at the start of uptime, uptime then)

    def _unix(self):
        return int(self._time.time()) + self._offset

    def uptime_s(self):
        return max(0, self._unix() - self._started)

    def now(self):
        return self._unix() if self.is_set else self.uptime_s()

    def doubt(self, newest_record_s):
        # At the start: a clock that does not fit the newest record is taken for unset. Returns whether it was.
        if not self.is_set or -_DAY_S <= self._started - newest_record_s <= _LONGEST_ABSENCE_S:
            return False
        self.is_set = False
        return True

    def jumped(self):
        # Look at the counter: the seconds it has jumped by itself since the last look, or 0. A jump is undone for the
        # seconds since boot; a clock that is set is to be set back by it.
        shown = self._unix()
        moved = shown - self._looked
        self._looked = shown
        if -_TOLERATED_STEP_S <= moved <= _DAY_S:
            return 0
        self._started += moved
        return moved

    def is_premature_leap(self, unix_s, step_s):
        # More than a day at once is only believed when it is said twice, a minute apart: a clock that was set is seldom
        # that wrong, and a gateway that has just started may be.
        uptime_s = self.uptime_s()
        start = unix_s - uptime_s
        before, self._leap = self._leap, None
        if not self.is_set or abs(step_s) <= _DAY_S:
            return False
        if before is None or abs(start - before[0]) > _SAYS_THE_SAME_S:
            self._leap = start, uptime_s
        elif uptime_s - before[1] < _SAY_AGAIN_AFTER_S:
            self._leap = before
        return self._leap is not None

    def step_to(self, unix_s, uncertainty_ms=0):
        # The step in seconds that setting the clock to unix_s would make, or None when it is as right already as that
        # time is certain. Raises ClockRefused for times that cannot be.
        if not _EARLIEST <= unix_s < _LATEST:
            raise ClockRefused("unix time %d is before 2010 or after 2099" % unix_s)
        self._calendar(unix_s)
        step_s = unix_s - self.now()
        if self.is_set and abs(step_s) <= max(_TOLERATED_STEP_S, uncertainty_ms // 1000):
            return None
        return step_s

    def _calendar(self, unix_s):
        try:
            return self._time.gmtime(unix_s - self._offset)
        except OverflowError:
            raise ClockRefused("unix time %d is beyond this port's calendar" % unix_s)

    def set(self, unix_s, milliseconds, uncertainty_ms):
        year, month, day, hour, minute, second, weekday = self._calendar(unix_s)[:7]
        before = self._unix()
        self._rtc.datetime((year, month, day, weekday, hour, minute, second, milliseconds * 1000))
        self._looked = self._unix()
        self._started += self._looked - before
        self.uncertainty_ms = min(0xFFFF, uncertainty_ms)
        self.is_set = True
        self.steps += 1
