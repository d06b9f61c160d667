"""Programs of a bench run, each a process of its own, as in the field: start, wait until ready, kill -9, start again.

Every program writes its output to <directory>/<name>.log. If the bench itself dies, the kernel ends its programs.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from simulators.errors import SimulatorError

POLL_S = 0.02


class BenchError(SimulatorError):
    """The bench cannot go on; the text says which program, why, and where its log is."""


class Spawner:
    """Starts processes from one thread that lives as long as the bench.

    The kernel's parent-death signal is tied to the thread that started a child, so a thread of a web server's pool
    must never be the one.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

    def popen(self, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start argv with its output appended to log."""
        return self._thread.submit(self._popen, list(argv), dict(environment), log).result()

    @staticmethod
    def _popen(argv: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        setpriv = shutil.which("setpriv")
        guarded = [setpriv, "--pdeathsig", "TERM", *argv] if setpriv else argv
        with log.open("ab") as output:
            return subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def close(self) -> None:
        """End the thread; children that still run get the kernel's signal."""
        self._thread.shutdown()


@dataclass
class Program:
    """One program of the bench: how to start it and how to know that it is ready."""

    name: str
    argv: Sequence[str]
    spawner: Spawner
    log: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self, deadline_s: float = 60.0) -> None:
        """Start and wait until ready. Raises BenchError with the log's end when it exits or takes too long."""
        self.launch()
        self.await_ready(deadline_s)

    def launch(self) -> None:
        """Start, and do not wait."""
        self.process = self.spawner.popen(self.argv, self.environment, self.log)
        self.starts += 1

    def await_ready(self, deadline_s: float = 60.0) -> None:
        """Wait until ready. Raises BenchError as `start` does."""
        wait_for(lambda: self._ready_or_raise(), deadline_s, f"{self.name} to be ready", self.log)

    def _ready_or_raise(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise BenchError(f"{self.name} ended with {self.process.returncode}: {tail(self.log)}")
        return self.ready()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process id; raises BenchError when it does not run."""
        if self.process is None:
            raise BenchError(f"{self.name} is not running")
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL: what a power cut does to a program."""
        self._end(signal.SIGKILL, 5.0)

    def stop(self, deadline_s: float = 10.0) -> None:
        """SIGTERM, and SIGKILL when it takes longer than the deadline."""
        self._end(signal.SIGTERM, deadline_s)

    def _end(self, how: signal.Signals, deadline_s: float) -> None:
        if self.process is None:
            return
        if self.running:
            self.process.send_signal(how)
            try:
                self.process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(60)
        self.process = None


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log, with its path."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return f"see {log}\n" + "\n".join(text.splitlines()[-lines:])


def wait_for(
    condition: Callable[[], bool], deadline_s: float, what: str, log: Path | None = None, *, raises: bool = True
) -> bool:
    """Wait until condition() holds and return True.

    After deadline_s real seconds raises BenchError that names what was waited for, or returns False if raises=False.
    """
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > end:
            if not raises:
                return False
            raise BenchError(f"waited {deadline_s:g} s for {what}" + (f"; {tail(log)}" if log else ""))
        pause.wait(POLL_S)
    return True


def command(name: str) -> str:
    """Return the path of one of our commands (tram-gateway …) in the environment this bench runs in."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise BenchError(f"{name} is not installed beside {sys.executable}: pip install -e '.[dev]'")
    return found
