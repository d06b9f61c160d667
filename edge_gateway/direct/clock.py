"""The gateway's clock as a station reads it: the host keeps it right; here is told when it moved.

A Raspberry Pi has no clock of its own. Until something has set it, records carry seconds since the start, as a board's
do, and the clock-set event tells by how much to shift them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_gateway.host_clock import no_doubt
from edge_gateway.slices import EARLIEST_BELIEVABLE_S
from station_config.clock import Clock

TOLERATED_STEP_S = 1.5  # NTP slews what is less
DAY_S = 86_400
LONGEST_ABSENCE_S = 400 * DAY_S


class DirectClock:
    """What firmware.station asks of firmware.clock.Clock.

    on_step(now, step) keeps the clock-set event; when it raises, the step is told again at the next look.
    host_doubt() says why the host's clock cannot be trusted: until it does not, records carry seconds since the start.
    """

    uncertainty_ms = 0

    def __init__(
        self,
        clock: Clock,
        on_step: Callable[[int, int], None],
        host_doubt: Callable[[], str | None] = no_doubt,
    ) -> None:
        self.steps = 0
        self._clock = clock
        self._on_step = on_step
        self._host_doubt = host_doubt
        self.rate = float(getattr(clock, "rate", 1.0))  # of the bench
        self._began = self._looked = time.monotonic()
        self._shown = clock.now()
        self.is_set = self._shown >= EARLIEST_BELIEVABLE_S and host_doubt() is None

    def uptime_s(self) -> int:
        """Return seconds since the start."""
        return int((time.monotonic() - self._began) * self.rate)

    def now(self) -> int:
        """Return unix seconds; seconds since the start while the clock is not set."""
        return int(self._clock.now()) if self.is_set else self.uptime_s()

    def doubt(self, newest_record_s: int) -> bool:
        """Say whether the clock does not fit the newest record at the start.

        It counts as not set then, until it can be trusted.
        """
        if not self.is_set or -DAY_S <= self._shown - newest_record_s <= LONGEST_ABSENCE_S:
            return False
        self.is_set = False
        return True

    def jumped(self) -> int:
        """Look at the clock and tell its steps. Return 0: the host's clock is never set back from here."""
        looked, shown = time.monotonic(), self._clock.now()
        moved_s = shown - self._shown - (looked - self._looked) * self.rate
        believable = shown >= EARLIEST_BELIEVABLE_S
        if self.is_set and not believable:
            self.is_set = False
        elif self.is_set and abs(moved_s) > TOLERATED_STEP_S * max(1.0, self.rate / 10):
            self._tell(shown, round(moved_s))
        elif not self.is_set and believable and self._host_doubt() is None:
            self._tell(shown, int(shown) - self.uptime_s())
        self._looked, self._shown = looked, shown
        return 0

    def _tell(self, shown: float, step_s: int) -> None:
        self._on_step(int(shown), step_s)
        self.is_set = True
        self.steps += 1
