"""How long a fleet waits for a cloud: as long as there is progress, however slow. Pure: times are handed in.

Thousands of new stations take their time before the first commit message, so a cloud that works counts as progress too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulators.errors import SimulatorError

GIVE_UP_AFTER_S = 120.0
WORKS_CORES = 0.1  # programs that have nothing to do take less than this, all together


class FleetStopped(SimulatorError):
    """The broker or the cloud does not take what the fleet has."""


@dataclass
class Patience:
    """Gives up after `limit_s` in which no record was committed and the servers did not work."""

    limit_s: float = GIVE_UP_AFTER_S
    _since_s: float | None = field(default=None, init=False)
    _committed: int = field(default=-1, init=False)
    _cpu_s: float = field(default=0.0, init=False)

    def take(self, now_s: float, committed: int, waiting: int, cpu_s: float) -> None:
        """Take records committed, batches under way, CPU seconds of the servers until now. Raises FleetStopped."""
        moved = committed != self._committed or not waiting
        if self._since_s is None or moved:
            self._begin(now_s, committed, cpu_s)
        elif now_s - self._since_s > self.limit_s:
            if cpu_s - self._cpu_s < WORKS_CORES * (now_s - self._since_s):
                raise FleetStopped(f"no commit message in {self.limit_s:.0f} s; {waiting} batches wait")
            self._begin(now_s, committed, cpu_s)

    def _begin(self, now_s: float, committed: int, cpu_s: float) -> None:
        self._since_s, self._committed, self._cpu_s = now_s, committed, cpu_s
