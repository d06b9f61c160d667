"""What goes up next. Pure; newest records first, the backlog in its share of the window, neither starves.

The window is a number of batches under way (sent, not yet committed). A share of its places belongs to the backlog,
oldest first, the others to the newest: a record made now waits for one place at most, and the oldest always moves.
The window is small after a silence and grows with every commit, so that a slow link is not filled with batches whose
commits then come too late, and a cloud that is away costs a SIM card two batches per timeout, not twenty. In a
silence the timeout doubles twice; the first commit brings it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edge_gateway.outbox_reader import Head
from edge_gateway.slices import Range, Series, without

LEAST_WINDOW = 2
MOST_PATIENCE = 2
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


def window_after_commits(window: int, commits: int, most: int) -> int:
    """Return the window when `commits` commit messages came: one place more for each."""
    return min(most, window + commits)


def window_after_timeout(window: int) -> int:
    """Return the window when batches were not committed in time: half."""
    return max(LEAST_WINDOW, window // 2)


def places(window: int, backlog_share: float) -> dict[Side, int]:
    """Return how many batches each side may have under way; each has at least one place."""
    backlog = min(window - 1, max(1, round(window * backlog_share)))
    return {Side.NEWEST: window - backlog, Side.BACKLOG: backlog}


def free_side(
    under_way: Sequence[UnderWay], allowed: dict[Side, int], sides: Sequence[Side] = tuple(Side)
) -> Side | None:
    """Return which of `sides` sends the next batch, the one that uses less of its places; None when all are taken."""
    used = {side: sum(batch.side is side for batch in under_way) / allowed[side] for side in sides}
    side = min(sides, key=lambda side: used[side])
    return side if used[side] < 1 else None


def choose(side: Side, heads: Sequence[Head]) -> Head | None:
    """Return the slice to send from: the one received last for NEWEST, first for BACKLOG."""
    if not heads:
        return None
    if side is Side.NEWEST:
        return max(heads, key=lambda head: head.received_at)
    return min(heads, key=lambda head: head.received_at)


def commit_wait_s(silences: int, commit_timeout_s: float) -> float:
    """Return how long a batch may wait for its commit, after so many timeouts without any commit."""
    return float(commit_timeout_s * 2.0 ** min(silences, MOST_PATIENCE))


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
