"""Stations beyond a network: through serial servers, Modbus gateways and radios with seconds of latency."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer import FramerType

from edge_gateway import station_jobs
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.errands import Errand
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.poller import LinePoller
from edge_gateway.slices import Progress, Series
from edge_gateway.station_link import StationLink
from edge_gateway.tests.fake_station import FakeStation
from edge_gateway.tests.tcp_servers import StationServer
from hil_tests.workshop import NETWORK, STATIONS, prepare
from simulators.board import BoardSettings, VirtualBoard
from simulators.link import Link
from simulators.processes import wait_for
from station_config.board import board_configuration, encode
from station_config.clock import BenchClock, Clock, SystemClock
from station_config.flash import board_files, flash
from station_config.network import load_network

STATION, ADDRESS = "vam-kenh", STATIONS["vam-kenh"]
BAUD = 19200
BACKLOG = 1200
FAST, REAL = 900.0, 60.0


@contextmanager
def program(*argv: str) -> Iterator[dict[str, Any]]:
    """Run a simulator; yield what it says when it is ready."""
    running = subprocess.Popen([sys.executable, "-m", *argv], stdout=subprocess.PIPE)
    assert running.stdout is not None
    try:
        yield json.loads(running.stdout.readline())
    finally:
        running.terminate()
        running.wait(60)
        running.stdout.close()


def radio(port: int, control: Path) -> AbstractContextManager[dict[str, Any]]:
    """Return a link to a local port; control it by the socket."""
    return program("simulators.link", "--listen", "0", "--to", f"127.0.0.1:{port}", "--control", str(control))


def configuration(
    folder: Path, port: str, station: str, address: int, timeout_s: float, tolerance_s: float = 2.0
) -> GatewayConfiguration:
    line = {"name": "l", "port": port, "timeout_s": timeout_s, "station": [{"id": station, "address": address}]}
    return GatewayConfiguration.model_validate(
        {"id": "gw", "state_dir": folder, "poll_interval_s": 0.1, "clock_tolerance_s": tolerance_s, "line": [line]}
    )


@contextmanager
def polled(
    gateway: GatewayConfiguration, outbox: Outbox, clock: Clock | None = None
) -> Iterator[tuple[ContactBook, LinePoller]]:
    contacts = ContactBook(gateway.station_ids)
    stop = threading.Event()
    poller = LinePoller(gateway, gateway.lines[0], outbox, contacts, clock or SystemClock())
    thread = threading.Thread(target=poller.run, args=(stop,))
    thread.start()
    try:
        yield contacts, poller
    finally:
        stop.set()
        thread.join(60)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = open_outbox(tmp_path / "outbox.sqlite", Limits(1 << 28, 1e9), SystemClock())
    yield outbox
    outbox.close()


@pytest.mark.parametrize(("scheme", "framer"), [("tcp", FramerType.SOCKET), ("rtu+tcp", FramerType.RTU)])
def test_a_clock_is_set_right_through_a_radio_with_three_seconds_there_and_back(
    tmp_path: Path, outbox: Outbox, scheme: str, framer: FramerType
) -> None:
    station = FakeStation("xuan-hoa", 11, number=30)
    station.clock_is_set = False
    control = tmp_path / "link.sock"
    with (
        StationServer(station, framer=framer) as server,
        radio(server.port, control) as at,
    ):
        Link(control).delay(1500)
        gateway = configuration(tmp_path, f"{scheme}://127.0.0.1:{at['port']}", "xuan-hoa", 11, 6.0)
        with polled(gateway, outbox):
            wait_for(lambda: station.stored_through == 30, 60.0, "its records through the radio")

    # Once; and as right as a symmetric way allows: taken as it stands it would be a second and a half late.
    assert len(station.clocks_received) == 1
    assert abs(station.clocks_received[0]) < 1.2


def test_a_clock_within_what_the_radio_leaves_open_is_left_alone(tmp_path: Path, outbox: Outbox) -> None:
    station = FakeStation("xuan-hoa", 11, number=30)
    station.clock_offset_s = 3.0
    control = tmp_path / "link.sock"
    with (
        StationServer(station) as server,
        radio(server.port, control) as at,
    ):
        Link(control).delay(1000)
        gateway = configuration(tmp_path, f"tcp://127.0.0.1:{at['port']}", "xuan-hoa", 11, 6.0)
        with polled(gateway, outbox):
            wait_for(lambda: station.stored_through == 30, 60.0, "its records through the radio")

    assert station.clocks_received == []


def test_a_route_that_is_lost_in_silence_is_noticed_and_records_come_when_it_is_back(
    tmp_path: Path, outbox: Outbox
) -> None:
    station = FakeStation("xuan-hoa", 11, number=500)
    control = tmp_path / "link.sock"
    with (
        StationServer(station) as server,
        radio(server.port, control) as at,
    ):
        link = Link(control)
        link.delay(20)
        gateway = configuration(tmp_path, f"tcp://127.0.0.1:{at['port']}", "xuan-hoa", 11, 0.3)
        with polled(gateway, outbox) as (contacts, _poller):
            wait_for(lambda: station.stored_through > 100, 30.0, "some records")
            link.blackhole(True)
            wait_for(lambda: not contacts.all()["xuan-hoa"].reachable, 30.0, "silence to be noticed")
            accepted = link.status()["counters"]["accepted"]
            wait_for(lambda: link.status()["counters"]["accepted"] > accepted, 30.0, "a new connection to be tried")
            link.blackhole(False)
            wait_for(lambda: station.stored_through == 500, 60.0, "all records")

    assert outbox.write(lambda store: store.progress(Series("xuan-hoa", station.journal))) == Progress(500)


@contextmanager
def board_with_backlog(folder: Path) -> Iterator[Path]:
    """A station that was alone for hours, on a line of 19200 baud; yields the line's other end."""
    workshop = prepare(folder / "workshop")
    station_json = encode(board_configuration(load_network(NETWORK), STATION) | {"health_every": 0})
    flash_file = folder / "board.flash"
    shutil.copy(workshop.flash(STATION), flash_file)
    lines = {"uplink": ["gateway", "board"], "bus": ["board", "nobody"]}
    told = {"dir": str(folder / "lines"), "socket": str(folder / "lines.sock"), "lines": lines}
    (folder / "fast.json").write_text(json.dumps(told))
    (folder / "slow.json").write_text(json.dumps(told | {"baud": BAUD}))
    uarts = {1: folder / "lines/bus/board", 2: folder / "lines/uplink/board"}
    near = folder / "lines/uplink/gateway"
    with (
        program("simulators.lines", "--config", str(folder / "fast.json")),
        VirtualBoard(BoardSettings(flash=flash_file, uarts=uarts, rate=FAST)) as board,
    ):
        board.console.wait_for("tram station=")
        flash(str(board.console_path), board_files(station_json))
        link = StationLink(configuration(folder, str(near), STATION, ADDRESS, 1.0).lines[0])
        wait_for(lambda: link.read_status(ADDRESS).next_seq > BACKLOG, 60.0, "a backlog")
        link.close()
    with (
        program("simulators.lines", "--config", str(folder / "slow.json")),
        VirtualBoard(BoardSettings(flash=flash_file, uarts=uarts, rate=REAL)) as board,
    ):
        board.console.wait_for("tram station=")
        yield near


@pytest.mark.parametrize("scheme", ["rtu+tcp", "tcp"])
def test_a_board_behind_a_serial_server_has_its_live_records_here_before_its_backlog(
    tmp_path: Path, outbox: Outbox, scheme: str
) -> None:
    (tmp_path / "workshop").mkdir()
    stored: list[tuple[int, int]] = []
    outbox.on_stored(lambda pieces: stored.extend((piece.first_seq, piece.last_seq) for piece in pieces))
    with ExitStack() as stack:
        near = stack.enter_context(board_with_backlog(tmp_path))
        argv = ["simulators.serial_server", "--line", str(near), *(["--modbus"] if scheme == "tcp" else [])]
        at = stack.enter_context(program(*argv))
        gateway = configuration(tmp_path, f"{scheme}://127.0.0.1:{at['port']}", STATION, ADDRESS, 1.5, 60.0)
        clock = BenchClock(time.time(), 1_780_000_000.0, REAL)
        contacts, poller = stack.enter_context(polled(gateway, outbox, clock))
        wait_for(lambda: bool(stored), 30.0, "the first records")
        begun = stored[0][1]
        for _ in range(3):
            _until_newer(contacts, stored)
        errand = Errand(STATION, clock.now, clock.now() + 1e6, lambda _noted: None, {})
        told = poller.submit(lambda link, address: station_jobs.read_logs(link, address, errand), ADDRESS).result(60.0)
        journal = contacts.all()[STATION].journal
        assert journal is not None
        progress = outbox.write(lambda store: store.progress(Series(STATION, journal)))

    assert "UART 2" in told["log"], "files go through it too: what it said in the workshop"
    assert begun > BACKLOG - 70, "the newest of the backlog came first"
    assert progress.ahead or progress.through >= BACKLOG - 70, "the rest of the backlog comes after"


def _until_newer(contacts: ContactBook, stored: list[tuple[int, int]]) -> None:
    """Wait until a record is here that was made after this call."""
    made = contacts.all()[STATION].next_seq or 0
    wait_for(lambda: any(last >= made for _, last in stored), 60.0, "a live record")
