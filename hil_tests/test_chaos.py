"""Chaos in small: a world of three stations for forty seconds, and the account that judges it, on its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from firmware.record import EVENT_BOOT, EVENT_CLOCK_SET, EVENT_OVERWRITTEN, NOT_EVALUATED, Record
from hil_tests.chaos import truth
from hil_tests.chaos.__main__ import EVIDENCE, Wanted, judged_again, lay_out, run
from hil_tests.chaos.alert_truth import (
    CLEARED,
    RAISED,
    AlertAccount,
    Certain,
    Levels,
    Seen,
    certain_moments,
    judge_events,
    judge_messages,
)
from hil_tests.chaos.evidence import Evidence
from hil_tests.chaos.judge import too_slow
from hil_tests.chaos.layout import FULL, TINY
from hil_tests.chaos.program_logs import exceptions_in
from hil_tests.chaos.run import NOT_HERE, plan_for, quiet_s
from hil_tests.chaos.truth import Clocks, Series, Shown, Snapshot, Window
from simulators.faults.catalogue import SCOPES, kinds
from simulators.faults.parts import Begin, Parts, nothing_to_heal
from simulators.in_flight import in_flight, made_at
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing

BEGIN = 1_772_000_000
KEY = ("s01", 7)
LEVELS = Levels("salt", 2.0, 1.8, dwell_s=300, stale_after_s=3600, margin_s=400)


def record(seq: int, count: int = 100, parameter: int = 34, time: int | None = None) -> Record:
    return Record(seq, BEGIN + 60 * seq if time is None else time, count, 1, parameter, NOT_EVALUATED)


def journal(numbers: Sequence[int]) -> dict[int, Record]:
    return {seq: record(seq) for seq in numbers}


@given(made=st.integers(1, 60), data=st.data())
def test_every_number_is_in_one_place_of_the_account(made: int, data: st.DataObject) -> None:
    numbers = range(1, made + 1)
    overwritten = data.draw(st.integers(0, made - 1))
    stored = data.draw(st.sets(st.sampled_from(numbers)))
    twice = data.draw(st.sets(st.sampled_from(sorted(stored)))) if stored else set()
    declared = data.draw(st.sets(st.sampled_from(numbers)))
    series = Series(
        journal(range(overwritten + 1, made + 1)),
        {seq: [record(seq)] * (2 if seq in twice else 1) for seq in stored},
        [(seq, seq) for seq in declared],
    )
    found = truth.account_for(series)
    assert found.made == made
    assert found.stored + len(found.declared) + len(found.lost) == made
    assert set(found.lost) == {s for s in numbers if s not in stored and (s > overwritten or s not in declared)}
    assert set(found.duplicated) == twice
    assert not found.different
    assert not found.vanished


def test_another_content_and_a_record_gone_from_its_journal_are_faults() -> None:
    held = journal([1, 2, 4])
    stored = {1: [record(1)], 2: [record(2, count=101)], 3: [record(3)], 4: [record(4)]}
    found = truth.account_for(Series(held, stored))
    assert (found.different, found.vanished, found.lost) == ([2], [3], [])


def test_a_board_explains_by_its_event_as_many_numbers_as_it_says_and_no_more() -> None:
    event = record(9, count=3, parameter=EVENT_OVERWRITTEN)
    found = truth.account_for(Series({9: event}, {1: [record(1)], 2: [record(2)], 3: [record(3)], 9: [event]}))
    assert (found.declared, found.lost) == ([6, 7, 8], [4, 5])


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 8)), min_size=1, max_size=20))
def test_a_number_is_stored_at_the_first_snapshot_that_has_it(spans: list[tuple[int, int]]) -> None:
    known: set[int] = set()
    expected: dict[int, float] = {}
    snapshots = []
    for at, (first, more) in enumerate(spans):
        new = set(range(first, first + more + 1)) - known
        expected |= {seq: float(at) for seq in new}
        known |= new
        snapshots.append(Snapshot(float(at), {KEY: ranges_of(known)}))
    assert truth.stored_at(snapshots)[KEY] == expected


def ranges_of(numbers: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for seq in sorted(numbers):
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found


def test_what_is_in_flight_was_made_and_is_not_stored_whatever_its_clock_says() -> None:
    made = journal(range(1, 11)) | {4: record(4, time=30), 5: record(5, time=BEGIN + 10**8)}  # unset; years ahead
    stored = {seq: BEGIN + 60.0 * seq + 90 for seq in range(1, 8)}
    seqs, times = made_at(made, stored, BEGIN, BEGIN + 10**6)
    assert times == sorted(times)
    assert in_flight(seqs, times, stored, BEGIN + 60 * 6 + 1) == [5, 6]
    assert in_flight(seqs, times, stored, BEGIN + 10**6) == [8, 9, 10]


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=12), st.data())
def test_a_mean_of_successive_answers_is_exact_and_a_strange_value_is_outside(
    values: list[float], data: st.DataObject
) -> None:
    shown = [Shown(BEGIN + 20.0 * at, value) for at, value in enumerate(values)]
    begin = data.draw(st.integers(0, len(values) - 3))
    count = round(sum(values[begin : begin + 3]) / 3)
    window = Window(400, 400)
    assert truth.judge_value(count, [BEGIN], shown, window) == truth.EXACT
    assert truth.judge_value(round(max(values) * 1.1) + 10, [BEGIN], shown, window) == truth.OUTSIDE
    assert truth.judge_value(count, [BEGIN - 10_000], shown, window) == truth.NOTHING_GIVEN
    assert truth.judge_value(count, [BEGIN - 1800], shown, window) == truth.DATED_EARLY
    stood_still = shown[:begin] + shown[begin : begin + 3]
    assert truth.judge_value(count, [BEGIN + 10_000], stood_still, window) == truth.EXACT


def boot(seq: int) -> Record:
    return Record(seq, 8, 1, 0, EVENT_BOOT, NOT_EVALUATED)


def clock_set(seq: int, step: int) -> Record:
    return Record(seq, BEGIN, step, 0, EVENT_CLOCK_SET, NOT_EVALUATED)


def clocks(*of: Record, moved: Sequence[float] = ()) -> Clocks:
    return Clocks({one.seq: one for one in of}, moved)


def test_a_wrong_clock_is_undone_before_the_instrument_is_asked() -> None:
    ahead, unset = record(5, time=BEGIN + 7200), record(5, time=40)
    assert BEGIN in clocks(boot(1), ahead, clock_set(9, -7200)).moments_of(ahead)
    assert BEGIN in clocks(boot(1), clock_set(3, 7200), ahead).moments_of(ahead)
    assert BEGIN in clocks(boot(1), ahead, moved=[7200.0]).moments_of(ahead)  # moved on purpose, and no event tells
    assert clocks(boot(1), unset, clock_set(9, BEGIN)).moments_of(unset) == [BEGIN + 40]


def test_a_boot_that_never_learned_the_time_is_of_any_minute_between_the_dates_around_it() -> None:
    unset = record(5, time=40)
    around = clocks(record(1, time=BEGIN), boot(4), unset, boot(6), record(9, time=BEGIN + 600))
    assert around.moments_of(unset) == [BEGIN + 60 * at for at in range(11)]
    assert BEGIN in clocks(boot(4), unset, boot(6), record(9, time=BEGIN)).moments_of(unset)
    assert clocks(unset).moments_of(unset) == []


def flood(first: int, last: int, value: float, late_s: float = 60.0) -> list[Seen]:
    return [Seen(at, value, at + late_s) for at in range(BEGIN + first, BEGIN + last + 1, 60)]


def event(kind: str, at: int, reason: str | None = None) -> dict[str, object]:
    return {"kind": kind, "time": BEGIN + at, "decided": BEGIN + at + 5, "reason": reason or kind}


def test_an_alert_must_be_there_once_the_dwell_is_beyond_doubt() -> None:
    seen = flood(0, 600, 1.0) + flood(660, 2400, 2.5)
    account = AlertAccount()
    judge_events(account, LEVELS, seen, [])
    assert len(account.missing) == 1
    raised = event(RAISED, 960)
    account = AlertAccount()
    judge_events(account, LEVELS, seen, [raised])
    assert account.faults == []
    account = AlertAccount()
    judge_events(account, LEVELS, seen, [raised, event(RAISED, 1020)])
    assert len(account.doubled) == 1
    account = AlertAccount()
    judge_events(account, LEVELS, seen, [event(RAISED, 300)])
    assert len(account.without_cause) == 1


def test_an_alert_of_a_later_value_will_do_only_when_the_first_was_stale_by_then() -> None:
    seen = flood(0, 600, 1.0) + flood(660, 6000, 2.5)
    late, lazy = AlertAccount(), AlertAccount()
    judge_events(late, LEVELS, seen, [event(RAISED, 3000) | {"decided": BEGIN + 6600}])
    assert (late.faults, late.told_late) == ([], 1)
    judge_events(lazy, LEVELS, seen, [event(RAISED, 3000)])
    assert len(lazy.missing) == 1


def test_what_was_decided_after_the_last_look_at_the_ledger_is_counted_and_not_judged() -> None:
    account = AlertAccount()
    judge_events(account, LEVELS, flood(0, 600, 1.0), [event(RAISED, 900)], BEGIN + 600)
    assert (account.faults, account.after_last_look) == ([], 1)
    judge_events(account, LEVELS, flood(0, 600, 1.0), [event(RAISED, 900)], BEGIN + 1000)
    assert len(account.without_cause) == 1


def test_a_warning_is_taken_back_only_for_values_that_failed() -> None:
    faulty = [one._replace(failed=True) for one in flood(660, 2400, 2.5)]
    both = [event(RAISED, 960), event(CLEARED, 2400, "withdrawn")]
    account = AlertAccount()
    judge_events(account, LEVELS, flood(0, 600, 1.0) + faulty, both)
    assert account.faults == []
    judge_events(account, LEVELS, flood(0, 600, 1.0) + flood(660, 2400, 2.5), both)
    assert len(account.without_cause) == 1
    assert len(account.missing) == 1


def test_late_data_asks_for_no_alert() -> None:
    assert certain_moments(flood(0, 3000, 2.5, late_s=4000), LEVELS) == []
    newest_first = flood(2000, 2060, 2.5) + [Seen(at.time, at.value, BEGIN + 2500) for at in flood(0, 1900, 2.5)]
    assert certain_moments(newest_first, LEVELS) == []
    assert certain_moments(flood(0, 3000, 1.9), LEVELS) == []
    (first, *_) = certain_moments(flood(0, 3000, 1.0), LEVELS)
    assert first == Certain(BEGIN + 720, CLEARED)


def test_a_message_is_on_its_phone_once() -> None:
    def alert(*statuses: str) -> dict[str, object]:
        deliveries = [
            {"status": status, "provider_id": f"sms-{at}", "attempts": 1, "detail": None}
            for at, status in enumerate(statuses)
        ]
        return {"rule": "salt", "kind": RAISED, "time": BEGIN, "decided": BEGIN, "reason": "", "deliveries": deliveries}

    def judged(inbox: list[dict[str, str]], *statuses: str, refused: Sequence[str] = ()) -> AlertAccount:
        account = AlertAccount()
        judge_messages(account, [alert(*statuses)], {"salt": len(statuses)}, 3600, inbox, refused)
        return account

    first, second = ({"provider_id": f"sms-{at}", "to": f"+8490000000{at}", "text": "Mặn"} for at in (0, 1))
    assert judged([first, second], "sent", "sent").faults == []
    assert len(judged([first], "sent", "sent").missing) == 1
    assert len(judged([first], "sent", "pending").missing) == 1
    assert judged([first], "sent", "failed", refused=["x"]).faults == []
    assert len(judged([first], "sent", "failed").missing) == 1
    assert judged([first, first | {"provider_id": "sms-9"}], "sent").doubled


class Anything:
    """A part that can have every fault of its scope."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    def faults(self) -> dict[str, Begin]:
        return {one.name: lambda _: nothing_to_heal for one in kinds().values() if one.scope == self._scope}


def test_the_same_seed_gives_the_same_plan_and_the_same_levels() -> None:
    parts = Parts({scope: {f"{scope}-{at}": Anything(scope) for at in range(3)} for scope in SCOPES})
    one, other = (plan_for(parts, 5, 7200.0, 4.0) for _ in range(2))
    assert one == other != plan_for(parts, 6, 7200.0, 4.0)
    assert {injection.kind for injection in one.injections} == set(kinds()) - NOT_HERE
    assert max(injection.until_s for injection in one.injections) <= 7200 - quiet_s(7200)
    this, that = (lay_out(Path("/nowhere"), FULL, 5, 60.0, 600.0) for _ in range(2))
    assert (this.rules, this.begin_s, len(this.stations)) == (that.rules, that.begin_s, 20)
    assert this.rules != lay_out(Path("/nowhere"), FULL, 6, 60.0, 600.0).rules


def test_an_exception_in_a_programs_log_is_found(tmp_path: Path) -> None:
    said = {"event": "message set aside", "exception": "Traceback (most recent call last):\n  …\nKeyError: 'no way'"}
    (tmp_path / "cloud.log").write_text(f'{{"event": "ready"}}\n{json.dumps(said)}\n{json.dumps(said)}\n')
    (tmp_path / "gw-1.log").write_text("Traceback (most recent call last):\n  File …\nValueError: nothing\n")
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "s01.console").write_bytes(b"MemoryError\r\n")
    assert exceptions_in(tmp_path) == ["cloud: KeyError: 'no way' (2 times)", "gw-1: ValueError: nothing"]


def test_evidence_reads_as_it_was_written(tmp_path: Path) -> None:
    evidence = Evidence(journals={KEY: [[1, 2, 3, 4, 5, 6]]}, snapshots=[Snapshot(1.5, {KEY: [(1, 2)]})])
    evidence.save(tmp_path / "e.gz")
    assert Evidence.load(tmp_path / "e.gz") == evidence


@pytest.fixture
def boards() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no virtual board here: {error}")


@pytest.mark.usefixtures("boards")
def test_a_small_world_for_forty_seconds(tmp_path: Path) -> None:
    verdict = run(Wanted(40 / 60, 8, every_s=1.5, shape=TINY, folder=tmp_path), Console(quiet=True))
    assert (verdict.lost, verdict.duplicated, verdict.different, verdict.vanished) == (0, 0, 0, 0), verdict.faults
    assert verdict.faults == [] or too_slow(verdict)  # then dates and alerts may be late; no record ever is lost
    assert verdict.made == verdict.stored > 100
    assert verdict.values[truth.EXACT] > 50
    assert sum(row.injected for row in verdict.rows) > 5
    evidence = Evidence.load(tmp_path / EVIDENCE)
    lost = next(key for key, rows in evidence.stored.items() if rows)
    replace(evidence, stored=evidence.stored | {lost: evidence.stored[lost][1:]}).save(tmp_path / EVIDENCE)
    assert judged_again(tmp_path).lost == 1, "the judge would not have seen a loss"


BELIEVES_THE_BROKER = """
from edge_gateway.batches_up import BatchesUp
from edge_gateway.commands import app
from edge_gateway.messages import CommittedRecords
from edge_gateway.uplink import Uplink
sent, note_sent, send = [], BatchesUp.note_sent, Uplink._send_batches
def noted(self, side, piece, now):
    note_sent(self, side, piece, now)
    sent.append(CommittedRecords(piece.series, [(piece.first_seq, piece.last_seq)]))
def freed(self, *words, **more):
    send(self, *words, **more)
    while sent:
        self._free([sent.pop()], [])
BatchesUp.note_sent, Uplink._send_batches = noted, freed
app()
"""


@pytest.mark.soak
@pytest.mark.usefixtures("boards")
def test_a_gateway_that_frees_what_it_has_sent_is_found_out(tmp_path: Path) -> None:
    wanted = Wanted(1, 8, every_s=1.5, shape=TINY, folder=tmp_path)
    verdict = run(wanted, Console(quiet=True), (sys.executable, "-c", BELIEVES_THE_BROKER))
    assert verdict.lost > 0
    assert sum(row.lost for row in verdict.rows) > 0
