"""When work in pieces has its turn in the writer's thread: between groups of messages, and never for long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

BUSY_EVERY_S = 2.0


@dataclass
class Pace:
    """`budget_s`: of one turn; then the messages that wait are stored. `look_every_s`: after nothing was left to do."""

    budget_s: float
    look_every_s: float
    next_s: float = field(default=0.0, init=False)  # monotonic

    def turn(self, piece: Callable[[], bool], *, busy: bool, clock_s: float | None) -> int:
        """Do pieces while there are more and the budget lasts, or one now and then while ingest is busy.

        Return how many. `clock_s` is monotonic. Raises what a piece raises; the turn comes again at once then.
        """
        begun = time.monotonic() if clock_s is None else clock_s
        if begun < self.next_s:
            return 0
        pieces = 0
        while piece():
            pieces += 1
            if busy:
                self.next_s = begun + BUSY_EVERY_S
                return pieces
            if time.monotonic() - begun > self.budget_s:
                return pieces
        self.next_s = begun + self.look_every_s
        return pieces

    def is_due(self, clock_s: float | None = None) -> bool:
        """Return whether a turn would do or look for something."""
        return (time.monotonic() if clock_s is None else clock_s) >= self.next_s
