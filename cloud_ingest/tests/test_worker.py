"""The inbox between the threads, and a worker whose pipeline fails at one message."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.ingest import Ingest, Outcome
from cloud_ingest.intake import Arrived
from cloud_ingest.review import Review
from cloud_ingest.subscriber import Inbox, Message, Subscriber
from cloud_ingest.tests.field import T0, batch, minutes, records_topic, until
from cloud_ingest.tests.test_ingest import Bench
from cloud_ingest.worker import IDLE_S, IngestWorker
from station_config.clock import SystemClock


def message(payload: bytes) -> Message:
    return Message(records_topic("xuan-hoa"), payload, 1, 1, 0, 0.0)


def test_inbox_gives_oldest_first_up_to_a_size() -> None:
    inbox = Inbox()
    for payload in (b"aaa", b"bbb", b"ccc"):
        inbox.put(message(payload))
    assert [one.payload for one in inbox.take(6, 0)] == [b"aaa", b"bbb"]


def test_inbox_gives_one_message_that_is_larger_than_asked_for() -> None:
    inbox = Inbox(max_bytes=2)
    inbox.put(message(b"aaa"))
    assert [one.payload for one in inbox.take(1, 0)] == [b"aaa"]


def test_full_inbox_holds_the_writer_until_there_is_room() -> None:
    inbox, done = Inbox(max_messages=1), threading.Event()
    inbox.put(message(b"first"))

    def write() -> None:
        inbox.put(message(b"second"))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    held = not done.wait(0.05)
    inbox.take(100, 0)
    assert (held, done.wait(60)) == (True, True)
    writer.join()


def test_closed_inbox_lets_the_writer_go() -> None:
    inbox, answers = Inbox(max_messages=1), list[bool]()
    inbox.put(message(b"first"))
    writer = threading.Thread(target=lambda: answers.append(inbox.put(message(b"second"))))
    writer.start()
    inbox.close()
    writer.join(60)
    assert answers == [False]


class Fragile(Ingest):
    """A pipeline with a fault: one payload makes it fail, in whatever company it comes."""

    def store_group(self, messages: Sequence[Arrived], now_s: float, *, later: bool = False) -> Outcome:
        if any(one.payload == b"the fault" for one in messages):
            raise ZeroDivisionError("division by zero")
        return super().store_group(messages, now_s, later=later)


def test_a_message_at_which_the_pipeline_fails_is_set_aside_and_the_others_stored(tmp_path: Path) -> None:
    bench, inbox, stop = Bench(tmp_path), Inbox(), threading.Event()
    for payload in (batch(minutes(1)), b"the fault", batch(minutes(2))):
        inbox.put(message(payload))
    with bench.store:
        worker = IngestWorker(
            Fragile(bench.store, bench.registry),
            inbox,
            Subscriber(BrokerSettings(), inbox),
            SystemClock(),
            lambda: None,
        )
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        until(lambda: bench.reader.journals() and bench.reader.journals()[0].stored.count == 4, "the others")
        stop.set()
        inbox.close()
        thread.join(60)
    assert bench.rows("SELECT bytes, reason FROM set_aside") == [
        (b"the fault", "ingest failed: ZeroDivisionError: division by zero")
    ]
    bench.reader.close()


class Chore(Review):
    """A review that has five pieces to do, and counts how often it was asked."""

    left = 5

    def step(self, clock_s: float | None = None) -> list[tuple[str, bytes]]:
        self.left -= 1
        return []

    def is_due(self, clock_s: float | None = None) -> bool:
        return self.left > 0


def test_work_that_is_due_goes_on_at_once_when_nothing_arrives(tmp_path: Path) -> None:
    bench, inbox, stop = Bench(tmp_path), Waited(), threading.Event()
    with bench.store:
        review = Chore(bench.store, bench.registry)
        worker = IngestWorker(
            bench.ingest, inbox, Subscriber(BrokerSettings(), inbox), SystemClock(), lambda: None, review=review
        )
        inbox.at_end = lambda: stop.set() if review.left <= 0 else None
        worker.run(stop)
    assert inbox.timeouts == [IDLE_S, 0.0, 0.0, 0.0, 0.0, IDLE_S]
    bench.reader.close()


class Waited(Inbox):
    """An empty inbox that notes how long somebody would have waited for it."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float] = []
        self.at_end: Callable[[], None] = lambda: None

    def take(self, max_bytes: int, timeout_s: float) -> list[Message]:
        self.timeouts.append(timeout_s)
        self.at_end()
        return []


class Listening(Subscriber):
    """Notes what is published."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(BrokerSettings(), inbox)
        self.live: list[dict[str, object]] = []

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        if topic == "tram/v1/live/xuan-hoa/conductivity_25":
            self.live.append(json.loads(payload))


def test_while_messages_pile_up_a_live_topic_says_only_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, inbox, stop = Bench(tmp_path), Inbox(), threading.Event()
    monkeypatch.setattr("cloud_ingest.worker.GROUP_BYTES", 1)
    monkeypatch.setattr("cloud_ingest.worker.PRESSING_MESSAGES", 2)
    monkeypatch.setattr("cloud_ingest.worker.LIVE_EVERY_S", 60.0)
    for at in range(20):
        inbox.put(message(batch(minutes(1, first_seq=1 + 2 * at, first_time_s=T0 + 60 * at))))
    with bench.store:
        listening = Listening(inbox)
        work = Ingest(bench.store, bench.registry)
        worker = IngestWorker(work, inbox, listening, SystemClock(), lambda: None)
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        until(lambda: listening.live and listening.live[-1]["time"] == T0 + 60 * 19, "the newest value")
        stop.set()
        inbox.close()
        thread.join(60)
    assert (worker.totals.transactions, len(listening.live) < 6) == (20, True)
