"""The Modbus client of one TCP connection: each question has a number, and only the answer with that number is it.

A frame is 7 bytes (transaction, protocol 0, length, unit), then what RTU has between address and CRC. An answer that
comes late names its own question, so nothing need be held back. It is waited for all the same, as long as that device
has ever taken: a converter to RS-485 works off what it was asked one by one, and whoever goes on asking is answered
late for ever.

Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Hashable
from typing import NoReturn

from pymodbus.pdu import DecodePDU, ModbusPDU

from edge_gateway import rtu_frames
from edge_gateway.errors import ConnectionLost, NoAnswer, WrongAnswer
from edge_gateway.line_client import LinkCounters
from edge_gateway.transport import Transport
from firmware.patience import QUIET_AT_MOST

HEADER = struct.Struct(">HHHB")  # transaction, protocol, length of what follows it, unit
SHORTEST_LENGTH, LONGEST_LENGTH = 3, 254  # unit, function, one byte; a frame has 260 bytes at most
TRANSACTIONS = 1 << 16
READS_AT_MOST = 16  # before a question: whoever talks without end is not listened to for ever
REFUSED = 0x80
READING = frozenset({1, 2, 3, 4})  # functions that change nothing, however often they are asked
MARGIN = 2  # a late answer is waited for this many times the longest time seen

_DECODER = DecodePDU(False)


class TcpClient:
    """The client of one connection. Any thread; one question at a time."""

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._transaction = 0
        self._received = bytearray()
        self._counters: dict[int, LinkCounters] = {}
        self._worst_s: dict[int, float] = {}

    def counters(self, address: int) -> LinkCounters:
        """Return the counters of the unit `address`."""
        return self._counters.setdefault(address, LinkCounters())

    def is_in_doubt(self, _request: ModbusPDU) -> bool:
        """Whether answers could be confused: never, they have numbers."""
        return False

    def open(self) -> None:
        """Connect if there is no connection. Raises LineUnavailable."""
        with self._transport.turn:
            self._open()

    def close(self) -> None:
        """Close the connection."""
        with self._transport.turn:
            self._transport.close()

    def settle(self, address: int) -> None:
        """Count an answer that makes no sense. There is nothing to wait for: no other question gets its answer."""
        self.counters(address).wrong_answers += 1

    def ask(self, request: ModbusPDU, _meaning: Hashable = None, retries: int = 0) -> ModbusPDU:
        """Ask one question and return its answer, a refusal too. Raises LinkError."""
        question = rtu_frames.question(request)
        body = self.exchange(question.address, question.frame[1:-2], retries)
        answer = _DECODER.decode(body)
        refused = body[0] & REFUSED
        if answer is None or (not refused and len(body) != question.answer_bytes - 3):
            self.counters(question.address).wrong_answers += 1
            raise WrongAnswer(f"unit {question.address}: an answer of {len(body)} bytes that does not fit the question")
        return answer

    def exchange(self, unit: int, question: bytes, retries: int = 0) -> bytes:
        """Ask with function and data as they are; return those of the answer, a refusal too. Raises LinkError."""
        with self._transport.turn:
            for _ in range(retries):
                try:
                    return self._exchange_anew(unit, question)
                except NoAnswer:
                    continue
            return self._exchange_anew(unit, question)

    def _exchange_anew(self, unit: int, question: bytes) -> bytes:
        """Exchange, once more on a new connection where the old one ended while a reading question was on its way.

        Some converters close after each answer: whether that shows before the next question is a matter of luck. A
        writing question may have been carried out, so it is not asked again.
        """
        is_new = self._open()
        try:
            return self._exchange_once(unit, question)
        except ConnectionLost:
            if is_new or question[0] not in READING:
                raise
        self._open()
        return self._exchange_once(unit, question)

    def _open(self) -> bool:
        """Connect if there is no connection that can be used; say whether it is a new one. Raises LineUnavailable."""
        if self._transport.is_usable():
            return False
        self._transport.open()
        self._received.clear()
        return True

    def _exchange_once(self, unit: int, question: bytes) -> bytes:
        counters = self.counters(unit)
        self._transaction = (self._transaction + 1) % TRANSACTIONS
        counters.questions += 1
        asked_at = time.monotonic()
        try:
            self._pass_over_late(unit)
            self._transport.write(HEADER.pack(self._transaction, 0, len(question) + 1, unit) + question)
            body = self._await(unit, asked_at + self._timeout_s)
            if body is None:
                self._give_up(unit, asked_at)
        except ConnectionLost:
            counters.timeouts += 1
            raise
        latency_s = time.monotonic() - asked_at
        counters.latencies.add(round(1000 * latency_s))
        self._worst_s[unit] = max(latency_s, self._worst_s.get(unit, 0.0) * (1 - 1 / 64))
        if body[0] & ~REFUSED != question[0]:
            counters.wrong_answers += 1
            raise WrongAnswer(f"unit {unit}: an answer with function {body[0]:#04x} to {question[0]:#04x}")
        return body

    def _give_up(self, unit: int, asked_at: float) -> NoReturn:
        """Count the timeout and wait a while for the answer: it tells how late this unit can be. Raises NoAnswer."""
        counters = self.counters(unit)
        counters.timeouts += 1
        wait_s = min(max(self._timeout_s, MARGIN * self._worst_s.get(unit, 0.0)), QUIET_AT_MOST * self._timeout_s)
        if self._await(unit, time.monotonic() + wait_s) is not None:
            counters.late_answers += 1
            self._worst_s[unit] = max(self._worst_s.get(unit, 0.0), time.monotonic() - asked_at)
        raise NoAnswer(f"unit {unit}: no answer within {self._timeout_s:g} s")

    def _await(self, unit: int, ends_at: float) -> bytes | None:
        """Return function and data of the answer to the question asked last, None when it does not come in time."""
        while True:
            while (frame := self._next_frame(unit)) is not None:
                transaction, from_unit, body = frame
                if transaction == self._transaction and from_unit == unit:
                    return body
                self._count_stray(unit, transaction == self._transaction)
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                return None
            self._received += self._transport.read(left_s)

    def _count_stray(self, unit: int, has_the_number: bool) -> None:
        counters = self.counters(unit)
        if has_the_number:
            counters.wrong_answers += 1
        else:
            counters.late_answers += 1

    def _pass_over_late(self, unit: int) -> None:
        """Take what has come since the last question: answers to older ones."""
        for _ in range(READS_AT_MOST):
            received = self._transport.read(0)
            if not received:
                return
            self._received += received
            while self._next_frame(unit) is not None:
                self.counters(unit).late_answers += 1

    def _next_frame(self, unit: int) -> tuple[int, int, bytes] | None:
        """Take the next whole frame: (transaction, unit, function and data). Raises ConnectionLost."""
        if len(self._received) < HEADER.size:
            return None
        transaction, protocol, length, from_unit = HEADER.unpack_from(self._received)
        if protocol != 0 or not SHORTEST_LENGTH <= length <= LONGEST_LENGTH:
            # Nothing tells where the next frame begins; only a new connection does.
            self.counters(unit).crc_errors += 1
            self._transport.close()
            raise ConnectionLost(f"{self._transport.name}: not Modbus TCP (protocol {protocol}, length {length})")
        end = HEADER.size - 1 + length
        if len(self._received) < end:
            return None
        body = bytes(self._received[HEADER.size : end])
        del self._received[:end]
        return transaction, from_unit, body
