"""The watch on a real outbox: what was stored is judged, taken over or left, and a cut neither repeats nor forgets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_gateway.configuration import load_configuration
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.slices import Series, Slice
from edge_gateway.tests.conftest import wait_for
from edge_gateway.tests.test_warning_configuration import GATEWAY, NETWORK, WARNING
from edge_gateway.warning_configuration import WarningSetup
from edge_gateway.warning_store import Fate, Told, WarningStore
from edge_gateway.warning_watch import WarningWatch
from edge_gateway.warning_works import read_warning_setup
from firmware import record
from firmware.record import NOT_EVALUATED, Record

START = 1_795_000_020
SERIES = Series("xuan-hoa", 7)
RULES = """[[rule]]
id = "rice"
parameter = "salinity"
set_level = 2.0
clear_level = 1.5
set_dwell_s = 300
clear_dwell_s = 300
[[person]]
name = "Ba Tám"
phone = "0912345678"
rules = ["rice"]
"""
FRESH, SALT = 600, 5000


@dataclass
class HandClock:
    time: float = START

    def now(self) -> float:
        return self.time


@dataclass
class Gateway:
    """An outbox with a watch on it, and a river."""

    setup: WarningSetup
    path: Path
    clock: HandClock = field(default_factory=HandClock)
    seq: int = 1
    minute: int = 0
    doubt: Callable[[], str | None] = lambda: None

    def start(self) -> None:
        self.outbox: Outbox = open_outbox(self.path, Limits(1 << 26, 1e9), self.clock)
        self.watch = WarningWatch(self.setup, self.outbox, self.clock, lambda: None, self.doubt)
        self.outbox.on_stored(self.watch.follow)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.watch.run, args=(self._stop,))
        self._thread.start()
        self.reader = WarningStore.open_reader(self.path)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self.reader.close()
        self.outbox.close()

    def flow(self, minutes: int, conductivity: int, clock_behind_s: float = 0.0) -> None:
        """Store a slice a minute, each seen by the watch before the next comes."""
        for _ in range(minutes):
            self.minute += 1
            when = START + 60 * self.minute
            self.clock.time = when + 2 - clock_behind_s
            counts = ((32, 2800), (34, conductivity))
            raws = [
                record.encode(Record(self.seq + at, when, count, 1, parameter, NOT_EVALUATED))
                for at, (parameter, count) in enumerate(counts)
            ]
            self.outbox.append(Slice(SERIES, self.seq, b"".join(raws)))
            self.seq += 2
            wait_for(lambda: self.watch.cursor(SERIES) >= self.seq - 1, "the watch to see it")

    def commit(self) -> None:
        self.outbox.write(lambda store: store.free(SERIES, [(1, self.seq - 1)]))

    def fates(self) -> list[tuple[str, str]]:
        return [(event.kind, str(event.status)) for event in reversed(self.reader.recent_events(10))]

    def waiting_messages(self) -> int:
        reader = self.outbox.reader()
        number = len(reader.messages_waiting(100))
        reader.close()
        return number


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    (tmp_path / "network.toml").write_bytes(NETWORK.read_bytes())
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "gateway.toml").write_text(GATEWAY + WARNING)
    setup = read_warning_setup(load_configuration(tmp_path / "gateway.toml"), START)
    assert setup is not None
    gateway = Gateway(setup, tmp_path / "outbox.sqlite")
    gateway.start()
    yield gateway
    gateway.stop()


def test_a_raise_whose_record_the_cloud_takes_is_the_clouds(gateway: Gateway) -> None:
    gateway.flow(6, SALT)
    wait_for(lambda: gateway.fates() == [("raised", Fate.OPEN)], "the rule to be raised")
    gateway.commit()
    wait_for(lambda: gateway.fates() == [("raised", Fate.CLOUD)], "it to be the cloud's")
    assert (gateway.reader.count((Told.WAITING,)), gateway.waiting_messages()) == (0, 0)


def test_without_commits_it_is_taken_over_and_the_cloud_is_told_in_the_same_breath(gateway: Gateway) -> None:
    gateway.flow(16, SALT)
    wait_for(lambda: gateway.fates() == [("raised", Fate.TAKEN)], "the gateway to take over")
    assert (gateway.reader.count((Told.WAITING,)), gateway.waiting_messages()) == (1, 1)
    gateway.flow(5, SALT)
    assert gateway.reader.count((Told.WAITING,)) == 1, "told once, however long it lasts"


def test_a_restart_in_the_middle_of_a_dwell_forgets_nothing(gateway: Gateway) -> None:
    gateway.flow(3, SALT)
    gateway.stop()
    gateway.start()
    gateway.flow(3, SALT)
    wait_for(lambda: [kind for kind, _ in gateway.fates()] == ["raised"], "the rule to be raised")
    event = gateway.reader.recent_events(1)[0]
    assert event.time == START + 6 * 60, "six minutes after the first, as without the restart"


def test_a_restart_after_a_raise_repeats_nothing(gateway: Gateway) -> None:
    gateway.flow(16, SALT)
    wait_for(lambda: gateway.fates() == [("raised", Fate.TAKEN)], "the gateway to take over")
    for _ in range(2):
        gateway.stop()
        gateway.start()
        gateway.flow(4, SALT)
    assert gateway.fates() == [("raised", Fate.TAKEN)]
    assert gateway.reader.count((Told.WAITING,)) == 1


def test_records_stored_while_nobody_watched_are_judged_at_the_next_start(gateway: Gateway) -> None:
    gateway.flow(1, FRESH)
    gateway.outbox._followers.clear()
    for _ in range(7):
        gateway.minute += 1
        gateway.clock.time = START + 60 * gateway.minute + 2
        raws = [
            record.encode(Record(gateway.seq + at, START + 60 * gateway.minute, count, 1, parameter, NOT_EVALUATED))
            for at, (parameter, count) in enumerate(((32, 2800), (34, SALT)))
        ]
        gateway.outbox.append(Slice(SERIES, gateway.seq, b"".join(raws)))
        gateway.seq += 2
    assert gateway.fates() == []
    gateway.stop()
    gateway.start()
    wait_for(lambda: [kind for kind, _ in gateway.fates()] == ["raised"], "the rule to be raised")


def test_a_backlog_of_an_old_flood_wakes_nobody(gateway: Gateway) -> None:
    gateway.clock.time = START + 10 * 3600
    for at in range(30):
        raws = [
            record.encode(Record(2 * at + place + 1, START + 60 * at, count, 1, parameter, NOT_EVALUATED))
            for place, (parameter, count) in enumerate(((32, 2800), (34, SALT)))
        ]
        gateway.outbox.append(Slice(SERIES, 2 * at + 1, b"".join(raws)))
    wait_for(lambda: gateway.watch.cursor(SERIES) == 60, "the watch to see all")
    assert gateway.fates() == []


def test_a_clock_hours_behind_still_warns_when_it_is_in_doubt(gateway: Gateway) -> None:
    gateway.stop()
    gateway.doubt = lambda: "is not synchronised"
    gateway.start()
    gateway.flow(16, SALT, clock_behind_s=3 * 3600.0)
    wait_for(lambda: gateway.fates() == [("raised", Fate.TAKEN)], "the gateway to take over")


def test_nonsense_raises_nothing(gateway: Gateway) -> None:
    gateway.flow(8, 3_999_999)
    assert gateway.fates() == []
