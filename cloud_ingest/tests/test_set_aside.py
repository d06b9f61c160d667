"""What could not be used: listed, shown, tried again, and never so much that the disk is full of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_ingest import transaction
from cloud_ingest.database import Database
from cloud_ingest.set_aside import Shelf
from cloud_ingest.tests.field import EC25, JOURNAL, T0, batch, damaged, minutes
from cloud_ingest.tests.test_ingest import NOW, Message
from cloud_ingest.tests.test_recompute import Office
from firmware.record import Record, batch_header, encode


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    one = Office(tmp_path)
    yield one
    one.reader.close()


def test_a_message_on_a_wrong_topic_is_listed_with_its_reason_and_shown_with_its_bytes(office: Office) -> None:
    with office.store:
        office.ingest.store_group([Message("tram/v1/records/00/gw/nowhere", b"hello")], NOW)
    listed = json.loads(office.command("set-aside", "list", "--json").stdout)["set_aside"]
    assert [(one["data"], one["times"]) for one in listed] == [(b"hello".hex(), 1)]
    assert "belongs to shard" in listed[0]["reason"]
    out = office.folder / "out.bin"
    shown = office.command("set-aside", "show", str(listed[0]["id"]), "--out", str(out))
    assert "68 65 6c 6c 6f" in shown.stdout
    assert out.read_bytes() == b"hello"


def test_a_record_a_newer_program_understands_is_stored_by_a_retry(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_code = bytes(batch_header(JOURNAL, 1)) + encode(Record(1, T0, 12000, 1, EC25, 2))
    with office.store:
        with monkeypatch.context() as older:
            older.setattr("cloud_ingest.intake.may_not_be_recorded", lambda codes: codes == EC25)
            office.take(new_code)
        assert office.values(EC25) == {}
    assert json.loads(office.command("set-aside", "retry", "--all", "--json").stdout) == {"asked": 1}
    with office.store:
        outcome = office.ingest.retry(NOW)
        assert outcome.commits
        assert office.values(EC25)[T0] == (12.0, 1)
    assert "nothing is set aside" in office.command("set-aside", "list").stdout


def test_what_still_cannot_be_used_stays_and_is_tried_once(office: Office) -> None:
    with office.store:
        office.take(damaged(batch(minutes(3)), 2))
    before = json.loads(office.command("set-aside", "list", "--json").stdout)["set_aside"]
    assert len(before) == 1
    office.command("set-aside", "retry", str(before[0]["id"]))
    with office.store:
        office.ingest.retry(NOW)
        office.ingest.retry(NOW)
    after = json.loads(office.command("set-aside", "list", "--json").stdout)["set_aside"]
    assert [(one["id"], one["times"], one["retry"]) for one in after] == [(before[0]["id"], 2, False)]


def test_a_flood_of_nonsense_is_bounded_and_counted(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "SET_ASIDE_KEPT", 10)
    monkeypatch.setattr(transaction, "SET_ASIDE_KEPT_BYTES", 500)
    with office.store:
        for number in range(30):
            office.ingest.store_group(
                [Message("tram/v1/records/x", bytes([number]) * (100 if number < 15 else 5))], NOW
            )
    with Shelf(Database.in_folder(office.folder)) as shelf:
        kept = shelf.all(100)
        assert [one.data[0] for one in kept] == list(range(29, 19, -1))
        assert shelf.forgotten() == 20


@pytest.mark.parametrize(
    ("words", "says"),
    [(("set-aside", "show", "7"), "nothing is set aside under 7"), (("set-aside", "retry"), "or say --all")],
)
def test_wrong_words_end_with_a_sentence(office: Office, words: tuple[str, ...], says: str) -> None:
    with office.store:
        pass
    found = office.command(*words)
    assert (found.exit_code, says in found.stderr) == (2, True)
