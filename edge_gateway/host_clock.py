"""Whether this machine's clock can be trusted to set a station's clock. What is looked at, and the pure judgement.

A Raspberry Pi has no clock of its own: it starts in 1970, or at the time that was saved last, which looks right and is
behind. The kernel knows whether something (timesyncd, chrony, ntpd, ptp) keeps the clock right: adjtimex(2). A clock
that was right stays so for a while without: a crystal of 20 ppm drifts 1.7 s a day, what stations are allowed anyway.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.slices import EARLIEST_BELIEVABLE_S
from firmware import record
from station_config.clock import Clock, SystemClock

RELEASED_S = 1_795_219_200  # 2026-11-21: no clock of a machine that runs this program shows an earlier day
LATEST_S = 4_102_444_800  # 2100-01-01
HOLDS_FOR_S = 86_400.0
JUMP_S = 2.0
SETTLES_AFTER_S = 30.0
BEHIND_S = 300.0

TIMESYNCD_SAYS_SO = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 512  # struct timex is 208 bytes on 64-bit Linux, 128 on 32-bit

Source = Literal["network", "host"]
"""Who keeps the clock right: a service over the network, or a battery-backed or GPS clock of the host itself."""


@dataclass(frozen=True)
class ClockFacts:
    """What is known of the clock. Ages in seconds; None: never.

    `newest_s`: the newest time this gateway ever wrote down. `jump_s`: by how much the clock last moved against the
    time that passed. `bench`: the clock of a test bench, which nothing synchronises.
    """

    now_s: float
    synchronised_ago_s: float | None = None
    newest_s: float | None = None
    jump_s: float = 0.0
    jump_ago_s: float | None = None
    source: Source = "network"
    bench: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether the clock may set another one, and why."""

    trusted: bool
    reason: str


def judge(facts: ClockFacts) -> Verdict:
    """Return whether the clock can be trusted. The first of the reasons that holds decides."""
    if facts.now_s < EARLIEST_BELIEVABLE_S:
        return Verdict(False, "is not set: it shows a time before 2010")
    if facts.jump_ago_s is not None and facts.jump_ago_s < SETTLES_AFTER_S:
        return Verdict(False, f"has just moved by {facts.jump_s:+.0f} s: waiting whether it stays")
    if facts.bench:
        return Verdict(True, "the clock of the bench")
    if not RELEASED_S <= facts.now_s < LATEST_S:
        return Verdict(False, "shows a time in which this program cannot be: before its release, or after 2100")
    if facts.synchronised_ago_s is not None and facts.synchronised_ago_s <= HOLDS_FOR_S:
        return Verdict(True, "synchronised" if facts.synchronised_ago_s < SETTLES_AFTER_S else "synchronised today")
    if facts.newest_s is not None and facts.now_s < facts.newest_s - BEHIND_S:
        behind_h = (facts.newest_s - facts.now_s) / 3600
        return Verdict(False, f"is {behind_h:.1f} h behind the newest time written down here, and not synchronised")
    if facts.source == "host":
        return Verdict(True, 'not synchronised; believed because of clock_source = "host"')
    return Verdict(False, "is not synchronised: no time service has set it since the start, or for a day")


def is_synchronised() -> bool:
    """Return whether a time service keeps this machine's clock right, as kernel or timesyncd say; changes nothing."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        state = -1
    return state not in (-1, _TIME_ERROR) or TIMESYNCD_SAYS_SO.exists()


class HostClock:
    """The clock with its verdict. `look` is called every second or so by one thread; the rest by any.

    It is a Clock itself: what it shows is what the machine shows, trusted or not.
    """

    def __init__(self, clock: Clock, source: Source = "network", newest_s: float | None = None) -> None:
        self._clock = clock
        self._source = source
        self._newest_s = newest_s
        self._bench = not isinstance(clock, SystemClock)
        self.rate = float(getattr(clock, "rate", 1.0))
        """How fast the clock runs; other than 1 on a bench."""
        self._lock = threading.Lock()
        self._looked: tuple[float, float] | None = None  # monotonic, shown
        self._synchronised_at: float | None = None
        self._jump: tuple[float, float] | None = None  # monotonic, by how much
        self._verdict = Verdict(False, "not looked at yet")
        self.look()

    def now(self) -> float:
        """Return unix seconds, UTC."""
        return self._clock.now()

    @property
    def verdict(self) -> Verdict:
        """What the last look came to."""
        return self._verdict

    def doubt(self) -> str | None:
        """Return why the clock must not set another one; None when it may."""
        return None if self._verdict.trusted else f"this machine's clock {self._verdict.reason}"

    def note(self, newest_s: float) -> None:
        """Remember a time that was written down here, such as a stored record's."""
        with self._lock:
            self._newest_s = max(newest_s, self._newest_s or newest_s)

    def look(self) -> Verdict:
        """Look at the clock and return whether it can be trusted."""
        with self._lock:
            before, at, shown = self._looked, time.monotonic(), self._clock.now()
            self._looked = at, shown
            moved_s = 0.0 if before is None else shown - before[1] - (at - before[0]) * self.rate
            if abs(moved_s) > JUMP_S * max(1.0, self.rate):
                self._jump = at, moved_s
            if not self._bench and is_synchronised():
                self._synchronised_at = at
            elif self._jump is not None and self._jump[0] == at:
                self._synchronised_at = None  # somebody moved it, and nothing vouches for where to
            self._verdict = judge(self._facts(at, shown))
            return self._verdict

    def _facts(self, at: float, shown: float) -> ClockFacts:
        return ClockFacts(
            now_s=shown,
            synchronised_ago_s=None if self._synchronised_at is None else at - self._synchronised_at,
            newest_s=self._newest_s,
            jump_s=0.0 if self._jump is None else self._jump[1],
            jump_ago_s=None if self._jump is None else at - self._jump[0],
            source=self._source,
            bench=self._bench,
        )


def no_doubt() -> str | None:
    """Return that the clock may set others: for clocks nobody judges."""
    return None


def newest_time_written(reader: OutboxReader) -> float | None:
    """Return the newest time the outbox holds: of buffered records that are dated, and of contacts with stations."""
    times = [record.decode(raw[-record.SIZE :]).time for raw in reader.newest_records()]
    times += [int(json.loads(text).get("last_contact") or 0) for text in reader.contacts().values()]
    return max((at for at in times if at >= EARLIEST_BELIEVABLE_S), default=None)
