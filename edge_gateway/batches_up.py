"""Records on their way up: which batch is next, what is under way, what was not committed in time."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from edge_gateway import uplink_policy as policy
from edge_gateway.configuration import BrokerConfiguration
from edge_gateway.data_budget import RECORDS_AT_LEAST, is_live
from edge_gateway.messages import CommittedRecords
from edge_gateway.outbox_reader import Head, OutboxReader
from edge_gateway.slices import Range, Series, Slice, joined
from edge_gateway.uplink_policy import Side, UnderWay

log = structlog.get_logger()

BEING_FREED_AT_MOST = 50


class BatchesUp:
    """What of the outbox's records is under way on this connection. Times are monotonic seconds unless said."""

    def __init__(self, broker: BrokerConfiguration) -> None:
        self.under_way: list[UnderWay] = []
        self.timeouts = 0
        """Times in a row that batches were not committed in time."""
        self._broker = broker
        self._window = policy.LEAST_WINDOW
        self._being_freed: list[CommittedRecords] = []
        self._silences = 0
        """Timeouts since the last commit; a connection that is lost in between changes nothing about that."""

    def forget(self) -> None:
        """The connection is lost: what was under way is sent again on the next one, at once."""
        self.under_way = []
        self.timeouts = 0

    def next_batch(self, reader: OutboxReader, most: int, live_at: float | None) -> tuple[Side, Slice] | None:
        """Return what goes next and on whose place, None when the window is full or nothing waits.

        `live_at`: only live records, as of this unix time, in small batches; None: all.
        """
        sides = tuple(Side) if live_at is None else (Side.NEWEST,)
        side = policy.free_side(self.under_way, policy.places(self._window, self._broker.backlog_share), sides)
        if side is None:
            return None
        with reader.one_moment():
            heads = [head for series in reader.with_buffered() if (head := self._head(reader, series, side))]
            if live_at is not None:
                heads, most = [head for head in heads if is_live(head.received_at, live_at)], RECORDS_AT_LEAST
            chosen = policy.choose(side, heads)
            if chosen is None:
                return None
            collect = reader.up_to if side is Side.NEWEST else reader.following
            return side, collect(chosen, self._taken(chosen.series), most)

    def note_sent(self, side: Side, piece: Slice, now: float) -> None:
        """The batch has been handed to the connection."""
        self.under_way.append(UnderWay(piece.series, [(piece.first_seq, piece.last_seq)], side, now))

    def note_commits(self, commits: Sequence[CommittedRecords]) -> None:
        """These are committed; the outbox is asked to free them, and they must not be sent again until it has."""
        self._being_freed += commits
        for series, ranges in commits:
            self.under_way = policy.after_commit(self.under_way, series, ranges)
        self._window = policy.window_after_commits(self._window, len(commits), self._broker.window)
        self.timeouts = 0
        self._silences = 0

    def note_freed(self, commits: Sequence[CommittedRecords]) -> None:
        """The outbox has freed these, or could not: then they are sent again."""
        del self._being_freed[: len(commits)]  # it answers in the order it was asked

    @property
    def many_being_freed(self) -> bool:
        """Whether so much waits to be freed that it should not wait any longer."""
        return len(self._being_freed) > BEING_FREED_AT_MOST

    def give_up_overdue(self, now: float) -> int:
        """Take off what was not committed in time, so that it goes again; return how many batches."""
        overdue = policy.overdue(self.under_way, now, self._commit_wait_s())
        if not overdue:
            return 0
        if self.timeouts == 0:
            log.warning("batches were not committed in time and are sent again", batches=len(overdue))
        self.timeouts += 1
        self._silences += 1
        self._window = policy.window_after_timeout(self._window)
        self.under_way = [batch for batch in self.under_way if batch not in overdue]
        return len(overdue)

    def overdue_at(self) -> float:
        """Return when the first batch under way is overdue, infinity when none is under way."""
        return min((batch.sent_at for batch in self.under_way), default=float("inf")) + self._commit_wait_s()

    def _commit_wait_s(self) -> float:
        return policy.commit_wait_s(self._silences, self._broker.commit_timeout_s)

    def _head(self, reader: OutboxReader, series: Series, side: Side) -> Head | None:
        taken = self._taken(series)
        return reader.newest(series, taken) if side is Side.NEWEST else reader.oldest(series, taken)

    def _taken(self, series: Series) -> list[Range]:
        under_way = [waiting for batch in self.under_way if batch.series == series for waiting in batch.waiting]
        return joined([*under_way, *(span for one in self._being_freed if one.series == series for span in one.ranges)])
