"""A line's thread with a real outbox, and stations on ptys."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.poller import LinePoller
from edge_gateway.slices import Loss, Series
from edge_gateway.station_policy import HOLE, OVERWRITTEN, UNREADABLE
from edge_gateway.tests.conftest import wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from station_config.clock import BenchClock, Clock, SystemClock

JOURNAL = 0x1234ABCD
RIVER = Series("xuan-hoa", JOURNAL)


@pytest.fixture
def station() -> FakeStation:
    return FakeStation("xuan-hoa", 11, JOURNAL)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = open_outbox(tmp_path / "outbox.sqlite", Limits(1 << 30, 1e9), SystemClock())
    yield outbox
    outbox.close()


@contextmanager
def polling(
    outbox: Outbox, *stations: FakeStation, silent: int = 0, clock: Clock | None = None, tolerance_s: float = 2.0
) -> Iterator[tuple[ContactBook, FakeLine]]:
    """Poll these stations, and `silent` more that are not there."""
    absent = [{"id": f"silent-{number}", "address": 200 + number} for number in range(silent)]
    present = [{"id": station.station, "address": station.address} for station in stations]
    with FakeLine(*stations) as line:
        configuration = GatewayConfiguration.model_validate(
            {
                "id": "gw-test",
                "state_dir": outbox.path.parent,
                "poll_interval_s": 0.02,
                "clock_tolerance_s": tolerance_s,
                "line": [
                    {"name": "l", "port": line.port, "baud": 115200, "timeout_s": 0.1, "station": absent + present}
                ],
            }
        )
        contacts = ContactBook(tuple(station.id for station in configuration.stations))
        poller = LinePoller(configuration, configuration.lines[0], outbox, contacts, clock or SystemClock())
        stop = threading.Event()
        thread = threading.Thread(target=poller.run, args=(stop,))
        thread.start()
        try:
            yield contacts, line
        finally:
            stop.set()
            thread.join(60)


def through(outbox: Outbox, series: Series = RIVER) -> int | None:
    return outbox.write(lambda store: store.stored_through(series))


def is_acknowledged(station: FakeStation, through: int) -> bool:
    return station.stored_through == through


def losses(outbox: Outbox) -> list[Loss]:
    reader = outbox.reader()
    found = reader.losses()
    reader.close()
    return found


def test_a_reading_is_in_the_outbox_before_the_station_hears_so(outbox: Outbox, station: FakeStation) -> None:
    station.new_journal(JOURNAL, 200)
    reader_of_the_server: list[tuple[int, int]] = []

    def look(journal: int, acknowledged: int) -> None:
        reader = outbox.reader()
        stored = {state.series.journal: state.stored_through for state in reader.series()}
        reader.close()
        reader_of_the_server.append((acknowledged, stored.get(journal, 0)))

    station.on_acknowledge = look
    with polling(outbox, station):
        wait_for(lambda: station.stored_through == 200)

    assert [pair for pair in reader_of_the_server if pair[0] > pair[1]] == []
    assert reader_of_the_server[-1] == (200, 200)


def test_new_records_are_fetched_and_acknowledged(outbox: Outbox, station: FakeStation) -> None:
    with polling(outbox, station):
        for expected in (1, 14, 27):
            station.add(expected - station.next_seq + 1)
            wait_for(partial(is_acknowledged, station, expected))

    assert through(outbox) == 27


def test_another_board_begins_its_own_journal_and_the_old_ones_records_stay(
    outbox: Outbox, station: FakeStation
) -> None:
    station.new_journal(JOURNAL, 50)
    with polling(outbox, station):
        wait_for(lambda: station.stored_through == 50)
        station.new_journal(0x77, 30, first_seq=500)
        wait_for(lambda: station.stored_through == 529)

    reader = outbox.reader()
    buffered = {state.series.journal: (state.first_buffered, state.stored_through) for state in reader.series()}
    reader.close()
    assert buffered == {JOURNAL: (1, 50), 0x77: (500, 529)}


def test_records_the_station_overwrote_unread_are_declared_lost(outbox: Outbox, station: FakeStation) -> None:
    station.new_journal(JOURNAL, 10)
    with polling(outbox, station):
        wait_for(lambda: through(outbox) == 10)
        station.add(100)
        station.overwrite_before(80)
        wait_for(lambda: through(outbox) == 110)

    assert losses(outbox) in ([], [Loss(RIVER, 11, 79, OVERWRITTEN)])


def test_a_station_that_overwrote_before_the_gateway_came_back(outbox: Outbox, station: FakeStation) -> None:
    station.new_journal(JOURNAL, 10)
    with polling(outbox, station):
        wait_for(lambda: through(outbox) == 10)
    station.add(100)
    station.overwrite_before(80)
    with polling(outbox, station):
        wait_for(lambda: through(outbox) == 110)

    assert losses(outbox) == [Loss(RIVER, 11, 79, OVERWRITTEN)]


def test_a_hole_in_the_journal_is_believed_after_the_same_answer_three_times(
    outbox: Outbox, station: FakeStation
) -> None:
    station.new_journal(JOURNAL, 40)
    for seq in (20, 21):
        del station.records[seq]
    with polling(outbox, station):
        wait_for(lambda: through(outbox) == 40)

    assert losses(outbox) == [Loss(RIVER, 20, 21, HOLE)]


def test_a_hole_in_a_backlog_is_believed_while_live_records_go_on_coming(outbox: Outbox, station: FakeStation) -> None:
    station.new_journal(JOURNAL, 400)
    for seq in (20, 21):
        del station.records[seq]

    def declared_while_it_records() -> bool:
        station.add(1)
        return bool(losses(outbox))

    with polling(outbox, station):
        wait_for(declared_while_it_records)

    assert losses(outbox) == [Loss(RIVER, 20, 21, HOLE)]


def test_a_record_that_cannot_be_read_does_not_hold_up_the_rest(outbox: Outbox, station: FakeStation) -> None:
    station.new_journal(JOURNAL, 40)
    station.records[20] = bytes(18)
    with polling(outbox, station):
        wait_for(lambda: through(outbox) == 40)

    assert [(loss.first_seq, loss.last_seq, loss.reason[: len(UNREADABLE)]) for loss in losses(outbox)] == [
        (20, 20, UNREADABLE)
    ]


@pytest.mark.parametrize(
    ("is_set", "offset_s", "sets"), [(False, 0.0, 1), (True, -60.0, 1), (True, 3600.0, 1), (True, 0.7, 0)]
)
def test_a_stations_clock_is_set_when_it_needs_to_be(
    outbox: Outbox, station: FakeStation, is_set: bool, offset_s: float, sets: int
) -> None:
    station.clock_is_set, station.clock_offset_s = is_set, offset_s
    station.new_journal(JOURNAL, 5)
    with polling(outbox, station):
        wait_for(lambda: station.stored_through == 5)

    assert [abs(offset) < 2.0 for offset in station.clocks_received] == [True] * sets


def test_a_journal_that_ends_before_what_is_stored_is_said(outbox: Outbox, station: FakeStation) -> None:
    station.new_journal(JOURNAL, 50)
    with polling(outbox, station) as (contacts, _line):
        wait_for(lambda: station.stored_through == 50)
        station.next_seq = 41
        wait_for(lambda: contacts.all()["xuan-hoa"].reason == "its journal ends at 40, 50 are stored here")


def test_a_station_under_another_name_gives_nothing(outbox: Outbox, station: FakeStation) -> None:
    station.new_journal(JOURNAL, 5)
    with polling(outbox, station) as (contacts, _line):
        wait_for(lambda: station.stored_through == 5)
    stranger = FakeStation("xuan-hoa", 11, 0x99, 5)
    stranger._identity = lambda: [0x6162] * 16  # type: ignore[method-assign]
    with polling(outbox, stranger) as (contacts, _line):
        wait_for(lambda: "answers as station" in contacts.all()["xuan-hoa"].reason)

    assert through(outbox, Series("xuan-hoa", 0x99)) is None


def test_silent_stations_take_a_bounded_share_from_one_that_answers(outbox: Outbox, station: FakeStation) -> None:
    silent = [f"silent-{number}" for number in range(3)]
    with polling(outbox, station, silent=len(silent)) as (contacts, _line):
        wait_for(lambda: all(contacts.all()[name].timeouts >= 3 for name in silent))
        begun, asked_before = time.monotonic(), station.requests
        before = {name: contacts.all()[name].timeouts for name in silent}
        wait_for(lambda: all(contacts.all()[name].timeouts > before[name] for name in silent))
        lasted_s = time.monotonic() - begun

    # Each was asked once more, for one time limit and one quiet time of at most 0.2 s each.
    assert lasted_s > 1.0
    assert station.requests - asked_before > 5


def test_a_line_that_is_cut_and_joined_again_loses_nothing(outbox: Outbox, station: FakeStation) -> None:
    station.new_journal(JOURNAL, 2000)
    with polling(outbox, station) as (contacts, line):
        wait_for(lambda: station.stored_through > 200)
        line.cut = True
        wait_for(lambda: not contacts.all()["xuan-hoa"].reachable)
        line.cut = False
        wait_for(lambda: station.stored_through == 2000, deadline_s=60)

    reader = outbox.reader()
    assert [(state.stored_through, state.buffered) for state in reader.series()] == [(2000, 2000)]
    reader.close()


def test_on_the_bench_a_clock_sixty_times_as_fast_is_set_once(outbox: Outbox, station: FakeStation) -> None:
    bench = BenchClock(time.time(), 1_790_000_000.0, 60.0)
    station.now, station.clock_is_set = bench.now, False
    with polling(outbox, station, clock=bench, tolerance_s=300.0):
        wait_for(lambda: station.requests > 60)

    assert [abs(offset) < 300 for offset in station.clocks_received] == [True]
