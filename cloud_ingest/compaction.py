"""The way of an old day: from the hot log into chunks, piece by piece in the writer's thread, between two groups.

A day of UTC (rollup_marks: begin < time <= end) is packed six hours after it has ended, for the stations whose review
has settled it. First its rows go into chunks, some series of a station in each transaction; then they go out of the
log, in order of time, so that whole pages become free and next to nothing is written for it. In between they are in
both, which reads the same (chunked_log.py). Only rows that are still what was packed go out: what has changed since
stays, and is packed with the late rows, when the day's turn comes again. So a crash loses nothing and repeats little,
and nothing has to be remembered: the log itself says what there is to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.chunks import COLUMNS
from cloud_ingest.columns import Ints
from cloud_ingest.observations import Logged
from cloud_ingest.pace import Pace
from cloud_ingest.review_spans import Depth
from cloud_ingest.rollup_marks import BLOCK_S
from cloud_ingest.store import Store
from cloud_ingest.transaction import Transaction

CLOSED_AFTER_S = 6 * 3600
SERIES_AT_ONCE = 16
ROWS_AT_ONCE = 20_000  # out of the log in one transaction
ROWS_REMEMBERED = 2_000_000  # 16 bytes each
LOOK_EVERY_S = 3600.0
BUDGET_S = 0.1  # of one step; then the messages that wait are stored

Told = Callable[[int, int], None]  # rows packed so far, the day that is at work (unix seconds)


class Packed(NamedTuple):
    """What went into chunks: times, and what each row was."""

    time: Ints
    digest: npt.NDArray[np.uint64]


@dataclass
class _Day:
    """A day at work."""

    first: int
    last: int
    to_pack: list[list[int]]  # series
    packed: dict[int, Packed] = field(default_factory=dict)
    windows: Iterator[tuple[int, int]] | None = None

    @property
    def rows(self) -> int:
        return sum(len(one.time) for one in self.packed.values())


@dataclass
class Compaction:
    """Work to do between groups of messages."""

    store: Store
    rows_packed: int = field(default=0, init=False)
    _day: _Day | None = field(default=None, init=False)
    _since: int = field(default=0, init=False)  # days before are done, this time round
    _pace: Pace = field(default_factory=lambda: Pace(BUDGET_S, LOOK_EVERY_S), init=False)

    def step(self, now_s: float, *, busy: bool = False, clock_s: float | None = None) -> int:
        """Do pieces for a tenth of a second, or while ingest is busy one now and then; return how many.

        now_s: unix seconds; clock_s: monotonic. Raises StoreUnavailable, ChunkDamaged.
        """
        closed_s = int(now_s) - CLOSED_AFTER_S
        return self._pace.turn(lambda: self._piece(closed_s), busy=busy, clock_s=clock_s)

    def is_due(self, clock_s: float | None = None) -> bool:
        """Return whether a step would look for more."""
        return self._pace.is_due(clock_s)

    def finish(self, now_s: float, told: Told | None = None) -> int:
        """Pack all that is closed and settled; return how many pieces that were."""
        pieces = 0
        while self._piece(int(now_s) - CLOSED_AFTER_S):
            pieces += 1
            if told is not None and self._day is not None:
                told(self.rows_packed, self._day.first)
        return pieces

    def _piece(self, closed_s: int) -> bool:
        """Do one piece; return whether there may be more. After an error the day is begun again."""
        day, self._day = self._day, None
        with self.store.transaction() as transaction:
            log = transaction.log
            if not isinstance(log, ChunkedLog):
                return False  # another store sees to this itself
            if day is None:
                day = self._next_day(transaction, log, closed_s)
                if day is None:
                    self._since = 0
                    return False
            elif day.to_pack and day.rows < ROWS_REMEMBERED:
                self._pack(log, day)
            elif not self._remove(log, day):
                if not day.to_pack:
                    self._since = day.last + 1
                day = None
        self._day = day
        return True

    def _next_day(self, transaction: Transaction, log: ChunkedLog, closed_s: int) -> _Day | None:
        """Return the oldest day that is closed and has rows of settled stations in the log."""
        waiting = [span for depth in Depth for span in transaction.waiting_spans(depth)]
        while (oldest := log.log.oldest_time(self._since)) is not None:
            last = ((oldest - 1) // BLOCK_S + 1) * BLOCK_S
            if last > closed_s:
                return None
            unsettled = {span.station for span in waiting if span.first <= last}
            by_station: dict[str, list[int]] = {}
            for number, key in self.store.keys.items():
                if key.station not in unsettled:
                    by_station.setdefault(key.station, []).append(number)
            if by_station:
                pieces = [
                    own[at : at + SERIES_AT_ONCE] for own in map(sorted, by_station.values()) for at in _steps(own)
                ]
                return _Day(last - BLOCK_S + 1, last, pieces)
            self._since = last + 1
        return None

    def _pack(self, log: ChunkedLog, day: _Day) -> None:
        for number, rows in log.log.logged(day.to_pack[-1], day.first, day.last).items():
            if len(rows.time):
                log.chunks.merge(number, rows)
                day.packed[number] = Packed(rows.time, digests(rows))
                self.rows_packed += len(rows.time)
        day.to_pack.pop()

    def _remove(self, log: ChunkedLog, day: _Day) -> bool:
        """Take the next rows out of the log; return whether there may be more."""
        if day.windows is None:
            day.windows = iter(windows(day.first, day.last, (one.time for one in day.packed.values())))
        window = next(day.windows, None)
        if window is None:
            return False
        times, series = [], []
        wanted = day.packed.keys() - log.changed_since
        for number, rows in log.log.logged(wanted, *window).items():
            same = unchanged(day.packed[number], rows)
            times.append(rows.time[same])
            series.append(np.full(len(times[-1]), number))
        if times:
            gone, whose = np.concatenate(times), np.concatenate(series)
            order = np.lexsort((whose, gone))
            log.log.remove(gone[order], whose[order])
        return True


def digests(rows: Logged) -> npt.NDArray[np.uint64]:
    """Return 64 bits that stand for all columns of each row."""
    found = np.zeros(len(rows.time), np.uint64)
    for name in COLUMNS:
        column = getattr(rows, name)
        words = column.view(np.uint64) if column.itemsize == 8 else column.astype(np.uint64)
        found = (found ^ words) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


def unchanged(packed: Packed, rows: Logged) -> npt.NDArray[np.bool_]:
    """Return which rows are what was packed."""
    at = np.minimum(np.searchsorted(packed.time, rows.time), len(packed.time) - 1)
    same: npt.NDArray[np.bool_] = (packed.time[at] == rows.time) & (packed.digest[at] == digests(rows))
    return same


def windows(first: int, last: int, times: Iterable[Ints]) -> Iterator[tuple[int, int]]:
    """Yield spans of time (both ends included) from first to last with about ROWS_AT_ONCE rows, if they are even."""
    number = sum(map(len, times))
    if not number:
        return
    step = max((last - first) // (number // ROWS_AT_ONCE + 1) + 1, 1)
    for begin in range(first, last + 1, step):
        yield begin, min(begin + step - 1, last)


def _steps(series: list[int]) -> range:
    return range(0, len(series), SERIES_AT_ONCE)
