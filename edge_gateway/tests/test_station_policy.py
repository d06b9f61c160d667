"""What is asked next, and why: the rules as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_gateway import station_policy as policy
from edge_gateway.slices import Progress
from edge_gateway.station_policy import Ask, ClockReading, Judgement, Known
from edge_gateway.station_protocol import Fetched, StationStatus

NOW = 1_800_000_000.0
STATUS = StationStatus(7, 1, 101, 0, int(NOW), True, 77, 3, 1)
GOOD_CLOCK = ClockReading(0.2, 0.6)
TALKING = Known(identified=True, status=STATUS, clock=GOOD_CLOCK)


def acknowledged(through: int, first_seq: int = 1) -> StationStatus:
    return replace(STATUS, stored_through=through, first_seq=first_seq)


@pytest.mark.parametrize(
    ("known", "ask", "reason"),
    [
        (Known(identified=False), Ask.IDENTIFY, "first contact"),
        (Known(identified=True), Ask.STATUS, "each turn"),
        (replace(TALKING, status=replace(STATUS, clock_is_set=False)), Ask.SET_CLOCK, "not set"),
        (replace(TALKING, clock=ClockReading(-9.0, 0.6)), Ask.SET_CLOCK, "-9.0 s off"),
        (replace(TALKING, clock=ClockReading(-9.0, 8.0)), Ask.FETCH, "100 records of backlog"),
        (replace(TALKING, clock=ClockReading(-9.0, 0.6), clock_tried=True), Ask.FETCH, "100 records of backlog"),
        (TALKING, Ask.FETCH, "live, before 100"),
        (replace(TALKING, progress=Progress(90)), Ask.FETCH, "10 records behind"),
        (replace(TALKING, progress=Progress(90), time_used_up=True), Ask.REST, "others' turn"),
        (replace(TALKING, progress=Progress(90), nothing_came=True), Ask.REST, "nothing new"),
        (replace(TALKING, progress=Progress(100), stored_through=100), Ask.ACKNOWLEDGE, "may forget"),
        (replace(TALKING, progress=Progress(100), stored_through=0), Ask.REST, "nothing new"),
        (
            replace(TALKING, progress=Progress(100), stored_through=100, status=acknowledged(100)),
            Ask.REST,
            "nothing new",
        ),
        (
            replace(TALKING, progress=Progress(50), status=acknowledged(50, first_seq=80)),
            Ask.DECLARE_LOST,
            "overwritten",
        ),
        (replace(TALKING, progress=Progress(200)), Ask.REST, "ends at 100, 200 are stored"),
        (replace(TALKING, status=replace(STATUS, first_seq=1, next_seq=1)), Ask.REST, "nothing new"),
    ],
)
def test_the_next_question(known: Known, ask: Ask, reason: str) -> None:
    question = policy.next_question(known, NOW, 2.0)

    assert (question.ask, reason in question.reason) == (ask, True), question


@pytest.mark.parametrize(
    ("progress", "first_seq", "expected"),
    [
        pytest.param(None, 50, (50, 13), id="a new series, no backlog to speak of"),
        pytest.param(Progress(90), 1, (91, 10), id="where the outbox ends"),
        pytest.param(Progress(60), 1, (61, 13), id="thirteen at most"),
        pytest.param(None, 1, (36, 13), id="a backlog: the newest 65 first"),
        pytest.param(Progress(4, ((36, 48),)), 1, (49, 13), id="and on to the end"),
        pytest.param(Progress(4, ((36, 100),)), 1, (5, 13), id="then the oldest"),
        pytest.param(Progress(30, ((36, 100),)), 1, (31, 5), id="up to what is there"),
        pytest.param(Progress(4, ((36, 90),)), 1, (5, 13), id="little is missing: in order"),
        pytest.param(Progress(1, ((3, 90),)), 1, (2, 1), id="a hole of one"),
    ],
)
def test_what_is_fetched_next(progress: Progress | None, first_seq: int, expected: tuple[int, int]) -> None:
    known = replace(TALKING, progress=progress, status=acknowledged(0, first_seq=first_seq))

    question = policy.next_question(known, NOW, 2.0)

    assert (question.from_seq, question.number) == expected


def test_live_records_and_the_backlog_take_turns() -> None:
    known = replace(TALKING, progress=None, status=acknowledged(0))
    asked = [policy.next_question(replace(known, fetches=number), NOW, 2.0).from_seq for number in range(4)]
    assert asked == [36, 1, 36, 1]


def test_too_many_islands_and_the_backlog_goes_alone() -> None:
    islands = tuple((first, first + 1) for first in range(10, 10 + 4 * policy.AHEAD_AT_MOST, 4))
    status = replace(STATUS, next_seq=1001)

    question = policy.next_question(replace(TALKING, status=status, progress=Progress(4, islands)), NOW, 2.0)

    assert (question.from_seq, question.number) == (5, 5)


@given(
    outages=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 20)), min_size=1, max_size=12),
    ring=st.integers(100, 600),
)
def test_whatever_outages_come_all_is_fetched_or_declared_once_and_the_newest_waits_for_no_backlog(
    outages: list[tuple[int, int]], ring: int
) -> None:
    progress, next_seq = Progress(0), 1
    settled: set[int] = set()
    most_declarations = policy.AHEAD_AT_MOST + 1

    def turn(questions: int) -> None:
        nonlocal progress
        for _ in range(questions):
            status = replace(STATUS, first_seq=max(1, next_seq - ring), next_seq=next_seq, stored_through=0)
            asked = policy.next_question(replace(TALKING, status=status, progress=progress), NOW, 2.0)
            if asked.ask not in (Ask.FETCH, Ask.DECLARE_LOST):
                return
            first, last = asked.lost or (asked.from_seq, asked.from_seq + asked.number - 1)
            assert settled.isdisjoint(range(first, last + 1))
            settled.update(range(first, last + 1))
            progress = progress.having((first, last))
            assert len(progress.ahead) <= policy.AHEAD_AT_MOST

    for records, questions in outages:
        next_seq += records
        has_room = len(progress.ahead) < policy.AHEAD_AT_MOST
        turn(questions)
        if has_room and questions > most_declarations + policy.LIVE_RECORDS // 13:
            assert next_seq - 1 in settled or next_seq == 1
    turn(10_000)

    assert progress == Progress(next_seq - 1)
    assert settled == set(range(1, next_seq))


def test_a_gateway_without_a_clock_sets_none() -> None:
    known = replace(TALKING, status=replace(STATUS, clock_is_set=False))

    assert policy.next_question(known, 1000.0, 2.0).ask is Ask.FETCH


@pytest.mark.parametrize(
    ("fetched", "times", "expected"),
    [
        (Fetched(50, b"x", None), 1, Judgement("as asked", store=True)),
        (Fetched(50, b"x", "record 2: CRC"), 1, Judgement("as asked", store=True)),
        (Fetched(53, b"x", None), 1, Judgement(policy.HOLE)),
        (Fetched(53, b"x", None), 3, Judgement(policy.HOLE, lost=(50, 52))),
        (Fetched(None, b"", "record 1: CRC"), 2, Judgement(f"{policy.UNREADABLE}: record 1: CRC")),
        (Fetched(None, b"", "record 1: CRC"), 3, Judgement(f"{policy.UNREADABLE}: record 1: CRC", lost=(50, 50))),
        (Fetched(None, b"", None), 9, Judgement("the station has no more records than this")),
    ],
)
def test_what_is_made_of_an_answer(fetched: Fetched, times: int, expected: Judgement) -> None:
    assert policy.judge(50, fetched, times) == expected


@pytest.mark.parametrize(
    ("failures", "cost_s", "silent", "expected_s"),
    [(1, 2.0, 0, 1.0), (2, 2.0, 0, 1.0), (3, 2.0, 1, 8.0), (3, 2.0, 10, 80.0), (6, 0.1, 1, 16.0), (50, 0.1, 1, 30.0)],
)
def test_how_long_a_silent_station_is_left_alone(failures: int, cost_s: float, silent: int, expected_s: float) -> None:
    assert policy.pause_s(failures, cost_s, silent, 1.0) == pytest.approx(expected_s)


@pytest.mark.parametrize("silent", [1, 3, 30])
def test_silent_stations_together_take_a_bounded_share_of_the_line(silent: int) -> None:
    cost_s = 2.3

    pause_s = policy.pause_s(10, cost_s, silent, 1.0)

    assert silent * cost_s / (cost_s + pause_s) <= policy.SHARE_OF_LINE_FOR_SILENT * 1.25


def test_a_doubtful_clock_sets_none_and_records_come_all_the_same() -> None:
    known = replace(TALKING, status=replace(STATUS, clock_is_set=False), host_clock_doubt="is not synchronised")

    assert policy.next_question(known, 1.8e9, 2.0).ask is Ask.FETCH


def test_a_clock_is_compared_with_the_middle_of_the_question() -> None:
    assert policy.read_clock(1000, 998.5, 1000.5) == ClockReading(offset_s=1.0, uncertainty_s=1.5)
