"""The link to a board: its MicroPython console over a serial port, spoken with mpremote's protocol.

A `Board` is opened, brought to the raw REPL, and asked to run small pieces of Python. Everything that can go wrong on
the way comes out as one of the errors of `station_config.errors`.

A running station cannot simply be stopped and worked on: its watchdog, once started, bites a few seconds later and no
port can stop it. So `enter_maintenance` leaves a file /maintenance and resets the board; the /main.py that we install
(firmware/loader.py) takes the file away and ends, before anything has started the watchdog.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import io
import json
import os
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from station_config.errors import BoardError, BoardSilent, BoardStorageFull, PortUnavailable

BAUD = 115_200
MAINTENANCE_FILE = "/maintenance"
REPL_TIMEOUT_S = 15.0  # from the first Ctrl-C to the prompt, a reset and USB coming back included
ANSWER_TIMEOUT_S = 2.0
BOOT_TIMEOUT_S = 3.0  # from a reset to the prompt
PROMPT = b">>> "
CHUNK_BYTES = 1024  # of a file in one exchange: small for the board's heap and for the buffers on the way

Progress = Callable[[int], None]  # called with the number of bytes just moved

_HASHES = """\
import binascii, hashlib, json
def _hash(path):
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as file:
            while True:
                data = file.read(512)
                if not data:
                    return binascii.hexlify(digest.digest()).decode()
                digest.update(data)
    except OSError:
        return None
print(json.dumps([_hash(path) for path in %r]))
"""


class Board:
    """A board on a serial port. Use as a context manager: entering opens the port, leaving closes it."""

    def __init__(self, port: str, repl_timeout_s: float = REPL_TIMEOUT_S) -> None:
        self.port = port
        self._repl_timeout_s = repl_timeout_s
        self._link: SerialTransport | None = None

    def __enter__(self) -> Self:
        self._link = self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def enter_repl(self) -> None:
        """Interrupt whatever runs and come to the raw REPL. Raises BoardSilent."""
        deadline = time.monotonic() + self._repl_timeout_s
        while True:
            try:
                return self._try_repl()
            except (TransportError, OSError, struct.error) as error:
                if time.monotonic() > deadline:
                    raise BoardSilent(
                        f"{self.port}: nothing answers as MicroPython ({error}). Is the board powered, the cable one "
                        "with data lines, this port its console, and MicroPython 1.24 or newer installed on it?"
                    ) from None
            self._reopen(deadline)

    def enter_maintenance(self) -> None:
        """Come to the raw REPL of a board whose application, and watchdog, have not been started."""
        self.enter_repl()
        self.run(f"open({MAINTENANCE_FILE!r}, 'w').close()")
        self.reset()
        self._await_prompt()
        self.enter_repl()
        self._forget_maintenance()  # a program that is not ours does not take the file away

    def _forget_maintenance(self) -> None:
        self.run(f"import os\ntry:\n os.remove({MAINTENANCE_FILE!r})\nexcept OSError:\n pass")

    @contextlib.contextmanager
    def maintenance(self, restart: bool = True) -> Iterator[None]:
        """Hold the board with its application stopped; leaving resets it, so that the station runs again.

        After an error too: what was on the board before is started again, if the board still listens.
        """
        try:
            self.enter_maintenance()
            yield
        except BoardSilent:
            raise  # nobody there to be reset
        except BaseException:  # whatever it was, Ctrl-C too: the board is not left stopped; it is raised on
            with contextlib.suppress(BoardError):
                self.enter_repl()  # whatever ran was broken off in the middle
                self._forget_maintenance()
                self.reset()
            raise
        if restart:
            self.reset()
        else:
            self._require().exit_raw_repl()

    def reset(self) -> None:
        """Reset the board as its button does. The port may vanish for a moment; whoever reads next waits for it."""
        link = self._require()
        with self._explained("reset the board"), contextlib.suppress(OSError):
            link.exec_raw_no_follow("import machine\nmachine.reset()")

    def run(self, code: str) -> bytes:
        """Run code on the board and return what it printed. Raises BoardError when it raises there."""
        link = self._require()
        with self._explained("run a command on the board"):
            return bytes(link.exec(code))

    def ask(self, code: str) -> Any:
        """Run code that prints one JSON text, and return it parsed."""
        text = self.run(code)
        try:
            return json.loads(text)
        except ValueError:
            raise BoardError(f"{self.port}: the board answered something unexpected: {text[-80:]!r}") from None

    def hashes(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Return the SHA-256 (hex) of files as the board reads them; None for those it does not have."""
        return dict(zip(paths, self.ask(_HASHES % (list(paths),)), strict=True))

    def write_file(self, path: str, data: bytes, progress: Progress = lambda _: None) -> None:
        """Write a file. Raises BoardStorageFull when the flash has no room; the partial file is removed then."""
        self.run(f"_f = open({path!r}, 'wb')")
        try:
            for start in range(0, len(data), CHUNK_BYTES):
                chunk = data[start : start + CHUNK_BYTES]
                self.run(f"_f.write({chunk!r})")
                progress(len(chunk))
            self.run("_f.close()")
        except BoardStorageFull:
            self.run(f"import os\ntry:\n _f.close()\nexcept OSError:\n pass\nos.remove({path!r})")
            raise BoardStorageFull(
                f"{self.port}: the board's flash is full while writing {path}; free some of it"
            ) from None

    def read_file(self, path: str, progress: Progress = lambda _: None) -> bytes:
        """Return a file, checked against the board's own hash of it. Raises BoardError."""
        self.run(f"import binascii\n_f = open({path!r}, 'rb')")
        data = bytearray()
        while chunk := binascii.a2b_base64(
            self.run(f"print(binascii.b2a_base64(_f.read({CHUNK_BYTES})).decode(), end='')")
        ):
            data += chunk
            progress(len(chunk))
        self.run("_f.close()")
        if hashlib.sha256(data).hexdigest() != self.hashes([path])[path]:
            raise BoardError(f"{self.port}: {path} was damaged on its way over the console; try again")
        return bytes(data)

    def console_lines(self, timeout_s: float) -> Iterator[str]:
        """Yield the lines the board prints until the time is over, waiting for its port to come back if it vanished."""
        deadline = time.monotonic() + timeout_s
        pending = b""
        while time.monotonic() < deadline:
            pending += self._read_console(deadline)
            *lines, pending = pending.split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace").rstrip("\r")

    def _read_console(self, deadline: float) -> bytes:
        try:
            serial = self._require().serial
            serial.timeout = 0.1
            return bytes(serial.read(max(1, serial.in_waiting)))
        except OSError:
            self._reopen(deadline)
            return b""

    def _await_prompt(self) -> None:
        """Let the board start in peace: a Ctrl-C now would meet MicroPython before it is ready for one.

        A program that is not ours may never come to the prompt, and USB may come back after it: then the time passes.
        """
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        seen = b""
        while PROMPT not in seen and time.monotonic() < deadline:
            seen = seen[-len(PROMPT) :] + self._read_console(deadline)

    def _try_repl(self) -> None:
        link = self._require()
        link.serial.timeout = ANSWER_TIMEOUT_S
        with contextlib.redirect_stdout(io.StringIO()):  # mpremote prints what it could not understand
            link.enter_raw_repl(soft_reset=False, timeout_overall=1)
        self._fall_into_step(link)

    def _fall_into_step(self, link: SerialTransport) -> None:
        """Pass over everything a busy board still had to say, up to the answer to a question asked only once.

        The board may have taken several of our attempts for the prompt; their late answers are not those to come.
        """
        token = os.urandom(4).hex()
        answer = f"{token}\r\n\x04\x04".encode()
        link.serial.write(f"print('{token}')\x04".encode())
        if not link.read_until(1, answer, timeout_overall=ANSWER_TIMEOUT_S).endswith(answer):
            raise TransportError("the prompt came but answers nothing")

    def _require(self) -> SerialTransport:
        if self._link is None:
            raise PortUnavailable(f"{self.port}: not open")
        return self._link

    def _open(self) -> SerialTransport:
        if self.port.startswith("/") and not Path(self.port).exists():
            raise PortUnavailable(f"{self.port}: no such port; `tram-station ports` lists those that are there")
        try:
            return SerialTransport(self.port, baudrate=BAUD, timeout=ANSWER_TIMEOUT_S)
        except (TransportError, OSError, ValueError) as error:
            raise PortUnavailable(
                f"{self.port}: cannot be opened ({error}); another program may hold it, or you may not use it "
                "(on Linux: be in the group dialout)"
            ) from None

    def _reopen(self, deadline: float) -> None:
        """Open the port again: boards with USB of their own lose it on a reset."""
        self._close()
        pause = threading.Event()
        while True:
            try:
                self._link = self._open()
                return
            except PortUnavailable:
                if time.monotonic() > deadline:
                    raise
            pause.wait(0.1)

    def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(OSError):  # the port may be gone already
                link.close()

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn what mpremote and the port raise into our errors."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except TransportExecError as error:
            raise _remote_error(self.port, error.error_output) from None
        except (TransportError, OSError, struct.error) as error:
            raise BoardSilent(f"{self.port}: the board stopped answering while I tried to {doing} ({error})") from None


def _remote_error(port: str, traceback: str) -> BoardError:
    last = traceback.strip().splitlines()[-1] if traceback.strip() else "no reason given"
    if re.search(r"ENOSPC|OSError: (\[Errno )?28\b", last):
        return BoardStorageFull(f"{port}: the board's flash is full; remove files from it")
    return BoardError(f"{port}: the board said: {last}")


def list_ports() -> list[Mapping[str, str]]:
    """Return the serial ports of this computer, those that look like boards first."""
    from serial.tools.list_ports import comports

    found = [{"port": p.device, "description": p.description or "", "usb": p.hwid or ""} for p in comports()]
    return sorted(found, key=lambda p: ("VID:PID" not in p["usb"], p["port"]))
