"""The clock every host program asks for the time, handed in and never patched.

In the field it is the system's clock. On the bench (demo, hardware in the loop) all programs of one run share a clock
that starts at a chosen moment and runs at a chosen rate; it reaches them by one environment variable.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

BENCH_CLOCK_VARIABLE = "TRAM_BENCH_CLOCK"


class Clock(Protocol):
    """Anything that tells the time."""

    def now(self) -> float:
        """Return unix seconds, UTC."""


@dataclass(frozen=True)
class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return unix seconds, UTC."""
        return time.time()


@dataclass(frozen=True)
class BenchClock:
    """Bench time: at real time `real_origin_s` it shows `origin_s`, and runs `rate` times as fast."""

    real_origin_s: float
    origin_s: float
    rate: float

    def now(self) -> float:
        """Return bench time in unix seconds, UTC."""
        return self.origin_s + (time.time() - self.real_origin_s) * self.rate

    def as_environment(self) -> dict[str, str]:
        """Return the variable that hands this clock to a child process."""
        return {BENCH_CLOCK_VARIABLE: f"{self.real_origin_s!r},{self.origin_s!r},{self.rate!r}"}


def clock_from_environment(environment: Mapping[str, str]) -> Clock:
    """Return the bench clock named by TRAM_BENCH_CLOCK, or the system's clock. Raises ValueError on a bad value."""
    text = environment.get(BENCH_CLOCK_VARIABLE)
    if text is None:
        return SystemClock()
    try:
        real_origin_s, origin_s, rate = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{BENCH_CLOCK_VARIABLE}={text!r}: expected REAL_ORIGIN_S,ORIGIN_S,RATE") from None
    if rate <= 0:
        raise ValueError(f"{BENCH_CLOCK_VARIABLE}: the rate must be above 0, not {rate}")
    return BenchClock(real_origin_s, origin_s, rate)
