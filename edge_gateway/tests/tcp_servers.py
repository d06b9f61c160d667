"""Test doubles at the other end of a TCP line: pymodbus's own server, and one that lies."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pymodbus import ModbusDeviceIdentification
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer

from edge_gateway.tests.fake_station import FakeStation
from station_config.free_ports import free_port

IDENTITY = ModbusDeviceIdentification(info={0: "Tram", 1: "station", 2: "0.1.0"})  # type: ignore[no-untyped-call]


class StationServer:
    """Stations behind pymodbus's TCP server: Modbus TCP, or RTU frames as a serial server passes them on."""

    def __init__(self, *stations: FakeStation, framer: FramerType = FramerType.SOCKET) -> None:
        self.port = free_port()
        self._stations, self._framer = stations, framer
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> StationServer:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set_result, None)
        self._thread.join(60)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        server = ModbusTcpServer(
            [station.device() for station in self._stations],
            identity=IDENTITY,
            framer=self._framer,
            address=("127.0.0.1", self.port),
            ignore_missing_devices=True,
        )
        await server.serve_forever(background=True)
        self._ready.set()
        await self._ended
        await server.shutdown()  # type: ignore[no-untyped-call]


class Question(NamedTuple):
    """A Modbus TCP question, taken apart."""

    transaction: int
    unit: int
    body: bytes


class Piece(NamedTuple):
    """Some bytes, so much later than the ones before; then perhaps the end of the connection."""

    data: bytes
    after_s: float = 0.0
    then_close: bool = False


Answer = Callable[[Question], Sequence[Piece]]


def framed(transaction: int, unit: int, body: bytes) -> bytes:
    """Return a Modbus TCP frame."""
    return struct.pack(">HHHB", transaction, 0, len(body) + 1, unit) + body


def registers(*values: int, function: int = 4) -> bytes:
    """Return function and data of an answer with these registers."""
    return bytes((function, 2 * len(values))) + struct.pack(f">{len(values)}H", *values)


class LyingServer:
    """A TCP server that answers each question with what `answer` makes of it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.questions: list[Question] = []
        self.connections = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> LyingServer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._listener.close()

    def _accept(self) -> None:
        self._listener.settimeout(0.02)
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with connection:
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(0.02)
        heard = b""
        while not self._stop.is_set():
            try:
                received = connection.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            heard += received
            if not received:
                return
            while len(heard) >= 7 and len(heard) >= 6 + (heard[4] << 8 | heard[5]):
                end = 6 + (heard[4] << 8 | heard[5])
                question = Question(heard[0] << 8 | heard[1], heard[6], heard[7:end])
                heard = heard[end:]
                self.questions.append(question)
                if not self._say(connection, self.answer(question)):
                    return

    def _say(self, connection: socket.socket, pieces: Sequence[Piece]) -> bool:
        for piece in pieces:
            if self._stop.wait(piece.after_s):
                return False
            try:
                connection.sendall(piece.data)
            except OSError:
                return False
            if piece.then_close:
                return False
        return True
