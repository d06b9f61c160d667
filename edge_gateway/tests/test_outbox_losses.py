"""What is declared lost, from the transaction of the loss to the message for the ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_gateway.errors import OutboxUnavailable
from edge_gateway.messages import UpMessage
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_losses import RANGES_IN_ONE_MESSAGE, ROWS_AT_MOST
from edge_gateway.outbox_store import OUTBOX_FULL, Limits
from edge_gateway.slices import Loss, Series, Slice
from edge_gateway.tests.fake_station import make_record
from station_config.clock import SystemClock

RIVER, OTHER = Series("xuan-hoa", 1), Series("vam-kenh", 2)
NOBODY = 65534


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    one = open_outbox(tmp_path / "outbox.sqlite", Limits(200_000, 60 * 86_400), SystemClock())
    yield one
    one.close()


def piece(first: int, last: int) -> Slice:
    return Slice(RIVER, first, b"".join(make_record(seq) for seq in range(first, last + 1)))


def declare(outbox: Outbox, *losses: Loss) -> None:
    def change(store: Any) -> None:
        for loss in losses:
            store.declare_lost(loss, 1_780_000_000.0)

    outbox.write(change)


def waiting(outbox: Outbox) -> list[UpMessage]:
    with closing(outbox.reader()) as reader:
        return reader.messages_waiting(1000)


def test_what_a_full_outbox_drops_is_one_message_however_often_it_drops(outbox: Outbox) -> None:
    for first in range(1, 15_000, 13):
        outbox.append(piece(first, first + 12))
    (message,) = waiting(outbox)
    with closing(outbox.reader()) as reader:
        kept_from = min(state.first_buffered or 0 for state in reader.series())

    body = json.loads(message.body)
    assert (message.kind, body["reason"], body["ranges"]) == ("losses", OUTBOX_FULL, [[1, kept_from - 1]])


def test_a_loss_that_grows_is_told_under_a_new_id_so_that_an_old_commit_forgets_nothing(outbox: Outbox) -> None:
    declare(outbox, Loss(RIVER, 1, 5, "a hole"))
    (before,) = waiting(outbox)
    declare(outbox, Loss(RIVER, 9, 9, "a hole"))

    forgotten = outbox.write(lambda store: store.forget_messages([before.id]))

    (after,) = waiting(outbox)
    assert (forgotten, json.loads(after.body)["ranges"]) == (0, [[1, 5], [9, 9]])


def test_each_series_and_reason_has_its_own_message(outbox: Outbox) -> None:
    declare(outbox, Loss(RIVER, 1, 5, "a hole"), Loss(RIVER, 6, 6, "unreadable"), Loss(OTHER, 1, 5, "a hole"))

    found = {(body["station"], body["reason"]) for body in (json.loads(one.body) for one in waiting(outbox))}
    assert found == {("xuan-hoa", "a hole"), ("xuan-hoa", "unreadable"), ("vam-kenh", "a hole")}


def test_thousands_of_holes_are_all_told_and_the_list_for_people_is_bounded(outbox: Outbox) -> None:
    number = ROWS_AT_MOST + 3 * RANGES_IN_ONE_MESSAGE
    declare(outbox, *(Loss(RIVER, 2 * at, 2 * at, "a hole") for at in range(1, number + 1)))

    with closing(outbox.reader()) as reader:
        listed, lost = len(reader.losses()), reader.lost_records()
    told = sum(len(json.loads(one.body)["ranges"]) for one in waiting(outbox))
    assert (listed, lost, told) == (ROWS_AT_MOST, {"xuan-hoa": number}, number)


def test_a_loss_and_its_message_are_one_transaction(outbox: Outbox) -> None:
    def refused(store: Any) -> None:
        store.declare_lost(Loss(RIVER, 1, 5, "a hole"), 0.0)
        raise ValueError("after all not")

    with pytest.raises(ValueError, match="after all"):
        outbox.write(refused)

    with closing(outbox.reader()) as reader:
        assert (reader.losses(), waiting(outbox)) == ([], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights for a moment")
def test_a_folder_nobody_may_write_is_waited_for_and_not_damage(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(OutboxUnavailable, match="rights"):
            open_outbox(folder / "outbox.sqlite", Limits(200_000, 1e9), SystemClock())
    finally:
        os.seteuid(0)

    assert list(folder.iterdir()) == []
