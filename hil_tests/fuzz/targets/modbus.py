"""Modbus: questions to a station, answers to the gateway and to the board, SCADA's questions to the gateway."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from edge_gateway import rtu_frames
from edge_gateway.configuration import LineConfiguration, ModbusServerConfiguration
from edge_gateway.contacts import Contact
from edge_gateway.errors import LinkError
from edge_gateway.line_client import LineClient
from edge_gateway.modbus_image import LiveValues, StationImage
from edge_gateway.modbus_server import ModbusServer
from edge_gateway.station_link import StationLink
from edge_gateway.station_upkeep import StationFile
from edge_gateway.tcp_client import TcpClient
from edge_gateway.transport import Turn
from firmware import rtu
from firmware.errors import BusError
from firmware.line import Line
from firmware.record import crc16
from firmware.tests.station_parts import Parts, configuration_of, content
from firmware.uplink import Server, Uplink
from hil_tests.fuzz import scratch
from hil_tests.fuzz.steps import finished
from hil_tests.fuzz.target import Target
from station_config.clock import SystemClock

ADDRESS = 11
NOW = 1_780_000_000


def sealed(body: bytes) -> bytes:
    """Return a frame with its CRC."""
    return body + crc16(body).to_bytes(2, "little")


def frame_of(data: bytes) -> bytes:
    """Return the bytes that data is; behind 0xff, a frame to or from the station with its CRC."""
    return sealed(bytes((ADDRESS,)) + data[1:254]) if data[:1] == b"\xff" else data


class _Station:
    """A station whose journal and staged files are made anew now and then, so that no input depends on a thousand."""

    def __init__(self) -> None:
        self._folder = str(scratch.folder())
        self._used = 0
        self._renew()

    def _renew(self) -> None:
        parts = Parts(configuration_of(content()), root=self._folder, seconds=NOW)
        parts.journal.append([(NOW + at, at, 1, 34, 2) for at in range(30)])
        self.parts = parts
        self.server = Server(ADDRESS, "vam-kenh", "0.1.0", parts.station, parts.upkeep)

    def fresh(self) -> _Station:
        self._used += 1
        if self._used % 200 == 0:
            self._renew()
        return self


@cache
def _station() -> _Station:
    return _Station()


def _question(data: bytes) -> None:
    """Ask a station, sealed or not."""
    server = _station().fresh().server
    heard = frame_of(data)[-512:]
    start = rtu.find_request(heard, len(heard), ADDRESS)
    if start < 0:
        return
    question = heard[start:]
    answer = bytes(server.answer(memoryview(question)))
    assert 5 <= len(answer) <= 256, f"an answer of {len(answer)} bytes"
    assert crc16(answer) == 0
    assert answer[0] == ADDRESS
    assert answer[1] in (question[1], question[1] | 0x80)
    if not answer[1] & 0x80:
        assert rtu.find_answer(question, answer, 0, len(answer)) is not None or question[1] in (20, 21)


def _listening(data: bytes) -> None:
    """Let a station hear pieces of what others say on the line."""
    parts = _station().fresh().parts
    line = Line(parts.uart, 9600, ticks=parts.ticks)
    uplink = Uplink(line, _station().server)
    after_ms = 1
    for piece in _pieces(data):
        parts.uart.comes(after_ms, piece)
        after_ms += 7 * (piece[0] if piece else 1)
    _runner(os.getpid()).run(_hear(uplink, parts.uart))  # a command becomes a task of its own
    parts.uart._coming.clear()
    parts.uart.asked.clear()


@cache
def _runner(_pid: int) -> asyncio.Runner:
    return asyncio.Runner()


async def _hear(uplink: Any, uart: Any) -> None:
    for _ in range(40):
        if not await uplink.serve_once() and not uart._coming:
            break


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut data into pieces, each led by its length; every second length also seals the piece."""
    at = 0
    while at < len(data):
        size = data[at]
        piece = data[at + 1 : at + 1 + size // 2]
        yield sealed(piece) if size % 2 else piece
        at += 1 + size // 2


class _Wire:
    """A transport on which the answers are what the fuzzer says, at once, and silence after."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.answers: list[bytes] = []
        self._coming: list[bytes] = []
        self.closed = False
        self.asked = b""

    name = "wire"

    def is_usable(self) -> bool:
        return not self.closed

    def open(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:
        self.asked = data
        if self.answers:
            self._coming.append(self.answers.pop(0))

    def read(self, _timeout_s: float) -> bytes:
        return self._coming.pop(0) if self._coming else b""


_ASK: tuple[Callable[[StationLink], object], ...] = (
    lambda link: link.read_status(ADDRESS),
    lambda link: link.read_station_id(ADDRESS),
    lambda link: link.set_clock(ADDRESS, 1_780_000_000.5, 0.25),
    lambda link: link.fetch(ADDRESS, 7, 1, 0, 13),
    lambda link: link.read_facts(ADDRESS),
    lambda link: link.read_live(ADDRESS),
    lambda link: link.read_beginning(ADDRESS),
    lambda link: link.read_care(ADDRESS),
    lambda link: link.describe_file(ADDRESS, StationFile(1)),
    lambda link: link.read_file(ADDRESS, StationFile(1), 0, 101),
    lambda link: link.declare_file(ADDRESS, StationFile(3), b"abc"),
    lambda link: link.write_file(ADDRESS, StationFile(3), 0, b"abcde"),
)
_LINE: dict[str, Any] = {"name": "radio", "port": "/dev/null", "baud": 9600}


def _answer(data: bytes) -> None:
    """Answer one of the gateway's questions on a serial line."""
    _ask_through(LineClient, data, lambda wire, answer: frame_of(answer))


def _tcp_answer(data: bytes) -> None:
    """Answer one of the gateway's questions through Modbus TCP."""
    _ask_through(TcpClient, data, _with_header)


def _with_header(_wire: _Wire, answer: bytes) -> bytes:
    """Behind 0xff the body gets the header of the first question's answer."""
    if answer[:1] != b"\xff":
        return answer
    body = answer[1:253]
    return struct.pack(">HHHB", 1, 0, len(body) + 1, ADDRESS) + body


def _ask_through(client: Any, data: bytes, wrapped: Callable[[_Wire, bytes], bytes]) -> None:
    wire = _Wire()
    wire.answers = [wrapped(wire, data[1:])] * 3
    made = client(wire, 0.001, 10_000_000) if client is LineClient else client(wire, 0.001)
    link = StationLink(LineConfiguration.model_construct(**_LINE), made)
    try:
        _ASK[data[0] % len(_ASK) if data else 0](link)
    finally:
        rtu_frames.count_frames(data)


def _board_answer(data: bytes) -> None:
    """Answer the board's questions to its instruments; whatever is read stays within what a record can hold."""
    parts = _board()
    answer = data[1:]

    def said(question: bytes) -> list[tuple[int, bytes]]:
        body = answer[1:] if answer[:1] == b"\xff" else answer
        framed = sealed(bytes((question[0], question[1])) + body[:250]) if answer[:1] == b"\xff" else body
        return [(5, framed[: data[0]]), (5 + data[0], framed[data[0] :])] if data else []

    parts.uart._answer = said
    parts.uart._coming.clear()
    finished(_sample(parts))
    parts.uart.asked.clear()


async def _sample(parts: Any) -> None:
    for instrument in parts.instruments:
        await instrument.sample(parts.client)
    for question in (rtu.identify_request(1), rtu.write_request(1, 0x2500, (1,)), rtu.write_single_request(1, 5, 6)):
        try:
            await parts.client.ask(question, parts.instruments[0]._patience)
        except BusError:
            continue


@cache
def _board_parts() -> list[Any]:
    return []


def _board() -> Any:
    """Return a board; a new one every hundred inputs, for it learns of every answer."""
    made = _board_parts()
    if not made or made[0] % 100 == 0:
        made[:] = [1, Parts(configuration_of(content()), seconds=NOW)]
    made[0] += 1
    return made[1]


@cache
def _scada_server() -> ModbusServer:
    clock = SystemClock()
    image = StationImage("xuan-hoa", [(1, 34)], LiveValues(clock), lambda: Contact("xuan-hoa"), clock, 600.0)
    return ModbusServer(ModbusServerConfiguration.model_construct(), {1: image})


def _scada(data: bytes) -> None:
    """Ask the gateway as SCADA does: unit, then function and data (the server reads at least two bytes of these)."""
    unit, question = data[0] if data else 1, data[1:].ljust(2, b"\0")[:253]
    answer = _scada_server()._answer(unit, question)
    body = bytes((answer.function_code,)) + answer.encode()
    assert 2 <= len(body) <= 253
    assert answer.function_code in (question[0] & 0x7F, question[0] & 0x7F | 0x80)


def _question_seeds() -> Iterator[bytes]:
    words = struct.unpack(">6H", struct.pack(">III", 0x12345678, 1, 0))
    for frame in (
        rtu.read_request(ADDRESS, 4, 0, 56),
        rtu.read_request(ADDRESS, 4, 0x1000, 64),
        rtu.read_request(ADDRESS, 3, 0, 16),
        rtu.read_write_request(ADDRESS, 0x0200, 117, 0x0100, words),
        rtu.write_request(ADDRESS, 0, (27160, 100, 0, 5)),
        rtu.write_request(ADDRESS, 10, (1, 0, 0)),
        rtu.identify_request(ADDRESS, 3, 0),
        rtu.seal(bytes((ADDRESS, 20, 7, 6, 0, 2, 0, 0, 0, 40))),
        rtu.seal(bytes((ADDRESS, 20, 7, 6, 0, 103, 0, 0, 0, 20))),
        rtu.seal(bytes((ADDRESS, 21, 47, 6, 0, 105, 0, 0, 0, 20)) + struct.pack(">I", 10) + bytes(36)),
        rtu.seal(bytes((ADDRESS, 21, 11, 6, 0, 5, 0, 0, 0, 2)) + b"abcd"),
    ):
        yield b"\xff" + frame[1:-2]
        yield frame


def _listening_seeds() -> Iterator[bytes]:
    for frame in _question_seeds():
        if frame[:1] == b"\xff" and len(frame) < 120:
            body = bytes((ADDRESS,)) + frame[1:]
            yield bytes((2 * len(body) + 1,)) + body
            yield bytes((6, 1, 3, 9)) + bytes((2 * len(body) + 1,)) + body


def _answer_seeds() -> Iterator[bytes]:
    for number in range(len(_ASK)):
        for function, size in ((4, 62), (4, 32), (3, 12), (23, 234), (4, 36), (4, 128), (16, 4), (20, 44), (0x84, 1)):
            yield bytes((number,)) + b"\xff" + bytes((function, size)) + bytes(size)
        yield bytes((number,)) + b"\xff" + bytes((20, 102, 101, 6)) + bytes(102)


def targets() -> list[Target]:
    """Return the targets of this module."""
    return [
        Target("station-question", _question, (), _question_seeds, 256),
        Target("station-line", _listening, (), _listening_seeds, 600),
        Target("gateway-rtu-answer", _answer, (LinkError,), _answer_seeds, 300),
        Target("gateway-tcp-answer", _tcp_answer, (LinkError,), _answer_seeds, 300),
        Target("board-answer", _board_answer, (), _answer_seeds, 300),
        Target("scada-question", _scada, (), lambda: [b"\1\4\0\0\0\4", b"\1\3\0\0\0\2", b"\1\x2b\x0e\1\0"], 64),
    ]
