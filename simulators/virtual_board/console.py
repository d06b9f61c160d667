"""A board's console as its host sees it: a terminal to open with mpremote, and all that the board said.

The board's own terminal is an inner pty (its controlling terminal, where Ctrl-C is a signal); the host opens an outer,
raw one that outlives power cuts. One thread carries the bytes. Like a USB console it does not wait for a host that is
not there: when nobody has read for half a second, output is dropped until somebody does.
"""

from __future__ import annotations

import os
import pty
import select
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

from simulators.virtual_board.errors import BoardFault

BUFFER_BYTES = 64 * 1024  # per direction; a full buffer makes the writer wait
TEXT_BYTES = 1024 * 1024  # of output kept for text() and wait_for(); the oldest goes first
LOG_BYTES = 4 * 1024 * 1024  # then the log becomes <log>.1 and a new one begins
NOBODY_LISTENS_S = 0.5


class BoundedLog:
    """A log file of at most LOG_BYTES, and the one before it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append."""
        if self._file.tell() + len(data) > LOG_BYTES:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab", buffering=0)
        self._file.write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def board_terminal() -> tuple[int, int]:
    """Return (our end, the board's end) of a new inner pty. It is raw; the board itself makes Ctrl-C a signal."""
    ours, boards = pty.openpty()
    tty.setraw(boards)
    os.set_blocking(ours, False)
    return ours, boards


class Console:
    """The host's end of a board's console. Use as a context manager, or close() it."""

    def __init__(self, log: Path | None = None, on_off: Callable[[], None] = lambda: None) -> None:
        self._log_path = log
        self._on_off = on_off  # called, from the carrying thread, when the board's end is gone
        self._log: BoundedLog | None = None
        self._changed = threading.Condition()
        self._text = bytearray()
        self._searched = 0  # wait_for has looked at the text up to here
        self._to_host = bytearray()
        self._to_board = bytearray()
        self._stalled_since: float | None = None
        self._inner: int | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Console:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The terminal that mpremote opens."""
        return Path(os.ttyname(self._outer_slave))

    def open(self) -> None:
        """Make the outer terminal and start carrying bytes."""
        self._outer, self._outer_slave = pty.openpty()
        tty.setraw(self._outer_slave)
        os.set_blocking(self._outer, False)
        self._woken, self._wake = os.pipe()
        if self._log_path is not None:
            self._log = BoundedLog(self._log_path)
        self._thread = threading.Thread(target=self._carry, name="board console", daemon=True)
        self._thread.start()

    def connect(self) -> int:
        """Begin a new power-on: return the terminal to start the board on. The caller closes it after the start."""
        ours, boards = board_terminal()
        with self._changed:
            self._text.clear()
            self._searched = 0
            self._to_board.clear()
            self._inner = ours
        os.write(self._wake, b"c")
        return boards

    def wait_disconnected(self, deadline_s: float) -> bool:
        """Wait until the board's end is gone and all it said has been taken; return whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._inner is None, deadline_s)

    def text(self) -> str:
        """Return what the board said since power-on (the last TEXT_BYTES of it)."""
        with self._changed:
            return self._text.decode(errors="replace")

    def write(self, data: bytes) -> None:
        """Type on the board's console."""
        with self._changed:
            self._to_board += data
        os.write(self._wake, b"w")

    def wait_for(self, text: str, deadline_s: float = 10.0) -> str:
        """Wait for `text` in what was not searched yet; return all up to its end and go on after it.

        Raises BoardFault when it does not come in time or the board is gone.
        """
        wanted = text.encode()
        with self._changed:
            self._changed.wait_for(lambda: self._found(wanted) or self._inner is None, deadline_s)
            if not self._found(wanted):
                why = "the board is off" if self._inner is None else f"not within {deadline_s} s"
                raise BoardFault(f"waited for {text!r} on the console: {why}. It said: {bytes(self._text[-2000:])!r}")
            end = self._text.index(wanted, self._searched) + len(wanted)
            passed = self._text[self._searched : end]
            self._searched = end
            return passed.decode(errors="replace")

    def _found(self, wanted: bytes) -> bool:
        return self._text.find(wanted, self._searched) >= 0

    def close(self) -> None:
        """Stop carrying, close the terminals."""
        if self._thread is None:
            return
        self._closing = True
        os.write(self._wake, b"q")
        self._thread.join()
        self._thread = None
        if self._inner is not None:
            os.close(self._inner)
            self._inner = None
        for fd in (self._outer, self._outer_slave, self._woken, self._wake):
            os.close(fd)
        if self._log is not None:
            self._log.close()

    def _carry(self) -> None:
        while not self._closing:
            ready = self._wait_ready()
            if ready.get(self._woken, 0):
                os.read(self._woken, 64)
            if ready.get(self._outer, 0) & select.POLLIN:
                self._from_host()
            if self._inner is not None and ready.get(self._inner, 0) & (
                select.POLLIN | select.POLLHUP | select.POLLERR
            ):
                self._from_board(self._inner)
            self._push()

    def _wait_ready(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        host_mask = (select.POLLOUT if self._to_host else 0) | (
            select.POLLIN if self._inner is not None and len(self._to_board) < BUFFER_BYTES else 0
        )
        if host_mask:
            poll.register(self._outer, host_mask)
        board_mask = (select.POLLIN if len(self._to_host) < BUFFER_BYTES else 0) | (
            select.POLLOUT if self._to_board else 0
        )
        if self._inner is not None and board_mask:
            poll.register(self._inner, board_mask)
        return dict(poll.poll(NOBODY_LISTENS_S * 1000 if self._to_host else None))

    def _from_host(self) -> None:
        data = os.read(self._outer, 4096)
        with self._changed:
            self._to_board += data

    def _from_board(self, inner: int) -> None:
        try:
            data = os.read(inner, 4096)
        except BlockingIOError:
            return
        except OSError:  # the board's end is closed: it has no power
            data = b""
        with self._changed:
            if not data:
                os.close(inner)
                self._inner = None
            self._text += data
            overflow = len(self._text) - TEXT_BYTES
            if overflow > 0:
                del self._text[:overflow]
                self._searched = max(0, self._searched - overflow)
            self._changed.notify_all()
        self._to_host += data
        if self._log is not None:
            self._log.write(data)
        if not data:
            self._on_off()

    def _push(self) -> None:
        with self._changed:
            if self._inner is not None:
                _write_some(self._inner, self._to_board)
        now = time.monotonic()
        if not self._to_host or _write_some(self._outer, self._to_host):
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since >= NOBODY_LISTENS_S:
            self._to_host.clear()


def _write_some(fd: int, pending: bytearray) -> bool:
    """Write what the terminal takes now, and remove it from `pending`; return whether it took anything."""
    if not pending:
        return False
    try:
        written = os.write(fd, pending)
    except BlockingIOError:
        return False
    except OSError:  # the other end is closed; whoever reads there will notice
        pending.clear()
        return False
    del pending[:written]
    return True
