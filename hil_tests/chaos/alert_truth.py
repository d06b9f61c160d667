"""Which alerts had to go, worked out from the records and when the cloud had them, apart from the product's own rules.

Two things can be said without repeating the rule's machine. An event must have a cause: at its time the water was over
(or under) the level. And at some moments there is no doubt which side the rule is on: when values came in order, in
time, without a gap, and were over (or under) for the dwell and some more. There the last event must be of that side.
In between (a backlog that came newest first, clocks ahead, values between the levels, values that quality control
failed afterwards) either is right. An event that takes one back must be of a value that failed. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import inf
from typing import Any, NamedTuple

RAISED, CLEARED = "raised", "cleared"
TAKEN_BACK = ("withdrawn", "reinstated")
MAX_GAP_S = 1800
MAX_AHEAD_S = 900
EXPIRES_AFTER_S = 2 * 3600


class Seen(NamedTuple):
    """A value of a station: its time, when the cloud had it (bench seconds), whether quality control failed it."""

    time: int
    value: float
    stored_at: float
    failed: bool = False


@dataclass(frozen=True)
class Levels:
    """A rule, as the operator wrote it."""

    rule: str
    set_level: float
    clear_level: float
    dwell_s: float
    stale_after_s: float
    margin_s: float
    """What order and lateness are not known to: the time between two looks at the ledger, and some records."""

    def side(self, value: float) -> str | None:
        """Return the side a value asks for beyond doubt, None between the levels."""
        if value >= self.set_level * 1.0005:
            return RAISED
        return CLEARED if value <= self.clear_level * 0.9995 else None


class Certain(NamedTuple):
    """At this time of the river the rule must have been on this side."""

    time: int
    side: str


def certain_moments(seen: Iterable[Seen], levels: Levels) -> list[Certain]:
    """Return the moments at which a rule's side is beyond doubt."""
    found: list[Certain] = []
    last_time: int | None = None
    side, since = None, 0
    for stored_at, group in groupby(sorted(seen, key=lambda one: (one.stored_at, one.time)), lambda one: one.stored_at):
        batch = list(group)
        in_order = last_time is None or batch[0].time > last_time
        ahead = any(one.time - stored_at > MAX_AHEAD_S - levels.margin_s for one in batch)
        if not in_order or ahead:  # the rule may have passed over some of it
            side, last_time = None, max(last_time or 0, batch[-1].time)
            continue
        for one in batch:
            asked = None if one.failed else levels.side(one.value)
            gap = last_time is not None and one.time - last_time > MAX_GAP_S - levels.margin_s
            if asked != side or gap:
                side, since = asked, one.time
            last_time = one.time
            in_time = stored_at - one.time <= levels.stale_after_s - levels.margin_s
            if side is not None and in_time and one.time - since >= levels.dwell_s + levels.margin_s:
                found.append(Certain(one.time, side))
    return found


@dataclass
class AlertAccount:
    """What became of the alerts. All but the counts are faults, in words."""

    events: int = 0
    certain: int = 0
    expected_messages: int = 0
    delivered: int = 0
    refused: int = 0  # by the provider, for good, as it was told to
    expired: int = 0  # older than two hours when the channel came back
    after_last_look: int = 0  # decided when the ledger was not looked at any more: of their cause nothing is known
    told_late: int = 0  # sides told of a later value: this one was stale when the rule came to it
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    without_cause: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that is not explained."""
        return [*self.missing, *self.doubled, *self.without_cause]


def judge_events(
    account: AlertAccount,
    levels: Levels,
    seen: Sequence[Seen],
    events: Sequence[Mapping[str, Any]],
    looked_until: float = inf,
) -> None:
    """Hold one rule's events (any order) against what the water was.

    `looked_until`: the last look at the ledger; what was decided later may be of values that came later.
    """
    ordered = sorted(events, key=lambda event: (event["time"], event["decided"]))
    account.events += len(ordered)
    by_time: dict[int, list[Seen]] = defaultdict(list)
    for one in seen:
        by_time[one.time].append(one)
    for before, event in zip([None, *ordered], ordered, strict=False):
        name = f"{levels.rule} {event['kind']} {event['time']}"
        if before is not None and before["kind"] == event["kind"]:
            account.doubled.append(f"{name}: after another one of {before['time']}")
        if event["decided"] > looked_until:
            account.after_last_look += 1
        elif not any(_is_ground(levels, event, one) for one in by_time[event["time"]]):
            account.without_cause.append(f"{name} ({event['reason']}): then there was {by_time[event['time']]}")
    _judge_sides(account, levels, certain_moments(seen, levels), ordered)


def _judge_sides(
    account: AlertAccount, levels: Levels, moments: Sequence[Certain], ordered: Sequence[Mapping[str, Any]]
) -> None:
    account.certain += len(moments)
    told: set[tuple[int, str]] = set()
    for moment in moments:
        last = next((event for event in reversed(ordered) if event["time"] <= moment.time), None)
        is_side = CLEARED if last is None else last["kind"]
        if is_side == moment.side or (key := (last["time"] if last else 0, moment.side)) in told:
            continue
        told.add(key)
        following = next((event for event in ordered if event["time"] > moment.time), None)
        if following and following["kind"] == moment.side and _was_stale(levels, moment, following):
            account.told_late += 1
        else:
            account.missing.append(
                f"{levels.rule}: at {moment.time} it must be {moment.side}, and was {is_side} since {key[0]}"
            )


def _was_stale(levels: Levels, moment: Certain, following: Mapping[str, Any]) -> bool:
    """Whether the rule came to this moment so late (the alerts stood still for a fault) that it tells of newer ones."""
    return bool(following["decided"] - moment.time > levels.stale_after_s)


def _is_ground(levels: Levels, event: Mapping[str, Any], one: Seen) -> bool:
    if event["reason"] in TAKEN_BACK:
        return one.failed
    return one.value >= levels.set_level if event["kind"] == RAISED else one.value <= levels.clear_level


def judge_messages(
    account: AlertAccount,
    alerts: Sequence[Mapping[str, Any]],
    followers: Mapping[str, int],
    stale_after_s: float,
    inbox: Sequence[Mapping[str, Any]],
    refused: Sequence[str],
) -> None:
    """Hold the phones' log against the events: one message for each person who follows the rule, once."""
    received = Counter(str(message["provider_id"]) for message in inbox)
    same_text = Counter((message["to"], message["text"]) for message in inbox)
    account.doubled += [f"{to} got {number} times: {text}" for (to, text), number in same_text.items() if number > 1]
    statuses: Counter[str] = Counter()
    for alert in alerts:
        name = f"{alert['rule']} {alert['kind']} {alert['time']}"
        old_news = alert["reason"] in TAKEN_BACK and alert["decided"] - alert["time"] > stale_after_s
        wanted = 0 if old_news else followers.get(alert["rule"], 0)
        account.expected_messages += wanted
        deliveries = alert["deliveries"]
        if len(deliveries) != wanted:
            account.missing.append(f"{name}: {len(deliveries)} messages for {wanted} people")
        for delivery in deliveries:
            status = str(delivery["status"])
            statuses[status] += 1
            if status == "sent" and not received[str(delivery["provider_id"])]:
                account.missing.append(f"{name}: said to be sent as {delivery['provider_id']}, no phone has it")
            if status == "pending":
                account.missing.append(
                    f"{name}: still waiting after {delivery['attempts']} attempts: {delivery['detail']}"
                )
            if status == "expired" and not _waited_long(alert, delivery):
                account.missing.append(f"{name}: expired without need: {delivery['detail']}")
    if statuses["failed"] > len(refused):
        account.missing.append(f"{statuses['failed']} messages given up, the provider refused {len(refused)}")
    told_by_events = sum(statuses[status] for status in ("sent", "pending", "expired"))
    if len(inbox) > told_by_events:
        account.doubled.append(f"the phones have {len(inbox)} messages, the events only {told_by_events}")
    account.delivered, account.refused, account.expired = len(inbox), statuses["failed"], statuses["expired"]


def _waited_long(alert: Mapping[str, Any], delivery: Mapping[str, Any]) -> bool:
    """Whether it was decided late, or there were attempts that did not get through."""
    return bool(alert["decided"] - alert["time"] > EXPIRES_AFTER_S or delivery["attempts"] > 0)
