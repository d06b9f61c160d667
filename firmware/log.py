# What went wrong, in a file a technician can read: two generations of at most `limit` bytes each, the older one goes.
# The same complaint in a row is written once an hour at most, so a fault that stays does not wear the flash.
# Nothing secret comes here: the station's configuration holds no secret, and only texts of exceptions are written.
import os

from firmware import const

_REPEAT_AFTER_S = const(3600)
_MAX_LINE = const(200)


class Log:
    def __init__(self, path, clock, limit=4096, show=print):
        self._path = path
        self._clock = clock
        self._limit = limit
        self._show = show
        self._last = None
        self._last_at = 0

    def fault(self, where, error):
        self.write("%s: %s: %s" % (where, type(error).__name__, error))

    def write(self, text):
        text = text.replace("\n", " ")[:_MAX_LINE]
        uptime_s = self._clock.uptime_s()
        if text == self._last and uptime_s - self._last_at < _REPEAT_AFTER_S:
            return
        self._last, self._last_at = text, uptime_s
        line = "%d %s" % (self._clock.now(), text)
        self._show(line)
        try:
            self._append(line)
        except OSError as error:
            self._show("the log cannot be written: %s" % error)

    def _append(self, line):
        if self._size() + len(line) > self._limit:
            os.rename(self._path, self._path + ".old")
        with open(self._path, "a") as file:
            file.write(line + "\n")

    def _size(self):
        try:
            return os.stat(self._path)[6]
        except OSError:
            return 0
