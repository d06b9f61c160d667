"""Messages that are no records on their way up: sent before batches, and again until a commit names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from edge_gateway.messages import UpMessage
from edge_gateway.outbox_reader import OutboxReader

UNDER_WAY_AT_MOST = 20
LOOKED_AT = 200
DOUBLINGS_AT_MOST = 5

Publish = Callable[[UpMessage], None]


class Sent(NamedTuple):
    """When a message was sent last (monotonic seconds), and how many times on this connection."""

    at: float
    times: int


def resend_at(sent: Sent, commit_timeout_s: float) -> float:
    """Return when a message goes again: each time the wait doubles, up to 32 times the first."""
    return float(sent.at + commit_timeout_s * 2.0 ** min(sent.times - 1, DOUBLINGS_AT_MOST))


def due(waiting: Sequence[str], sent: Mapping[str, Sent], now: float, commit_timeout_s: float) -> list[str]:
    """Return the ids to send now, in the order they wait.

    Places are taken only by what was sent within the last `commit_timeout_s`, so that messages the cloud never commits
    do not hold up the others.
    """
    places = UNDER_WAY_AT_MOST - sum(now - one.at < commit_timeout_s for one in sent.values())
    ready = [one for one in waiting if one not in sent or now >= resend_at(sent[one], commit_timeout_s)]
    return ready[: max(0, places)]


class MessagesUp:
    """What of the outbox's messages is under way on this connection."""

    def __init__(self, commit_timeout_s: float) -> None:
        self.sent: dict[str, Sent] = {}
        self._commit_timeout_s = commit_timeout_s

    def send_what_is_due(self, reader: OutboxReader, now: float, publish: Publish) -> int:
        """Publish what is due; return how many."""
        waiting = reader.message_ids(LOOKED_AT)
        self.sent = {one: self.sent[one] for one in waiting if one in self.sent}
        ids = due(waiting, self.sent, now, self._commit_timeout_s)
        for one in ids:
            message = reader.message(one)
            if message is not None:
                publish(message)
            self.sent[one] = Sent(now, self.sent[one].times + 1 if one in self.sent else 1)
        return len(ids)

    def next_look(self, now: float) -> float:
        """Return when there may be something to send though nothing has come; infinity when nothing is under way."""
        timeout_s = self._commit_timeout_s
        moments = [at for one in self.sent.values() for at in (one.at + timeout_s, resend_at(one, timeout_s))]
        return min((at for at in moments if at > now), default=float("inf"))
