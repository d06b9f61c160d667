"""The programs of a bench, by name: each a process with its log in the bench's folder, all on the bench's clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from simulators.processes import BenchError, Program, Spawner, command
from station_config.clock import BenchClock


class Programs:
    """Starts programs and keeps them until `stop`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._spawner = Spawner()
        self._clock: BenchClock | None = None
        self.by_name: dict[str, Program] = {}

    def __getitem__(self, name: str) -> Program:
        return self.by_name[name]

    def set_clock(self, clock: BenchClock) -> None:
        """Let all that is started from now on run in this time."""
        self._clock = clock

    @property
    def clock(self) -> BenchClock:
        """The clock all programs share; raises BenchError before the boards have left the workshop."""
        if self._clock is None:
            raise BenchError("the bench clock does not run before start() has flashed the boards")
        return self._clock

    def environment(self) -> dict[str, str]:
        """Return the environment of a program that belongs to this bench."""
        return {**os.environ, **(self._clock.as_environment() if self._clock else {})}

    def run(
        self, name: str, argv: Sequence[str], ready: Callable[[], bool], more: Mapping[str, str] | None = None
    ) -> None:
        """Start a program, with `more` in its environment, and wait until it is ready. Raises BenchError."""
        environment = {**self.environment(), **(more or {})}
        self.by_name[name] = Program(name, argv, self._spawner, self._log(name), ready, environment)
        self.by_name[name].start()

    def said_ready(self, name: str) -> Callable[[], bool]:
        """Return what asks whether a simulator has said that it is ready."""
        return lambda: b'"ready"' in self._log(name).read_bytes()

    def _log(self, name: str) -> Path:
        return self._directory / f"{name.replace(':', '-')}.log"

    def stop(self, first: Collection[str]) -> None:
        """End every process, those named first."""
        for name in sorted(self.by_name, key=lambda name: name not in first):
            self.by_name[name].stop()
        self._spawner.close()


def sim(*words: str) -> list[str]:
    """Return the command line of a simulator."""
    return [command("tram-sim"), *words]
