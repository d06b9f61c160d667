"""Faults of the programs on a machine: gateway, broker, cloud."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulators.broker import BrokerSetup
from simulators.disk import shim
from simulators.faults.parts import Begin, Heal
from simulators.processes import Program
from station_config.clock import BENCH_CLOCK_VARIABLE, BenchClock, clock_from_environment

SLICE_S = 0.2  # a slow program runs for its share of each
SQLITE_FRAME_BYTES = 24 + 4096  # of a write-ahead log: header and page


@dataclass(frozen=True)
class GatewayPart:
    """A gateway on this machine. `disk` makes its writes fail (the program was started under the shim)."""

    program: Program
    state_dir: Path
    disk: shim.Faults | None = None

    def faults(self) -> Mapping[str, Begin]:
        """Return how each begins; those of the disk where there is a shim."""
        found: dict[str, Begin] = {"kill": killed(self.program), "torn-page": self._torn_page}
        if BENCH_CLOCK_VARIABLE in self.program.environment:
            found["clock-wrong"] = self._clock_wrong
        if self.disk is not None:
            found |= {
                "disk-full": failing(self.disk, errno.ENOSPC, self.program),
                "read-only": failing(self.disk, errno.EROFS, self.program),
            }
        return found

    def _clock_wrong(self, given: Mapping[str, float]) -> Heal:
        right = dict(self.program.environment)
        clock = clock_from_environment(right)
        assert isinstance(clock, BenchClock)
        wrong = BenchClock(clock.real_origin_s, clock.origin_s + given["step"], clock.rate)
        self._restart_with(right | wrong.as_environment())
        return lambda: self._restart_with(right)

    def _restart_with(self, environment: Mapping[str, str]) -> None:
        self.program.kill()
        self.program.environment = environment
        self.program.launch()

    def _torn_page(self, given: Mapping[str, float]) -> Heal:
        """Kill it and leave the beginning of a page behind the last one of each write-ahead log, as a cut would."""
        self.program.kill()
        for log in self.state_dir.glob("*-wal"):
            with log.open("ab") as file:
                file.write(os.urandom(int(SQLITE_FRAME_BYTES * given["part"])))
        return self.program.launch


@dataclass
class BrokerPart:
    """A broker on this machine. `setup` knows its files."""

    program: Program
    setup: BrokerSetup

    def faults(self) -> Mapping[str, Begin]:
        """Return how each begins; the embedded broker does not read its passwords again."""
        found: dict[str, Begin] = {"kill": killed(self.program), "lost-memory": self._lost_memory, "slow": self._slow}
        return {**found, "refuses": self._refuses} if self.setup.kind == "mosquitto" else found

    def _lost_memory(self, _: Mapping[str, float]) -> Heal:
        self.program.kill()
        self.setup.erase()
        return self.program.launch

    def _slow(self, given: Mapping[str, float]) -> Heal:
        slowed = Slowed(self.program.pid, given["share"])
        slowed.start()
        return slowed.end

    def _refuses(self, _: Mapping[str, float]) -> Heal:
        """Take its passwords away and have it read them again; who is connected is looked at again too."""
        passwords = self.setup.directory / "passwords"
        kept = passwords.read_bytes()
        passwords.write_bytes(b"")
        os.kill(self.program.pid, signal.SIGHUP)

        def heal() -> None:
            passwords.write_bytes(kept)
            if self.program.running:
                os.kill(self.program.pid, signal.SIGHUP)

        return heal


@dataclass(frozen=True)
class CloudPart:
    """A cloud on this machine. `store_away` replaces the failing disk where its store is a server's."""

    program: Program
    disk: shim.Faults | None = None
    store_away: Callable[[], Heal] | None = None

    def faults(self) -> Mapping[str, Begin]:
        """Return how each begins; those of the disk where there is a shim."""
        found: dict[str, Begin] = {"kill": killed(self.program)}
        if self.disk is not None:
            found |= {
                "disk-full": failing(self.disk, errno.ENOSPC, self.program),
                "store-away": failing(self.disk, errno.EIO, self.program),
            }
        if (away := self.store_away) is not None:
            found["store-away"] = lambda _: away()
        return found


def killed(program: Program) -> Begin:
    """Return how a program is killed; it is started again to heal it."""

    def begin(_: Mapping[str, float]) -> Heal:
        program.kill()
        return program.launch

    return begin


def failing(disk: shim.Faults, error: int, program: Program | None = None) -> Begin:
    """Return how a share of a program's writes begins to fail with this errno; all of them without a chance.

    A program that has ended meanwhile is started again when it is over, as systemd does.
    """

    def begin(given: Mapping[str, float]) -> Heal:
        disk.begin(error, max(1, round(1000 * given.get("chance", 1.0))))
        return heal

    def heal() -> None:
        disk.end()
        if program is not None and not program.running:
            program.launch()

    return begin


@dataclass
class Slowed:
    """Lets a process run for its share of the time only, from a thread, until `end`."""

    pid: int
    share: float
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._slow, name=f"slows {self.pid}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let it run again."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _slow(self) -> None:
        try:
            while not self._over.is_set():
                os.kill(self.pid, signal.SIGSTOP)
                self._over.wait(SLICE_S * (1 - self.share))
                os.kill(self.pid, signal.SIGCONT)
                self._over.wait(SLICE_S * self.share)
        except ProcessLookupError:  # killed meanwhile
            return
