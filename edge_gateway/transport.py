"""What carries a line's bytes: a serial port, or a TCP connection. Both may go and come back; both have one turn.

What the bytes mean is the clients' work: line_client (Modbus RTU, over either) and tcp_client (Modbus TCP).
"""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from contextlib import suppress
from typing import Protocol

import serial

from edge_gateway.configuration import LineConfiguration
from edge_gateway.endpoint import Endpoint
from edge_gateway.errors import ConnectionLost, LineUnavailable

CONNECT_TIMEOUT_S = 5.0
RECEIVE_BYTES = 4096
SILENT_QUESTIONS = 3  # in a row, to anybody, without a byte: the other end may have gone without a word
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 15_000}


class Turn:
    """Who may use the line: one at a time, in the order they came. Several threads ask on one line."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class Transport(Protocol):
    """What a client needs of a line. Hold `turn` around a question and its answer."""

    turn: Turn

    @property
    def name(self) -> str:
        """The port as the configuration has it."""

    def is_usable(self) -> bool:
        """Whether it is open, as far as this side can see."""

    def open(self) -> None:
        """Open it, again if it was open. Raises LineUnavailable."""

    def close(self) -> None:
        """Close it."""

    def write(self, data: bytes) -> None:
        """Send. Raises LineUnavailable, ConnectionLost."""

    def read(self, timeout_s: float) -> bytes:
        """Return what has come, b"" when nothing came in time. Raises LineUnavailable, ConnectionLost."""


class SerialTransport:
    """An RS-485 adapter or radio modem at a serial port, held exclusively."""

    def __init__(self, device: str, baud: int, parity: str, stop: int) -> None:
        self.turn = Turn()
        self._device = device
        self._baud, self._parity, self._stop = baud, parity, stop
        self._port: serial.Serial | None = None

    @property
    def name(self) -> str:
        """The device."""
        return self._device

    def is_usable(self) -> bool:
        """Whether the port is open."""
        return self._port is not None

    def open(self) -> None:
        """Open the port. Raises LineUnavailable."""
        self.close()
        try:
            self._port = serial.Serial(
                self._device, self._baud, parity=self._parity, stopbits=self._stop, timeout=0, exclusive=True
            )
        except (OSError, ValueError) as error:  # pyserial's own errors are OSErrors
            raise LineUnavailable(
                f"{self._device}: cannot be opened ({error}); check the cable, the name and the rights (group dialout)"
            ) from error

    def close(self) -> None:
        """Close the port."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def write(self, data: bytes) -> None:
        """Send. Raises LineUnavailable when the port has gone."""
        port = self._opened()
        try:
            port.write(data)
        except OSError as error:
            raise self._gone(error) from error

    def read(self, timeout_s: float) -> bytes:
        """Return what has come, b"" when nothing came in time. Raises LineUnavailable when the port has gone."""
        port = self._opened()
        try:
            if not select.select([port], [], [], max(0.0, timeout_s))[0]:
                return b""
            return bytes(port.read(RECEIVE_BYTES))
        except OSError as error:
            raise self._gone(error) from error

    def _opened(self) -> serial.Serial:
        if self._port is None:
            raise LineUnavailable(f"{self._device}: is not open")
        return self._port

    def _gone(self, error: OSError) -> LineUnavailable:
        self.close()
        return LineUnavailable(f"{self._device}: the port has gone ({error})")


class TcpTransport:
    """A connection to a Modbus TCP server, a serial server or a radio modem. Each may vanish without a word.

    A connection that was closed, or on which three questions in a row brought not one byte, is not usable any more:
    the client opens a new one before its next question.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.turn = Turn()
        self._endpoint = endpoint
        self._socket: socket.socket | None = None
        self._unanswered = 0

    @property
    def name(self) -> str:
        """The address as the configuration has it."""
        return self._endpoint.device

    def is_usable(self) -> bool:
        """Whether the connection stands, as far as this side can see."""
        if self._socket is None or self._unanswered >= SILENT_QUESTIONS:
            return False
        try:
            return not select.select([self._socket], [], [], 0)[0] or self._socket.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    def open(self) -> None:
        """Connect anew. Raises LineUnavailable."""
        self.close()
        address = (self._endpoint.host, self._endpoint.tcp_port)
        try:
            connection = socket.create_connection(address, CONNECT_TIMEOUT_S)
        except OSError as error:
            raise LineUnavailable(
                f"{self.name}: no connection ({error}); check the device's power, its address and the network"
            ) from error
        self._socket = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._unanswered = 0

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None

    def write(self, data: bytes) -> None:
        """Send. Raises ConnectionLost."""
        connection = self._opened()
        self._unanswered += 1
        try:
            connection.sendall(data)
        except OSError as error:
            raise self._lost(str(error)) from error

    def read(self, timeout_s: float) -> bytes:
        """Return what has come, b"" when nothing came in time. Raises ConnectionLost."""
        connection = self._opened()
        try:
            if not select.select([connection], [], [], max(0.0, timeout_s))[0]:
                return b""
            received = connection.recv(RECEIVE_BYTES)
        except OSError as error:
            raise self._lost(str(error)) from error
        if not received:
            raise self._lost("closed by the other end")
        self._unanswered = 0
        return received

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionLost(f"{self.name}: there is no connection")
        return self._socket

    def _lost(self, why: str) -> ConnectionLost:
        self.close()
        return ConnectionLost(f"{self.name}: the connection is lost ({why})")


def make_transport(line: LineConfiguration) -> Transport:
    """Return what carries this line's bytes; nothing is opened yet."""
    if line.endpoint.host:
        return TcpTransport(line.endpoint)
    return SerialTransport(line.port, line.baud, line.parity, line.stop)
