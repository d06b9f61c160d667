# The client on the instruments' line. One owner: whoever asks holds the lock until the line is quiet again.
#
# Modbus RTU has no transaction id, so a late answer to the last question looks like the answer to this one, with a good
# CRC. Patience is the policy against that and knows no port; Client carries it out on a Line.
import asyncio

from firmware import rtu
from firmware import ticks as real_ticks
from firmware.errors import BadAnswer, NoAnswer, Refused

_MARGIN = 2  # the line must be quiet this many times the worst latency seen
_SETTLE_MS = 15  # and this long after an answer: some repeaters send everything twice
_CEILING = 4  # and never longer than this many timeouts, so that one instrument cannot hold the line
_FORGET = (
    64  # each good answer takes 1/64 off the worst latency: one bad day is not held against an instrument for ever
)

# What to do with what came back
ACCEPT = "the answer"
ASK_AGAIN = "stray answers: none of them can be trusted"


class Patience:
    # How long to wait for one instrument, learned from its answers.
    #
    # timeout_ms   an answer is expected within this time (configured)
    # worst_ms     the longest latency seen, late answers included
    # in_doubt     a question was given up and no late answer to it has been seen: it may still come
    def __init__(self, timeout_ms):
        self.timeout_ms = timeout_ms
        self.worst_ms = 0
        self.in_doubt = False

    def quiet_ms(self):
        # After a timeout the line must have been quiet this long before the next question.
        learned_ms = max(self.timeout_ms, _MARGIN * self.worst_ms)
        return min(learned_ms, _CEILING * self.timeout_ms)

    def answered(self, latency_ms):
        self.worst_ms = max(latency_ms, self.worst_ms - self.worst_ms // _FORGET)

    def gave_up(self, late_answers, latency_ms):
        # A question went unanswered; late_answers came while the line was listened to, the last after latency_ms.
        self.in_doubt = late_answers == 0
        if late_answers:
            self.worst_ms = max(self.worst_ms, latency_ms)

    def judge(self, stray_answers):
        # What an answer is worth when so many others came with it.
        self.in_doubt = False
        return ASK_AGAIN if stray_answers else ACCEPT


class Client:
    def __init__(self, line, ticks=real_ticks):
        self.polls = 0
        self.timeouts = 0
        self.crc_errors = 0
        self.late_answers = 0
        self._line = line
        self._ticks = ticks
        self._buffer = bytearray(2 * rtu.MAX_FRAME)
        self._held = 0
        self._last_ms = 0
        self._echoes = False
        self._lock = asyncio.Lock()

    async def ask(self, request, patience, retries=0):
        # Returns the data of the answer (a view that the next question overwrites), or raises a BusError.
        async with self._lock:
            for _ in range(retries + 1):
                answer = await self._ask_once(request, patience)
                if answer is not None:
                    return self._data(request, answer)
            if self._held:
                raise BadAnswer("instrument %d: no good frame among %d bytes" % (request[0], self._held))
            raise NoAnswer("instrument %d: no answer in %d ms" % (request[0], patience.timeout_ms))

    async def _ask_once(self, request, patience):
        # (start, length) of the answer in the buffer, or None; the line is quiet afterwards.
        await self._line.pause()
        await self._discard()
        self.polls += 1
        await self._line.send(request)
        asked_ms = self._ticks.ticks_ms()
        answer = await self._await_answer(request, asked_ms, patience.timeout_ms)
        if answer is None:
            await self._give_up(request, asked_ms, patience)
            return None
        patience.answered(self._since(asked_ms))
        before = rtu.count_answers(self._buffer, self._echo(request), answer[0])
        quiet_ms = patience.quiet_ms() if patience.in_doubt or before else _SETTLE_MS
        after, alike = await self._listen(answer, quiet_ms)
        self.late_answers += before + after
        return answer if patience.judge(before + after - alike) is ACCEPT else None

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

    async def _give_up(self, request, asked_ms, patience):
        # Count what happened, then listen until the line has been quiet long enough.
        begin = self._echo(request)
        strays = rtu.count_answers(self._buffer, begin, self._held)
        if self._held > begin and not strays:
            self.crc_errors += 1
        else:
            self.timeouts += 1
        late, _ = await self._listen((self._held, 0), patience.quiet_ms())
        patience.gave_up(late, self._ticks.ticks_diff(self._last_ms, asked_ms))
        self.late_answers += strays + late

    async def _listen(self, answer, quiet_ms):
        # Listen until nothing has come for quiet_ms. Returns how many good answers came behind this one, and how many
        # of them repeat it byte for byte. A line that never falls silent is left after three such times: the next
        # question is lost in the babble, and counted.
        end = answer[0] + answer[1]
        began_ms = self._ticks.ticks_ms()
        late = alike = 0
        while self._since(began_ms) < 3 * quiet_ms and await self._receive(quiet_ms):
            if self._held == len(self._buffer):  # keep the answer in front, make room behind it
                late += rtu.count_answers(self._buffer, end, self._held)
                self._held = end
        late += rtu.count_answers(self._buffer, end, self._held)
        if answer[1] and self._held - end == answer[1]:
            view = memoryview(self._buffer)
            alike = int(view[answer[0] : end] == view[end : self._held])
        self._held = end
        return late, alike

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
