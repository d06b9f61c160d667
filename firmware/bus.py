# The client on the instruments' line. One owner: whoever asks holds the lock until the line is quiet again.
#
# What to believe and how long to wait is firmware.patience, one per instrument; Client carries it out on a Line.
import asyncio

from firmware import const, rtu
from firmware import ticks as real_ticks
from firmware.errors import BadAnswer, NoAnswer, Refused
from firmware.patience import ACCEPT, HEARD, LISTEN_AT_MOST, Latencies, Patience

__all__ = ("Client", "Patience")

_SETTLE_MS = const(15)  # the line must be quiet this long after an answer: some repeaters send everything twice


class Client:
    def __init__(self, line, ticks=real_ticks):
        self.polls = 0
        self.timeouts = 0
        self.crc_errors = 0
        self.late_answers = 0
        self.held = 0  # questions not asked, because another one's answer might have been taken for theirs
        self.latencies = Latencies()
        self._line = line
        self._ticks = ticks
        self._buffer = bytearray(2 * rtu.MAX_FRAME)
        self._held = 0  # bytes in the buffer
        self._heard = 0  # of these and behind them, what was listened to after an answer
        self._last_ms = 0
        self._echoes = False
        self.lock = asyncio.Lock()  # also for firmware.sdi12_line, where it has the UART in turn

    def take_latencies(self):
        # The latencies since this was called last.
        taken, self.latencies = self.latencies, Latencies()
        return taken

    async def ask(self, request, patience, retries=0):
        # Returns the data of the answer (a view that the next question overwrites), or raises a BusError.
        async with self.lock:
            shape = _shape(request)
            hold = patience.hold(request, shape, self._ticks.ticks_ms())
            if hold is not None:
                self.held += 1
                raise NoAnswer("instrument %d not asked: %s" % (request[0], hold))
            verdict = None
            for asking in range(retries + 2):
                if asking > retries and verdict is not HEARD:
                    break  # bytes that are merely alike are confirmed by asking once more, retries or not
                answer, verdict = await self._ask_once(request, shape, patience)
                if verdict is ACCEPT:
                    return self._data(request, answer)
            if self._held:
                raise BadAnswer("instrument %d: no good frame among %d bytes" % (request[0], self._held))
            raise NoAnswer("instrument %d: no answer in %d ms" % (request[0], patience.timeout_ms))

    async def _ask_once(self, request, shape, patience):
        # (start, length) of the answer in the buffer, what it is worth; the line is quiet afterwards.
        await self._line.pause()
        await self._discard()
        self.polls += 1
        await self._line.send(request)
        asked_ms = self._ticks.ticks_ms()
        answer = await self._await_answer(request, asked_ms, patience.timeout_ms)
        if answer is None:
            await self._give_up(request, shape, asked_ms, patience)
            return None, None
        latency_ms = self._since(asked_ms)
        self.latencies.add(latency_ms)
        return answer, await self._judge(request, shape, patience, asked_ms, latency_ms, answer)

    async def _judge(self, request, shape, patience, asked_ms, latency_ms, answer):
        # Listen to what else comes, then let the policy say.
        begin, end = answer[0], answer[0] + answer[1]
        before = rtu.count_answers(self._buffer, self._echo(request), begin)
        quiet_ms = patience.quiet_ms() if before or patience.is_in_doubt(shape, asked_ms) else _SETTLE_MS
        after = await self._listen(end, quiet_ms, patience)
        self.late_answers += before + after
        is_refusal = self._buffer[begin + 1] & rtu.FAILED != 0
        checksums = self._checksums(request, begin, self._heard)
        return patience.judge(request, shape, checksums, asked_ms, latency_ms, is_refusal)

    def _checksums(self, request, begin, end):
        # Of all frames that could answer this question.
        return [self._buffer[at - 2] | self._buffer[at - 1] << 8 for at in self._ends(request, begin, end)]

    def _ends(self, request, at, end):
        while True:
            frame = rtu.find_answer(request, self._buffer, at, end)
            if frame is None:
                return
            at = frame[0] + frame[1]
            yield at

    async def _await_answer(self, request, asked_ms, timeout_ms):
        # The time an answer takes on the wire comes on top of the instrument's own timeout.
        timeout_ms += self._line.duration_ms(rtu.longest_answer(request))
        while True:
            left_ms = timeout_ms - self._since(asked_ms)
            if left_ms <= 0 or not await self._receive(left_ms):
                return None
            answer = rtu.find_answer(request, self._buffer, self._echo(request), self._held)
            if answer is not None:
                return answer

    async def _give_up(self, request, shape, asked_ms, patience):
        # Count what happened, then listen until the line has been quiet long enough.
        begin = self._echo(request)
        strays = rtu.count_answers(self._buffer, begin, self._held)
        if self._held > begin and not strays:
            self.crc_errors += 1
        else:
            self.timeouts += 1
        late = await self._listen(self._held, patience.quiet_ms(), patience)
        self.late_answers += strays + late
        latency_ms = self._ticks.ticks_diff(self._last_ms, asked_ms)
        checksums = self._checksums(request, begin, self._heard) if late else []
        patience.gave_up(request, shape, checksums, asked_ms, latency_ms)

    async def _listen(self, end, quiet_ms, patience):
        # Listen until nothing has come for quiet_ms. Returns how many good answers came behind `end`; they stand in the
        # buffer up to _heard. A line that never falls silent is left in the end: the next question is lost in the
        # babble, and counted.
        began_ms = self._ticks.ticks_ms()
        longest_ms = LISTEN_AT_MOST * patience.timeout_ms
        late = 0
        while await self._receive(max(0, min(quiet_ms, longest_ms - self._since(began_ms)))):
            if self._since(began_ms) >= longest_ms:
                break
            if self._held == len(self._buffer):  # keep the answer in front, make room behind it
                late += rtu.count_answers(self._buffer, end, self._held)
                self._held = end
        late += rtu.count_answers(self._buffer, end, self._held)
        self._heard, self._held = self._held, end
        return late

    async def _discard(self):
        # What stands in the receiver before a question answers nothing we asked: boot noise, or a very late answer.
        self._held = 0
        while self._held < len(self._buffer) and await self._receive(0):
            pass
        self.late_answers += rtu.count_answers(self._buffer, 0, self._held)
        self._held = 0

    async def _receive(self, timeout_ms):
        if self._held == len(self._buffer):
            self._held = 0  # babble: what stood here was no answer
        number = await self._line.receive(self._buffer, self._held, timeout_ms)
        if number:
            self._held += number
            self._last_ms = self._ticks.ticks_ms()
        return number

    def _echo(self, request):
        # Some transceivers hear themselves: how many bytes at the front are our own question. The answer to a single
        # write is the question over again, so there only a line that is known to echo counts.
        length = len(request)
        if self._held < length or (request[1] == rtu.WRITE_SINGLE and not self._echoes):
            return 0
        if bytes(memoryview(self._buffer)[:length]) != request:
            return 0
        self._echoes = True
        return length

    def _data(self, request, answer):
        start, length = answer
        function = self._buffer[start + 1]
        if function & rtu.FAILED:
            raise Refused(request[0], self._buffer[start + 2])
        first = 2 if function in (rtu.WRITE_SINGLE, rtu.WRITE_MULTIPLE, rtu.IDENTIFY) else 3
        return memoryview(self._buffer)[start + first : start + length - 2]

    def _since(self, began_ms):
        return self._ticks.ticks_diff(self._ticks.ticks_ms(), began_ms)


def _shape(request):
    # What tells the answers to two questions apart besides their content: function, and for reads the length, for
    # writes the register and value that are confirmed.
    function = request[1]
    if function in (rtu.WRITE_SINGLE, rtu.WRITE_MULTIPLE):
        return bytes(request[1:6])
    return function << 8 | rtu.longest_answer(request)
