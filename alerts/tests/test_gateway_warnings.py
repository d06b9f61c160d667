"""A gateway warned people while the cloud was away: told once, by whoever; and the cloud goes on from there."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.event_store import HOLD_S
from alerts.gateway_warnings import GatewayWarning, GatewayWarnings, ToldByGateway
from alerts.rules import Kind
from alerts.tests.conftest import FARMERS, START, WORDING, Service

TAM, HOA = "+84912345678", "+84987654321"
NEIGHBOUR = "+84900000099"


def told(address: str = TAM, status: str = "sent", channel: str = "sms") -> ToldByGateway:
    return ToldByGateway("Ba Tám" if address == TAM else "x", address, channel, "Man 2,5", status, 1, START + 660, "17")


def warning(
    minute: int = 10, kind: Kind = Kind.RAISED, *deliveries: ToldByGateway, revision: int = 1, **more: Any
) -> GatewayWarning:
    return GatewayWarning(
        rule=more.pop("rule", "rice"),
        station="xuan-hoa",
        kind=kind,
        time=START + 60 * minute,
        decided=START + 60 * minute + 5,
        value=2.5 if kind is Kind.RAISED else 1.5,
        level=2.0 if kind is Kind.RAISED else 1.8,
        severity="warning",
        reason=str(kind),
        deliveries=deliveries or (told(),),
        revision=revision,
        rules_version="aaaabbbbcccc",
        **more,
    )


@pytest.fixture
def taker(service: Service) -> GatewayWarnings:
    return taker_of(service)


def taker_of(service: Service) -> GatewayWarnings:
    return GatewayWarnings(
        service.database, [service.rule], FARMERS, WORDING, service.clock, real_time=lambda: service.real_s
    )


def sms_to(service: Service, address: str) -> int:
    return sum(to == address for to, _ in service.phone.inbox.values())


def test_whom_the_gateway_told_is_not_told_again_and_the_others_are(service: Service, taker: GatewayWarnings) -> None:
    service.clock.time = START + 30 * 60
    taker.take("gw-1", warning())
    for minute in range(0, 30, 5):  # the late records
        service.salinity(minute, 2.5)
    service.deliver(passes=3)

    (event,) = service.engine.recent()
    assert (event["via"], event["time"], event["versions"]["rules"]) == ("gw-1", START + 600, "aaaabbbbcccc")
    by_person = {one["person"]: (one["status"], one["via"]) for one in event["deliveries"]}
    assert by_person == {"Ba Tám": ("sent", "gw-1"), "Chị Hoa": ("sent", None)}
    assert (sms_to(service, TAM), sms_to(service, HOA)) == (0, 1)


def test_the_cloud_clears_what_the_gateway_raised(service: Service, taker: GatewayWarnings) -> None:
    service.clock.time = START + 12 * 60
    taker.take("gw-1", warning())
    assert [one.rule for one in service.engine.active()] == ["rice"]
    happened = [service.salinity(minute, 1.5) for minute in (15, 20, 25)]
    service.deliver(passes=4)

    assert list(itertools.chain(*happened)) == ["cleared"]
    assert sms_to(service, TAM) == 1, "the all-clear comes from the cloud"


def test_the_clouds_own_event_some_minutes_apart_is_the_same(service: Service, taker: GatewayWarnings) -> None:
    for minute in (12, 17, 22):  # the newest records came first: the dwell began later
        service.salinity(minute, 2.5)
    taker.take("gw-1", warning(10))
    service.deliver(passes=3)

    (event,) = service.engine.recent()
    assert event["time"] == START + 22 * 60
    assert (sms_to(service, TAM), sms_to(service, HOA)) == (0, 1)


def test_people_the_gateway_is_telling_are_left_to_it_for_a_while_and_then_told(
    service: Service, taker: GatewayWarnings
) -> None:
    service.clock.time = START + 12 * 60
    taker.take("gw-1", warning(10, Kind.RAISED, told(status="waiting")))
    service.deliver(passes=3)
    before = sms_to(service, TAM)
    service.deliver(passes=3, later_s=HOLD_S + 1)

    assert (before, sms_to(service, TAM)) == (0, 1)


@pytest.mark.parametrize("how", ["failed", "left", "unsure"])
def test_whom_the_gateway_did_not_reach_the_cloud_tells_at_once(
    service: Service, taker: GatewayWarnings, how: str
) -> None:
    service.clock.time = START + 12 * 60
    taker.take("gw-1", warning(10, Kind.RAISED, told(status="sending")))
    taker.take("gw-1", warning(10, Kind.RAISED, told(status=how), revision=2))
    service.deliver(passes=3)
    taker.take("gw-1", warning(10, Kind.RAISED, told(status=how), told(HOA), revision=3))
    service.deliver(passes=3)

    assert (sms_to(service, TAM), sms_to(service, HOA)) == (1, 1)


def test_an_older_revision_and_the_same_again_change_nothing(service: Service, taker: GatewayWarnings) -> None:
    service.clock.time = START + 12 * 60
    taker.take("gw-1", warning(revision=2))
    before = service.engine.recent()
    taker.take("gw-1", warning(revision=2))
    taker.take("gw-1", warning(10, Kind.RAISED, told(status="sending"), revision=1))

    assert service.engine.recent() == before


def test_a_warning_overtaken_by_what_the_cloud_decided_since_is_history(
    service: Service, taker: GatewayWarnings
) -> None:
    service.tide()  # raised at 10, cleared at 25
    service.deliver(passes=4)
    taker.take("gw-1", warning(20, Kind.RAISED, told(status="failed")))
    service.deliver(passes=4)

    assert len(service.engine.recent()) == 3
    assert service.engine.active() == []
    assert (sms_to(service, TAM), sms_to(service, HOA)) == (2, 2)


def test_old_news_reach_nobody_else(service: Service, taker: GatewayWarnings) -> None:
    service.clock.time = START + 5 * 3600
    taker.take("gw-1", warning())
    service.deliver(passes=3)

    assert (sms_to(service, TAM), sms_to(service, HOA)) == (0, 0)
    assert [one["person"] for one in service.engine.recent()[0]["deliveries"]] == ["Ba Tám"]
    assert [one.since for one in service.engine.active()] == [START + 600]


def test_a_raise_that_still_stands_is_not_told_again_hours_later(service: Service, taker: GatewayWarnings) -> None:
    service.clock.time = START + 5 * 3600
    taker.take("gw-1", warning())
    happened = [service.salinity(300 + minute, 2.6) for minute in range(0, 40, 5)]

    assert list(itertools.chain(*happened)) == []


def test_somebody_only_the_gateway_knows_is_shown_and_never_told_by_us(
    service: Service, taker: GatewayWarnings
) -> None:
    service.clock.time = START + 12 * 60
    stranger = replace(told(NEIGHBOUR), person="Ba Tám")
    taker.take("gw-1", warning(10, Kind.RAISED, replace(stranger, status="failed"), told("", channel="siren")))
    service.deliver(passes=3)

    shown = {(one["person"], one["channel"]): one["status"] for one in service.engine.recent()[0]["deliveries"]}
    assert shown["Ba Tám (gw-1)", "sms"] == "failed"
    assert shown["x", "siren"] == "sent"
    assert (sms_to(service, NEIGHBOUR), sms_to(service, TAM)) == (0, 1)


def test_a_rule_the_cloud_does_not_have_is_shown_in_the_gateways_words(
    service: Service, taker: GatewayWarnings
) -> None:
    taker.take("gw-1", warning(rule="shrimp"))
    (event,) = service.engine.recent()
    assert (event["text"]["vi"], event["severity"]) == ("Man 2,5", "warning")
    assert service.engine.active() == []


def test_when_both_told_both_are_shown(service: Service, taker: GatewayWarnings) -> None:
    service.tide()
    service.deliver(passes=4)
    taker.take("gw-1", warning(10))

    raised = service.engine.recent()[-1]
    assert {(one["person"], one["channel"]) for one in raised["deliveries"]} == {
        ("Ba Tám", "sms"),
        ("Chị Hoa", "sms"),
        ("Ba Tám", "sms via gw-1"),
    }


STEPS = st.lists(st.sampled_from(["records", "sending", "sent", "sent again", "deliver"]), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_in_whatever_order_it_arrives_nobody_is_told_twice_by_the_cloud(
    tmp_path_factory: pytest.TempPathFactory, make_service: Any, steps: list[str]
) -> None:
    service = make_service(tmp_path_factory.mktemp("alerts") / "alerts.sqlite")
    taker = taker_of(service)
    service.clock.time = START + 30 * 60
    for step in [*steps, "sent", "records", "deliver"]:
        if step == "records":
            for minute in range(0, 31, 5):
                service.salinity(minute, 2.5)
        elif step == "deliver":
            service.deliver(passes=3)
        else:
            status, revision = ("sending", 1) if step == "sending" else ("sent", 2)
            taker.take("gw-1", warning(10, Kind.RAISED, told(status=status), revision=revision))
    told_first = [step for step in steps if step != "deliver"]

    assert len(service.engine.recent()) == 1
    assert sms_to(service, HOA) == 1
    assert sms_to(service, TAM) <= (1 if "records" in told_first else 0)
    service.database.dispose()
