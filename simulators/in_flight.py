"""Which records are on their way at a moment: made, and not stored yet. When one was made is worked out afterwards.

ledger, looked at while a run goes on (LedgerWatch) ─┐
journals, read from the boards when it is over ──────┴─▶ made_at, in_flight
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

import httpx

from firmware.record import Record

LOOK_S = 0.5
HOUR_S = 3600.0

Key = tuple[str, int]  # station, journal


class LedgerWatch:
    """Looks at the cloud's ledger while a block runs, and keeps when each record was first seen there."""

    def __init__(self, ledger: Callable[[], Sequence[Mapping[str, Any]]], now: Callable[[], float]) -> None:
        self._ledger, self._now = ledger, now
        self.stored: defaultdict[Key, dict[int, float]] = defaultdict(dict)
        self.moments: list[float] = []
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look while the block runs, and once at each end of it."""
        self._look()
        thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self._look()

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        moment = self._now()
        try:
            rows = self._ledger()
        except httpx.HTTPError:  # the cloud is down, which may be the fault
            return
        self.moments.append(moment)
        for row in rows:
            stored = self.stored[row["station"], row["journal"]]
            for first, last in row["ranges"]:
                stored |= {seq: moment for seq in range(first, last + 1) if seq not in stored}


def most_in_flight(
    records: Mapping[int, Record], stored: Mapping[int, float], watch: LedgerWatch, begin: float, end: float
) -> int:
    """Return the most records of a journal that were on their way at one moment from `begin` to `end`, bench time."""
    moments = [begin, *(moment for moment in watch.moments if begin < moment < end), end]
    seqs, times = made_at(records, stored, watch.moments[0], moments[-1] + HOUR_S)
    return max(len(in_flight(seqs, times, stored, moment)) for moment in moments)


def made_at(
    records: Mapping[int, Record], stored: Mapping[int, float], begin: float, end: float
) -> tuple[list[int], list[float]]:
    """Return numbers in order and when each was made at the latest, in bench time that never goes back.

    A record without a date, or dated outside of the run, was made before the next one that has a good date; none later
    than it was stored.
    """
    seqs = sorted({*records, *stored})
    times: list[float] = []
    following = end
    for seq in reversed(seqs):
        record = records.get(seq)
        dated = record is not None and begin <= record.time <= end
        following = min(float(record.time), following) if dated and record is not None else following
        times.append(min(following, stored.get(seq, end)))
    times.reverse()
    highest = begin
    for place, moment in enumerate(times):
        highest = times[place] = max(highest, moment)
    return seqs, times


def in_flight(seqs: Sequence[int], times: Sequence[float], stored: Mapping[int, float], at: float) -> list[int]:
    """Return the numbers made and not stored at a moment: in a journal, an outbox, on a line, at the broker."""
    return [seq for seq in seqs[: bisect_right(times, at)] if stored.get(seq, inf) > at]
