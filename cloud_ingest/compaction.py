"""The way of an old day: from the hot log into chunks, piece by piece in the writer's thread, between two groups.

A day of UTC (rollup_marks: begin < time <= end) is packed six hours after it has ended, for the stations whose review
has settled it. Its rows are read from the log in windows of time, as many series at once as fit into memory; then they
go into chunks, some thousand rows in each transaction; then out of the log, in order of time, so that whole pages
become free and next to nothing is written for it. In between they are in both, which reads the same (chunked_log.py).

Each piece is a transaction of its own and costs about the same, however wide a station is and however often it
measures. What happens between two pieces does no harm: a row that has changed in the log since it was read stays there
(its layers count, and it is packed when the day's turn comes again), a series whose chunks somebody else has changed is
left for the next turn, and what another process takes out (an archive) makes the day begin again. So a crash loses
nothing and repeats little, and nothing has to be remembered on disk: the log itself says what there is to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cloud_ingest.chunk_table import Merged
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.gathered import Gathered, Packed
from cloud_ingest.observations import Logged
from cloud_ingest.pace import Pace
from cloud_ingest.review_spans import Depth
from cloud_ingest.rollup_marks import BLOCK_S
from cloud_ingest.scan_windows import Key, Window, beginning
from cloud_ingest.scans import GROUP_BITS
from cloud_ingest.store import Store
from cloud_ingest.transaction import Transaction

CLOSED_AFTER_S = 6 * 3600
READ_EFFORT = 25_000  # of one piece that reads: rows, see scan_windows
PACK_EFFORT = 20_000  # of one piece that packs: rows read and written, see chunk_table
REMOVE_EFFORT = 10_000  # of one piece that takes out
ROWS_GATHERED = 640_000  # 41 bytes each
ROWS_REMEMBERED = 2_000_000  # 16 bytes each
LOOK_EVERY_S = 3600.0
BUDGET_S = 0.1  # of one step; then the messages that wait are stored

Told = Callable[[int, int], None]  # rows packed so far, the day that is at work (unix seconds)


@dataclass
class _Day:
    """A day at work: groups of series are `left` to be read (from a key on), rows are `gathered` from the log, those of
    the series `to_pack` go into chunks (`rest`: of the one at work), and those `packed` go out of the log."""

    first: int
    last: int
    wanted: npt.NDArray[np.bool_]  # by series: whether it is of a settled station
    left: list[tuple[int, Key]]
    version: int
    packed: Packed
    gathered: Gathered | None = None
    to_pack: list[int] = field(default_factory=list)
    rest: Logged | None = None
    removed_until: Key | None = None


@dataclass
class Compaction:
    """Work to do between groups of messages."""

    store: Store
    look_every_s: float = LOOK_EVERY_S
    rows_packed: int = field(default=0, init=False)
    _day: _Day | None = field(default=None, init=False)
    _since: int = field(default=0, init=False)  # days before are done, this time round
    _groups_at_once: int = field(default=1 << 30, init=False)
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(BUDGET_S, self.look_every_s)

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
            if day is not None and _taken_out_by_others(transaction, log, day):
                day = None
            if day is None:
                day = self._next_day(transaction, log, closed_s)
                if day is None:
                    self._since = 0
                    return False
            elif self._go_on(log, day):
                self._since, day = day.last + 1, None
        self._day = day
        return True

    def _next_day(self, transaction: Transaction, log: ChunkedLog, closed_s: int) -> _Day | None:
        """Return the oldest day that is closed and has rows of settled stations in the log."""
        waiting = [span for depth in Depth for span in transaction.waiting_spans(depth)]
        stations = {key.station for key in self.store.keys.values()}
        while (oldest := log.log.oldest_time(self._since)) is not None:
            last = ((oldest - 1) // BLOCK_S + 1) * BLOCK_S
            if last > closed_s:
                return None
            if settled := stations - {span.station for span in waiting if span.first <= last}:
                return self._new_day(log, settled, last)
            self._since = last + 1
        return None

    def _new_day(self, log: ChunkedLog, settled: set[str], last: int) -> _Day:
        first = last - BLOCK_S + 1
        own = np.array([number for number, key in self.store.keys.items() if key.station in settled])
        wanted = np.zeros(int(own.max()) + 1, np.bool_)
        wanted[own] = True
        left = [(group, beginning(first)) for group in np.unique(own >> GROUP_BITS).tolist()]
        return _Day(first, last, wanted, left, log.chunks.changes_of_others(), Packed(first))

    def _go_on(self, log: ChunkedLog, day: _Day) -> bool:
        """Do the day's next piece; return whether it is done."""
        if day.gathered is not None and day.gathered.following is not None:
            self._gather(log, day, day.gathered, day.gathered.following)
        elif day.gathered is not None:
            self._pack(log, day, day.gathered)
        elif day.left and day.packed.rows < ROWS_REMEMBERED:
            self._begin(log, day)
        elif day.packed.rows:
            self._remove(log, day)
        else:
            return True
        return False

    def _begin(self, log: ChunkedLog, day: _Day) -> None:
        """Read the next groups: as many as fitted the last time."""
        if not day.packed.rows:
            log.changed_since.clear()
        begin = day.left[0][1]
        groups = tuple(group for group, key in day.left[: self._groups_at_once] if key == begin)
        self._gather(log, day, Gathered(groups, day.first, begin), begin)

    def _gather(self, log: ChunkedLog, day: _Day, gathered: Gathered, begin: Key) -> None:
        """Read a window. When memory is full, half of the groups is tried; a single one is packed as far as it is."""
        window = log.log.window(gathered.groups, begin, day.last, READ_EFFORT)
        gathered.take(*_of_series(window, day.wanted))
        day.gathered = gathered
        left = day.left[len(gathered.groups) :]
        if gathered.following is None:
            if gathered.rows < ROWS_GATHERED // 4:
                self._groups_at_once *= 2
        elif gathered.rows < ROWS_GATHERED:
            return
        elif len(gathered.groups) > 1:
            self._groups_at_once = len(gathered.groups) // 2
            day.gathered = None
            return
        else:
            left.insert(0, (gathered.groups[0], gathered.following))
            gathered.following = None
        day.left = left
        day.to_pack = gathered.series()[::-1]

    def _pack(self, log: ChunkedLog, day: _Day, gathered: Gathered) -> None:
        effort = PACK_EFFORT
        while effort > 0 and (day.rest is not None or day.to_pack):
            number = day.to_pack[-1]
            rows = gathered.of(number) if day.rest is None else day.rest
            done = Merged(len(rows.time), 0) if number in log.changed_since else log.chunks.merge_some(number, rows)
            self.rows_packed += done.rows
            effort -= done.effort
            day.rest = rows.take(slice(done.rows, None)) if done.rows < len(rows.time) else None
            if day.rest is None:
                day.to_pack.pop()
        if not day.to_pack:
            day.packed.add(gathered)
            day.gathered = None

    def _remove(self, log: ChunkedLog, day: _Day) -> None:
        """Take what is still the same out of the log, a window of it."""
        begin = beginning(day.first) if day.removed_until is None else day.removed_until
        window = log.log.window(day.packed.groups(), begin, day.last, REMOVE_EFFORT)
        gone = day.packed.unchanged(window.scans)
        if log.changed_since:
            gone &= ~np.isin(window.scans.rows["series"], list(log.changed_since))
        log.log.take_out(window, gone)
        day.removed_until = window.following
        if window.following is None:
            day.packed = Packed(day.first)


def _of_series(window: Window, wanted: npt.NDArray[np.bool_]) -> Window:
    series = window.scans.rows["series"]
    own = wanted[np.minimum(series, len(wanted) - 1)] & (series < len(wanted))
    return window if own.all() else Window(window.scans.take(own), window.following)


def _taken_out_by_others(transaction: Transaction, log: ChunkedLog, day: _Day) -> bool:
    """Return whether another process may have taken rows of this day out since it was begun: only an archive does."""
    changed = log.chunks.changes_of_others() != day.version
    return changed and day.first <= transaction.rollups.archived_before()
