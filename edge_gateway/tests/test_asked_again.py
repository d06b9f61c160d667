"""What a gateway fetches once more when the cloud has lost what it had committed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_gateway.asked_again import NO_LONGER_THERE, ask_again
from edge_gateway.contacts import Contact
from edge_gateway.line_store import LineStore
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.slices import Progress, Range, Series, Slice
from edge_gateway.tests.fake_station import make_record
from station_config.clock import SystemClock

JOURNAL, BEFORE = 7, 6  # the journal the board writes, and that of the board before it
RIVER = Series("xuan-hoa", JOURNAL)
ranges = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))), max_size=6)


def numbers(of: list[Range]) -> set[int]:
    return {seq for first, last in of for seq in range(first, last + 1)}


@given(through=st.integers(0, 40), ahead=ranges, in_cloud=ranges, here=ranges, begins_at=st.integers(0, 60))
def test_what_is_neither_in_the_cloud_nor_here_is_wanted_or_gone_and_nothing_else_changes(
    through: int, ahead: list[Range], in_cloud: list[Range], here: list[Range], begins_at: int
) -> None:
    before = Progress(through).having(*ahead)
    settled = set(range(1, before.through + 1)) | numbers(list(before.ahead))

    again = ask_again(before, in_cloud, here, begins_at)

    missing = settled - numbers(in_cloud) - numbers(here)
    assert numbers(again.wanted) == {seq for seq in missing if seq >= begins_at}
    assert numbers(again.gone) == {seq for seq in missing if seq < begins_at}
    after = set(range(1, again.after.through + 1)) | numbers(list(again.after.ahead))
    assert after == settled - numbers(again.wanted)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    one = open_outbox(tmp_path / "outbox.sqlite", Limits(1 << 30, 1e9), SystemClock())
    yield one
    one.close()


def line(outbox: Outbox) -> LineStore:
    store = LineStore(outbox, 0.0)
    store.load()
    return store


def piece(first: int, last: int, journal: int = JOURNAL) -> Slice:
    records = b"".join(make_record(seq) for seq in range(first, last + 1))
    return Slice(Series("xuan-hoa", journal), first, records)


def test_a_station_is_asked_for_what_was_freed_and_its_old_journal_is_named(outbox: Outbox) -> None:
    store = line(outbox)
    for one in (piece(1, 5, BEFORE), piece(1, 13), piece(14, 26), piece(27, 39)):
        store.store(one, 1, 0.0)
    outbox.write(lambda inside: [inside.free(Series("xuan-hoa", BEFORE), [(1, 5)]), inside.free(RIVER, [(1, 26)])])
    seen = Contact("xuan-hoa", journal=JOURNAL, first_seq=11, next_seq=40)

    asked = store.ask_again(seen, {JOURNAL: [(1, 4)], 99: [(1, 1000)]}, 0.0)

    assert asked == {BEFORE: [(1, 5)], JOURNAL: [(11, 26)]}
    for each in (store, line(outbox)):  # after a restart too
        assert each.progress(RIVER) == Progress(10, ((27, 39),))
    assert outbox.reader().losses() == [(RIVER, 5, 10, NO_LONGER_THERE)]

    for one in (piece(11, 23), piece(24, 36)):
        store.store(one, 1, 0.0)
    outbox.write(lambda _inside: None)
    store.settle()
    assert (store.progress(RIVER), _buffered(outbox)) == (Progress(39), 29)


def test_nothing_is_asked_for_when_the_cloud_has_all_of_it(outbox: Outbox) -> None:
    store = line(outbox)
    store.store(piece(1, 13), 1, 0.0)
    outbox.write(lambda inside: inside.free(RIVER, [(1, 13)]))

    asked = store.ask_again(Contact("xuan-hoa"), {JOURNAL: [(1, 13)]}, 0.0)

    assert (asked, store.progress(RIVER)) == ({}, Progress(13))


def _buffered(outbox: Outbox) -> int:
    return sum(one.buffered for one in outbox.reader().series() if one.series == RIVER)
