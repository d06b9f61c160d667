# One RS-485 line: a UART, the driver-enable pin if the transceiver needs one, and waiting in real time.
# Works on machine.UART of every port (any, readinto, write, flush, txdone) and on anything that has these five.
from firmware import ticks as real_ticks

_LOOK_MS = 2  # how often the UART is looked at while an answer is awaited
_IDLE_LOOK_MS = 10  # and when nothing has come for a while; the UART's buffer holds what arrives meanwhile
_IDLE_AFTER_MS = 60
_RELEASE_MS = 5  # the last characters of a message are waited for without giving way, so that DE falls in time


class Line:
    def __init__(self, uart, baud, de=None, ticks=real_ticks):
        self.uart = uart
        self.ticks = ticks
        self._de = de
        self._character_us = 11_000_000 // baud
        self._scratch = bytearray(32)
        if de is not None:
            de.value(0)

    def duration_ms(self, length):
        # How long `length` characters take on the wire.
        return length * self._character_us // 1000 + 1

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
        began = self.ticks.ticks_ms()
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
            waited_ms = self.ticks.ticks_diff(self.ticks.ticks_ms(), began)
            if waited_ms >= timeout_ms:
                return 0
            look_ms = _LOOK_MS if waited_ms < _IDLE_AFTER_MS else _IDLE_LOOK_MS
            await self.ticks.sleep_ms(min(look_ms, timeout_ms - waited_ms))

    def _take(self, buffer, start, held):
        room = len(buffer) - start
        if room <= 0:
            return 0
        return self.uart.readinto(memoryview(buffer)[start : start + min(held, room)]) or 0
