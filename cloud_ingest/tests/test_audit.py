"""Every number is accounted for exactly once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.audit import OVERWRITTEN, Declared, account_for
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


def declared(*ranges: Range, reason: str = "outbox full") -> list[Declared]:
    return [Declared(first, last, reason, "gw-mytho", 1_780_000_000) for first, last in ranges]


@pytest.mark.parametrize(
    ("why", "stored", "overwritten", "said", "lost", "by_event", "unexplained"),
    [
        ("it explains a gap", [(1, 4), (7, 9)], [], declared((5, 6)), declared((5, 6)), [], []),
        ("only as far as it goes", [(1, 3), (8, 9)], [], declared((5, 6)), declared((5, 6)), [], [(4, 4), (7, 7)]),
        ("it shrinks when records come", [(1, 5), (7, 9)], [], declared((4, 8)), declared((6, 6)), [], []),
        ("it may come before the first record", [], [], declared((1, 9)), declared((1, 9)), [], []),
        ("the board said so too", [(7, 9)], [(9, 6)], declared((1, 6)), declared((1, 6)), [], []),
        (
            "what gateway and board both say is counted once",
            [(4, 5), (8, 9)],
            [(9, 3)],
            declared((1, 3), reason=OVERWRITTEN),
            declared((1, 3), reason=OVERWRITTEN),
            [],
            [(6, 7)],
        ),
    ],
)
def test_declarations(
    why: str,
    stored: list[Range],
    overwritten: list[tuple[int, int]],
    said: list[Declared],
    lost: list[Declared],
    by_event: list[Range],
    unexplained: list[Range],
) -> None:
    account = account_for(RangeSet(stored), RangeSet(), overwritten, said)
    assert (account.declared, account.overwritten, account.unexplained) == (lost, by_event, unexplained), why


@given(RANGES, RANGES, st.lists(st.tuples(st.integers(0, 70), st.integers(-3, 30)), max_size=4), RANGES, st.booleans())
def test_nothing_is_forgotten_or_counted_twice(
    stored: list[Range], unusable: list[Range], overwritten: list[tuple[int, int]], said: list[Range], by_board: bool
) -> None:
    declarations = declared(*said, reason=OVERWRITTEN if by_board else "outbox full")
    account = account_for(RangeSet(stored), RangeSet(unusable), overwritten, declarations)
    lost = [(one.first, one.last) for one in account.declared]
    parts = [
        members(part) for part in (account.stored, account.set_aside, account.overwritten, lost, account.unexplained)
    ]
    known = members(stored) | members(unusable) | members(said)
    everything = set(range(min(1, *known), max(known) + 1)) if known else set()
    assert set().union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)
