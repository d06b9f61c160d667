"""The outbox's way out: order, retries, refusals, expiry and crashes, with a phone that honours idempotency keys."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from alerts.delivery import CLAIM_S, Backoff
from alerts.schema import attempts
from alerts.sms import Answer, Outcome, SmsSender

START = 1_773_000_000
UNKNOWN = Answer(Outcome.UNKNOWN, "no answer in time (ReadTimeout)")
REFUSED = Answer(Outcome.REFUSED, "HTTP 400: unknown number")


class PowerCut(BaseException):
    """The process ends here."""


def cut() -> None:
    raise PowerCut


def raise_one(service: Any) -> None:
    service.salinity(0, 2.5)
    service.salinity(10, 2.6)


def test_a_sent_message_keeps_the_providers_id_and_when(service: Any) -> None:
    raise_one(service)

    sent = service.deliver()

    (event,) = service.engine.recent()
    assert sent == 2
    assert [(d["status"], d["attempts"], d["sent_at"], d["provider_id"][:2]) for d in event["deliveries"]] == [
        ("sent", 1, START + 600, "p-")
    ] * 2


def test_nothing_is_called_sent_before_the_provider_accepted(service: Any) -> None:
    raise_one(service)
    service.phone.answers = [UNKNOWN, UNKNOWN]

    service.deliver()

    assert service.statuses() == ["pending", "pending"]


def test_a_refused_message_fails_with_the_reason_and_is_not_tried_again(service: Any) -> None:
    raise_one(service)
    service.phone.answers = [REFUSED]

    service.deliver(passes=3, later_s=600)

    failed = [d for d in service.engine.recent()[0]["deliveries"] if d["status"] == "failed"]
    assert [(d["attempts"], d["detail"], d["sent_at"]) for d in failed] == [(1, "HTTP 400: unknown number", None)]


def test_an_unknown_outcome_is_sent_again_under_the_same_key(service: Any) -> None:
    raise_one(service)
    service.phone.answers = [UNKNOWN, UNKNOWN]
    service.deliver()

    service.deliver(later_s=2.0)

    assert (len(service.phone.requests), len(service.phone.inbox), service.statuses()) == (4, 2, ["sent", "sent"])


def test_no_attempt_is_made_before_its_time(service: Any) -> None:
    raise_one(service)
    service.phone.answers = [UNKNOWN, UNKNOWN]
    service.deliver()

    service.deliver(later_s=0.9)

    assert len(service.phone.requests) == 2


def test_a_machine_clock_set_back_by_a_day_does_not_hold_messages_for_a_day(service: Any) -> None:
    raise_one(service)
    service.phone.answers = [UNKNOWN, UNKNOWN]
    service.deliver()

    service.deliver(later_s=-86400)

    assert service.statuses() == ["sent", "sent"]


def test_every_attempt_is_recorded_with_its_outcome(service: Any, database: Engine) -> None:
    raise_one(service)
    service.phone.answers = [UNKNOWN, REFUSED]
    service.deliver()
    service.deliver(later_s=2.0)

    with database.connect() as connection:
        rows = connection.execute(select(attempts.c.number, attempts.c.outcome).order_by(attempts.c.outcome)).all()
    assert [tuple(row) for row in rows] == [(2, "accepted"), (1, "refused"), (1, "unknown")]


def test_the_all_clear_never_overtakes_the_warning(service: Any) -> None:
    service.tide()
    service.phone.answers = [UNKNOWN]  # the first farmer's warning
    service.deliver(passes=3)
    before = list(service.phone.inbox.values())

    service.deliver(passes=2, later_s=2.0)

    kinds = [("cleared" if "again" in text or "lai" in text else "raised") for _, text in service.phone.inbox.values()]
    assert (len(before), kinds) == (2, ["raised", "cleared", "raised", "cleared"])


def test_a_warning_that_is_no_news_any_more_is_marked_not_sent(service: Any) -> None:
    raise_one(service)
    service.clock.time = START + 600 + 7201

    service.deliver()

    assert (service.phone.requests, service.statuses()) == ([], ["expired", "expired"])


def test_a_warning_is_sent_up_to_the_last_second_of_its_life(service: Any) -> None:
    raise_one(service)
    service.clock.time = START + 600 + 7200

    service.deliver()

    assert service.statuses() == ["sent", "sent"]


def test_killed_after_sending_and_before_recording_the_message_arrives_once(
    service: Any, restarted: Callable[[Any], Any]
) -> None:
    raise_one(service)
    service.phone.answers = [cut]
    with pytest.raises(PowerCut):
        service.deliver()

    after = restarted(service)
    after.deliver(later_s=CLAIM_S)

    assert (after.statuses(), len(service.phone.inbox)) == (["sent", "sent"], 2)


def test_another_process_leaves_a_claimed_message_alone(service: Any, restarted: Callable[[Any], Any]) -> None:
    raise_one(service)
    other = restarted(service)
    seen: list[int] = []
    service.phone.answers = [lambda: seen.append(other.deliver())]

    service.deliver()

    assert (seen, len(service.phone.requests)) == ([1], 2)


@settings(max_examples=30, deadline=None)  # every example makes a database, on disk
@given(plan=st.lists(st.sampled_from(["evaluate", "deliver", "cut", "unknown", "restart"]), max_size=25))
def test_whatever_is_cut_each_message_reaches_the_phone_exactly_once(
    plan: list[str], tmp_path_factory: pytest.TempPathFactory, make_service: Callable[[Any], Any]
) -> None:
    service = make_service(tmp_path_factory.mktemp("crash") / "alerts.sqlite")
    tide = iter([(0, 2.5), (10, 2.6), (20, 1.5), (30, 1.4), (40, 2.2), (50, 2.2), (60, 1.0), (70, 1.0)] * 2)
    for act in plan:
        if act == "evaluate":
            service.salinity(*next(tide, (80, 1.0)))
        elif act == "restart":
            service = make_service(service)
        else:
            service.phone.answers = [cut] if act == "cut" else [UNKNOWN] if act == "unknown" else []
            service.real_s += CLAIM_S
            try:
                service.deliver()
            except PowerCut:
                service = make_service(service)
    for minute, value in tide:
        service.salinity(minute, value)
    service.phone.answers = []
    for _ in range(10):
        service.deliver(later_s=120)

    assert service.statuses() == ["sent"] * 8
    assert len(service.phone.inbox) == 8
    service.database.dispose()


def test_run_delivers_when_woken_and_stops_when_told(service: Any) -> None:
    raise_one(service)
    arrived, stop = Event(), Event()
    service.phone.answers = [arrived.set]
    service.deliverer.idle_s = 60.0
    thread = Thread(target=service.deliverer.run, args=(stop,))
    thread.start()

    assert arrived.wait(60)
    stop.set()
    service.deliverer.wake()
    thread.join(60)
    assert not thread.is_alive()


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 1000), st.integers(0, 2**32))
def test_waits_grow_to_a_bound_and_never_vanish(attempt: int, seed: int) -> None:
    wait_s = Backoff(first_s=2.0, longest_s=300.0).wait_s(attempt, random.Random(seed))

    assert min(2.0 * 2 ** min(attempt - 1, 8), 300.0) / 2 <= wait_s <= 300.0


@pytest.mark.parametrize("url", ["", "ftp://sms.example", "sms.example/api", "http://"])
def test_a_providers_url_that_cannot_work_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="must begin with https://"):
        SmsSender(url, "token")
