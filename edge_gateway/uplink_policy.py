"""What goes up next. Pure; newest records first, the backlog in its share of the window, neither starves.

The window is a number of batches under way (sent, not yet committed). A share of its places belongs to the backlog,
oldest first, the others to the newest: a record made now waits for one place at most, and the oldest always moves.
When the cloud does not commit, only a probe goes out until it does: a broker that takes everything and a cloud that is
away cost the SIM card two batches per timeout, not a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edge_gateway.outbox_reader import Head
from edge_gateway.slices import Range, Series, without

PROBE_WINDOW = 2
RECORDS_PER_BATCH = 600


class Side(Enum):
    """From which end of a series a batch is taken."""

    NEWEST = "newest first"
    BACKLOG = "the backlog's share"


@dataclass
class UnderWay:
    """A batch that was sent: what of it is not committed yet, on whose place, since when (monotonic seconds)."""

    series: Series
    waiting: list[Range]
    side: Side
    sent_at: float


def places(window: int, backlog_share: float, unanswered: bool) -> dict[Side, int]:
    """Return how many batches each side may have under way; `unanswered` when the last round brought no commit."""
    open_places = min(window, PROBE_WINDOW) if unanswered else window
    backlog = min(open_places - 1, max(1, round(open_places * backlog_share)))
    return {Side.NEWEST: open_places - backlog, Side.BACKLOG: backlog}


def free_side(under_way: Sequence[UnderWay], allowed: dict[Side, int]) -> Side | None:
    """Return the side that may send the next batch, None when the window is full."""
    for side in Side:
        if sum(batch.side is side for batch in under_way) < allowed[side]:
            return side
    return None


def choose(side: Side, heads: Sequence[Head]) -> Head | None:
    """Return the slice to send from: the one received last for NEWEST, first for BACKLOG."""
    if not heads:
        return None
    if side is Side.NEWEST:
        return max(heads, key=lambda head: head.received_at)
    return min(heads, key=lambda head: head.received_at)


def overdue(under_way: Sequence[UnderWay], now: float, commit_timeout_s: float) -> list[UnderWay]:
    """Return the batches that were not committed in time and have to be sent again."""
    return [batch for batch in under_way if now - batch.sent_at >= commit_timeout_s]


def after_commit(under_way: Sequence[UnderWay], series: Series, ranges: Sequence[Range]) -> list[UnderWay]:
    """Return what is still under way when these ranges are committed."""
    for batch in under_way:
        if batch.series == series:
            batch.waiting = [left for waiting in batch.waiting for left in without(waiting, ranges)]
    return [batch for batch in under_way if batch.waiting]


def backoff_s(attempt: int, least_s: float, most_s: float, chance: float) -> float:
    """Return the pause before connection attempt `attempt` (0 is the first); `chance` in 0..1 spreads a fleet."""
    ceiling = min(most_s, least_s * 2.0 ** min(attempt, 30))
    return ceiling * (0.5 + chance / 2)
