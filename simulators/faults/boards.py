"""Faults of a station board: power, clock, memory. The power is a virtual board's, a process's or a relay's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from simulators.board import VirtualBoard
from simulators.errors import SimulatorError
from simulators.faults.catalogue import FaultRefused
from simulators.faults.parts import Begin, Heal
from simulators.processes import BenchError, Program, wait_for
from simulators.relays import Relay
from station_config.console import Board
from station_config.errors import StationConfigError

_MOVE_CLOCK = """
import machine, time
rtc, now = machine.RTC(), time.time() + %d
t = time.gmtime(now)
rtc.datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))
"""


CONSOLE_S = 15.0


class PlugMissing(BenchError):
    """This bench cannot switch that."""


class Power(Protocol):
    """The plug of a board."""

    def off(self) -> None:
        """Take the power away; nothing happens where it is away already."""

    def on(self, *, cut_at: int = 0, heap_kib: int = 0, wait: bool = True) -> None:
        """Give power: to a board that loses it at its n-th flash operation, or that has this much heap; 0: as usual.

        Return when the board's console is there, or at once without `wait`.
        """


@dataclass(frozen=True)
class BoardPart:
    """A station board. `virtual` where its power can be cut at a flash operation and its heap chosen."""

    power: Power
    console: Callable[[], Path | str]
    virtual: bool = True

    def faults(self) -> Mapping[str, Begin]:
        """Return how each begins."""
        if isinstance(self.power, NoPlug):
            return {"clock-jump": self._clock_jump}
        anywhere = {"power-cut": self._power_cut, "brown-out": self._brown_out, "clock-jump": self._clock_jump}
        return {**anywhere, "heap-full": self._heap_full} if self.virtual else anywhere

    def _power_cut(self, given: Mapping[str, float]) -> Heal:
        self.power.off()
        if self.virtual and given["n"] >= 1:
            self.power.on(cut_at=int(given["n"]))
        return self._as_usual

    def _brown_out(self, given: Mapping[str, float]) -> Heal:
        def come_and_go(over: threading.Event) -> None:
            for _ in range(int(given["times"])):
                self.power.off()
                if over.is_set():
                    return
                self.power.on()
                over.wait(given["on"] / 1000.0)
            self.power.off()

        work = Background(come_and_go)

        def heal() -> None:
            work.end()
            self._as_usual()

        return heal

    def _clock_jump(self, given: Mapping[str, float]) -> Heal:
        """Move the clock at the prompt and reset, which keeps it: on a chip and on the virtual board alike."""

        def move(_: threading.Event) -> None:
            try:
                with Board(str(self.console())) as board:
                    board.enter_repl()
                    board.run(_MOVE_CLOCK % int(given["step"]))
                    board.reset()
            except StationConfigError as error:
                raise SimulatorError(f"the board's clock could not be moved: {error}") from error

        return Background(move).end

    def _heap_full(self, given: Mapping[str, float]) -> Heal:
        self.power.off()
        self.power.on(heap_kib=int(given["heap"]))
        return self._as_usual

    def _as_usual(self) -> None:
        self.power.off()
        self.power.on(wait=False)


class Background:
    """A fault that takes its time, beside those of other parts. `end` waits for it, and raises what went wrong."""

    def __init__(self, work: Callable[[threading.Event], None]) -> None:
        self._over = threading.Event()
        self._work = work
        self._error: SimulatorError | None = None
        self._thread = threading.Thread(target=self._run, name="fault", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work(self._over)
        except SimulatorError as error:
            self._error = error

    def end(self) -> None:
        """Ask it to end, and wait. Raises its SimulatorError."""
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


@dataclass
class VirtualPower:
    """The power of a virtual board in this process."""

    board: VirtualBoard

    def __post_init__(self) -> None:
        self._usual = self.board.settings

    def off(self) -> None:
        """Cut it."""
        self.board.power_cut()

    def on(self, *, cut_at: int = 0, heap_kib: int = 0, wait: bool = True) -> None:
        """Start the board again."""
        heap_bytes = 1024 * heap_kib or self._usual.heap_bytes
        self.board.settings = replace(self._usual, cut_at_operation=cut_at, heap_bytes=heap_bytes)
        self.board.start()


@dataclass
class RelayPower:
    """The power of a real board, by a relay. `port` is its console, which comes back with the power."""

    relay: Relay
    port: Path

    def off(self) -> None:
        """Open the relay. Raises RelayError."""
        self.relay.switch(False)

    def on(self, *, cut_at: int = 0, heap_kib: int = 0, wait: bool = True) -> None:
        """Close the relay and wait for the console. Raises RelayError, BenchError, FaultRefused."""
        if cut_at or heap_kib:
            raise FaultRefused("a relay knows on and off, not flash operations or heap")
        self.relay.switch(True)
        if wait:
            wait_for(self.port.exists, CONSOLE_S, f"{self.port} to be there after power on")


@dataclass(frozen=True)
class NoPlug:
    """A real board whose power nobody switches."""

    def off(self) -> None:
        """Raise PlugMissing."""
        raise PlugMissing("nobody can switch this board's power: give --relay PORT")

    def on(self, *, cut_at: int = 0, heap_kib: int = 0, wait: bool = True) -> None:
        """Do nothing: it has power."""


@dataclass
class ProgramPower:
    """The power of a board that is a `tram-sim board` of its own."""

    program: Program
    console: Path

    def __post_init__(self) -> None:
        self._usual = tuple(self.program.argv)

    def off(self) -> None:
        """Kill it."""
        self.program.kill()

    def on(self, *, cut_at: int = 0, heap_kib: int = 0, wait: bool = True) -> None:
        """Start it again, and wait for its console. The last of an option's values counts."""
        more = (*(("--cut", str(cut_at)) if cut_at else ()), *(("--heap", f"{heap_kib}k") if heap_kib else ()))
        self.program.argv = [*self._usual, *more]
        self.console.unlink(missing_ok=True)
        self.program.launch()
        if wait:
            self.program.await_ready()
