"""Alerts over a real store: what the review fails a minute later is taken back, a real tide is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.configuration import load_alerts
from alerts.engine import AlertEngine
from alerts.gateway_warnings import GatewayWarnings
from alerts.schema import open_database, sqlite_url
from cloud_ingest.alerting import AlertWorker
from cloud_ingest.review import Review
from cloud_ingest.tests.field import T0, batch
from cloud_ingest.tests.test_ingest import Bench
from cloud_ingest.tests.test_queries import FixedClock
from cloud_ingest.tests.test_review import records

RULES = """
[[rule]]
id = "at-once"
parameter = "salinity"
stations = ["xuan-hoa"]
set_level = 10.0
clear_level = 3.0
set_dwell_s = 0
clear_dwell_s = 0
[[person]]
name = "Ba Tám"
phone = "0912 345 678"
rules = ["at-once"]
"""


class Office(Bench):
    """A store, the review, and the alerts that follow its arrivals."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "rules.toml").write_text(RULES)
        configuration = load_alerts(folder / "rules.toml", self.registry.network, T0)
        database = open_database(sqlite_url(folder / "alerts.sqlite"))
        parts = (configuration.rules, configuration.subscriptions, configuration.wording, FixedClock(T0 + 1200))
        self.engine = AlertEngine(database, *parts)
        self.engine.prepare()
        warnings = GatewayWarnings(database, *parts)
        self.alerts = AlertWorker(self.engine, None, self.reader, self.registry.vocabulary, threading.Event(), warnings)

    def hear(self, ec25: list[float], minute: int) -> list[str]:
        """A batch arrives, alerts look, the review judges, alerts look again; return the reasons of new events."""
        before = len(self.engine.recent())
        self.take(batch(records(ec25, [28.0] * len(ec25), first_seq=1 + 2 * minute, begin=T0 + 60 * minute)))
        self.alerts.evaluate_arrivals()
        Review(self.store, self.registry).finish()
        while self.alerts.evaluate_arrivals():
            pass
        told = self.engine.recent()
        return [one["reason"] for one in reversed(told[: len(told) - before])]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    one = Office(tmp_path)
    with one.store:
        yield one
    one.reader.close()


def test_a_spike_is_withdrawn_when_the_next_value_is_here(office: Office) -> None:
    assert office.hear([12.0, 12.1, 45.0], minute=0) == ["raised"]
    assert office.hear([12.1, 12.0], minute=3) == ["withdrawn"], "for the clear level is below the river's usual"
    assert office.engine.active() == []


def test_an_all_clear_of_a_probe_in_the_air_is_taken_back(office: Office) -> None:
    # In air for the last values there are: the fall shows with the first of them, and no good value follows.
    assert office.hear([30.0] * 5, minute=0) == ["raised"]
    assert office.hear([0.06, 0.06, 0.06], minute=5) == ["cleared", "reinstated"]
    (alert,) = office.engine.active()
    assert alert.value > 10.0
    assert "đo lỗi" in office.engine.recent()[0]["text"]["vi"]
    assert office.hear([30.0, 30.0], minute=8) == []


def test_a_tidal_front_is_raised_once_and_stays(office: Office) -> None:
    assert office.hear([10.0, 14.0, 18.0, 22.0], minute=0) == ["raised"]
    assert office.hear([24.0, 25.0, 25.5, 25.7, 25.8], minute=4) == []
    assert len(office.engine.active()) == 1
