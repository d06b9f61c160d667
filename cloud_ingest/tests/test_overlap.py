"""While messages pile up, one group is prepared while the commit of the group before goes on: nothing is said before it
is on disk, and a commit that fails, a power cut or a stop in between leave what they always left."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.columns import DerivedValues, Observed
from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.errors import Overtaken
from cloud_ingest.ingest import Ingest
from cloud_ingest.intake import NewRecords
from cloud_ingest.observe import Observer
from cloud_ingest.sqlite_connection import WritersConnection
from cloud_ingest.subscriber import Inbox, Message, Subscriber
from cloud_ingest.tests.field import EC25, T0, batch, minutes, records_topic, until
from cloud_ingest.tests.test_ingest import Bench
from cloud_ingest.topics import COMMITS
from cloud_ingest.transaction import Latest
from cloud_ingest.worker import IngestWorker
from station_config.calibration import Calibration
from station_config.clock import SystemClock

ALL_WITHIN_S = 60.0
CALIBRATION = Calibration(
    id=1,
    station="xuan-hoa",
    sensor=1,
    parameter="conductivity_25",
    valid_from=T0,
    coefficients=(0.5, 1.1),
    entered_at=T0,
    entered_by="Trần Thị Bình",
)
EACH = 4  # records of a message: two minutes of two channels


class Disk:
    """Where commits go that the next group does not wait for: it may keep them waiting, or be full for some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.begun = 0
        self.free_for = 0  # the first so many commits do not wait
        self.full_for = 0
        commit = WritersConnection._commit_later

        def slowly(connection: WritersConnection) -> None:
            self.begun += 1
            if self.begun > self.free_for:
                self.free.wait(ALL_WITHIN_S)
            if not self.full_for:
                commit(connection)
                return
            self.full_for -= 1
            sqlite3.Connection.rollback(connection)
            connection._failed = sqlite3.OperationalError("database or disk is full")
            connection._failed.sqlite_errorcode = sqlite3.SQLITE_FULL

        monkeypatch.setattr(WritersConnection, "_commit_later", slowly)


class Line(Subscriber):
    """Notes what gateways and broker are told, in order."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(BrokerSettings(), inbox)
        self.committed: list[tuple[int, int]] = []
        self.acknowledged: list[int] = []

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        if topic.startswith(COMMITS):
            self.committed += [(first, last) for first, last in json.loads(payload)["ranges"]]

    def acknowledge(self, messages: object) -> None:
        assert isinstance(messages, list)
        self.acknowledged += [one.mid for one in messages]


class Service:
    """A worker over a backlog, each message a group of its own."""

    def __init__(self, bench: Bench, payloads: list[bytes]) -> None:
        self.bench, self.inbox, self.stop = bench, Inbox(), threading.Event()
        for at, payload in enumerate(payloads):
            self.inbox.put(Message(records_topic("xuan-hoa"), payload, at, 1, 0, 0.0))
        self.line = Line(self.inbox)
        ingest = Ingest(bench.store, bench.registry)
        self.worker = IngestWorker(ingest, self.inbox, self.line, SystemClock(), lambda: None)
        self.worker._next_retry = float("inf")  # it waits for the commit, and would come first
        self.thread = threading.Thread(target=self.worker.run, args=(self.stop,))

    def end(self) -> None:
        self.stop.set()
        self.inbox.close()
        self.thread.join(ALL_WITHIN_S)
        assert not self.thread.is_alive()


@contextmanager
def a_service(bench: Bench, payloads: list[bytes]) -> Iterator[Service]:
    with bench.store:
        one = Service(bench, payloads)
        one.thread.start()
        try:
            yield one
        finally:
            one.end()
    bench.reader.close()


def message(number: int) -> bytes:
    return batch(minutes(2, first_seq=1 + EACH * number, first_time_s=T0 + 120 * number))


def ranges(number: int) -> list[tuple[int, int]]:
    return [(1 + EACH * at, EACH * (at + 1)) for at in range(number)]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr("cloud_ingest.worker.GROUP_BYTES", 1)
    monkeypatch.setattr("cloud_ingest.worker.PRESSING_MESSAGES", 1)
    return Disk(monkeypatch)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The groups that were computed: how many records each brought."""
    seen: list[int] = []
    hand_on = Observer._newest

    def noting(self: Observer, kept: Observed, derived: DerivedValues) -> dict[int, Latest]:
        found = hand_on(self, kept, derived)
        seen.append(len(kept.time))
        return found

    monkeypatch.setattr(Observer, "_newest", noting)
    return seen


def stored(folder: Path) -> tuple[list[tuple[int, int]], int]:
    """What the ledger has, and how many raw records: with a connection of its own."""
    store = sqlite3.connect(folder / "store.sqlite")
    ledger = store.execute("SELECT first, last FROM ledger ORDER BY first").fetchall()
    raw = store.execute("SELECT coalesce(sum(length(records)), 0) / 18 FROM raw").fetchone()[0]
    store.close()
    return ledger, raw


def first_known(bench: Bench) -> None:
    """A store that knows the series, as after its first hour: new ones are numbered by the books, which would wait."""
    with bench.store:
        bench.take(batch(minutes(1, first_seq=100_000, first_time_s=T0 - 3600)))


def of_test(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [one for one in found if one[0] < 100_000]


def test_the_next_group_is_prepared_while_one_is_committed_and_nothing_is_said_before(
    tmp_path: Path, disk: Disk, prepared: list[int]
) -> None:
    bench = Bench(tmp_path)
    first_known(bench)
    prepared.clear()
    with a_service(bench, [message(at) for at in range(4)]) as service:
        until(lambda: len(prepared) == 2, "the second group")
        said = list(service.line.committed), list(service.line.acknowledged), disk.begun
        cut = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-cut"))  # what a power cut would leave now
        disk.free.set()
        until(lambda: len(service.line.acknowledged) == 4, "all")
    assert said == ([], [], 1)
    assert of_test(stored(cut)[0]) == []
    assert (service.line.committed, service.line.acknowledged) == (ranges(4), [0, 1, 2, 3])
    assert of_test(stored(tmp_path)[0]) == [(1, 16)]


def test_a_power_cut_while_a_group_is_prepared_loses_nothing_that_was_said(
    tmp_path: Path, disk: Disk, prepared: list[int]
) -> None:
    bench = Bench(tmp_path)
    first_known(bench)
    prepared.clear()
    disk.free_for = 3
    with a_service(bench, [message(at) for at in range(6)]) as service:
        until(lambda: len(prepared) == 5, "the fifth group, while the fourth is committed")
        said = list(service.line.committed)
        cut = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-cut"))
        disk.free.set()
        until(lambda: len(service.line.acknowledged) == 6, "all")
    ledger, raw = stored(cut)
    assert said == ranges(3)
    assert (of_test(ledger), raw) == ([(1, 3 * EACH)], 3 * EACH + 2)


def test_a_commit_that_fails_takes_back_what_was_prepared_on_it_and_both_are_stored_once_in_order(
    tmp_path: Path, disk: Disk, prepared: list[int]
) -> None:
    bench = Bench(tmp_path)
    first_known(bench)
    prepared.clear()
    disk.full_for = 1
    with a_service(bench, [message(at) for at in range(4)]) as service:
        until(lambda: len(prepared) == 2, "the second group, on the first")
        said = list(service.line.committed)
        disk.free.set()
        until(lambda: len(service.line.acknowledged) == 4, "all, in spite of it")
    assert said == []
    assert (service.line.committed, service.line.acknowledged) == (ranges(4), [0, 1, 2, 3])
    ledger, raw = stored(tmp_path)
    assert (of_test(ledger), raw) == ([(1, 16)], 18)
    assert bench.rows("SELECT sum(duplicates), sum(conflicts) FROM journals") == [(0, 0)]


def test_who_sends_again_what_a_failed_commit_had_is_not_told_that_it_is_there(
    tmp_path: Path, disk: Disk, prepared: list[int]
) -> None:
    """The second group has nothing new but on top of the first: it must not be committed alone."""
    bench = Bench(tmp_path)
    first_known(bench)
    disk.full_for = 1
    with a_service(bench, [message(0), message(0), message(1)]) as service:
        until(lambda: disk.begun == 1, "the first commit")
        said = list(service.line.committed)
        disk.free.set()
        until(lambda: len(service.line.acknowledged) == 3, "all")
    assert (said, service.line.committed) == ([], [(1, 4), (1, 4), (5, 8)])
    assert of_test(stored(tmp_path)[0]) == [(1, 8)]
    assert bench.rows("SELECT sum(duplicates) FROM journals") == [(4,)]


def test_a_stop_waits_for_the_commit_and_tells_of_it(tmp_path: Path, disk: Disk, prepared: list[int]) -> None:
    bench = Bench(tmp_path)
    first_known(bench)
    prepared.clear()
    with a_service(bench, [message(at) for at in range(4)]) as service:
        until(lambda: len(prepared) == 2, "the second group")
        service.stop.set()
        disk.free.set()
    told = len(service.line.acknowledged)
    assert told >= 1
    assert service.line.committed == ranges(told)
    assert of_test(stored(tmp_path)[0]) == [(1, EACH * told)]


def test_a_stop_during_a_commit_that_fails_says_nothing(tmp_path: Path, disk: Disk, prepared: list[int]) -> None:
    bench = Bench(tmp_path)
    first_known(bench)
    prepared.clear()
    disk.full_for = 1
    with a_service(bench, [message(at) for at in range(4)]) as service:
        until(lambda: len(prepared) == 2, "the second group")
        service.stop.set()
        disk.free.set()
    assert (service.line.committed, service.line.acknowledged) == ([], [])
    assert of_test(stored(tmp_path)[0]) == []


def test_a_message_at_which_the_pipeline_fails_while_a_commit_goes_on_is_set_aside_alone(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    first_known(bench)
    disk.free.set()
    observe = Observer.observe

    def fragile(self: Observer, new: NewRecords) -> dict[int, Latest]:
        if 5 in new.records["seq"].tolist():
            raise ZeroDivisionError("division by zero")
        return observe(self, new)

    monkeypatch.setattr(Observer, "observe", fragile)
    with a_service(bench, [message(at) for at in range(4)]) as service:
        until(lambda: len(service.line.acknowledged) == 4, "all")
    assert service.line.committed == [one for one in ranges(4) if one != (5, 8)]
    assert of_test(stored(tmp_path)[0]) == [(1, 4), (9, 16)]
    assert bench.rows("SELECT reason FROM set_aside") == [("ingest failed: ZeroDivisionError: division by zero",)]


def test_what_was_prepared_with_a_calibration_that_is_no_longer_in_force_is_prepared_again(
    tmp_path: Path, disk: Disk
) -> None:
    bench = Bench(tmp_path)
    first_known(bench)
    disk.free.set()
    with bench.store:
        bench.ingest.store_group([Message(records_topic("xuan-hoa"), message(0), 0, 1, 0, 0.0)], T0, later=True)
        own = bench.file
        assert isinstance(own, WritersConnection)
        assert own._committing is not None
        own._committing.join(ALL_WITHIN_S)  # the writer has not noticed yet
        with CalibrationBook(bench.database) as book:
            book.enter(CALIBRATION)
        second = [Message(records_topic("xuan-hoa"), message(1), 1, 1, 0, 0.0)]
        with pytest.raises(Overtaken):
            bench.ingest.store_group(second, T0, later=True)
        bench.ingest.settle()
        bench.ingest.store_group(second, T0, later=True)
        bench.ingest.settle()
        values = bench.values(EC25)
    bench.reader.close()
    assert [values[T0 + at][0] for at in (60, 120)] == [12.5, pytest.approx(14.25)]
