"""The Modbus RTU client of one line: one question at a time, its answer, and a quiet line afterwards.

The board asks its instruments in the same way (firmware.bus): what to believe and how long to wait is one policy for
both, firmware.patience, one per device. Here it is carried out on a serial port of the host, or on a TCP connection to
a serial server or radio modem that passes the bytes on.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, Protocol

from pymodbus.pdu import ModbusPDU

from edge_gateway import rtu_frames
from edge_gateway.errors import ConnectionLost, NoAnswer, WrongAnswer
from edge_gateway.rtu_frames import Question
from edge_gateway.transport import Transport
from firmware.patience import ACCEPT, HEARD, LISTEN_AT_MOST, Latencies, Patience

SETTLE_MS = 15  # the line must be quiet this long after an answer: some repeaters send everything twice
PAUSE_CHARACTERS = 4  # of silence before a question: until then the other side may still hold the line
BITS_PER_CHARACTER = 11
BUFFER_BYTES = 4 * rtu_frames.LONGEST_FRAME_BYTES  # when it is full, what was heard first goes


@dataclass
class LinkCounters:
    """What happened on the way to one device since the gateway started."""

    questions: int = 0
    timeouts: int = 0
    crc_errors: int = 0
    late_answers: int = 0
    wrong_answers: int = 0
    refusals: int = 0
    held: int = 0
    latencies: Latencies = field(default_factory=Latencies)


class ModbusClient(Protocol):
    """What the gateway's questions need of a line, whatever carries it."""

    def counters(self, address: int) -> LinkCounters:
        """Return the counters of the device at `address`."""

    def is_in_doubt(self, request: ModbusPDU) -> bool:
        """Whether an answer to an earlier question may still come that looks like the answer to this one."""

    def open(self) -> None:
        """Make the line usable. Raises LineUnavailable."""

    def close(self) -> None:
        """Let go of the line."""

    def settle(self, address: int) -> None:
        """What was answered makes no sense: count it, and let what is still on its way go by."""

    def ask(self, request: ModbusPDU, meaning: Hashable = None, retries: int = 0) -> ModbusPDU:
        """Ask one question and return its answer, a refusal too. Raises LinkError."""


class _Asked(NamedTuple):
    question: Question
    meaning: Hashable
    at_ms: int


class _Result(NamedTuple):
    frame: bytes | None
    verdict: str | None
    why_not: str


class LineClient:
    """The client of one line. Any thread; one question at a time."""

    def __init__(self, transport: Transport, timeout_s: float, baud: int) -> None:
        self._transport = transport
        self._character_ms = 1000 * BITS_PER_CHARACTER / baud
        self._timeout_ms = max(1, round(1000 * timeout_s))
        self._patience: dict[int, Patience] = {}
        self._counters: dict[int, LinkCounters] = {}
        self._heard = bytearray()
        self._last_byte_ms = 0
        self._echoes = False  # this side hears itself

    def counters(self, address: int) -> LinkCounters:
        """Return the counters of the device at `address`."""
        return self._counters.setdefault(address, LinkCounters())

    def patience(self, address: int) -> Patience:
        """Return what is known of the device at `address`."""
        return self._patience.setdefault(address, Patience(self._timeout_ms))

    def is_in_doubt(self, request: ModbusPDU) -> bool:
        """Whether an answer to an earlier question may still come that looks like the answer to this one."""
        return self.patience(request.dev_id).is_in_doubt(rtu_frames.question(request).shape, _now_ms())

    def open(self) -> None:
        """Open the port if it is not open, and let what is under way on the line die away. Raises LineUnavailable."""
        with self._transport.turn:
            self._open()

    def close(self) -> None:
        """Close the port."""
        with self._transport.turn:
            self._transport.close()

    def settle(self, address: int) -> None:
        """Listen until the line is quiet: what was answered makes no sense, so an answer may still be on its way."""
        self.counters(address).wrong_answers += 1
        with self._transport.turn:
            self._listen(self.patience(address).quiet_ms())

    def ask(self, request: ModbusPDU, meaning: Hashable = None, retries: int = 0) -> ModbusPDU:
        """Ask one question and return its answer, a refusal too; the line is quiet afterwards. Raises LinkError.

        Two questions of the same `meaning` may get each other's answers; without it only a frame means itself.
        """
        question = rtu_frames.question(request)
        with self._transport.turn:
            frame = self._ask(question, question.frame if meaning is None else meaning, retries)
        answer = rtu_frames.decode(frame)
        if answer is None:
            self.counters(question.address).wrong_answers += 1
            raise WrongAnswer(f"address {question.address}: a good frame that cannot be decoded")
        return answer

    def _open(self) -> None:
        if self._transport.is_usable():
            return
        self._transport.open()
        # Whoever used the line before us, perhaps this gateway before it was killed, may have left a question open.
        self._listen(self._timeout_ms)

    def _ask(self, question: Question, meaning: Hashable, retries: int) -> bytes:
        hold = self.patience(question.address).hold(meaning, question.shape, _now_ms())
        if hold is not None:
            self.counters(question.address).held += 1
            raise NoAnswer(f"address {question.address}: not asked: {hold}")
        result = self._ask_once(question, meaning)
        for asking in range(1, retries + 2):
            if result.verdict is ACCEPT or (asking > retries and result.verdict is not HEARD):
                break
            result = self._ask_once(question, meaning)
        if result.frame is None or result.verdict is not ACCEPT:
            self._refuse(question, result)
        return result.frame

    def _refuse(self, question: Question, result: _Result) -> NoReturn:
        if result.frame is None:
            raise NoAnswer(f"address {question.address}: {result.why_not}")
        self.counters(question.address).wrong_answers += 1
        raise WrongAnswer(f"address {question.address}: {result.verdict}")

    def _ask_once(self, question: Question, meaning: Hashable) -> _Result:
        counters = self.counters(question.address)
        self._open()
        time.sleep(PAUSE_CHARACTERS * self._character_ms / 1000)
        self._heard.clear()
        self._receive(0)
        counters.late_answers += rtu_frames.count_frames(self._heard)
        self._heard.clear()
        counters.questions += 1
        asked = _Asked(question, meaning, _now_ms())
        try:
            self._transport.write(question.frame)
            if not self._await_answer(asked):
                return self._give_up(asked)
            latency_ms = _now_ms() - asked.at_ms
            counters.latencies.add(latency_ms)
            return self._judge(asked, latency_ms)
        except ConnectionLost:  # its answer may come through the next connection
            counters.timeouts += 1
            self.patience(question.address).gave_up(meaning, question.shape, [], asked.at_ms, 0)
            raise

    def _await_answer(self, asked: _Asked) -> bool:
        """Receive until an answer has come; say whether it came in time. Its own length counts on top."""
        wire_ms = (len(asked.question.frame) + asked.question.answer_bytes) * self._character_ms
        ends_ms = asked.at_ms + self._timeout_ms + wire_ms
        while (left_ms := ends_ms - _now_ms()) > 0 and self._receive(left_ms):
            if any(rtu_frames.answers(asked.question, self._without_echo(asked.question))):
                return True
        return False

    def _judge(self, asked: _Asked, latency_ms: int) -> _Result:
        """Listen to what else comes, then let the policy say."""
        question, patience = asked.question, self.patience(asked.question.address)
        several = rtu_frames.count_frames(self._without_echo(question)) > 1
        unclear = patience.is_in_doubt(question.shape, asked.at_ms) or several
        self._listen(patience.quiet_ms() if unclear else SETTLE_MS)
        heard = self._without_echo(question)
        found = list(rtu_frames.answers(question, heard))
        self.counters(question.address).late_answers += max(0, rtu_frames.count_frames(heard) - 1)
        if not found:  # the line talked on until the answer had to make room
            return self._give_up(asked)
        if not question.answers_with_itself:
            self._echoes = self._heard.startswith(question.frame)
        checksums = [rtu_frames.checksum(frame) for frame in found]
        verdict = patience.judge(
            asked.meaning, question.shape, checksums, asked.at_ms, latency_ms, rtu_frames.is_exception(found[0])
        )
        return _Result(found[0], verdict, "")

    def _give_up(self, asked: _Asked) -> _Result:
        """Count what happened, then listen until the line has been quiet long enough."""
        question, patience = asked.question, self.patience(asked.question.address)
        counters = self.counters(question.address)
        damaged = bytes(self._heard.removeprefix(question.frame))  # some transceivers hear themselves
        if damaged and not rtu_frames.count_frames(damaged):
            counters.crc_errors += 1
            why_not = f"no good frame among {len(damaged)} bytes"
        else:
            counters.timeouts += 1
            why_not = f"no answer within {(_now_ms() - asked.at_ms) / 1000:.1f} s"
        self._listen(patience.quiet_ms())
        heard = bytes(self._heard)
        counters.late_answers += rtu_frames.count_frames(heard)
        checksums = [rtu_frames.checksum(frame) for frame in rtu_frames.answers(question, heard)]
        patience.gave_up(asked.meaning, question.shape, checksums, asked.at_ms, self._last_byte_ms - asked.at_ms)
        return _Result(None, None, why_not)

    def _without_echo(self, question: Question) -> bytes:
        """Return what was heard; where this side hears itself, a written chunk of a file is not its own answer."""
        heard = bytes(self._heard)
        return heard.removeprefix(question.frame) if self._echoes and question.answers_with_itself else heard

    def _listen(self, quiet_ms: float) -> None:
        """Receive until nothing has come for quiet_ms; a line that does not fall silent is left in the end."""
        ends_ms = _now_ms() + LISTEN_AT_MOST * self._timeout_ms
        while (left_ms := ends_ms - _now_ms()) > 0 and self._receive(min(quiet_ms, left_ms)):
            pass

    def _receive(self, timeout_ms: float) -> bool:
        """Add what comes within timeout_ms to what was heard; say whether anything came."""
        received = self._transport.read(timeout_ms / 1000)
        if not received:
            return False
        self._heard += received
        del self._heard[:-BUFFER_BYTES]
        self._last_byte_ms = _now_ms()
        return True


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
