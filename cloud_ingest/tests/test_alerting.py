"""Alerts over a real store: what the review fails a minute later is taken back, a real tide is not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from alerts.configuration import load_alerts
from alerts.engine import AlertEngine
from alerts.gateway_warnings import GatewayWarnings
from alerts.schema import open_database, sqlite_url
from cloud_ingest.alerting import AlertWorker
from cloud_ingest.influx_observations import InfluxStore, InfluxWriter
from cloud_ingest.review import Review
from cloud_ingest.tests.field import T0, batch
from cloud_ingest.tests.influx_server import InfluxServer
from cloud_ingest.tests.place import Place
from cloud_ingest.tests.test_ingest import Bench
from cloud_ingest.tests.test_queries import FixedClock
from cloud_ingest.tests.test_review import records
from cloud_ingest.transaction import Transaction

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

    def __init__(self, folder: Path, place: Place | None = None) -> None:
        super().__init__(folder, place)
        (folder / "rules.toml").write_text(RULES)
        configuration = load_alerts(folder / "rules.toml", self.registry.network, T0)
        database = open_database(sqlite_url(folder / "alerts.sqlite"))
        parts = (configuration.rules, configuration.subscriptions, configuration.wording, FixedClock(T0 + 1200))
        self.engine = AlertEngine(database, *parts)
        self.engine.prepare()
        warnings = GatewayWarnings(database, *parts)
        self.alerts = AlertWorker(self.engine, None, self.reader, self.registry.vocabulary, threading.Event(), warnings)

    def steps(self, ec25: list[float], minute: int) -> list[Callable[[], object]]:
        """What happens when a batch arrives; each can be repeated."""
        made = batch(records(ec25, [28.0] * len(ec25), first_seq=1 + 2 * minute, begin=T0 + 60 * minute))
        review = partial(Review(self.store, self.registry).finish)
        return [partial(self.take, made), self.look, review, self.look]

    def look(self) -> None:
        """The alerts take everything into account that has arrived."""
        while self.alerts.evaluate_arrivals():
            pass

    def hear(self, ec25: list[float], minute: int) -> list[str]:
        """A batch arrives, alerts look, the review judges, alerts look again; return the reasons of new events."""
        before = len(self.engine.recent())
        for step in self.steps(ec25, minute):
            step()
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


class _PowerCut(Exception):
    """Before the books are committed."""


class Fuse:
    """While it is armed no transaction is committed; this share of its observations' lines is written all the same."""

    def __init__(self, patch: pytest.MonkeyPatch, share: float) -> None:
        self.armed, self.deaths, self.share = False, 0, share
        settle, finish = InfluxWriter.settle, Transaction.finish

        def settling(writer: InfluxWriter) -> None:
            if self.armed and share < 1:
                writer._link.write(writer._lines[: int(share * len(writer._lines))])
                self._blow()
            settle(writer)

        def finishing(transaction: Transaction) -> None:
            finish(transaction)
            if self.armed:
                self._blow()

        patch.setattr(InfluxWriter, "settle", settling)
        patch.setattr(Transaction, "finish", finishing)

    def _blow(self) -> None:
        self.deaths += 1
        raise _PowerCut


class Clumsy:
    """Does each step until it ends: killed in its first transaction, after a restart in the second, and so on."""

    def __init__(self, office: Office, fuse: Fuse) -> None:
        self.office, self.fuse = office, fuse

    def do(self, step: Callable[[], object]) -> None:
        lives = 0
        while not self._survives(step, lives):
            self.office.store.close()
            self.office.store.__enter__()
            lives += 1
            assert lives < 50

    def _survives(self, step: Callable[[], object], lives: int) -> bool:
        """Return whether a step comes to its end before its transaction of this number (from 0), which is killed."""
        enter, begun = type(self.office.store).transaction, 0
        store, fuse = self.office.store, self.fuse

        def counted(**how: bool) -> object:
            nonlocal begun
            fuse.armed = begun == lives
            begun += 1
            return enter(store, **how)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "transaction", counted)
            try:
                step()
            except _PowerCut:
                return False
            finally:
                fuse.armed = False
        return True


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_review_killed_at_every_commit_tells_the_alerts_once_more(
    tmp_path: Path, influx_server: InfluxServer, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """The observations lie apart from the books: they may be written when the books are not."""
    influx, fuse = InfluxStore(influx_server.database()), Fuse(monkeypatch, share)
    office = Office(tmp_path, Place(influx))
    with closing(influx), closing(office.reader), office.store:
        clumsy = Clumsy(office, fuse)
        for ec25, minute in (([12.0, 12.1, 45.0], 0), ([12.1, 12.0], 3)):
            for step in office.steps(ec25, minute):
                clumsy.do(step)
        assert [one["reason"] for one in reversed(office.engine.recent())] == ["raised", "withdrawn"]
        assert office.engine.active() == []
        assert office.rows("SELECT * FROM to_tell") == []
        assert fuse.deaths >= 8
