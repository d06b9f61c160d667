"""Newest first, the backlog in its share, neither starves."""

from __future__ import annotations

import pytest

from edge_gateway import uplink_policy as policy
from edge_gateway.outbox_reader import Head
from edge_gateway.slices import Range, Series
from edge_gateway.uplink_policy import Side, UnderWay

RIVER = Series("xuan-hoa", 1)
OTHER = Series("my-tho", 1)


def sent(side: Side, at: float = 0.0, waiting: Range = (1, 600), series: Series = RIVER) -> UnderWay:
    return UnderWay(series, [waiting], side, at)


@pytest.mark.parametrize(
    ("window", "share", "newest", "backlog"), [(20, 0.25, 15, 5), (20, 0.01, 19, 1), (20, 0.99, 1, 19), (2, 0.25, 1, 1)]
)
def test_each_side_has_a_place(window: int, share: float, newest: int, backlog: int) -> None:
    assert policy.places(window, share) == {Side.NEWEST: newest, Side.BACKLOG: backlog}


def test_the_window_grows_with_commits_and_halves_without() -> None:
    window, seen = policy.LEAST_WINDOW, []
    for commits in (1, 3, 30, 0, 0, 0, 0, 1):
        window = policy.window_after_commits(window, commits, 20) if commits else policy.window_after_timeout(window)
        seen.append(window)

    assert seen == [3, 6, 20, 10, 5, 2, 2, 3]


@pytest.mark.parametrize(
    ("under_way", "expected"),
    [
        ([], Side.NEWEST),
        ([Side.NEWEST], Side.BACKLOG),
        ([Side.NEWEST, Side.BACKLOG], Side.NEWEST),
        ([Side.NEWEST] * 2, Side.BACKLOG),
        ([Side.BACKLOG], Side.NEWEST),
        ([Side.NEWEST] * 2 + [Side.BACKLOG], None),
        ([Side.NEWEST] * 3, Side.BACKLOG),
    ],
)
def test_whose_place_is_free(under_way: list[Side], expected: Side | None) -> None:
    places = {Side.NEWEST: 2, Side.BACKLOG: 1}

    assert policy.free_side([sent(side) for side in under_way], places) is expected


@pytest.mark.parametrize(("side", "expected"), [(Side.NEWEST, OTHER), (Side.BACKLOG, RIVER)])
def test_the_newest_of_all_stations_or_the_oldest_goes(side: Side, expected: Series) -> None:
    heads = [Head(RIVER, 1, 13, 1000), Head(OTHER, 1, 13, 2000)]

    chosen = policy.choose(side, heads)

    assert chosen is not None
    assert chosen.series == expected


def test_a_long_backlog_moves_from_its_old_end_while_new_records_go_at_once() -> None:
    """A cloud that commits one batch a second, 100 batches of backlog, one new record a second."""
    places = policy.places(4, 0.25)
    backlog, under_way = list(range(100)), list[tuple[Side, int]]()
    waits, oldest_moved = [], 0
    for second in range(1000, 1060):
        backlog.append(second)
        while side := policy.free_side([sent(side) for side, _ in under_way], places):
            under_way.append((side, backlog.pop(-1 if side is Side.NEWEST else 0)))
        side, item = under_way.pop(0)
        oldest_moved += side is Side.BACKLOG
        if item >= 1000:
            waits.append(second - item)

    assert max(waits) <= 4
    assert oldest_moved >= 60 // 4 - 1


@pytest.mark.parametrize(("now", "expected"), [(29.9, 0), (30.0, 1), (35.0, 2)])
def test_what_is_not_committed_in_time_goes_again(now: float, expected: int) -> None:
    under_way = [sent(Side.NEWEST, at=0.0), sent(Side.BACKLOG, at=5.0)]

    assert len(policy.overdue(under_way, now, 30.0)) == expected


@pytest.mark.parametrize(
    ("ranges", "left"),
    [
        ([(1, 600)], []),
        ([(1, 300)], [[(301, 600)]]),
        ([(100, 200)], [[(1, 99), (201, 600)]]),
        ([(601, 900)], [[(1, 600)]]),
    ],
)
def test_a_batch_is_under_way_until_all_of_it_is_committed(ranges: list[Range], left: list[list[Range]]) -> None:
    remaining = policy.after_commit([sent(Side.NEWEST)], RIVER, ranges)

    assert [batch.waiting for batch in remaining] == left


def test_a_commit_of_another_series_frees_no_place() -> None:
    assert len(policy.after_commit([sent(Side.NEWEST)], OTHER, [(1, 600)])) == 1


@pytest.mark.parametrize(("attempt", "least", "most"), [(0, 0.25, 0.5), (3, 2.0, 4.0), (100, 30.0, 60.0)])
def test_connection_attempts_spread_and_slow_down(attempt: int, least: float, most: float) -> None:
    assert policy.backoff_s(attempt, 0.5, 60.0, 0.0) == least
    assert policy.backoff_s(attempt, 0.5, 60.0, 1.0) == most
