"""The outbox keeps what it was given until a commit names it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_gateway.errors import OutboxDamaged, OutboxUnavailable, SliceRefused
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_file import DAMAGED_FILES_KEPT, damaged_files, set_aside
from edge_gateway.outbox_reader import Head
from edge_gateway.outbox_store import OUTBOX_FULL, TOO_OLD, Limits
from edge_gateway.slices import Loss, Range, Series, Slice
from edge_gateway.tests.fake_station import make_record
from firmware import record

RIVER = Series("xuan-hoa", 0xABCD0001)
OTHER = Series("my-tho", 0xABCD0002)
ROOMY = Limits(1 << 30, 60 * 86_400)


@dataclass
class HandClock:
    time_s: float = 1_780_000_000.0

    def now(self) -> float:
        return self.time_s


def piece(first: int, last: int, series: Series = RIVER) -> Slice:
    return Slice(series, first, b"".join(make_record(seq) for seq in range(first, last + 1)))


def held(outbox: Outbox, series: Series = RIVER) -> list[int]:
    """Return the sequence numbers a second connection sees; what it sees was committed."""
    with sqlite3.connect(outbox.path) as connection:
        rows = connection.execute(
            "SELECT records FROM slice WHERE station = ? AND journal = ? ORDER BY first_seq", series
        ).fetchall()
    connection.close()
    data = b"".join(row[0] for row in rows)
    return [record.decode(data, at).seq for at in range(0, len(data), record.SIZE)]


def losses(outbox: Outbox) -> list[Loss]:
    reader = outbox.reader()
    found = reader.losses()
    reader.close()
    return found


def submit(outbox: Outbox, given: Slice) -> Future[int]:
    return outbox.submit(lambda store: store.append(given, 0.0))


def free(outbox: Outbox, ranges: list[Range], series: Series = RIVER) -> int:
    return outbox.write(lambda store: store.free(series, ranges))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


Opener = Callable[..., Outbox]


@pytest.fixture
def opener(tmp_path: Path, clock: HandClock) -> Iterator[Opener]:
    opened: list[Outbox] = []

    def open_one(limits: Limits = ROOMY) -> Outbox:
        for outbox in opened:
            outbox.close()
        opened.append(open_outbox(tmp_path / "outbox.sqlite", limits, clock))
        return opened[-1]

    yield open_one
    for outbox in opened:
        outbox.close()


def test_what_append_reports_stored_is_on_disk(opener: Opener) -> None:
    outbox = opener()

    stored_through = outbox.append(piece(1, 13))

    assert (stored_through, held(outbox)) == (13, list(range(1, 14)))


def test_a_commit_is_synced_to_disk_in_wal(opener: Opener) -> None:
    outbox = opener()

    settings = outbox.write(
        lambda store: [store._sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    )

    assert settings == ["wal", 2]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param((1, 13), 13, id="the same again"),
        pytest.param((5, 9), 13, id="a part of it"),
        pytest.param((10, 20), 20, id="overlapping its end"),
        pytest.param((14, 20), 20, id="joining"),
    ],
)
def test_a_slice_fetched_twice_is_stored_once(opener: Opener, second: Range, expected: int) -> None:
    outbox = opener()
    outbox.append(piece(1, 13))

    stored_through = outbox.append(piece(*second))

    assert (stored_through, held(outbox)) == (expected, list(range(1, expected + 1)))


def test_a_slice_that_leaves_a_gap_is_refused(opener: Opener) -> None:
    outbox = opener()
    outbox.append(piece(1, 13))

    with pytest.raises(SliceRefused):
        outbox.append(piece(15, 20))

    assert held(outbox) == list(range(1, 14))


def test_a_refused_change_takes_nothing_of_its_neighbours_with_it(opener: Opener) -> None:
    outbox = opener()
    outbox.append(piece(1, 13))

    futures = [submit(outbox, piece(*span)) for span in [(20, 21), (14, 15)]]

    assert [type(future.exception(5)) for future in futures] == [SliceRefused, type(None)]


def test_a_declared_gap_lets_the_series_go_on(opener: Opener) -> None:
    outbox = opener()
    outbox.append(piece(1, 13))

    outbox.write(lambda store: store.declare_lost(Loss(RIVER, 14, 14, "a hole"), 0.0))

    assert outbox.append(piece(15, 20)) == 20
    assert losses(outbox) == [Loss(RIVER, 14, 14, "a hole")]


def test_freed_records_are_not_stored_again(opener: Opener) -> None:
    outbox = opener()
    outbox.append(piece(1, 13))
    free(outbox, [(1, 13)])

    assert outbox.append(piece(1, 13)) == 13
    assert held(outbox) == []


@pytest.mark.parametrize(
    ("ranges", "left"),
    [
        pytest.param([(1, 39)], [], id="everything"),
        pytest.param([(1, 13)], list(range(14, 40)), id="one slice"),
        pytest.param([(5, 20)], [1, 2, 3, 4, *range(21, 40)], id="parts of two slices"),
        pytest.param([(15, 15)], [*range(1, 15), *range(16, 40)], id="one in the middle of a slice"),
        pytest.param([(1, 2), (4, 5), (39, 39)], [3, *range(6, 39)], id="several ranges"),
        pytest.param([(30, 1000)], list(range(1, 30)), id="more than there is"),
        pytest.param([(500, 600)], list(range(1, 40)), id="nothing that is here"),
    ],
)
def test_only_what_a_commit_names_is_freed(opener: Opener, ranges: list[Range], left: list[int]) -> None:
    outbox = opener()
    for first in (1, 14, 27):
        outbox.append(piece(first, first + 12))
    outbox.append(piece(1, 5, OTHER))

    freed = free(outbox, ranges)

    assert (freed, held(outbox), held(outbox, OTHER)) == (39 - len(left), left, [1, 2, 3, 4, 5])


def test_the_cursor_is_there_after_everything_was_freed_and_the_file_opened_again(opener: Opener) -> None:
    outbox = opener()
    outbox.append(piece(1, 13))
    free(outbox, [(1, 13)])

    again = opener()

    assert again.write(lambda store: store.stored_through(RIVER)) == 13


def test_when_it_is_full_the_oldest_go_and_are_declared(opener: Opener, clock: HandClock) -> None:
    limits = Limits(200_000, 60 * 86_400)
    outbox = opener(limits)
    for first in range(1, 20_000, 13):
        outbox.append(piece(first, first + 12))
        clock.time_s += 1

    left = held(outbox)

    assert losses(outbox) == [Loss(RIVER, 1, left[0] - 1, OUTBOX_FULL)]
    assert left == list(range(left[0], 20_008))
    assert outbox.write(lambda store: store.used_bytes()) <= limits.max_bytes


def test_when_it_is_full_the_oldest_of_all_stations_go_first(opener: Opener, clock: HandClock) -> None:
    outbox = opener(Limits(200_000, 60 * 86_400))
    outbox.append(piece(1, 13, OTHER))
    clock.time_s += 60
    for first in range(1, 10_000, 13):
        outbox.append(piece(first, first + 12))

    assert Loss(OTHER, 1, 13, OUTBOX_FULL) in losses(outbox)


def test_records_older_than_the_outbox_keeps_are_declared_lost(opener: Opener, clock: HandClock) -> None:
    outbox = opener(Limits(1 << 30, 86_400))
    outbox.append(piece(1, 13))
    clock.time_s += 2 * 86_400

    outbox.append(piece(14, 20))

    assert (losses(outbox), held(outbox)) == ([Loss(RIVER, 1, 13, TOO_OLD)], list(range(14, 21)))


def test_a_clock_in_doubt_drops_nothing_by_age(tmp_path: Path, clock: HandClock) -> None:
    doubt: list[str | None] = ["it has just jumped"]
    outbox = open_outbox(tmp_path / "o.sqlite", Limits(1 << 30, 86_400), clock, clock_doubt=lambda: doubt[0])
    outbox.append(piece(1, 13))
    clock.time_s += 365 * 86_400
    outbox.append(piece(14, 20))
    kept = held(outbox)
    doubt[0] = None
    outbox.append(piece(21, 26))
    left = held(outbox)
    outbox.close()

    assert (kept, left) == (list(range(1, 21)), list(range(14, 27)))


def test_records_from_before_the_clock_was_set_have_no_age(opener: Opener, clock: HandClock) -> None:
    outbox = opener(Limits(1 << 30, 86_400))
    clock.time_s = 300.0
    outbox.append(piece(1, 13))
    clock.time_s = 1_780_000_000.0

    outbox.append(piece(14, 20))

    assert (losses(outbox), held(outbox)) == ([], list(range(1, 21)))


def test_a_full_disk_stores_nothing_and_says_so_and_passes(opener: Opener) -> None:
    outbox = opener()
    outbox.append(piece(1, 13))
    pages = outbox.write(lambda store: store._sql.execute("PRAGMA page_count").fetchone()[0])
    outbox.write(lambda store: store._sql.execute(f"PRAGMA max_page_count = {pages}").fetchall())

    with pytest.raises(OutboxUnavailable, match="full"):
        outbox.append(piece(14, 2000))

    outbox.write(lambda store: store._sql.execute("PRAGMA max_page_count = 1000000").fetchall())
    assert (held(outbox), outbox.append(piece(14, 2000))) == (list(range(1, 14)), 2000)


def test_damage_that_shows_while_it_runs_is_told(opener: Opener) -> None:
    outbox = opener()
    for first in range(1, 4000, 13):
        outbox.append(piece(first, first + 12))
    outbox.write(lambda store: store._sql.execute("PRAGMA shrink_memory").fetchall())
    for ending in ("", "-wal"):
        file = outbox.path.with_name(outbox.path.name + ending)
        file.write_bytes(b"\xaa" * file.stat().st_size)

    with pytest.raises(OutboxDamaged):
        outbox.append(piece(4004, 4010))

    assert outbox.damaged.is_set()


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    made = []
    for number in range(5):
        path.write_text(str(number))
        made.append(set_aside(path))

    assert damaged_files(path) == made[-DAMAGED_FILES_KEPT:]


def test_lines_that_deliver_at_once_share_a_transaction(opener: Opener) -> None:
    outbox = opener()
    transactions = []
    outbox.on_change(lambda: transactions.append(1))
    gate = outbox.submit(lambda store: [store.append(piece(1, 13), 0.0) for _ in range(2000)])

    futures = [submit(outbox, piece(1, 13, Series(f"s{number}", 1))) for number in range(50)]
    gate.result(20)
    results = [future.result(20) for future in futures]

    assert results == [13] * 50
    assert len(transactions) < 25


def test_batches_are_taken_from_either_end_around_what_is_under_way(opener: Opener) -> None:
    outbox = opener()
    for first in range(1, 100, 13):
        outbox.append(piece(first, first + 12))
    reader = outbox.reader()
    taken = [(92, 104), (1, 13)]

    newest, oldest = reader.newest(RIVER, taken), reader.oldest(RIVER, taken)
    assert newest is not None
    assert oldest is not None
    batches = reader.up_to(newest, taken, 30), reader.following(oldest, taken, 30)
    reader.close()

    assert batches == (piece(66, 91), piece(14, 39))


def test_a_slice_longer_than_a_batch_goes_whole(opener: Opener) -> None:
    outbox = opener()
    outbox.append(piece(1, 50))
    reader = outbox.reader()

    batch = reader.up_to(Head(RIVER, 1, 50, 0), [], 30)
    reader.close()

    assert batch == piece(1, 50)


def test_a_batch_ends_at_a_hole(opener: Opener) -> None:
    outbox = opener()
    outbox.append(piece(1, 13))
    free(outbox, [(6, 7)])
    reader = outbox.reader()

    batch = reader.following(Head(RIVER, 1, 5, 0), [], 600)
    reader.close()

    assert batch == piece(1, 5)
