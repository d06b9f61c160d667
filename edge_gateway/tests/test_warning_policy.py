"""When the gateway warns by itself, whom, and what it leaves to the cloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.configuration import AlertConfiguration
from alerts.subscriptions import Subscription
from edge_gateway.warning_configuration import RecipientConfiguration, WarningConfiguration, WarningSetup
from edge_gateway.warning_policy import Silence, after_doubt, audience, judge, leave_to_the_cloud, may_go, retry_s
from edge_gateway.warning_store import Delivery, Fate, Told, WarningEvent

NOON = 1_780_000_000
EVENT = WarningEvent("e1", "rice", "xuan-hoa", "raised", NOON, NOON, 2.5, 2.0, "severe", "raised", 7, 100)
CLEARED = replace(EVENT, id="e2", kind="cleared", time=NOON + 3600)
TAM, PUMP = "+84912345678", "+84900000077"


def setup() -> WarningSetup:
    people = (
        RecipientConfiguration(name="Ba Tám", phone=TAM),
        RecipientConfiguration(name="Trạm bơm", phone=PUMP),
        RecipientConfiguration(name="Tôm", phone="+84900000011", rules=("shrimp",)),
    )
    known = (Subscription("Ba Tám", TAM, "vi", frozenset({"rice"})),)
    configuration = WarningConfiguration(rules=Path("rules.toml"), recipient=people)
    return WarningSetup(configuration, AlertConfiguration((), known, None), None)  # type: ignore[arg-type]


def delivery(address: str, event: str = "e1", status: Told = Told.WAITING) -> Delivery:
    return Delivery(event, "sms", address, "x", "text", status)


def silence(*looks: tuple[float, int, float | None]) -> Silence:
    """A link looked at: minutes since noon, records committed so far, since which minute the oldest waits."""
    link = Silence(after_s=600)
    for minute, committed, waiting in looks:
        link.look(NOON + 60 * minute, committed, None if waiting is None else NOON + 60 * waiting)
    return link


def test_commits_that_come_keep_the_gateway_quiet() -> None:
    link = silence(*((minute, minute, minute) for minute in range(60)))
    assert (link.cloud_is_away, link.cloud_is_there) == (False, True)


def test_nothing_to_commit_is_no_silence() -> None:
    assert not silence(*((minute, 5, None) for minute in range(60))).cloud_is_away


def test_ten_minutes_without_a_commit_and_the_gateway_warns() -> None:
    looks = [(float(minute), 5, 0.0) for minute in range(11)]
    assert not silence(*looks[:10]).cloud_is_away
    assert silence(*looks).cloud_is_away


def test_one_commit_and_the_cloud_is_there() -> None:
    link = silence(*((minute, 5, 0) for minute in range(30)), (30, 6, 0))
    assert (link.cloud_is_away, link.cloud_is_there) == (False, True)


def test_after_a_restart_the_link_gets_a_minute_and_nothing_is_left_to_a_cloud_not_heard() -> None:
    begun = silence((0, 5, -180))
    assert (begun.cloud_is_away, begun.cloud_is_there) == (False, False)
    assert silence((0, 5, -180), (1, 5, -180)).cloud_is_away


def test_a_clock_that_is_set_by_hours_is_no_silence() -> None:
    assert not silence((0, 5, 0), (1, 5, 0), (300, 5, 0), (301, 5, 0)).cloud_is_away
    assert not silence((300, 5, 300), (301, 5, 300), (0, 5, 300), (1, 5, 300)).cloud_is_away


@pytest.mark.parametrize(
    ("committed", "away", "minutes", "fate"),
    [
        (True, True, 1, Fate.CLOUD),
        (True, False, 1, Fate.CLOUD),
        (False, False, 1, None),
        (False, True, 1, Fate.TAKEN),
        (False, True, 121, Fate.EXPIRED),
        (False, False, 121, Fate.EXPIRED),
    ],
)
def test_an_events_fate(committed: bool, away: bool, minutes: int, fate: Fate | None) -> None:
    verdict = judge(EVENT, NOON + 60 * minutes, committed=committed, cloud_is_away=away)
    assert verdict.fate is fate
    assert verdict.reason


def test_whom_the_gateway_tells() -> None:
    reached = [delivery(TAM, status=Told.SENT), delivery(PUMP, status=Told.SENT)]
    assert [one.name for one in audience(setup(), EVENT, Fate.TAKEN, [])] == ["Ba Tám", "Trạm bơm"]
    assert audience(setup(), EVENT, Fate.CLOUD, []) == []
    assert audience(setup(), CLEARED, Fate.CLOUD, []) == []
    assert [one.name for one in audience(setup(), CLEARED, Fate.CLOUD, reached)] == ["Trạm bơm"]


def test_the_all_clear_never_overtakes_the_warning() -> None:
    warning, clear = delivery(TAM), delivery(TAM, "e2")
    under_way = [(EVENT, warning), (CLEARED, clear), (CLEARED, delivery(PUMP, "e2"))]
    assert [may_go(one, event, under_way) for event, one in under_way] == [True, False, True]


def test_a_lost_answer_is_repeated_once() -> None:
    once = after_doubt(delivery(TAM, status=Told.SENDING), "no answer", NOON)
    twice = after_doubt(once, "no answer", NOON)
    assert (once.status, twice.status, twice.unsure) == (Told.WAITING, Told.UNSURE, 2)


def test_what_waits_is_the_clouds_when_it_knows_the_person() -> None:
    assert leave_to_the_cloud(setup(), EVENT, delivery(TAM))
    assert not leave_to_the_cloud(setup(), EVENT, delivery(PUMP))
    assert not leave_to_the_cloud(setup(), EVENT, delivery(TAM, status=Told.SENDING))


@given(st.integers(0, 10_000))
def test_pauses_grow_to_a_minute(failures: int) -> None:
    assert 5 <= retry_s(failures) <= 60
    assert retry_s(failures) <= retry_s(failures + 1)
