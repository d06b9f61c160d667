# One RS-485 line: a UART, the driver-enable pin if the transceiver needs one, and waiting in real time.
# Works on machine.UART of every port (any, readinto, write, flush, txdone) and on anything that has these five.
from firmware import const
from firmware import ticks as real_ticks

_LOOK_MS = const(2)  # how often the UART is looked at while an answer is awaited
_IDLE_LOOK_MS = const(10)  # and when nothing has come for a while; the UART's buffer holds what arrives meanwhile
_IDLE_AFTER_MS = const(60)
_PAUSE_CHARACTERS = const(4)
_RELEASE_MS = const(5)  # the last characters of a message are waited for without giving way, so that DE falls in time


class Line:
    def __init__(self, uart, baud, de=None, ticks=real_ticks):
        self.uart = uart
        self.ticks = ticks
        self._de = de
        self._character_us = 11_000_000 // baud
        self._last_byte_ms = ticks.ticks_ms()
        if de is not None:
            de.value(0)

    def duration_ms(self, length):
        # How long `length` characters take on the wire.
        return length * self._character_us // 1000 + 1

    async def pause(self):
        # A frame begins after four characters of silence: until then the other side may still hold the line.
        await self.ticks.sleep_ms(self.duration_ms(_PAUSE_CHARACTERS))

    async def send(self, frame):
        if self._de is not None:
            self._de.value(1)
        try:
            self.uart.write(frame)
            await self._sent(self.duration_ms(len(frame)))
        finally:
            if self._de is not None:
                self._de.value(0)

    async def _sent(self, duration_ms):
        self._last_byte_ms = began = self.ticks.ticks_ms()
        while not self.uart.txdone():
            left_ms = duration_ms - self.ticks.ticks_diff(self.ticks.ticks_ms(), began)
            if left_ms <= _RELEASE_MS:
                self.uart.flush()
                return
            await self.ticks.sleep_ms(left_ms - _RELEASE_MS)

    async def receive(self, buffer, start, timeout_ms):
        # Puts what has come into buffer[start:]; returns how many bytes, 0 when none came in time.
        began = self.ticks.ticks_ms()
        while True:
            held = self.uart.any()
            if held:
                return self._take(buffer, start, held)
            now = self.ticks.ticks_ms()
            left_ms = timeout_ms - self.ticks.ticks_diff(now, began)
            if left_ms <= 0:
                return 0
            idle = self.ticks.ticks_diff(now, self._last_byte_ms) > _IDLE_AFTER_MS
            await self.ticks.sleep_ms(min(_IDLE_LOOK_MS if idle else _LOOK_MS, left_ms))

    def _take(self, buffer, start, held):
        self._last_byte_ms = self.ticks.ticks_ms()
        room = len(buffer) - start
        if room <= 0:
            return 0
        return self.uart.readinto(memoryview(buffer)[start : start + min(held, room)]) or 0
