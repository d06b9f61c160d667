"""Processes of a benchmark: started, waited for, watched and ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from simulators.broker import find_mosquitto
from station_config.free_ports import free_port

LOOK_S = 0.05
MIB = 1 << 20


def answers(port: int) -> bool:
    """Return whether somebody listens."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    """Wait until it is so. Raises SystemExit."""
    pause = threading.Event()
    for _ in range(int(within_s / LOOK_S)):
        if condition():
            return
        pause.wait(LOOK_S)
    raise SystemExit(f"{what}: not within {within_s:.0f} s")


@contextmanager
def process(argv: Sequence[str], log: Path, *, talks: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends, its output in a file; with one that `talks` there are pipes."""
    pipe = subprocess.PIPE if talks else None
    with log.open("ab") as output:
        one = subprocess.Popen(list(argv), stdin=pipe, stdout=pipe or output, stderr=output)
    try:
        yield one
    finally:
        one.terminate()
        try:
            one.wait(20)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


@contextmanager
def python(module: str, *arguments: object, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of ours, from when it has said "ready"."""
    with process([sys.executable, "-m", module, *map(str, arguments)], log, talks=True) as one:
        assert one.stdout is not None
        if one.stdout.readline().strip() != b"ready":
            raise SystemExit(f"{module} does not start: {log.read_text()}")
        yield one


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """Run a broker without limits that drop; yield its port."""
    program = find_mosquitto()
    if program is None:
        raise SystemExit("mosquitto is not installed: apt install mosquitto")
    port = free_port()
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
        "max_inflight_messages 0\nset_tcp_nodelay true\n"
    )
    with process([str(program), "-c", str(configuration)], folder / "mosquitto.log"):
        wait_for(lambda: answers(port), "mosquitto")
        yield port


@dataclass
class Watch:
    """What a process takes, from now on; `look` as often as one likes."""

    pid: int
    resident_mib: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._process = psutil.Process(self.pid)
        self._cpu_s, self._written = self._now()

    def look(self) -> None:
        """Note the memory."""
        self.resident_mib.append(self._process.memory_info().rss / MIB)

    def spent(self) -> tuple[float, int]:
        """Return CPU seconds and bytes given to the disk since the beginning."""
        cpu_s, written = self._now()
        return cpu_s - self._cpu_s, written - self._written

    def memory(self) -> tuple[float, float, float]:
        """Return resident MiB at the start, in the middle and at the end."""
        seen = self.resident_mib or [0.0]
        return seen[0], seen[len(seen) // 2], seen[-1]

    def _now(self) -> tuple[float, int]:
        times = self._process.cpu_times()
        return times.user + times.system, self._process.io_counters().write_bytes
