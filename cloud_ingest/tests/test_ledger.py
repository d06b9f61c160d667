"""Range sets against Python's own sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.ledger import RangeSet, ranges_of

NUMBERS = st.integers(0, 60)
RANGES = st.lists(st.tuples(NUMBERS, st.integers(0, 12)).map(lambda one: (one[0], one[0] + one[1])), max_size=12)


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(RANGES)
def test_holds_what_was_added_as_the_fewest_ranges(ranges: list[tuple[int, int]]) -> None:
    ledger = RangeSet(ranges)
    assert members(list(ledger)) == members(ranges)
    assert list(ledger) == ranges_of(np.array(sorted(members(ranges)), np.int64))
    assert ledger.count == len(members(ranges))


@given(RANGES, NUMBERS, NUMBERS)
def test_missing_and_held_make_the_whole(ranges: list[tuple[int, int]], one: int, other: int) -> None:
    first, last = sorted((one, other))
    ledger = RangeSet(ranges)
    missing = members(ledger.missing(first, last))
    assert missing == set(range(first, last + 1)) - members(ranges)
    assert ledger.covers(first, last) == (not missing)


@given(RANGES, st.lists(NUMBERS, max_size=20))
def test_mask_says_for_many_what_in_says_for_one(ranges: list[tuple[int, int]], numbers: list[int]) -> None:
    ledger = RangeSet(ranges)
    assert ledger.mask(np.array(numbers, np.int64)).tolist() == [number in ledger for number in numbers]


@given(RANGES)
def test_order_of_arrival_does_not_matter(ranges: list[tuple[int, int]]) -> None:
    assert RangeSet(ranges) == RangeSet(reversed(ranges))


def test_a_copy_is_independent() -> None:
    ledger = RangeSet([(1, 3)])
    ledger.copy().add(4, 9)
    assert list(ledger) == [(1, 3)]


def test_a_backward_range_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before"):
        RangeSet([(5, 4)])
