"""A notification socket as systemd opens it: the real process writes to it, a test reads."""

from __future__ import annotations

import socket
import time
from pathlib import Path


class NotifySocket:
    """What a service says to its manager, in order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))

    def close(self) -> None:
        self._socket.close()

    def environment(self, watchdog_s: float) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}

    def wait_for(self, message: str, deadline_s: float = 60.0) -> None:
        """Take messages until this one comes; fail after the deadline."""
        ends_at = time.monotonic() + deadline_s
        while (left_s := ends_at - time.monotonic()) > 0:
            if self._take(left_s) == message:
                return
        raise AssertionError(f"{message} did not come within {deadline_s} s")

    def during(self, seconds: float) -> list[str]:
        """Return what is said in the next seconds."""
        ends_at = time.monotonic() + seconds
        heard: list[str] = []
        while (left_s := ends_at - time.monotonic()) > 0:
            if (message := self._take(left_s)) is not None:
                heard.append(message)
        return heard

    def _take(self, timeout_s: float) -> str | None:
        self._socket.settimeout(timeout_s)
        try:
            return self._socket.recv(4096).decode()
        except TimeoutError:
            return None
