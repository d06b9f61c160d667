"""The real firmware on real MicroPython: simulated instruments on one line, pymodbus as the gateway on the other."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import ModbusSerialClient

from firmware.record import (
    EVENT_BOOT,
    EVENT_CLOCK_SET,
    EVENT_CONFIGURATION,
    MISSING,
    NO_VALUE,
    NOT_EVALUATED,
    SIZE,
    Record,
    decode,
)
from simulators.board import BoardSettings, VirtualBoard, set_rtc_battery
from simulators.lines import Lines
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from station_config.board import board_configuration, encode
from station_config.clock import BenchClock
from station_config.console import Board
from station_config.flash import board_files, flash
from station_config.network import load_network

NETWORK = Path(__file__).parents[1] / "demo_network.toml"
STATION = "vam-kenh"
RATE = 60.0
HEAP_KIB = 120
START_S = 1_780_000_000.0
DEADLINE_S = 60.0
WATCHDOG_RESET = 3


@dataclass(frozen=True)
class Bench:
    """Lines and instruments that run for all tests of this file."""

    directory: Path
    clock: BenchClock
    lines: Lines

    def port(self, line: str, name: str) -> Path:
        return self.directory / "lines" / line / name


class Gateway:
    """What a gateway asks, by pymodbus."""

    def __init__(self, port: Path, address: int) -> None:
        self._client = ModbusSerialClient(str(port), baudrate=9600, timeout=3.0, retries=3)
        self._address = address
        assert self._client.connect()

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def registers(self, first: int, count: int) -> list[int]:
        answer = self._client.read_input_registers(first, count=count, device_id=self._address)
        assert not answer.isError(), answer
        return list(answer.registers)

    def number(self, first: int) -> int:
        high, low = self.registers(first, 2)
        return high << 16 | low

    def set_clock(self, unix_s: int) -> None:
        answer = self._client.write_registers(0, [unix_s >> 16, unix_s & 0xFFFF, 0, 20], device_id=self._address)
        assert not answer.isError(), answer

    def command(self, number: int, argument: int) -> None:
        values = [number, argument >> 16, argument & 0xFFFF]
        answer = self._client.write_registers(10, values, device_id=self._address)
        assert not answer.isError(), answer

    def fetch(self, from_seq: int = 1) -> list[Record]:
        """Return all records from from_seq on, acknowledging what was read."""
        journal = self.number(2)
        records: list[Record] = []
        while True:
            words = struct.unpack(">6H", struct.pack(">III", journal, from_seq, from_seq - 1))
            answer = self._client.readwrite_registers(
                read_address=0x0200, read_count=117, write_address=0x0100, values=list(words), device_id=self._address
            )
            assert not answer.isError(), answer
            raw = struct.pack(">117H", *answer.registers)
            chunks = [raw[at : at + SIZE] for at in range(0, len(raw), SIZE)]
            fetched = [decode(chunk) for chunk in chunks if chunk != b"\xff" * SIZE]
            if not fetched:
                return records
            records += fetched
            from_seq = fetched[-1].seq + 1

    def wait_for(self, what: Callable[[list[Record]], bool], from_seq: int = 1) -> list[Record]:
        """Fetch again and again until the records say so; return them."""
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE_S
        while True:
            records = self.fetch(from_seq)
            if what(records):
                return records
            assert time.monotonic() < deadline, records[-20:]
            pause.wait(0.1)


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


@contextmanager
def _program(module: str, configuration: Path, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--config", str(configuration)],
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), f"{module} did not start"
        yield
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("bench")
    clock = BenchClock(time.time(), START_S, RATE)
    bench = Bench(directory, clock, Lines(directory / "lines.sock"))
    lines = {"bus": ["board", "instruments"], "uplink": ["gateway", "board"]}
    configuration: dict[str, Any] = {
        "dir": str(directory / "lines"),
        "socket": str(directory / "lines.sock"),
        "lines": lines,
    }
    (directory / "lines.json").write_text(json.dumps(configuration))
    station = {"id": STATION, "river_km": 2.0, "port": str(bench.port("bus", "instruments"))}
    (directory / "world.json").write_text(json.dumps({"stations": [station], "socket": str(directory / "world.sock")}))
    with (
        _program("simulators.lines", directory / "lines.json", {}),
        _program("simulators.world", directory / "world.json", clock.as_environment()),
    ):
        yield bench


def _settings(bench: Bench, flash_file: Path, epoch: int = 1970) -> BoardSettings:
    uarts = {1: bench.port("bus", "board"), 2: bench.port("uplink", "board")}
    return BoardSettings(flash=flash_file, uarts=uarts, rate=RATE, epoch=epoch, heap_bytes=HEAP_KIB * 1024)


def _flash_new(bench: Bench, flash_file: Path, station_json: bytes) -> None:
    with VirtualBoard(_settings(bench, flash_file)) as board:
        board.console.wait_for(">>> ")
        flash(str(board.console_path), board_files(station_json))


def _configuration() -> dict[str, Any]:
    return board_configuration(load_network(NETWORK), STATION)


@pytest.fixture(scope="module")
def flashed(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flash of the station as it leaves the workshop: it has started once."""
    flash_file = tmp_path_factory.mktemp("flashed") / "board.flash"
    _flash_new(bench, flash_file, encode(_configuration()))
    return flash_file


@pytest.fixture
def board(bench: Bench, flashed: Path, tmp_path: Path) -> Iterator[VirtualBoard]:
    """The station, started a second time."""
    shutil.copy(flashed, tmp_path / "board.flash")
    with VirtualBoard(_settings(bench, tmp_path / "board.flash")) as board:
        board.console.wait_for("tram station=vam-kenh")
        yield board


@pytest.fixture
def gateway(bench: Bench) -> Iterator[Gateway]:
    gateway = Gateway(bench.port("uplink", "gateway"), _configuration()["address"])
    yield gateway
    gateway.close()
    bench.lines.clear("bus")


def _values(records: list[Record], parameter: int) -> list[Record]:
    return [record for record in records if record.parameter == parameter and record.flag == NOT_EVALUATED]


def test_a_reading_comes_from_the_probe_to_the_gateway(board: VirtualBoard, gateway: Gateway) -> None:
    records = gateway.wait_for(lambda records: bool(_values(records, 34) and _values(records, 68)))
    conductivity, direction = _values(records, 34)[-1], _values(records, 68)[-1]
    assert 0 < conductivity.count < 60_000
    assert 0 <= direction.count < 3600


def test_each_interval_has_one_record_per_channel(board: VirtualBoard, gateway: Gateway) -> None:
    records = gateway.wait_for(lambda records: len([r for r in records if r.sensor == 3]) >= 4 * 9)
    channels = [(r.sensor, r.parameter) for r in records if r.sensor]
    assert [channels.count(channel) for channel in channels[:13]] == [channels.count(channels[0])] * 13


def test_a_power_cut_loses_nothing_that_was_readable(board: VirtualBoard, gateway: Gateway) -> None:
    before = gateway.wait_for(lambda records: len(records) >= 30)
    board.power_cut()
    board.start()
    board.console.wait_for("next_seq=")
    after = gateway.wait_for(lambda records: len(records) >= len(before) + 10)
    assert after[: len(before)] == before
    assert [record.seq for record in after] == list(range(1, len(after) + 1))
    assert [r.count for r in after if r.parameter == EVENT_BOOT] == [1, 2, 3]
    assert len([r for r in after if r.parameter == EVENT_CONFIGURATION]) == 1


def test_the_clock_is_set_once_and_earlier_records_can_be_restamped(
    bench: Bench, board: VirtualBoard, gateway: Gateway
) -> None:
    gateway.wait_for(lambda records: any(r.sensor for r in records))
    gateway.set_clock(round(bench.clock.now()))
    records = gateway.wait_for(lambda records: any(r.sensor and r.time > START_S for r in records))
    event = next(r for r in records if r.parameter == EVENT_CLOCK_SET)
    booted = [r.seq for r in records if r.parameter == EVENT_BOOT][-1]
    stamped = [r.time if r.time > START_S else r.time + event.count for r in records if r.sensor and r.seq > booted]
    assert stamped == sorted(stamped)
    assert abs(stamped[0] - START_S) < 3 * 3600


def test_a_cut_bus_is_silence_in_the_data_and_comes_back(bench: Bench, board: VirtualBoard, gateway: Gateway) -> None:
    gateway.wait_for(lambda records: bool(_values(records, 35)))
    bench.lines.set_fault("bus", "cut", True)
    seq = gateway.number(6)
    silent = gateway.wait_for(lambda records: any(r.parameter == 35 and r.flag == NO_VALUE for r in records), seq)
    assert {r.count for r in silent if r.flag == NO_VALUE} == {MISSING}
    bench.lines.clear("bus")
    assert gateway.wait_for(lambda records: bool(_values(records, 35)), gateway.number(6))


def test_at_least_30_percent_of_the_heap_stay_free(board: VirtualBoard, gateway: Gateway) -> None:
    least = HEAP_KIB
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        gateway.fetch()
        least = min(least, gateway.registers(17, 1)[0])
    assert least > 0.3 * HEAP_KIB


def test_a_refused_configuration_leaves_the_board_answering_at_247(bench: Bench, tmp_path: Path) -> None:
    broken = dict(_configuration(), record_s=65)
    _flash_new(bench, tmp_path / "board.flash", json.dumps(broken).encode())
    with VirtualBoard(_settings(bench, tmp_path / "board.flash", epoch=2000)) as board:
        said = board.console.wait_for("tram station=unconfigured")
        gateway = Gateway(bench.port("uplink", "gateway"), 247)
        assert gateway.registers(0, 1) == [0x5452]
        gateway.close()
    assert "multiple of sample_s" in said


def test_a_board_that_counts_from_2000_tells_unix_time(bench: Bench, flashed: Path, tmp_path: Path) -> None:
    shutil.copy(flashed, tmp_path / "board.flash")
    gateway = Gateway(bench.port("uplink", "gateway"), _configuration()["address"])
    with VirtualBoard(_settings(bench, tmp_path / "board.flash", epoch=2000)) as board:
        board.console.wait_for("tram station=vam-kenh")
        unset = gateway.registers(12, 1)
        gateway.set_clock(round(bench.clock.now()))
        clock = gateway.number(10)
    gateway.close()
    assert (unset, abs(clock - bench.clock.now()) < 10 * RATE) == ([0], True)


def _epoch_s(epoch: int) -> int:
    return 0 if epoch == 1970 else 946_684_800


@pytest.mark.parametrize("epoch", [1970, 2000])
def test_records_tell_unix_time_on_boards_of_either_epoch(
    bench: Bench, flashed: Path, tmp_path: Path, gateway: Gateway, epoch: int
) -> None:
    shutil.copy(flashed, tmp_path / "board.flash")
    with VirtualBoard(_settings(bench, tmp_path / "board.flash", epoch=epoch)) as board:
        board.console.wait_for("tram station=vam-kenh")
        set_s = round(bench.clock.now())
        gateway.set_clock(set_s)
        records = gateway.wait_for(lambda records: any(r.sensor and r.time > START_S for r in records))
    event = next(r for r in records if r.parameter == EVENT_CLOCK_SET)
    first = next(r for r in records if r.sensor and r.time > START_S)
    assert event.time == set_s
    assert set_s < first.time <= set_s + 120
    assert first.time % 60 == 0


@pytest.mark.parametrize("epoch", [1970, 2000])
@pytest.mark.parametrize(
    ("off_s", "believed"), [(0, [1]), (40 * 365 * 86_400, [0]), (-30 * 86_400, [0])], ids=["right", "2066", "behind"]
)
def test_a_clock_chip_is_believed_after_a_power_cut_when_it_fits_the_journal(
    bench: Bench, flashed: Path, tmp_path: Path, gateway: Gateway, epoch: int, off_s: int, believed: list[int]
) -> None:
    shutil.copy(flashed, tmp_path / "board.flash")
    chip = tmp_path / "rtc"
    settings = replace(_settings(bench, tmp_path / "board.flash", epoch=epoch), rtc_battery=chip)
    with VirtualBoard(settings) as board:
        board.console.wait_for("tram station=vam-kenh")
        gateway.set_clock(round(bench.clock.now()))
        gateway.wait_for(lambda records: any(r.sensor and r.time > START_S for r in records))
        board.power_cut()
        if off_s:
            set_rtc_battery(chip, round(bench.clock.now()) + off_s - _epoch_s(epoch))
        board.start()
        board.console.wait_for("tram station=vam-kenh")
        assert gateway.registers(12, 1) == believed


HANGS_ONCE = b"""\
import asyncio, os, sys
sys.path.insert(0, "/a")
from firmware.main import start
import gc; gc.collect()
async def hang():
    await asyncio.sleep(1)
    try:
        os.remove("/hang")
    except OSError:
        return
    while True:
        pass
async def both(application):
    await asyncio.gather(application, hang())
asyncio.run(both(start()))
"""


def test_a_loop_that_hangs_is_ended_by_the_watchdog_and_the_journal_goes_on(
    board: VirtualBoard, gateway: Gateway
) -> None:
    with Board(str(board.console_path)) as link, link.maintenance(restart=False):
        link.write_file("/main.py", HANGS_ONCE)
        link.write_file("/hang", b"")
    board.power_cut()
    board.start()
    board.console.wait_for("tram station=vam-kenh")
    before = gateway.fetch()
    board.console.wait_for("tram station=vam-kenh", deadline_s=DEADLINE_S)
    records = gateway.wait_for(lambda records: len(records) > len(before) + 15)
    assert gateway.registers(16, 1) == [WATCHDOG_RESET]
    assert records[: len(before)] == before
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
