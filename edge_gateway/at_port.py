"""The serial port of a modem, line by line: opened when needed, every wait bounded, its loss one kind of error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import serial

from edge_gateway.at_answers import PROMPT
from edge_gateway.errors import ModemUnavailable

READ_S = 0.1
WRITE_S = 5.0
STOPPING_S = 15.0  # for the answer to a message that has been handed over
LINE_BYTES_AT_MOST = 1024


class AtPort:
    """Lines from and to a modem; for one thread."""

    def __init__(self, port: str, baud: int) -> None:
        self.name = port
        self._baud = baud
        self._serial: serial.Serial | None = None
        self._pending = bytearray()
        self._stopping: Callable[[], bool] = lambda: False
        self._stop_seen_at: float | None = None

    def stop_when(self, stopping: Callable[[], bool]) -> None:
        """Ask this while waiting, as a sign of life; once it is true, waits end within STOPPING_S."""
        self._stopping, self._stop_seen_at = stopping, None

    @property
    def is_open(self) -> bool:
        """Whether the port has been opened and not lost since."""
        return self._serial is not None

    def open(self) -> None:
        """Open the port. Raises ModemUnavailable."""
        with self._losing_the_port():
            self._serial = serial.Serial(
                self.name, self._baud, timeout=READ_S, write_timeout=WRITE_S, exclusive=True, dsrdtr=False
            )

    def close(self) -> None:
        """Let go of the port."""
        port, self._serial = self._serial, None
        self._pending.clear()
        if port is not None:
            with suppress(OSError):
                port.close()

    def write(self, data: bytes) -> None:
        """Hand bytes to the modem. Raises ModemUnavailable."""
        with self._losing_the_port():
            assert self._serial is not None
            self._serial.write(data)
            self._serial.flush()

    def lines(self, within_s: float) -> Iterator[str]:
        """Yield what the modem says, line by line, until the time is over. The prompt comes as a line of its own.

        Raises ModemUnavailable.
        """
        deadline = time.monotonic() + within_s
        while True:
            line = self._take_line()
            if line is not None:
                yield line
            elif time.monotonic() >= min(deadline, self._deadline_of_stop()):
                return
            else:
                self._pending += self._read()

    def _deadline_of_stop(self) -> float:
        if not self._stopping():
            return float("inf")
        if self._stop_seen_at is None:
            self._stop_seen_at = time.monotonic()
        return self._stop_seen_at + STOPPING_S

    def _read(self) -> bytes:
        with self._losing_the_port():
            assert self._serial is not None
            data: bytes = self._serial.read(max(1, self._serial.in_waiting))
            return data

    def _take_line(self) -> str | None:
        """Return the next whole line that is not empty; None when there is none yet."""
        while (end := _first_of(self._pending, b"\r\n")) >= 0:
            line = bytes(self._pending[:end]).decode("ascii", "replace").strip("\0 ")
            del self._pending[: end + 1]
            if line:
                return line
        if self._pending.lstrip(b" \0").startswith(PROMPT.encode()):  # "> " has no line end
            self._pending.clear()
            return PROMPT
        if len(self._pending) > LINE_BYTES_AT_MOST:  # noise, not a modem
            self._pending.clear()
        return None

    @contextmanager
    def _losing_the_port(self) -> Iterator[None]:
        # pyserial raises SerialException (an OSError) and, when the device goes while it reads, other things too
        try:
            yield
        except (OSError, ValueError, TypeError) as error:
            self.close()
            raise ModemUnavailable(
                f"{self.name}: {error}; check that the modem is plugged in, and the port's name and rights"
            ) from None


def _first_of(data: bytearray, ends: bytes) -> int:
    return min((at for end in ends if (at := data.find(end)) >= 0), default=-1)
