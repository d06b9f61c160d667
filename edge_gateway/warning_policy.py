"""Who is warned by the gateway, and when: pure decisions, each with its reason.

The cloud counts as away when records have been waiting and none was committed for `after_s`. An event is the cloud's as
soon as the record that made it is committed; only one whose record still waits, with the cloud away, is taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from alerts.rules import EXPIRE_AFTER_S, Kind
from edge_gateway.warning_configuration import RecipientConfiguration, WarningSetup
from edge_gateway.warning_store import Delivery, Fate, Told, WarningEvent

#: A link that has been away for hours may be back a moment after the start: give it the time to say so.
GRACE_S = 60.0
#: A clock that moves further between two looks has been set: that is no silence.
CLOCK_WAS_SET_S = 900.0
ATTEMPTS_IN_DOUBT = 2
RETRY_FIRST_S, RETRY_LONGEST_S = 5.0, 60.0
SILENCES_BEFORE_RESET = 3
RESET_AT_MOST_EVERY_S = 600.0


class Verdict(NamedTuple):
    """What becomes of an event (None: wait), and why."""

    fate: Fate | None
    reason: str


class Silence:
    """How long the cloud has committed nothing though records wait; seconds of the gateway's clock."""

    def __init__(self, after_s: float) -> None:
        self.seconds = 0.0
        self.since_start = 0.0
        self._after_s = after_s
        self._committed: int | None = None
        self._looked_at: float | None = None

    def look(self, now: float, committed: int, oldest_waiting: float | None) -> None:
        """Take into account how many records have been committed so far, and since when the oldest one waits."""
        passed_s = 0.0 if self._looked_at is None else now - self._looked_at
        if not 0 <= passed_s <= CLOCK_WAS_SET_S:
            passed_s = 0.0
        if self._committed is None and oldest_waiting is not None:
            self.seconds = max(0.0, now - oldest_waiting)  # the link was away before we were started
        self.since_start += passed_s
        self.seconds += passed_s
        if oldest_waiting is None or (self._committed is not None and committed != self._committed):
            self.seconds = 0.0
        self._looked_at, self._committed = now, committed

    @property
    def cloud_is_away(self) -> bool:
        """Whether the gateway warns by itself now."""
        return not self.cloud_is_there and self.since_start >= min(GRACE_S, self._after_s)

    @property
    def cloud_is_there(self) -> bool:
        """Whether it has committed lately. A moment after the start it may be neither there nor given up."""
        return self.seconds < self._after_s


def judge(event: WarningEvent, now: float, *, committed: bool, cloud_is_away: bool) -> Verdict:
    """Return what becomes of an open event."""
    if committed:
        return Verdict(Fate.CLOUD, "the cloud has the record and tells people")
    if now - event.time > EXPIRE_AFTER_S:
        return Verdict(Fate.EXPIRED, "it is no news any more")
    if cloud_is_away:
        return Verdict(Fate.TAKEN, "the cloud has been away too long")
    return Verdict(None, "the cloud may still take it")


def audience(
    setup: WarningSetup, event: WarningEvent, fate: Fate, told_before: Sequence[Delivery]
) -> list[RecipientConfiguration]:
    """Return whom the gateway tells of an event. `told_before`: who was told that the rule was raised.

    While the cloud is there that is nobody, but for those the gateway alone told of the danger: whom the cloud does not
    know it cannot tell that the danger is over.
    """
    followers = [person for person in setup.configuration.recipients if person.follows(event.rule)]
    if fate is Fate.TAKEN:
        return followers
    if fate is not Fate.CLOUD or event.kind != Kind.CLEARED:
        return []
    reached = {one.address for one in told_before if one.status in (Told.SENT, Told.UNSURE)}
    return [
        person for person in followers if person.phone in reached and not setup.cloud_tells(person.phone, event.rule)
    ]


def may_go(delivery: Delivery, event: WarningEvent, under_way: Sequence[tuple[WarningEvent, Delivery]]) -> bool:
    """Return whether nothing earlier waits for the same person: the all-clear never overtakes the warning."""
    return not any(
        other.address == delivery.address and (earlier.time, earlier.id) < (event.time, event.id)
        for earlier, other in under_way
    )


def after_doubt(delivery: Delivery, detail: str, now: float) -> Delivery:
    """Return a delivery whose answer was lost: told again once, because told twice is better than never."""
    unsure = delivery.unsure + 1
    status = Told.UNSURE if unsure >= ATTEMPTS_IN_DOUBT else Told.WAITING
    return replace(delivery, status=status, unsure=unsure, detail=detail, at=now)


def leave_to_the_cloud(setup: WarningSetup, event: WarningEvent, delivery: Delivery) -> bool:
    """Return whether a delivery that still waits is the cloud's, now that it is there again."""
    return delivery.status is Told.WAITING and setup.cloud_tells(delivery.address, event.rule)


def retry_s(failures: int) -> float:
    """Return the pause after so many failures in a row."""
    return float(min(RETRY_LONGEST_S, RETRY_FIRST_S * 2.0 ** max(0, min(failures, 30) - 1)))
