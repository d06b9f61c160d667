"""Messages that are no records: kept until a commit names them, sent again more and more slowly."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_gateway import outbox_store
from edge_gateway.errors import MessageInvalid
from edge_gateway.messages import UpMessage
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_schema import APPLICATION_ID, STEPS
from edge_gateway.tests.test_outbox import RIVER, ROOMY, HandClock, held, piece
from edge_gateway.uplink_messages import UNDER_WAY_AT_MOST, Sent, due, resend_at

NOW = 1_780_000_000.0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    one = open_outbox(tmp_path / "outbox.sqlite", ROOMY, HandClock())
    yield one
    one.close()


def waiting(outbox: Outbox) -> list[UpMessage]:
    reader = outbox.reader()
    found = reader.messages_waiting(100)
    reader.close()
    return found


def test_messages_wait_in_the_order_they_came_until_a_commit_names_them(outbox: Outbox) -> None:
    ids = outbox.write(lambda store: [store.enqueue("results", {"n": n}, NOW - n) for n in range(3)])

    forgotten = outbox.write(lambda store: store.forget_messages([ids[1], "never-seen"]))

    assert forgotten == 1
    assert waiting(outbox) == [
        UpMessage(ids[0], "results", '{"n":0}', NOW),
        UpMessage(ids[2], "results", '{"n":2}', NOW - 2),
    ]


def test_the_same_id_again_replaces_nothing(outbox: Outbox) -> None:
    for state in ("first", "second"):
        outbox.write(lambda store, state=state: store.enqueue("results", {"state": state}, NOW, "cmd-1"))  # type: ignore[misc]

    assert [message.body for message in waiting(outbox)] == ['{"state":"first"}']


@pytest.mark.parametrize(
    ("kind", "body", "message_id", "says"),
    [
        ("gossip", {}, None, "known are results, losses, warnings"),
        ("results", {"id": 7}, None, "the message itself does"),
        ("results", {"value": float("nan")}, None, "not JSON"),
        ("results", {"value": b"bytes"}, None, "not JSON"),
        ("results", {"log": "x" * (1 << 20)}, None, "at most 1048576 bytes"),
        ("results", {}, 'a"b', "1 to 64 of"),
    ],
)
def test_what_could_never_be_sent_is_refused_at_once(
    outbox: Outbox, kind: str, body: dict[str, object], message_id: str | None, says: str
) -> None:
    with pytest.raises(MessageInvalid, match=says):
        outbox.write(lambda store: store.enqueue(kind, body, NOW, message_id))

    assert waiting(outbox) == []


def test_when_too_many_wait_the_oldest_go_counted_and_losses_stay(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_store, "MESSAGES_AT_MOST", 4)
    kinds = ["losses", "results", "warnings", "results", "results", "losses"]

    outbox.write(lambda store: [store.enqueue(kind, {"n": n}, NOW) for n, kind in enumerate(kinds)])

    reader = outbox.reader()
    left, summary = reader.messages_waiting(100), reader.messages_summary()
    reader.close()
    assert [message.body for message in left] == ['{"n":0}', '{"n":3}', '{"n":4}', '{"n":5}']
    assert summary == (4, {"results": 1, "warnings": 1})


def test_a_file_of_the_first_version_keeps_its_records_and_learns_messages(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(f"{STEPS[0]} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
        old.execute("INSERT INTO series (station, journal, stored_through, buffered) VALUES (?, ?, 13, 13)", RIVER)
        old.execute("INSERT INTO slice VALUES (?, ?, 1, 13, 0, ?)", (*RIVER, piece(1, 13).records))
    old.close()

    outbox = open_outbox(path, ROOMY, HandClock())
    outbox.write(lambda store: store.enqueue("warnings", {}, NOW))
    found = waiting(outbox)
    outbox.close()

    assert held(outbox) == list(range(1, 14))
    assert len(found) == 1


@pytest.mark.parametrize(("times", "wait_s"), [(1, 30), (2, 60), (4, 240), (6, 960), (100, 960)])
def test_a_message_nobody_commits_is_sent_more_and_more_slowly(times: int, wait_s: float) -> None:
    assert resend_at(Sent(1000.0, times), 30.0) == 1000.0 + wait_s


def ids(first: int, last: int) -> list[str]:
    return [str(one) for one in range(first, last + 1)]


@pytest.mark.parametrize(
    ("sent_at", "expected"),
    [
        pytest.param({}, ids(1, UNDER_WAY_AT_MOST), id="nothing is under way"),
        pytest.param(dict.fromkeys(ids(1, 5), 100.0), ids(6, UNDER_WAY_AT_MOST), id="five are"),
        pytest.param(dict.fromkeys(ids(1, 20), 100.0), [], id="all places are taken"),
        pytest.param(dict.fromkeys(ids(1, 20), 70.0), ids(1, 20), id="all are overdue"),
    ],
)
def test_so_many_go_as_there_are_places(sent_at: dict[str, float], expected: list[str]) -> None:
    sent = {one: Sent(at, 1) for one, at in sent_at.items()}

    assert due(ids(1, 50), sent, 101.0, 30.0)[: len(expected) or 1] == expected


def test_twenty_messages_nobody_ever_commits_do_not_hold_up_the_next() -> None:
    sent = {one: Sent(70.0, 5) for one in ids(1, 20)}

    assert due(ids(1, 30), sent, 101.0, 30.0) == ids(21, 30)
