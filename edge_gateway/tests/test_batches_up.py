"""Which records go when data is scarce, and how long a silent cloud is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_gateway.batches_up import BatchesUp
from edge_gateway.configuration import BrokerConfiguration
from edge_gateway.messages import CommittedRecords
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.slices import Slice
from edge_gateway.tests.test_outbox import OTHER, RIVER, ROOMY, HandClock, piece

HOUR_S = 3600


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def outbox(tmp_path: Path, clock: HandClock) -> Iterator[Outbox]:
    one = open_outbox(tmp_path / "outbox.sqlite", ROOMY, clock)
    yield one
    one.close()


@pytest.fixture
def reader(outbox: Outbox) -> Iterator[OutboxReader]:
    one = outbox.reader()
    yield one
    one.close()


Sent = list[tuple[str, int, int]]


def drained(batches: BatchesUp, outbox: Outbox, reader: OutboxReader, live_at: float | None) -> Sent:
    """Return what is sent until nothing may go, the batches of each full window committed together."""
    sent: Sent = []
    while window := filled(batches, reader, live_at):
        for one in window:
            commit(batches, outbox, CommittedRecords(one.series, [(one.first_seq, one.last_seq)]))
            sent.append((one.series.station, one.first_seq, one.last_seq))
    return sent


def commit(batches: BatchesUp, outbox: Outbox, committed: CommittedRecords) -> None:
    batches.note_commits([committed])
    outbox.write(lambda store: store.free(committed.series, committed.ranges))
    batches.note_freed([committed])


def filled(batches: BatchesUp, reader: OutboxReader, live_at: float | None) -> list[Slice]:
    window = []
    while (found := batches.next_batch(reader, 600, live_at)) is not None:
        batches.note_sent(*found, 0.0)
        window.append(found[1])
    return window


def test_above_the_days_pace_only_what_has_just_come_is_sent(
    outbox: Outbox, reader: OutboxReader, clock: HandClock
) -> None:
    for first in range(1, 1000, 13):
        outbox.append(piece(first, first + 12))
    clock.time_s += HOUR_S
    outbox.append(piece(1002, 1005))
    outbox.append(piece(1, 5, OTHER))
    batches = BatchesUp(BrokerConfiguration(window=20))

    scarce = drained(batches, outbox, reader, clock.now())

    assert {(station, last) for station, _, last in scarce} == {("xuan-hoa", 1005), ("my-tho", 5)}
    assert sum(last - first + 1 for _, first, last in scarce) <= 9 + 13


def test_with_data_enough_the_backlog_moves_from_its_old_end_beside_the_newest(
    outbox: Outbox, reader: OutboxReader
) -> None:
    for first in range(1, 6000, 13):
        outbox.append(piece(first, first + 12))
    batches = BatchesUp(BrokerConfiguration(window=20))

    sent = drained(batches, outbox, reader, None)

    places = {(first == 1, last == 6006) for _, first, last in sent[:2]}
    assert places == {(True, False), (False, True)}
    assert sum(last - first + 1 for _, first, last in sent) == 6006


def test_in_a_silence_the_wait_doubles_twice_and_a_commit_brings_it_back(outbox: Outbox, reader: OutboxReader) -> None:
    outbox.append(piece(1, 13))
    batches = BatchesUp(BrokerConfiguration(commit_timeout_s=30.0))
    waits = []
    for _ in range(4):
        found = batches.next_batch(reader, 600, None)
        assert found is not None
        batches.note_sent(*found, 0.0)
        waits.append(batches.overdue_at())
        batches.give_up_overdue(waits[-1])
    commit(batches, outbox, CommittedRecords(RIVER, [(1, 5)]))
    found = batches.next_batch(reader, 600, None)
    assert found is not None
    batches.note_sent(*found, 0.0)

    assert waits == [30.0, 60.0, 120.0, 120.0]
    assert batches.overdue_at() == 30.0
