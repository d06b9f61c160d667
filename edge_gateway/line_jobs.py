"""Jobs for the stations of a line, done question by question in between its polling.

A job is a generator function over the line's link: it asks one question, yields how long it needs nothing (0 to go on
at once), and returns its result. So the records of all stations go on being fetched while a file crosses the line.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from edge_gateway.errors import JobFailed
from edge_gateway.station_link import StationLink

Result = TypeVar("Result")
Steps = Generator[float, None, Result]
"""Yields seconds to leave the line to others; returns the result."""
Job = Callable[[StationLink, int], Steps[Result]]

JOBS_AT_MOST = 100


@dataclass
class _Work:
    job: Job[Any]
    address: int
    future: Future[Any]
    steps: Steps[Any] | None = None
    due: float = 0.0


class LineJobs:
    """The jobs of one line. Any thread may submit; the line's own thread works."""

    def __init__(self) -> None:
        self._waiting: deque[_Work] = deque()
        self._lock = threading.Lock()

    def submit(self, job: Job[Result], address: int) -> Future[Result]:
        """Have a job done for the station at `address`; an error it raises comes out of the Future."""
        work = _Work(job, address, Future())
        with self._lock:
            if len(self._waiting) >= JOBS_AT_MOST:
                work.future.set_exception(JobFailed(f"{JOBS_AT_MOST} jobs wait on this line already"))
            else:
                self._waiting.append(work)
        return work.future

    def due_in_s(self) -> float | None:
        """Return how long no job needs the line; None when there is no job."""
        with self._lock:
            dues = [work.due for work in self._waiting]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def work(self, link: StationLink, for_s: float, stop: threading.Event) -> None:
        """Let the jobs that are due ask, one after another, for about `for_s`: one question at least."""
        ends_at = time.monotonic() + for_s
        while not stop.is_set() and (work := self._next_due()) is not None:
            self._step(work, link)
            if time.monotonic() >= ends_at:
                return

    def _next_due(self) -> _Work | None:
        now = time.monotonic()
        with self._lock:
            due = next((work for work in self._waiting if work.due <= now), None)
            if due is not None:  # to the end of the queue: jobs take turns
                self._waiting.remove(due)
                self._waiting.append(due)
        return due

    def _step(self, work: _Work, link: StationLink) -> None:
        try:
            if work.steps is None:
                work.steps = work.job(link, work.address)
            work.due = time.monotonic() + next(work.steps)
        except StopIteration as end:
            self._remove(work)
            work.future.set_result(end.value)
        except Exception as error:  # noqa: BLE001  whatever is wrong with one job, the line and who waits must go on
            self._remove(work)
            work.future.set_exception(error)

    def _remove(self, work: _Work) -> None:
        with self._lock:
            self._waiting.remove(work)
