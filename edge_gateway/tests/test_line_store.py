"""What has come and what is on disk are two things while the outbox gathers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_gateway.errors import OutboxUnavailable
from edge_gateway.line_store import LineStore
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.slices import Loss, Progress, Series, Slice
from edge_gateway.tests.conftest import wait_for
from edge_gateway.tests.fake_station import make_record
from station_config.clock import SystemClock

RIVER = Series("xuan-hoa", 1)
LONG_S = 60.0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    one = open_outbox(tmp_path / "outbox.sqlite", Limits(1 << 30, 1e9), SystemClock())
    yield one
    one.close()


def line(outbox: Outbox, gather_s: float = LONG_S) -> LineStore:
    store = LineStore(outbox, gather_s)
    store.load()
    return store


def piece(first: int, last: int) -> Slice:
    return Slice(RIVER, first, b"".join(make_record(seq) for seq in range(first, last + 1)))


def settled(store: LineStore) -> int | None:
    store.settle()
    return store.stored_through(RIVER)


def test_what_is_on_its_way_is_not_asked_again_and_not_acknowledged(outbox: Outbox) -> None:
    store = line(outbox)

    store.store(piece(1, 13), 1, 0.0)
    store.store(piece(14, 26), 1, 0.0)

    assert (store.progress(RIVER), settled(store)) == (Progress(26), None)


def test_slices_that_gather_are_one_transaction_with_the_next_that_is_due(outbox: Outbox) -> None:
    store, transactions = line(outbox), []
    outbox.on_change(lambda: transactions.append(1))
    for first in range(1, 131, 13):
        store.store(piece(first, first + 12), 1, 0.0)

    outbox.write(lambda _store: None)

    assert (settled(store), len(transactions)) == (130, 1)


def test_what_gathers_is_written_in_time_by_itself(outbox: Outbox) -> None:
    store = line(outbox, gather_s=0.05)
    store.store(piece(1, 13), 1, 0.0)

    wait_for(lambda: settled(store) == 13)


def test_after_a_disk_that_says_no_all_that_is_not_stored_is_asked_again(outbox: Outbox) -> None:
    store = line(outbox, gather_s=0.0)
    store.store(piece(1, 13), 1, 0.0)
    wait_for(lambda: settled(store) == 13)
    pages = outbox.write(lambda one: one.sql.execute("PRAGMA page_count").fetchone()[0])
    outbox.write(lambda one: one.sql.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    store.store(piece(14, 2000), 1, 0.0)
    with pytest.raises(OutboxUnavailable, match="full"):
        wait_for(lambda: settled(store) == 2000)
    come, trouble = store.progress(RIVER), outbox.trouble
    outbox.write(lambda one: one.sql.execute("PRAGMA max_page_count = 1000000").fetchall())
    store.store(piece(14, 2000), 1, 0.0)
    wait_for(lambda: settled(store) == 2000)

    assert come == Progress(13)
    assert trouble is not None
    assert outbox.trouble is None


def test_a_loss_waits_for_nothing_and_takes_along_what_came_before(outbox: Outbox) -> None:
    store = line(outbox)
    store.store(piece(1, 13), 1, 0.0)

    store.lose(RIVER, [Loss(RIVER, 14, 20, "a hole")], 1, 0.0)

    assert settled(store) == 20


def test_closing_writes_what_gathers(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    first = open_outbox(path, Limits(1 << 30, 1e9), SystemClock())
    line(first).store(piece(1, 13), 1, 0.0)
    first.close()

    again = open_outbox(path, Limits(1 << 30, 1e9), SystemClock())
    stored = line(again).stored_through(RIVER)
    again.close()

    assert stored == 13
