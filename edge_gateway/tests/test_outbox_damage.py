"""What can befall the outbox's file, and what is left of it afterwards."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge_gateway.errors import OutboxRefused
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_file import damaged_files
from edge_gateway.outbox_losses import LOST_WITH_THE_FILE
from edge_gateway.outbox_renewal import finish_renewal, renew
from edge_gateway.outbox_salvage import salvage
from edge_gateway.outbox_schema import STEPS, steps_done
from edge_gateway.outbox_store import Limits
from edge_gateway.slices import Loss, Series, Slice
from edge_gateway.station_policy import OVERWRITTEN
from edge_gateway.tests.fake_station import make_record
from edge_gateway.tests.first_schema import VERSION, WRITES, write_first_outbox
from firmware import record
from station_config.clock import SystemClock

RIVER = Series("xuan-hoa", 0x1234ABCD)
MADE = 13 * 300
PAGE = 4096
ROOMY = Limits(1 << 30, 60 * 86_400)


def piece(first: int, last: int, series: Series = RIVER) -> Slice:
    return Slice(series, first, b"".join(make_record(seq) for seq in range(first, last + 1)))


def open_at(path: Path) -> Outbox:
    return open_outbox(path, ROOMY, SystemClock())


def held(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as connection:
        data = b"".join(row[0] for row in connection.execute("SELECT records FROM slice ORDER BY first_seq"))
    return {record.decode(data, at).seq for at in range(0, len(data), record.SIZE)}


def losses(outbox: Outbox) -> list[Loss]:
    with closing(outbox.reader()) as reader:
        return reader.losses()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An outbox with records 1..MADE, all in the file itself."""
    path = tmp_path / "outbox.sqlite"
    outbox = open_at(path)
    for first in range(1, MADE, 13):
        outbox.append(piece(first, first + 12))
    outbox.close()
    return path


def turned_over(raw: bytes, begin: int, end: int) -> bytes:
    return raw[:begin] + bytes(255 - byte for byte in raw[begin:end]) + raw[end:]


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "a file").write_text("somebody's")


def another_programs_file(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    ("spoil", "at_least"),
    [
        pytest.param(lambda path: path.write_bytes(turned_over(path.read_bytes(), 0, 100)), MADE, id="header"),
        pytest.param(lambda path: path.write_bytes(turned_over(path.read_bytes(), 0, 2 * PAGE)), 3000, id="root page"),
        pytest.param(
            lambda path: path.write_bytes(turned_over(path.read_bytes(), 30 * PAGE, 32 * PAGE)), 3000, id="middle pages"
        ),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[: 30 * PAGE]), 50, id="truncated"),
        pytest.param(lambda path: path.write_bytes(b"no database at all, but some text" * 200), 0, id="some text"),
        pytest.param(folder_instead, 0, id="a folder"),
        pytest.param(another_programs_file, 0, id="another program's"),
    ],
)
def test_a_damaged_file_goes_aside_and_what_can_be_read_of_it_into_a_new_one(
    file: Path, spoil: Spoil, at_least: int
) -> None:
    spoil(file)

    outbox = open_at(file)
    found = held(file)
    buffered = outbox.write(lambda store: store.sql.execute("SELECT sum(buffered) FROM series").fetchone()[0])
    outbox.close()

    assert (len(damaged_files(file)), buffered or 0) == (1, len(found))
    assert len(found) >= at_least
    assert found <= set(range(1, MADE + 1))


def test_the_station_is_read_again_and_what_neither_has_is_declared_lost(file: Path) -> None:
    file.write_bytes(turned_over(file.read_bytes(), 30 * PAGE, 33 * PAGE))
    outbox = open_at(file)
    salvaged = held(file)
    first_at_station = MADE - 100

    through = outbox.write(lambda store: store.stored_through(RIVER))
    outbox.write(lambda store: store.declare_lost(Loss(RIVER, 1, first_at_station - 1, OVERWRITTEN), time.time()))
    for first in range(first_at_station, MADE + 20, 10):
        outbox.append(piece(first, first + 9))
    declared = {seq for loss in losses(outbox) for seq in range(loss.first_seq, loss.last_seq + 1)}
    with closing(outbox.reader()) as reader:
        told = reader.messages_waiting(10)
    outbox.close()

    assert through == 0
    assert declared == set(range(1, first_at_station)) - salvaged
    assert held(file) == salvaged | set(range(first_at_station, MADE + 20))
    assert {message.kind for message in told} == {"losses"}
    assert LOST_WITH_THE_FILE in told[0].body


def test_of_a_file_emptied_beside_its_wal_the_wal_is_read(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    outbox = open_at(path)
    outbox.append(piece(1, 13))
    copy = tmp_path / "copy" / "outbox.sqlite"
    copy.parent.mkdir()
    copy.write_bytes(b"")
    copy.with_name("outbox.sqlite-wal").write_bytes(path.with_name("outbox.sqlite-wal").read_bytes())
    outbox.close()

    again = open_at(copy)
    again.close()

    assert held(copy) == set(range(1, 14))


def test_garbage_in_the_wal_costs_what_was_behind_it_and_the_cursor_says_so(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    outbox = open_at(path)
    for first in range(1, 131, 13):
        outbox.append(piece(first, first + 12))
    copy = tmp_path / "copy" / "outbox.sqlite"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    wal = path.with_name("outbox.sqlite-wal").read_bytes()
    copy.with_name("outbox.sqlite-wal").write_bytes(turned_over(wal, len(wal) - 8 * PAGE, len(wal)))
    outbox.close()

    again = open_at(copy)
    through = again.write(lambda store: store.stored_through(RIVER))
    again.append(piece(through + 1, 130) if through else piece(1, 130))
    again.close()

    assert (through or 0) < 130
    assert held(copy) == set(range(1, 131))


def test_an_emptied_file_is_begun_anew_and_what_is_gone_is_declared(file: Path) -> None:
    file.write_bytes(b"")

    outbox = open_at(file)
    outbox.append(piece(500, 510))

    found = losses(outbox)
    outbox.close()
    assert found == [Loss(RIVER, 1, 499, f"{LOST_WITH_THE_FILE} (it was found empty)")]


def test_a_new_gateway_declares_nothing_of_a_station_that_is_older(tmp_path: Path) -> None:
    outbox = open_at(tmp_path / "outbox.sqlite")
    outbox.append(piece(500, 510))

    found = losses(outbox)
    outbox.close()
    assert found == []


def test_a_slice_that_was_split_is_salvaged_once(file: Path) -> None:
    outbox = open_at(file)
    outbox.write(lambda store: store.free(RIVER, [(5, 7), (20, 30)]))
    outbox.close()
    file.write_bytes(turned_over(file.read_bytes(), 0, 100))

    again = open_at(file)
    buffered = again.write(lambda store: store.sql.execute("SELECT sum(buffered) FROM series").fetchone()[0])
    again.close()

    assert (buffered, len(held(file))) == (len(held(file)), buffered)
    assert held(file) >= set(range(1, MADE + 1)) - {5, 6, 7, *range(20, 31)}


@pytest.mark.parametrize("aside", [False, True], ids=["before it went aside", "after it went aside"])
def test_a_renewal_that_was_cut_is_finished_at_the_next_start(file: Path, aside: bool) -> None:
    file.write_bytes(turned_over(file.read_bytes(), 0, 100))
    damaged = file.read_bytes()
    renew(file, "the test", time.time(), lambda: None)
    file.rename(file.with_name("outbox.new.sqlite"))
    if aside:
        finished = finish_renewal(file)
    else:
        file.write_bytes(damaged)
        finished = finish_renewal(file)

    outbox = open_at(file)
    outbox.close()
    assert (finished is None, held(file)) == (aside, set(range(1, MADE + 1)))


def test_a_renewal_that_was_cut_in_its_beginning_is_begun_again(file: Path) -> None:
    file.write_bytes(turned_over(file.read_bytes(), 0, 100))
    with closing(sqlite3.connect(file.with_name("outbox.new.sqlite"))) as half:
        half.executescript(STEPS[0])

    outbox = open_at(file)
    outbox.close()

    assert held(file) == set(range(1, MADE + 1))


def test_bytes_that_look_like_anything_are_no_slices(tmp_path: Path) -> None:
    noise = bytes((number * number >> 3) & 0xFF for number in range(40 * PAGE))
    path = tmp_path / "noise"
    path.write_bytes(b"".join(b"\x0a" + noise[at + 1 : at + PAGE] for at in range(0, len(noise), PAGE)))

    assert list(salvage(path)) == []


def test_a_file_of_the_first_gateway_is_brought_up_to_date_with_its_records(tmp_path: Path) -> None:
    path = write_first_outbox(tmp_path / "outbox.sqlite", RIVER, MADE, int(time.time()))

    outbox = open_at(path)
    outbox.append(piece(MADE + 1, MADE + 13))
    steps = outbox.write(lambda store: steps_done(store.sql))
    outbox.close()

    assert (steps, held(path), damaged_files(path)) == (len(STEPS), set(range(1, MADE + 14)), [])


def test_the_first_gateway_still_runs_on_todays_file(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        generation = connection.execute("PRAGMA user_version").fetchone()[0]
        for statement, values in WRITES:
            connection.execute(statement, values)
        connection.commit()
    again = open_at(file)
    known = again.write(lambda store: store.stored_through(Series("cai-be", 7)))
    again.close()

    assert (generation, known) == (VERSION, 1)


def test_a_file_of_a_newer_generation_is_left_as_it_is(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = file.read_bytes()

    with pytest.raises(OutboxRefused, match="newer program"):
        open_at(file)

    assert (file.read_bytes(), damaged_files(file)) == (before, [])
