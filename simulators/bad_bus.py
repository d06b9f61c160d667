"""Instruments on a bad line: answers late, lost, doubled, damaged and mixed up, each register telling its own name.

Several instruments with several neighbouring registers, all read with the same function and length: the case in which
Modbus RTU cannot tell one answer from another. The first half of each value says whose it is, so whoever stores a
value under another name is found out exactly. Lateness is told in timeouts of the client on the line.

    late      comes after the timeout, at most LATEST_TIMEOUTS after the question, with the old register's value
    lost      never comes
    doubled   comes twice, the copy at once or up to nine tenths of a timeout behind
    damaged   one bit flipped, or stray bytes around it
    mixed     is kept back and comes in one piece with the answer to the next question, before it or behind it
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections import Counter
from dataclasses import dataclass, fields

from firmware.record import crc16
from simulators.faults.line import LineFaults, pass_chunk

READ_HOLDING = 3
INSTRUMENTS = (1, 2, 3)
REGISTERS = (0, 2, 4, 6)
LENGTH = 2
QUESTION_BYTES = 8
LATEST_TIMEOUTS = 6.0
_LATENCY_S = (0.001, 0.006)
_COPY_LAG_TIMEOUTS = 0.9
_DAMAGE = (LineFaults(corrupt=1.0), LineFaults(noise=1.0))


@dataclass(frozen=True)
class Badness:
    """The share of answers each thing happens to. The rest are good."""

    late: float = 0.03
    lost: float = 0.02
    doubled: float = 0.01
    damaged: float = 0.02
    mixed: float = 0.01


class BadBus:
    """Plays the instruments on one end of a line. `timeout_s` is the client's."""

    def __init__(self, fd: int, timeout_s: float, seed: int, badness: Badness) -> None:
        self.counters: Counter[str] = Counter()
        self._fd = fd
        self._timeout_s = timeout_s
        self._chance = random.Random(seed)  # noqa: S311 - the same seed must give the same faults
        self._badness = badness
        self._asked: Counter[tuple[int, int]] = Counter()
        self._heard = b""
        self._kept_back: list[tuple[float, bytes]] = []
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin to answer."""
        self._loop.add_reader(self._fd, self._on_bytes)

    def stop(self) -> None:
        """Answer nothing more."""
        self._loop.remove_reader(self._fd)

    def _on_bytes(self) -> None:
        self._heard += os.read(self._fd, 4096)
        while len(self._heard) >= QUESTION_BYTES:
            question = self._heard[:QUESTION_BYTES]
            if crc16(question) == 0:
                self._heard = self._heard[QUESTION_BYTES:]
                self._on_question(question)
            else:
                self._heard = self._heard[1:]

    def _on_question(self, question: bytes) -> None:
        address, function, register, length = struct.unpack(">BBHH", question[:-2])
        if address not in INSTRUMENTS or function != READ_HOLDING or register not in REGISTERS or length != LENGTH:
            return
        self.counters["questions"] += 1
        self._asked[address, register] += 1
        number = self._asked[address, register] & 0xFFFF
        body = struct.pack(">BBBBBH", address, function, 2 * LENGTH, address, register, number)
        self._answer(body + struct.pack("<H", crc16(body)))

    def _answer(self, answer: bytes) -> None:
        latency_s = self._chance.uniform(*_LATENCY_S)
        fault = self._fault()
        self.counters[fault] += 1
        if fault == "late":
            self._send_after(self._timeout_s * self._chance.uniform(1.0, LATEST_TIMEOUTS), answer)
        elif fault == "doubled":
            self._send_after(latency_s, answer)
            lag_s = self._chance.choice((0.0, self._chance.uniform(0.0, _COPY_LAG_TIMEOUTS))) * self._timeout_s
            self._send_after(latency_s + lag_s, answer)
        elif fault == "damaged":
            self._send_after(latency_s, pass_chunk(self._chance.choice(_DAMAGE), answer, self._chance).data)
        elif fault == "mixed":
            self._kept_back.append((self._loop.time() + LATEST_TIMEOUTS * self._timeout_s, answer))
        elif fault != "lost":
            self._send_after(latency_s, self._with_what_was_kept_back(answer))

    def _fault(self) -> str:
        dice = self._chance.random()
        for field in fields(self._badness):
            dice -= getattr(self._badness, field.name)
            if dice < 0:
                return field.name
        return "good"

    def _with_what_was_kept_back(self, answer: bytes) -> bytes:
        kept = [old for until, old in self._kept_back if self._loop.time() < until]
        self._kept_back.clear()
        for old in kept:
            answer = old + answer if self._chance.random() < 0.5 else answer + old
        return answer

    def _send_after(self, delay_s: float, data: bytes) -> None:
        self._loop.call_later(delay_s, self._send, self._loop.time() + delay_s, data)

    def _send(self, due: float, data: bytes) -> None:
        # On a busy machine an answer may miss its moment; one that would be later than announced is lost.
        if self._loop.time() - due > self._timeout_s / 2:
            self.counters["missed its moment"] += 1
            return
        try:
            os.write(self._fd, data)
        except BlockingIOError:  # nobody reads there any more
            self.counters["unread"] += 1
