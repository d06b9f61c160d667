"""What is asked next, and why: the rules as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_gateway import station_policy as policy
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
        (replace(TALKING, clock=ClockReading(-9.0, 8.0)), Ask.FETCH, "100 records behind"),
        (replace(TALKING, clock=ClockReading(-9.0, 0.6), clock_tried=True), Ask.FETCH, "100 records behind"),
        (TALKING, Ask.FETCH, "100 records behind"),
        (replace(TALKING, stored_through=90), Ask.FETCH, "10 records behind"),
        (replace(TALKING, stored_through=90, time_used_up=True), Ask.REST, "others' turn"),
        (replace(TALKING, stored_through=90, nothing_came=True), Ask.REST, "nothing new"),
        (replace(TALKING, stored_through=100), Ask.ACKNOWLEDGE, "may forget"),
        (replace(TALKING, stored_through=100, status=acknowledged(100)), Ask.REST, "nothing new"),
        (replace(TALKING, stored_through=50, status=acknowledged(50, first_seq=80)), Ask.DECLARE_LOST, "overwritten"),
        (replace(TALKING, stored_through=200), Ask.REST, "ends at 100, 200 are stored"),
        (replace(TALKING, status=replace(STATUS, first_seq=1, next_seq=1)), Ask.REST, "nothing new"),
    ],
)
def test_the_next_question(known: Known, ask: Ask, reason: str) -> None:
    question = policy.next_question(known, NOW, 2.0)

    assert (question.ask, reason in question.reason) == (ask, True), question


@pytest.mark.parametrize(
    ("stored_through", "first_seq", "expected"),
    [(None, 1, (1, 13)), (None, 40, (40, 13)), (90, 1, (91, 10)), (60, 1, (61, 13))],
)
def test_what_is_fetched_begins_where_the_outbox_ends(
    stored_through: int | None, first_seq: int, expected: tuple[int, int]
) -> None:
    known = replace(TALKING, stored_through=stored_through, status=acknowledged(0, first_seq=first_seq))

    question = policy.next_question(known, NOW, 2.0)

    assert (question.from_seq, question.number) == expected


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


def test_a_clock_is_compared_with_the_middle_of_the_question() -> None:
    assert policy.read_clock(1000, 998.5, 1000.5) == ClockReading(offset_s=1.0, uncertainty_s=1.5)
