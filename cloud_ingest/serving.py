"""What the main thread does: serve HTTP, or nothing, until a signal comes or a thread fails."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import uvicorn

from cloud_ingest.api import Sources, make_app
from cloud_ingest.configuration import CloudConfiguration


class MainWork(Protocol):
    """What the main thread is busy with."""

    def run(self) -> None:
        """Return after SIGTERM, SIGINT, or `stop` from another thread."""

    def stop(self) -> None:
        """Have `run` return."""


def listen(configuration: CloudConfiguration) -> socket.socket:
    """Return the socket the API will be served on. Raises OSError when the address is taken."""
    http = configuration.http
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    return socket.create_server((http.host, http.port), family=family, backlog=128)


def address(listener: socket.socket) -> str:
    """Return where the page is."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class HttpServer:
    """Serves the API and the page."""

    def __init__(self, sources: Sources, listener: socket.socket) -> None:
        config = uvicorn.Config(
            make_app(sources), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3
        )
        self._server = uvicorn.Server(config)
        self._listener = listener

    def run(self) -> None:
        """Serve. uvicorn puts its own handlers in and raises the signal again afterwards: let that pass."""
        with _on_signal(self.stop):
            self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """Have `run` return."""
        self._server.should_exit = True


class Pause:
    """Does nothing."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def run(self) -> None:
        """Wait."""
        with _on_signal(self.stop):
            self._over.wait()

    def stop(self) -> None:
        """Have `run` return."""
        self._over.set()


@contextmanager
def _on_signal(stop: Callable[[], None]) -> Iterator[None]:
    def handled(_signal: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, handled) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
