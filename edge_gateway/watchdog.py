"""Whether the gateway's threads come round; only while all of them do is the service manager's watchdog fed.

Every work asks its stop signal whether to go on, each time it comes round. So the stop signal handed to a thread is a
pulse: asking it is the sign of life, and no work has to know that it is watched.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import structlog

from edge_gateway.outbox import WRITE_DEADLINE_S
from edge_gateway.service_manager import ServiceManager
from firmware.patience import Patience

log = structlog.get_logger()

RETRIES = 1  # of one question, at most
RESERVE_S = 15.0
LOOKS_PER_SILENCE = 8
LONGEST_PAUSE_S = 5.0


def longest_silence_s(timeouts_s: Iterable[float]) -> float:
    """Return how long a healthy thread takes at most to come round, by the timeouts of the lines.

    That is a write to a disk that is slow to answer, and the longest that one asking may take a line.
    """
    asking_ms = Patience(round(1000 * max(timeouts_s, default=0.0)) or 1).budget_ms(RETRIES)
    return WRITE_DEADLINE_S + asking_ms / 1000 + RESERVE_S


class Pulse(threading.Event):
    """The stop signal as one thread sees it: asking it says that the thread has come round."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop
        self.expected_at = time.monotonic()
        """When the thread said it would ask again: now, or after the pause it takes."""

    def is_set(self) -> bool:
        """Whether the thread is to stop."""
        self.expected_at = time.monotonic()
        return self._stop.is_set()

    def set(self) -> None:
        """Stop all that share the signal."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Pause until the thread is to stop, `timeout` seconds at most; say whether it is."""
        self.expected_at = time.monotonic() + (float("inf") if timeout is None else timeout)
        stopped = self._stop.wait(timeout)
        self.expected_at = time.monotonic()
        return stopped


class Watchdog:
    """Looks after all pulses in a thread of its own, and feeds the service manager while none is overdue."""

    def __init__(self, service: ServiceManager, silence_allowed_s: float) -> None:
        self.silence_allowed_s = silence_allowed_s if service.watchdog_s is None else service.watchdog_s / 2
        self._service = service
        self._expected: dict[str, Callable[[], float | None]] = {}
        self._lock = threading.Lock()
        self._told: list[str] = []

    def pulse(self, name: str, stop: threading.Event) -> Pulse:
        """Return the stop signal for the thread `name`, which is watched from now on."""
        pulse = Pulse(stop)
        self.watch(name, lambda: pulse.expected_at)
        return pulse

    def watch(self, name: str, expected_at: Callable[[], float | None]) -> None:
        """Watch something else that is expected to be done at a time (monotonic), or None while it has no work."""
        with self._lock:
            self._expected[name] = expected_at

    def overdue(self, now: float) -> list[str]:
        """Return those that should have come round by now (monotonic) and have not."""
        with self._lock:
            expected = {name: ask() for name, ask in self._expected.items()}
        return [name for name, at in expected.items() if at is not None and now - at > self.silence_allowed_s]

    def run(self, stop: threading.Event) -> None:
        """Look and feed until `stop` is set."""
        pause_s = min(LONGEST_PAUSE_S, self.silence_allowed_s / LOOKS_PER_SILENCE)
        while True:
            self.look(time.monotonic())
            if stop.wait(pause_s):
                return

    def look(self, now: float) -> None:
        """Feed the service manager, unless something is overdue at `now` (monotonic); say so once."""
        stuck = self.overdue(now)
        if not stuck:
            self._service.alive()
        elif stuck != self._told:
            log.critical(
                "threads do not come round; the watchdog is not fed", threads=stuck, after_s=self.silence_allowed_s
            )
        self._told = stuck
