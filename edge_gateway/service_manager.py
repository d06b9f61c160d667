"""What the gateway tells systemd, by the datagrams of sd_notify(3); without systemd it tells nobody.

Source of the protocol: sd_notify(3) and systemd.service(5), Type=notify and WatchdogSec.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

MICROSECONDS = 1_000_000


class ServiceManager:
    """The notification socket of whoever started the gateway. Any thread."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        """How long the service manager waits for a sign of life before it kills; None where it does not."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Self:
        """Return the service manager named by NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; `pid` is our own."""
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" begins an abstract address; anything else that is no path (vsock:…) is not meant for a service here.
        known = "\0" + address[1:] if address.startswith("@") else address if address.startswith("/") else None
        usec, for_pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(pid))
        watched = known is not None and usec.isdecimal() and int(usec) > 0 and for_pid == str(pid)
        return cls(known, int(usec) / MICROSECONDS if watched else None)

    def ready(self) -> None:
        """Say that the service has started."""
        self._tell("READY=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service is on its way out."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in one line how it goes; `systemctl status` shows it."""
        self._tell("STATUS=" + text.replace("\n", " "))

    def _tell(self, message: str) -> None:
        if self._address is None:
            return
        # A service manager that does not listen now must not stop the gateway: it counts what it does not hear.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.sendto(message.encode(), self._address)
