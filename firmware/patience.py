# Which answers to believe on a Modbus RTU line, and how long to wait: one policy for the board, which asks instruments,
# and for the gateway, which asks stations. Pure: no port, no clock; times are milliseconds that the caller hands in.
#
# Modbus RTU has no transaction number, so an answer that comes late looks like the answer to the next question, with a
# good CRC. Four rules stand against it:
#
#   quiet     after anything but one clean answer nobody speaks until the line has been silent for quiet_ms()
#   doubt     for horizon_ms() after such a question its answer may still come. Until then only the same question is
#             asked of this instrument, or one whose answer has another shape, so that the two cannot be confused
#   heard     bytes that have just answered another question (a repeater sends things twice) are not believed at once:
#             they count when the same question brings them again
#   refusal   an exception names no register at all: while there is any doubt it is not believed
#
# A question is anything that can be compared, a shape anything that can be a key: for reads (function, length).
from firmware import const

ACCEPT = "the answer"
STRAY = "more than one answer: none of them can be trusted"
HEARD = "these bytes have just answered another question: they count when they come again"
REFUSAL_IN_DOUBT = "a refusal that may belong to an earlier question"
HELD = "an answer to another question may still come, and would look alike"

QUIET_AT_MOST = 4  # timeouts, so that one instrument cannot hold the line
LISTEN_AT_MOST = 6  # timeouts: a line that does not fall silent is left then
_HORIZON = const(8)  # timeouts: no answer is believed to come later, unless one was seen
_HORIZON_AT_MOST = const(32)
_MARGIN = const(2)  # quiet time and horizon are this many times the worst latency seen
_FORGET = const(64)  # each answer takes 1/64 off the worst latency: one bad day is not held against it for ever
_REMEMBERED = const(8)  # answers
_PERIOD = const(1 << 30)  # milliseconds may begin again at any multiple of this


class Patience:
    # What is known of one instrument or station.
    #
    # timeout_ms   an answer is expected within this time (configured)
    # worst_ms     the longest latency seen, late answers included
    def __init__(self, timeout_ms: int) -> None:
        self.timeout_ms = timeout_ms
        self.worst_ms = 0
        # shape: [question, when it was asked last, whether another question waits for the end]
        self._doubts: dict = {}  # type: ignore[type-arg]
        # [shape, question, checksum, when] of the last answers, oldest first
        self._heard: list = []  # type: ignore[type-arg]
        self._sends_copies = False  # answers of this one have come twice

    def quiet_ms(self) -> int:
        # How long the line must have been silent before the next question, after a bad one.
        return min(max(self.timeout_ms, _MARGIN * self.worst_ms), QUIET_AT_MOST * self.timeout_ms)

    def horizon_ms(self) -> int:
        # How long after a question its answer can come.
        return min(max(_HORIZON * self.timeout_ms, _MARGIN * self.worst_ms), _HORIZON_AT_MOST * self.timeout_ms)

    def budget_ms(self, retries: int) -> int:
        # The longest that one asking takes the line whatever happens on it, its bytes on the wire left out. One that is
        # merely silent takes (retries + 1) * (timeout_ms + quiet_ms()).
        return (retries + 2) * (1 + LISTEN_AT_MOST) * self.timeout_ms

    def hold(self, question: object, shape: object, now_ms: int) -> str | None:
        # HELD when this question must wait, else None. Once a question was held the one in doubt rests as well:
        # otherwise its next asking would renew the doubt for ever.
        doubt = self._doubt(shape, now_ms)
        if doubt is None or (doubt[0] == question and not doubt[2]):
            return None
        doubt[2] = True
        return HELD

    def is_in_doubt(self, shape: object, now_ms: int) -> bool:
        return self._doubt(shape, now_ms) is not None

    def judge(
        self,
        question: object,
        shape: object,
        checksums: list[int],
        asked_ms: int,
        latency_ms: int,
        is_refusal: bool = False,
    ) -> str:
        # What an answer is worth that came in time, in so many ms. checksums: its own, then those of all others that
        # came with it and could be meant instead.
        self.worst_ms = max(latency_ms, self.worst_ms - self.worst_ms // _FORGET)
        self._note_copies(checksums)
        if len(set(checksums)) > 1:
            verdict = STRAY
        elif is_refusal:
            verdict = REFUSAL_IN_DOUBT if self._any_doubt(asked_ms) else ACCEPT
        else:
            verdict = self._compare(question, shape, checksums[0], asked_ms)
            self._remember(question, shape, checksums[0], asked_ms + latency_ms)
        if verdict is not ACCEPT or self._doubt(shape, asked_ms) is not None:
            self._begin_doubt(question, shape, asked_ms)
        return verdict

    def gave_up(self, question: object, shape: object, checksums: list[int], asked_ms: int, latency_ms: int) -> None:
        # No answer came in time. checksums: of the answers that came while the line was listened to afterwards, the
        # last of them after latency_ms. If it was the one that is missing, nothing is in doubt.
        if checksums:
            self.worst_ms = max(self.worst_ms, latency_ms)
            self._note_copies(checksums)
        if len(checksums) == 1 and self._is_the_missing_one(shape, checksums[0], asked_ms):
            self._remember(question, shape, checksums[0], asked_ms + latency_ms)
        else:
            self._begin_doubt(question, shape, asked_ms)

    def _note_copies(self, checksums: list[int]) -> None:
        self._sends_copies = self._sends_copies or len(set(checksums)) < len(checksums)

    def _is_the_missing_one(self, shape: object, checksum: int, asked_ms: int) -> bool:
        if self._sends_copies or self._doubt(shape, asked_ms) is not None:
            return False
        return not any(self._was_heard(entry, shape, checksum, asked_ms) for entry in self._heard)

    def _compare(self, question: object, shape: object, checksum: int, asked_ms: int) -> str:
        alike = [entry for entry in self._heard if self._was_heard(entry, shape, checksum, asked_ms)]
        for entry in alike:
            if entry[1] == question:
                # The same bytes for the same question, at once, from one that sends copies: right either way, but if
                # it was a copy of the last answer, then the answer to this question is still on its way.
                if self._sends_copies and _elapsed(asked_ms, entry[3]) < self.timeout_ms:
                    self._begin_doubt(question, shape, asked_ms)
                return ACCEPT
        self._sends_copies = self._sends_copies or bool(alike)
        return HEARD if alike else ACCEPT

    def _was_heard(self, entry: list, shape: object, checksum: int, now_ms: int) -> bool:  # type: ignore[type-arg]
        same: bool = entry[0] == shape and entry[2] == checksum
        return same and _elapsed(now_ms, entry[3]) < self.horizon_ms()

    def _remember(self, question: object, shape: object, checksum: int, heard_ms: int) -> None:
        for entry in self._heard:
            if entry[0] == shape and entry[1] == question:
                entry[2] = checksum
                entry[3] = heard_ms
                return
        self._heard.append([shape, question, checksum, heard_ms])
        if len(self._heard) > _REMEMBERED:
            del self._heard[0]

    def _doubt(self, shape: object, now_ms: int) -> list | None:  # type: ignore[type-arg]
        doubt = self._doubts.get(shape)
        if doubt is not None and _elapsed(now_ms, doubt[1]) >= self.horizon_ms():
            del self._doubts[shape]
            return None
        return doubt

    def _any_doubt(self, now_ms: int) -> bool:
        return any(self._doubt(shape, now_ms) is not None for shape in list(self._doubts))

    def _begin_doubt(self, question: object, shape: object, asked_ms: int) -> None:
        doubt = self._doubt(shape, asked_ms)
        waits = doubt is not None and doubt[2]
        self._doubts[shape] = [question, asked_ms, waits]


class Latencies:
    # A histogram of how long answers took, in classes two to an octave: 1 2 3 4 6 8 12 16 24 32 48 ... ms.
    # percentile() says the upper end of a class, never more than the longest seen, which is exact.
    def __init__(self) -> None:
        self.counts = [0] * len(LATENCY_CLASSES_MS)
        self.longest_ms = 0

    def add(self, latency_ms: int) -> None:
        self.longest_ms = max(self.longest_ms, latency_ms)
        number = 0
        while latency_ms > LATENCY_CLASSES_MS[number]:
            number += 1
        self.counts[number] += 1

    def percentile(self, percent: int) -> int | None:
        # ms that so many percent of the answers did not exceed; None before the first.
        wanted = sum(self.counts) * percent
        passed = 0
        for number, upper_ms in zip(self.counts, LATENCY_CLASSES_MS):
            passed += 100 * number
            if number and passed >= wanted:
                return min(upper_ms, self.longest_ms)
        return None


# The last class holds everything longer.
LATENCY_CLASSES_MS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 1 << 30)


def _elapsed(now_ms: int, since_ms: int) -> int:
    return (now_ms - since_ms) % _PERIOD
