"""Asking over HTTP and in process: how long it takes, and how much of a processor whoever answers needs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

CHUNKED_END = b"0\r\n\r\n"
AT_ONCE = 1 << 20


class Times(NamedTuple):
    """Milliseconds: half of the answers, and 95 in 100, took no longer; the shortest; of a processor, each."""

    p50: float
    p95: float
    least: float
    cpu: float


class Link:
    """One connection that is kept open. It reads as little of an answer as it must to find its end: what a client does
    with JSON is not the store's."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._buffer = bytearray(AT_ONCE)
        self._open()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def get(self, path: str) -> bytes:
        """Return the body of an answer. Raises SystemExit when it is not 200."""
        question = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        parts = [self._begun(question)]
        while b"\r\n\r\n" not in parts[0]:
            parts[0] += self._received()
        head, _, body = parts[0].partition(b"\r\n\r\n")
        parts = [body]
        length = _length(head)
        received = len(body)
        while (received < length) if length >= 0 else not _ended(parts):
            parts.append(self._received())
            received += len(parts[-1])
        whole = b"".join(parts)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path}: {head[:60]!r} {whole[:300]!r}")
        return whole if length >= 0 else _unchunked(whole)

    def _open(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _begun(self, question: bytes) -> bytes:
        """Ask, once more where the server has closed a connection that was idle; return what comes first."""
        try:
            self._socket.sendall(question)
            return self._received()
        except (ConnectionError, EOFError):
            self._socket.close()
            self._open()
            self._socket.sendall(question)
            return self._received()

    def _received(self) -> bytes:
        number = self._socket.recv_into(self._buffer)
        if not number:
            raise EOFError("the server hung up amid an answer")
        return bytes(memoryview(self._buffer)[:number])


def over_http(port: int, pid: int, questions: Mapping[str, Sequence[str]], times: int) -> dict[str, Times]:
    """Return how long each question took; its paths are asked in turn."""
    found = {}
    link = Link(port)
    for name, paths in questions.items():
        link.get(paths[0])
        before = _spent_s(pid)
        taken = [_clocked(partial(link.get, paths[at % len(paths)])) for at in range(times)]
        found[name] = _times(taken, 1000 * (_spent_s(pid) - before) / times)
    link.close()
    return found


def in_process(questions: Mapping[str, Sequence[Callable[[], object]]], times: int) -> dict[str, Times]:
    """Return how long each question took."""
    found = {}
    for name, ways in questions.items():
        ways[0]()
        taken, spent = [], []
        for at in range(times):
            before = time.process_time()
            taken.append(_clocked(ways[at % len(ways)]))
            spent.append(time.process_time() - before)
        found[name] = _times(taken, 1000 * min(spent))
    return found


def _clocked(ask: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - began_s)


def _spent_s(pid: int) -> float:
    """Return the time of a processor that the threads of a process have had; its own clock ticks in hundredths."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in threads) / 1e9


def _ended(parts: list[bytes]) -> bool:
    tail = parts[-1][-len(CHUNKED_END) :]
    if len(tail) < len(CHUNKED_END):
        tail = b"".join(parts)[-len(CHUNKED_END) :]
    return tail == CHUNKED_END


def _times(taken: list[float], cpu_ms: float) -> Times:
    p50, p95 = np.percentile(taken, (50, 95)).tolist()
    return Times(p50, p95, min(taken), cpu_ms)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return -1


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 4 + size
