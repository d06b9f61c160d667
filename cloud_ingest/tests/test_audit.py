"""Every number is accounted for exactly once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.audit import account_for
from cloud_ingest.ledger import Range, RangeSet
from cloud_ingest.tests.test_ledger import RANGES, members


@pytest.mark.parametrize(
    ("why", "stored", "unusable", "overwritten", "explained", "unexplained"),
    [
        ("complete", [(1, 9)], [], [], [], []),
        ("empty", [], [], [], [], []),
        ("nobody knows", [(1, 4), (7, 9)], [], [], [], [(5, 6)]),
        ("the beginning is missing", [(4, 9)], [], [], [], [(1, 3)]),
        ("set aside is explained", [(1, 4), (6, 9)], [(5, 5)], [], [], []),
        ("the board says so", [(4, 9)], [], [(9, 3)], [(1, 3)], []),
        ("the board lost fewer", [(5, 9)], [], [(9, 3)], [(2, 4)], [(1, 1)]),
        ("nearest first", [(3, 4), (7, 9)], [], [(9, 2)], [(5, 6)], [(1, 2)]),
        ("not what comes after the event", [(1, 4), (7, 9)], [], [(4, 2)], [], [(5, 6)]),
        ("two events, two gaps", [(3, 4), (7, 9)], [], [(4, 2), (9, 2)], [(1, 2), (5, 6)], []),
    ],
)
def test_account(
    why: str,
    stored: list[Range],
    unusable: list[Range],
    overwritten: list[tuple[int, int]],
    explained: list[Range],
    unexplained: list[Range],
) -> None:
    account = account_for(RangeSet(stored), RangeSet(unusable), overwritten)
    assert (account.overwritten, account.unexplained) == (explained, unexplained), why


@given(RANGES, RANGES, st.lists(st.tuples(st.integers(0, 70), st.integers(-3, 30)), max_size=4))
def test_nothing_is_forgotten_or_counted_twice(
    stored: list[Range], unusable: list[Range], overwritten: list[tuple[int, int]]
) -> None:
    account = account_for(RangeSet(stored), RangeSet(unusable), overwritten)
    parts = [members(part) for part in (account.stored, account.set_aside, account.overwritten, account.unexplained)]
    arrived = members(stored) | members(unusable)
    everything = set(range(min(1, *arrived), max(arrived) + 1)) if arrived else set()
    assert set().union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)
