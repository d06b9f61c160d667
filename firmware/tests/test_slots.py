"""Which slot runs, whatever happens to updates and to the power."""

import os
import sys

import pytest

from firmware import loader
from firmware.candidate import Candidate
from firmware.sampler import Channels
from firmware.slots import Slots
from firmware.trial import CONFIRMED, FAILED, GOING_ON, Proof


@pytest.fixture
def state(tmp_path):
    return str(tmp_path / "slots")


def chosen(state):
    return loader.choose(state)[0]


def test_a_board_without_a_state_starts_slot_a_then_b(state):
    assert loader.choose(state) == ("a", "b")


@pytest.mark.parametrize("text", ["é01", "ab-", "abx-", "a-\u0663-"])
def test_a_state_that_is_sealed_and_says_nothing_counts_as_none(state: str, text: str) -> None:
    with open(state, "wb") as file:
        file.write(loader.seal(text))
    assert loader.choose(state) == ("a", "b")


@pytest.mark.parametrize("damage", [b"", b"b-0-", b"b-0-xxxx", b"\xff" * 8, b"b-0-" + bytes(12)])
def test_a_damaged_state_is_none(state, damage):
    with open(state, "wb") as file:
        file.write(damage)
    assert (loader.choose(state), Slots("a", state).active) == (("a", "b"), "a")


def test_a_candidate_is_started_three_times_then_the_old_one_again(state):
    Slots("a", state).propose()
    assert [chosen(state) for _ in range(5)] == ["b", "b", "b", "a", "a"]
    slots = Slots("a", state)
    assert (slots.active, slots.candidate, slots.outcome) == ("a", "-", "R")


def test_a_confirmed_candidate_stays(state):
    Slots("a", state).propose()
    loader.choose(state)
    running = Slots("b", state)
    assert running.on_trial()
    running.confirm()
    assert [chosen(state) for _ in range(5)] == ["b"] * 5
    assert (Slots("b", state).outcome, Slots("b", state).on_trial(), Slots("b", state).spare()) == ("A", False, "a")


def test_a_candidate_that_gives_up_is_not_started_again(state):
    Slots("a", state).propose()
    loader.choose(state)
    Slots("b", state).give_up()
    assert (chosen(state), Slots("a", state).outcome) == ("a", "R")


def test_whoever_runs_although_another_was_active_becomes_the_active_one(state):
    slots = Slots("a", state)
    slots.propose()
    Slots("b", state).confirm()
    Slots("a", state).give_up()  # b could not be imported
    assert chosen(state) == "a"


def test_the_outcome_is_told_once(state):
    slots = Slots("a", state)
    slots.propose()
    Slots("b", state).confirm()
    slots = Slots("b", state)
    slots.told()
    assert (Slots("b", state).outcome, Slots("b", state).active) == ("-", "b")


def test_a_start_that_cannot_be_counted_is_not_made(state, monkeypatch):
    Slots("a", state).propose()
    monkeypatch.setattr(os, "rename", refuse)
    assert loader.choose(state) == ("a", "b")


def refuse(*_):
    raise OSError(28, "no room")


def test_what_the_loader_meets_is_in_the_log_and_fills_it_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "print_exception", lambda error: None, raising=False)
    log = tmp_path / "log.txt"
    for _ in range(1000):
        loader.note("slot b cannot be used", ImportError("no module\nnamed so"), str(log))
    lines = log.read_text().splitlines()
    assert set(lines) == {"0 loader: slot b cannot be used: ImportError: no module named so"}
    assert loader.LOG_LIMIT - len(lines[0]) - 1 < log.stat().st_size <= loader.LOG_LIMIT


def test_a_log_that_cannot_be_written_keeps_the_loader_going(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "print_exception", lambda error: None, raising=False)
    loader.note("slot b cannot be used", ImportError("no"), str(tmp_path / "no folder" / "log.txt"))
    assert "cannot be written" in capsys.readouterr().out


def test_a_configuration_is_tried_three_times(tmp_path):
    candidate = Candidate(str(tmp_path))
    (tmp_path / "staged").write_bytes(b"new")
    candidate.propose(str(tmp_path / "staged"))
    assert [candidate.count_start() for _ in range(4)] == [True, True, True, False]
    candidate.give_up()
    assert (candidate.is_there(), list(tmp_path.iterdir())) == (False, [])


def test_the_starts_of_an_earlier_configuration_do_not_count(tmp_path):
    candidate = Candidate(str(tmp_path))
    for _ in range(4):
        candidate.count_start()
    (tmp_path / "staged").write_bytes(b"new")
    candidate.propose(str(tmp_path / "staged"))
    assert candidate.count_start()


def test_a_confirmed_configuration_takes_the_place_of_the_old_one(tmp_path):
    (tmp_path / "station.json").write_bytes(b"old")
    (tmp_path / "staged").write_bytes(b"new")
    candidate = Candidate(str(tmp_path))
    candidate.propose(str(tmp_path / "staged"))
    assert (tmp_path / "station.json").read_bytes() == b"old"
    candidate.count_start()
    candidate.confirm()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"station.json": b"new"}


def channels(*samples):
    table = Channels()
    for count in samples:
        table.sample(table.add(1, 34, 3, "mean"), count, True)
    return table


NONE, READ, SILENT = channels(), channels(None, 27_075), channels(None)


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ([(10, READ, 0, 5)], GOING_ON),
        ([(10, READ, 1, 5)], GOING_ON),
        ([(10, READ, 1, 5), (11, READ, 2, 6)], CONFIRMED),
        ([(10, READ, 1, 5), (11, SILENT, 2, 6)], CONFIRMED),
        ([(10, SILENT, 1, 5), (11, SILENT, 2, 6)], GOING_ON),
        ([(10, NONE, 1, 5), (11, NONE, 2, 6)], CONFIRMED),
        ([(10, READ, 0, 5), (899, READ, 0, 5)], GOING_ON),
        ([(10, READ, 0, 5), (900, READ, 0, 5)], FAILED),
        ([(10, SILENT, 1, 5), (900, SILENT, 2, 6)], FAILED),
        ([(10, READ, 1, 5), (900, READ, 9, 5)], FAILED),
    ],
    ids=[
        "nobody asked",
        "asked, but nothing taken with this firmware",
        "read and taken",
        "an instrument that was read once will do",
        "no instrument answers",
        "a station without instruments",
        "time is not over",
        "nobody asked in time",
        "no instrument answered in time",
        "asked again and again, but nothing taken",
    ],
)
def test_what_is_on_trial_proves_itself(looks, verdict):
    proof = Proof()
    assert [proof.look(*look) for look in looks][-1] == verdict
