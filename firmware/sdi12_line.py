# The SDI-12 line: a UART at 1200 7E1, wake-up by a break, tries as the standard has them. One owner, like bus.Client,
# whose counters it has, so that the station reports the health of either line. A station with both kinds of instruments
# counts all in those of bus.Client.
#
# A break is a zero byte at half the speed: start bit and eight zeros at 600 baud hold the line for 15 ms (12 are
# asked), and its stop bit with the pause after it makes the mark (8.33 ms). This works on every port's UART; what
# sendbreak() does at 1200 baud is shorter than 12 ms on some.
import asyncio

from firmware import const, sdi12
from firmware import ticks as real_ticks
from firmware.errors import BadAnswer, NoAnswer
from firmware.patience import Latencies

_BAUD = const(1200)
_BREAK_BAUD = const(600)
_MARK_MS = const(10)
_ANSWER_MS = const(50)  # the first character: 15 ms and its own 8.3, and what other loops take of our time
_CHARACTER_MS = const(25)  # between characters, with the same allowance; the standard allows 1.66
_RETRY_MS = const(17)  # before a question is sent again
_AWAKE_MS = const(85)  # sensors may sleep after so much silence: then a break goes first
_BREAKS = const(3)
_TRIES = const(3)  # per break
_LONGEST = const(96)  # an address, 75 characters of values, CRC, end; and our own question heard back


class Turns:
    # A UART that two lines have in turn, each on its own pins. `lock` is that of the other line's client, which lets it
    # go when its line is quiet. ours, theirs: what UART.init() is told when it changes hands.
    def __init__(self, lock, uart, ours, theirs):
        self._lock = lock
        self._uart = uart
        self._ours = ours
        self._theirs = theirs

    async def __aenter__(self):
        await self._lock.acquire()
        self._change(self._theirs, self._ours)

    async def __aexit__(self, *_):
        self._change(self._ours, self._theirs)
        self._lock.release()

    def _change(self, before, after):
        # The other line's transceiver sees a line at rest, not what is said here; and a UART of the RP2040 would go on
        # hearing all the pins it had.
        for key in ("tx", "rx"):
            pin = before.get(key)
            if pin is not None:
                pin.init(pin.IN, pin.PULL_UP)
        self._uart.init(**after)


class Client:
    # line: a firmware.line.Line at 1200 7E1. turns: Turns where the UART is shared. counts: whose counters are used.
    def __init__(self, line, ticks=real_ticks, turns=None, counts=None):
        self.polls = 0
        self.timeouts = 0
        self.crc_errors = 0
        self.late_answers = 0
        self.held = 0
        self.latencies = Latencies()
        self._line = line
        self._ticks = ticks
        self._buffer = bytearray(_LONGEST)
        self._held = 0
        self._awake_since_ms = None  # when the line was last heard or spoken on
        self._lock = turns or asyncio.Lock()
        self._counts = counts or self

    def take_latencies(self):
        taken, self.latencies = self.latencies, Latencies()
        return taken

    async def start(self, address, measurement):
        # Begin a measurement and let others be asked meanwhile. Returns (seconds it takes, number of values).
        async with self._lock:
            return await self._start(address, measurement)

    async def collect(self, address, measurement, number):
        # The values of a measurement that was begun and has had its time.
        async with self._lock:
            return await self._collect(address, measurement, number)

    async def measure(self, address, measurement, longest_ms):
        # Begin, wait for the sensor's word or its time, at most longest_ms, and collect; the line is its alone.
        async with self._lock:
            if measurement.is_continuous:
                return await self._ask(
                    address, measurement.text, lambda line: sdi12.parse_values(line, measurement.with_crc)
                )
            seconds, number = await self._start(address, measurement)
            if seconds:
                await self._await_service_request(address, min(1000 * seconds, longest_ms))
            return await self._collect(address, measurement, number)

    async def _start(self, address, measurement):
        return await self._ask(address, measurement.text, lambda line: sdi12.parse_start(line, measurement))

    async def _collect(self, address, measurement, number):
        collection = sdi12.Collection(number)
        while True:
            command = collection.next_command()
            if command is None:
                break
            collection.add(
                await self._ask(address, command, lambda line: sdi12.parse_values(line, measurement.with_crc))
            )
        if not collection.is_complete():
            raise BadAnswer("SDI-12 %c: %d of %d values" % (address, len(collection.values), number))
        return collection.values

    async def _await_service_request(self, address, timeout_ms):
        # A line of nothing but the address. When it does not come the values are there all the same.
        began_ms = self._ticks.ticks_ms()
        while sdi12.find_line(self._received(), address) is None:
            left_ms = timeout_ms - self._since(began_ms)
            if left_ms <= 0 or not await self._receive(left_ms):
                return

    async def _ask(self, address, command, parse):
        # Returns what `parse` makes of the answer. Raises NoAnswer or BadAnswer after all tries.
        question = sdi12.question(address, command)
        bad = None
        for _ in range(_BREAKS):
            await self._wake()
            for _ in range(_TRIES):
                if self._awake_since_ms is None or self._since(self._awake_since_ms) > _AWAKE_MS:
                    break  # it may sleep again
                line = await self._ask_once(address, question)
                if line is not None:
                    try:
                        return parse(line)
                    except BadAnswer as error:
                        bad = error
                        self._counts.crc_errors += 1
                await self._ticks.sleep_ms(_RETRY_MS)
            self._awake_since_ms = None
        raise bad or NoAnswer("SDI-12 %c: no answer to %s" % (address, command))

    async def _wake(self):
        uart = self._line.uart
        uart.init(baudrate=_BREAK_BAUD, bits=8, parity=None, stop=1)
        await self._line.send(b"\x00")
        uart.init(baudrate=_BAUD, bits=7, parity=0, stop=1)
        await self._ticks.sleep_ms(_MARK_MS)
        self._awake_since_ms = self._ticks.ticks_ms()

    async def _ask_once(self, address, question):
        # The answer's line, or None.
        self._counts.polls += 1
        await self._discard()
        await self._line.send(question)
        asked_ms = self._awake_since_ms = self._ticks.ticks_ms()
        timeout_ms = _ANSWER_MS
        while await self._receive(timeout_ms):
            self._awake_since_ms = self._ticks.ticks_ms()
            found = sdi12.find_line(self._received(), address)
            if found is not None:
                self._counts.latencies.add(self._since(asked_ms))
                self._keep_behind(found[1])
                return found[0]
            timeout_ms = _ANSWER_MS if self._received()[-1:] == b"!" else _CHARACTER_MS
        if self._held:
            self._counts.crc_errors += 1
        else:
            self._counts.timeouts += 1
        return None

    def _keep_behind(self, end):
        # A service request may have come together with the answer.
        self._buffer[: self._held - end] = self._buffer[end : self._held]
        self._held -= end

    async def _discard(self):
        self._held = 0
        while await self._receive(0):
            self._held = 0

    async def _receive(self, timeout_ms):
        if self._held == len(self._buffer):
            self._held = 0  # babble
        number = await self._line.receive(self._buffer, self._held, timeout_ms)
        self._held += number
        return number

    def _received(self):
        # 7 data bits may arrive with the parity bit on top, where a UART gives 8.
        return bytes([byte & 0x7F for byte in memoryview(self._buffer)[: self._held]])

    def _since(self, began_ms):
        return self._ticks.ticks_diff(self._ticks.ticks_ms(), began_ms)
