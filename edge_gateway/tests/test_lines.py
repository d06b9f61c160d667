"""Several lines of one gateway: what is dead or slow on one costs no other, and its own line a bounded share."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.poller import LinePoller
from edge_gateway.slices import Progress, Series, Slice
from edge_gateway.station_policy import SHARE_OF_LINE_FOR_SILENT
from edge_gateway.tests.conftest import wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.tcp_servers import LyingServer, StationServer
from station_config.clock import SystemClock

JOURNAL = 0x1234ABCD
TIMEOUT_S = 0.1


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = open_outbox(tmp_path / "outbox.sqlite", Limits(1 << 30, 1e9), SystemClock())
    yield outbox
    outbox.close()


@contextmanager
def polling(outbox: Outbox, timeout_s: float = TIMEOUT_S, **lines: tuple[str, dict[str, int]]) -> Iterator[ContactBook]:
    """Poll lines: name = (port, {station: address})."""
    configuration = GatewayConfiguration.model_validate(
        {
            "id": "gw-test",
            "state_dir": outbox.path.parent,
            "poll_interval_s": 0.02,
            "line": [
                {
                    "name": name,
                    "port": port,
                    "timeout_s": timeout_s,
                    **({} if "tcp" in port else {"baud": 115200}),
                    "station": [{"id": station, "address": address} for station, address in stations.items()],
                }
                for name, (port, stations) in lines.items()
            ],
        }
    )
    contacts = ContactBook(tuple(station.id for station in configuration.stations))
    stop = threading.Event()
    threads = [
        threading.Thread(target=LinePoller(configuration, line, outbox, contacts, SystemClock()).run, args=(stop,))
        for line in configuration.lines
    ]
    for thread in threads:
        thread.start()
    try:
        yield contacts
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def progress_of(outbox: Outbox, station: str) -> Progress:
    return outbox.write(lambda store: store.progress(Series(station, JOURNAL)))


def test_a_dead_line_and_a_dead_station_hold_up_nobody_else(outbox: Outbox) -> None:
    river, canal = (FakeStation(name, 11, JOURNAL, 300) for name in ("river", "canal"))
    with ExitStack() as stack:
        pair = stack.enter_context(FakeLine(river))
        server = stack.enter_context(StationServer(canal))
        mute = stack.enter_context(LyingServer(lambda _question: []))
        contacts = stack.enter_context(
            polling(
                outbox,
                pair=(pair.port, {"river": 11, "dead": 12}),
                network=(f"tcp://127.0.0.1:{server.port}", {"canal": 11}),
                mute=(f"tcp://127.0.0.1:{mute.port}", {"silent": 1, "silent-too": 2}),
            )
        )
        wait_for(lambda: (river.stored_through, canal.stored_through) == (300, 300))
        wait_for(lambda: all(contacts.all()[name].timeouts >= 3 for name in ("dead", "silent", "silent-too")))
        before, begun = river.requests, time.monotonic()
        wait_for(lambda: river.requests >= before + 200, deadline_s=60)
        silent = [contacts.all()[name].timeouts for name in ("silent", "silent-too")]
        dead = contacts.all()["dead"].timeouts
        lasted_s = time.monotonic() - begun

    assert contacts.all()["canal"].reachable
    assert not contacts.all()["dead"].reachable
    # A question to the dead one costs a time limit and at most as long again to hear the line quiet.
    assert dead * 2 * TIMEOUT_S <= 3 * 2 * TIMEOUT_S + SHARE_OF_LINE_FOR_SILENT * 1.5 * lasted_s + 2 * 2 * TIMEOUT_S
    assert all(3 <= number <= 3 + lasted_s / TIMEOUT_S for number in silent)


def test_a_slow_station_delays_the_others_of_its_line_by_its_own_answers_alone(outbox: Outbox) -> None:
    quick, slow = FakeStation("quick", 11, JOURNAL, 200), FakeStation("slow", 12, JOURNAL, 200)
    with FakeLine(quick, slow) as line, polling(outbox, 2.0, pair=(line.port, {"slow": 12, "quick": 11})) as contacts:
        for _ in range(40):
            line.delay_next_answer(0.05)
        wait_for(lambda: (quick.stored_through, slow.stored_through) == (200, 200), deadline_s=60)

    assert all(contact.timeouts == 0 for contact in contacts.all().values())


def test_live_records_do_not_wait_behind_days_of_backlog(outbox: Outbox) -> None:
    station = FakeStation("river", 11, JOURNAL, 6000)
    stored: list[tuple[int, int]] = []

    def note(pieces: object) -> None:
        assert isinstance(pieces, list)
        stored.extend((piece.first_seq, piece.last_seq) for piece in pieces if isinstance(piece, Slice))

    outbox.on_stored(note)
    with FakeLine(station) as line, polling(outbox, pair=(line.port, {"river": 11})):
        wait_for(lambda: station.requests > 40)
        station.add(12)
        made = station.next_seq - 1
        asked_when_made = station.requests
        wait_for(lambda: any(last == made for _, last in stored))
        asked_when_here = station.requests
        behind = made - progress_of(outbox, "river").through
        assert station.stored_through <= progress_of(outbox, "river").through < made
        wait_for(lambda: station.stored_through == made, deadline_s=60)

    assert stored[0][0] == 6000 - 64, "the newest of a backlog first"
    assert behind > 1000, "it came while most of the backlog was still at the station"
    # One turn of 2 s with a backlog: its questions were under way already.
    assert asked_when_here - asked_when_made < 600
    assert progress_of(outbox, "river") == Progress(made)
    assert sum(last - first + 1 for first, last in stored) == made


def test_islands_outlive_the_gateway_and_nothing_is_fetched_twice(outbox: Outbox) -> None:
    station = FakeStation("river", 11, JOURNAL, 4000)
    stored: list[int] = []
    outbox.on_stored(
        lambda pieces: stored.extend(seq for piece in pieces for seq in range(piece.first_seq, piece.last_seq + 1))
    )
    with FakeLine(station) as line:
        for share in (200, 700, 1300):
            with polling(outbox, pair=(line.port, {"river": 11})):
                wait_for(lambda share=share: len(stored) > share)  # type: ignore[misc]
            station.add(200)
        with polling(outbox, pair=(line.port, {"river": 11})):
            wait_for(lambda: station.stored_through == 4600, deadline_s=60)

    assert sorted(stored) == list(range(1, 4601))
