"""A UART that plays a script, on a time of its own: nothing in these tests waits.

ticks = Ticks()
uart = Uart(ticks, answer)          # answer(question) -> [(after_ms, bytes), ...]
line = Line(uart, 9600, ticks=ticks)
"""

import asyncio


class Ticks:
    """Milliseconds that pass only while somebody sleeps. Has what firmware.ticks has."""

    def __init__(self):
        self.now_ms = 0

    def ticks_ms(self):
        return self.now_ms

    def ticks_diff(self, end, start):
        return end - start

    async def sleep_ms(self, duration_ms):
        self.now_ms += max(1, duration_ms)
        await asyncio.sleep(0)


class Uart:
    """machine.UART as far as the firmware uses it."""

    def __init__(self, ticks, answer=lambda question: []):
        self.asked = []  # (when, bytes)
        self._ticks = ticks
        self._answer = answer
        self._coming = []  # (when, bytes), in order
        self.settings = {}  # as init() was last called

    def comes(self, after_ms, data):
        if not data:
            return
        self._coming.append((self._ticks.now_ms + after_ms, bytes(data)))
        self._coming.sort(key=lambda entry: entry[0])

    def write(self, frame):
        self.asked.append((self._ticks.now_ms, bytes(frame)))
        for after_ms, data in self._answer(bytes(frame)):
            self.comes(after_ms, data)
        return len(frame)

    def any(self):
        return sum(len(data) for when, data in self._coming if when <= self._ticks.now_ms)

    def readinto(self, buffer):
        got = 0
        while got < len(buffer) and self._coming and self._coming[0][0] <= self._ticks.now_ms:
            when, data = self._coming.pop(0)
            part = data[: len(buffer) - got]
            buffer[got : got + len(part)] = part
            got += len(part)
            if len(data) > len(part):
                self._coming.insert(0, (when, data[len(part) :]))
        return got or None

    def init(self, **settings):
        self.settings = settings

    def txdone(self):
        return True

    def flush(self):
        pass


class Pin:
    """A pin that remembers its levels."""

    def __init__(self):
        self.levels = []

    def value(self, level):
        self.levels.append(level)
