"""Warnings of gateways at the cloud's door: used, refused with the reason, or tried again."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from alerts.gateway_warnings import GatewayWarning
from alerts.rules import Kind
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.gateway_messages import MessageRefused, decode_message
from cloud_ingest.warnings_taken import WarningTaker

PAYLOAD = """{"id": "e-1", "at": 1780000700.5, "revision": 2, "versions": {"rules": "a", "recipients": "b"},
 "event": {"rule": "rice", "station": "xuan-hoa", "kind": "raised", "time": 1780000600, "decided": 1780000605,
           "value": 2.5, "level": 2, "severity": "severe", "reason": "raised"},
 "deliveries": [{"person": "Ba Tám", "address": "+84912345678", "channel": "sms", "text": "Man", "status": "sent",
                 "attempts": 1, "at": 1780000650, "reference": "17", "detail": null}]}"""


class Alerts:
    """Takes warnings, or is in trouble."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, GatewayWarning]] = []
        self.trouble = False

    def take(self, gateway: str, warning: GatewayWarning) -> None:
        if self.trouble:
            raise OperationalError("insert", {}, Exception("database is locked"))
        self.taken.append((gateway, warning))


def taker(alerts: Any, woken: list[int]) -> WarningTaker:
    return WarningTaker(alerts, lambda: woken.append(1))


def test_a_warning_is_taken_and_the_others_may_be_told() -> None:
    alerts, woken = Alerts(), list[int]()
    taker(alerts, woken).take("gw-1", decode_message(PAYLOAD.encode()))

    ((gateway, warning),) = alerts.taken
    assert (gateway, warning.kind, warning.revision, warning.rules_version) == ("gw-1", Kind.RAISED, 2, "a")
    assert warning.deliveries[0].reference == "17"
    assert woken == [1]


@pytest.mark.parametrize(
    ("wrong", "right", "why"),
    [
        ('"raised", "time"', '"risen", "time"', "event.kind"),
        ("+84912345678", "0912", "deliveries.0.address"),
        ('"revision": 2', '"revision": 0', "revision"),
        ('"value": 2.5', '"value": "much"', "event.value"),
    ],
)
def test_a_warning_that_can_never_be_used_is_refused_with_the_reason(wrong: str, right: str, why: str) -> None:
    alerts = Alerts()
    with pytest.raises(MessageRefused, match=why):
        taker(alerts, []).take("gw-1", decode_message(PAYLOAD.replace(wrong, right).encode()))
    assert alerts.taken == []


def test_a_database_in_trouble_is_tried_again() -> None:
    alerts, woken = Alerts(), list[int]()
    alerts.trouble = True
    with pytest.raises(StoreUnavailable, match="OperationalError"):
        taker(alerts, woken).take("gw-1", decode_message(PAYLOAD.encode()))
    assert woken == []
