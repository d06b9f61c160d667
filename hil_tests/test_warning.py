"""Salt comes while the cloud cannot be reached: who is told, by whom, and how often. One evening, in this order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hil_tests.warning_field import FRESH, HOA, PUMP, SALT, TAM, Field
from simulators.broker import find_mosquitto

MINUTES_TO_WARN = 5 + 2 + 6  # the cloud given up, the dwell, the modem; the rest is this machine's


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with Field(tmp_path_factory.mktemp("field")) as field:
        field.until(field.caught_up, "the first records in the cloud", 60)
        yield field


def told(field: Field) -> dict[str, tuple[int, int]]:
    """Messages so far to each person: (by the cloud's provider, by the gateway's modem)."""
    return {number: (len(field.phone(number)), len(field.modem(number))) for number in (TAM, HOA, PUMP)}


def gained(field: Field, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {number: (now[0] - before[number][0], now[1] - before[number][1]) for number, now in told(field).items()}


def fresh_again(field: Field) -> None:
    """Let the salt go while everything works, until the rule has cleared."""
    before = len(field.alerts())
    field.conductivity = FRESH
    field.until(lambda: len(field.alerts()) > before and field.alerts()[-1]["kind"] == "cleared", "the all-clear", 60)


def test_while_the_cloud_is_there_it_alone_tells(field: Field) -> None:
    field.until(lambda: field.status()["modem"]["state"] == "ready", "the modem to be ready", 60)
    before = told(field)
    field.conductivity = SALT
    field.until(lambda: gained(field, before)[HOA] == (1, 0), "the cloud to tell people", 60)
    field.minutes(7)
    fresh_again(field)
    field.until(lambda: gained(field, before)[TAM] == (2, 0), "the cloud's all-clear", 60)

    assert gained(field, before) == {TAM: (2, 0), HOA: (2, 0), PUMP: (0, 0)}
    assert True not in field.siren()
    assert (field.status()["armed"], field.status()["modem"]["signal_dbm"]) == (False, -73)


def test_with_the_link_cut_the_gateway_tells_its_list_once_and_the_cloud_does_not_repeat_it(field: Field) -> None:
    before = told(field)
    field.link.cut(True)
    field.conductivity = SALT
    field.until(lambda: gained(field, before)[PUMP] == (0, 1), "the gateway to warn by itself", MINUTES_TO_WARN + 20)
    field.minutes(6)
    assert gained(field, before) == {TAM: (0, 1), HOA: (0, 0), PUMP: (0, 1)}
    assert "toi nguong" in field.modem(TAM)[-1]
    sounded = field.siren()
    assert sounded.count(True) >= 3
    assert sounded[-1] is False
    shown = field.status()
    assert (shown["armed"], shown["waiting"], len(shown["raised"])) == (True, 0, 1)
    assert shown["last_sent"]["channel"] in ("sms", "siren")

    field.link.cut(False)
    field.until(lambda: gained(field, before)[HOA] == (1, 0), "the cloud to tell those the gateway did not", 60)
    field.until(field.caught_up, "the late records in the cloud", 60)
    event = field.alerts()[-1]
    assert (event["kind"], event["via"], event["severity"]) == ("raised", "gw-go-cong", "severe")
    by_person = {(one["person"], one["channel"]): (one["status"], one["via"]) for one in event["deliveries"]}
    assert by_person["Ba Tám", "sms"] == ("sent", "gw-go-cong")
    assert by_person["Trạm bơm", "sms"] == ("sent", "gw-go-cong")
    assert by_person["Chị Hoa", "sms"] == ("sent", None)
    assert by_person["siren", "siren"] == ("sent", "gw-go-cong")

    fresh_again(field)
    field.until(lambda: gained(field, before)[PUMP] == (0, 2), "the all-clear to whom only the gateway knows", 60)
    field.until(lambda: gained(field, before)[TAM] == (1, 1), "the cloud's all-clear", 60)
    assert gained(field, before) == {TAM: (1, 1), HOA: (2, 0), PUMP: (0, 2)}


def test_a_link_that_comes_and_goes_leaves_it_to_the_cloud(field: Field) -> None:
    before = told(field)
    field.conductivity = SALT
    for _ in range(5):
        field.link.cut(True)
        field.minutes(2)
        field.link.cut(False)
        field.minutes(3)
    field.until(lambda: gained(field, before)[HOA] == (1, 0), "the cloud to tell people", 60)
    assert gained(field, before) == {TAM: (1, 0), HOA: (1, 0), PUMP: (0, 0)}
    fresh_again(field)
    field.until(lambda: gained(field, before)[TAM] == (2, 0), "the cloud's all-clear", 60)


def test_a_gateway_killed_while_it_tells_repeats_at_most_the_one_in_doubt(field: Field) -> None:
    before = told(field)
    field.modem_control.become(late_s=2.0)  # the phone has it, the gateway does not know yet
    field.link.cut(True)
    field.conductivity = SALT
    field.until(lambda: sum(gained(field, before)[one][1] for one in (TAM, PUMP)) == 1, "the first message", 60)
    field.kill("gateway")
    field.modem_control.become(late_s=0.0)
    field.start("gateway")
    field.until(lambda: min(gained(field, before)[one][1] for one in (TAM, PUMP)) >= 1, "both to be told", 90)
    field.minutes(5)
    repeated = gained(field, before)
    assert sorted(repeated[one][1] for one in (TAM, PUMP)) == [1, 2]

    field.kill("gateway")
    field.start("gateway")
    field.minutes(8)
    assert gained(field, before) == repeated, "what was told is not told again after a restart"

    field.link.cut(False)
    field.until(lambda: gained(field, before)[HOA] == (1, 0), "the cloud to tell the others", 60)
    fresh_again(field)
    field.until(lambda: gained(field, before)[TAM][0] == 1, "the cloud's all-clear", 60)
    field.until(lambda: gained(field, before)[PUMP][1] == repeated[PUMP][1] + 1, "the gateway's all-clear", 60)


def test_a_modem_without_network_leaves_it_to_the_cloud_when_that_is_back(field: Field) -> None:
    before = told(field)
    field.modem_control.become(network=False)
    field.link.cut(True)
    field.conductivity = SALT
    field.until(lambda: field.status()["waiting"] >= 2, "messages to wait for the modem", 60)
    assert "no network" in field.status()["modem"]["state"]
    field.link.cut(False)
    field.until(lambda: gained(field, before)[TAM] == (1, 0), "the cloud to tell them instead", 60)
    field.modem_control.become(network=True)
    field.until(lambda: gained(field, before)[PUMP] == (0, 1), "whom only the gateway knows", 120)
    field.minutes(3)
    assert gained(field, before) == {TAM: (1, 0), HOA: (1, 0), PUMP: (0, 1)}
