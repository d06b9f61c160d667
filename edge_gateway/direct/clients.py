"""How a station without a board asks its instruments: the board's client on a line of the gateway, or Modbus TCP.

Both have what firmware.instruments and the health records want of firmware.bus.Client. A question blocks its thread and
holds the line's turn, so other stations on the line wait for one question at a time and no longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from edge_gateway.errors import LinkError, WrongAnswer
from edge_gateway.line_client import BITS_PER_CHARACTER, PAUSE_CHARACTERS
from edge_gateway.tcp_client import REFUSED, TcpClient
from edge_gateway.transport import Transport
from firmware import rtu
from firmware.bus import Client
from firmware.errors import BadAnswer, NoAnswer, Refused
from firmware.patience import LISTEN_AT_MOST, Latencies, Patience

Result = TypeVar("Result")


class RtuInstruments(Client):  # type: ignore[misc]  # the board's code has no types
    """The board's own client on a serial port or serial server of the gateway."""

    def __init__(self, transport: Transport, baud: int, settle_s: float) -> None:
        super().__init__(_BoardLine(transport, baud, settle_s))
        self._transport = transport

    async def ask(self, request: bytes, patience: Patience, retries: int = 0) -> memoryview:
        """Return the data of the answer. Raises firmware.errors.BusError."""
        return await asyncio.to_thread(self.ask_now, request, patience, retries)

    def ask_now(self, request: bytes, patience: Patience, retries: int = 0) -> memoryview:
        """Do the same, blocking."""
        with self._transport.turn:
            try:
                return _finished(super().ask(request, patience, retries))
            except LinkError as error:
                self.timeouts += 1
                raise NoAnswer(str(error)) from error


class _BoardLine:
    """What firmware.bus wants of a line; every wait blocks. A connection that is lost is a line that fell silent."""

    def __init__(self, transport: Transport, baud: int, settle_s: float) -> None:
        self._transport = transport
        self._character_s = BITS_PER_CHARACTER / baud
        self._settle_s = settle_s

    def duration_ms(self, length: int) -> int:
        return int(1000 * length * self._character_s) + 1

    async def pause(self) -> None:
        if not self._transport.is_usable():
            self._transport.open()
            ends_at = time.monotonic() + LISTEN_AT_MOST * self._settle_s
            while self._transport.read(self._settle_s) and time.monotonic() < ends_at:
                pass  # whoever used the line before may have left a question open
        time.sleep(PAUSE_CHARACTERS * self._character_s)

    async def send(self, frame: bytes) -> None:
        self._transport.write(bytes(frame))

    async def receive(self, buffer: bytearray, start: int, timeout_ms: float) -> int:
        try:
            received = self._transport.read(timeout_ms / 1000)[: len(buffer) - start]
        except LinkError:
            return 0
        buffer[start : start + len(received)] = received
        return len(received)


class TcpInstruments:
    """Instruments behind Modbus TCP, such as a PLC; each unit has its number."""

    def __init__(self, client: TcpClient, units: tuple[int, ...]) -> None:
        self._client = client
        self._units = units
        self._latencies = Latencies()

    polls = property(lambda self: self._sum("questions"))
    timeouts = property(lambda self: self._sum("timeouts"))
    crc_errors = property(lambda self: self._sum("crc_errors"))
    late_answers = property(lambda self: self._sum("late_answers"))
    held = property(lambda self: self._sum("held"))

    def take_latencies(self) -> Latencies:
        """Return the latencies since this was called last."""
        taken, self._latencies = self._latencies, Latencies()
        return taken

    async def ask(self, request: bytes, _patience: Patience, retries: int = 0) -> bytes:
        """Return the data of the answer to an RTU frame's question. Raises firmware.errors.BusError."""
        return await asyncio.to_thread(self.ask_now, bytes(request), _patience, retries)

    def ask_now(self, request: bytes, _patience: Patience, retries: int = 0) -> bytes:
        """Do the same, blocking."""
        unit, question = request[0], request[1:-2]
        begun = time.monotonic()
        try:
            body = self._client.exchange(unit, question, retries)
        except WrongAnswer as error:
            raise BadAnswer(str(error)) from error
        except LinkError as error:
            raise NoAnswer(str(error)) from error
        self._latencies.add(round(1000 * (time.monotonic() - begun)))
        if body[0] & REFUSED:
            raise Refused(unit, body[1])
        return _data(unit, question, body)

    def _sum(self, counter: str) -> int:
        return sum(getattr(self._client.counters(unit), counter) for unit in self._units)


def _data(unit: int, question: bytes, body: bytes) -> bytes:
    if question[0] in (rtu.WRITE_SINGLE, rtu.WRITE_MULTIPLE):
        if body[1:5] != question[1:5]:
            raise BadAnswer(f"unit {unit}: confirms another write")
        return body[1:]
    if question[0] == rtu.IDENTIFY:
        return body[1:]
    if len(body) != 2 + 2 * (question[3] << 8 | question[4]) or body[1] != len(body) - 2:
        raise BadAnswer(f"unit {unit}: {len(body)} bytes do not answer the question")
    return body[2:]


def _finished(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Return what a coroutine comes to that waits for nothing but blocks."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    raise AssertionError("the line gave way")
