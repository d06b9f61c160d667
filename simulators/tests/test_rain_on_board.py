"""A tipping bucket on a pin of the real firmware on real MicroPython: tips, bounces, power cuts, a shower."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware.record import NOT_EVALUATED, Record
from simulators import control
from simulators.board import BoardSettings, VirtualBoard, drive_pin
from simulators.estuary import Place
from simulators.lines import Lines
from simulators.station_client import RESTART
from simulators.tests.test_firmware_on_board import Bench, Gateway, _program, interpreter
from simulators.tests.test_sdi12_on_board import STATION
from simulators.weather import weather
from station_config.board import board_configuration, encode
from station_config.clock import BenchClock
from station_config.flash import board_files, flash
from station_config.network import load_network

__all__ = ["interpreter"]  # its fixture builds the virtual board, or skips

RATE = 60.0
DRY_S = 1_771_000_000.0  # February
PIN, NUMBER, RAIN_TOTAL = 14, 9, 70
DEBOUNCE_S = 0.08


@dataclass
class Gauge:
    """A running station with a bucket, its gateway's end, and the world that rains on it."""

    board: VirtualBoard
    gateway: Gateway
    pins: Path
    world: Path
    clock: BenchClock

    def pour(self, millimetres: float) -> int:
        """Rain into the bucket; return how often it has tipped until now."""
        return int(control.ask(self.world, {"station": "ben-thu", "pin": PIN, "pour_mm": millimetres})["tips"])

    def wait_for_tips(self, number: int) -> None:
        pause, deadline = threading.Event(), time.monotonic() + 60
        while self.pour(0) < number:
            assert time.monotonic() < deadline
            pause.wait(0.05)

    def totals(self, records: list[Record]) -> list[int]:
        """Tenths of millimetres, of each record that has a value."""
        return [r.count for r in records if (r.sensor, r.parameter, r.flag) == (NUMBER, RAIN_TOTAL, NOT_EVALUATED)]

    def wait_for_total(self, tenths: int, from_seq: int = 1) -> list[int]:
        """Return the totals up to two records that say so."""
        return self.totals(self.gateway.wait_for(lambda rs: self.totals(rs)[-2:] == [tenths, tenths], from_seq))


@contextmanager
def gauge(tmp_path: Path, per_pulse_mm: float = 0.2, start_s: float = DRY_S, rate: float = RATE) -> Iterator[Gauge]:
    bench = Bench(tmp_path, BenchClock(time.time(), start_s, rate), Lines(tmp_path / "lines.sock"))
    lines = {"bus": ["board", "instruments"], "uplink": ["gateway", "board"]}
    pins, world = tmp_path / "pins", tmp_path / "world.sock"
    station = {
        "id": "ben-thu",
        "river_km": 1.0,
        "port": str(bench.port("bus", "instruments")),
        "instruments": [],
        "buckets": [{"pin": PIN, "per_tip_mm": per_pulse_mm, "pins": str(pins)}],
    }
    network = tmp_path / "network.toml"
    pulses = f"pulses = [{{ number = {NUMBER}, pin = {PIN}, per_pulse = {per_pulse_mm} }}]\n"
    network.write_text(STATION.replace("sample_interval_s = 30", "sample_interval_s = 20") + pulses, encoding="utf-8")
    lines_json, world_json = tmp_path / "lines.json", tmp_path / "world.json"
    lines_json.write_text(
        json.dumps({"dir": str(tmp_path / "lines"), "socket": str(tmp_path / "lines.sock"), "lines": lines})
    )
    world_json.write_text(json.dumps({"stations": [station], "socket": str(world)}))
    uarts = {1: bench.port("bus", "board"), 2: bench.port("uplink", "board")}
    settings = BoardSettings(flash=tmp_path / "board.flash", uarts=uarts, pins=pins, rate=rate, heap_bytes=120 * 1024)
    with _program("simulators.lines", lines_json, {}), VirtualBoard(settings) as board:
        board.console.wait_for(">>> ")
        flash(str(board.console_path), board_files(encode(board_configuration(load_network(network), "ben-thu"))))
        clock = BenchClock(time.time(), start_s, rate)  # from here on: flashing may have taken its time
        with _program("simulators.world", world_json, clock.as_environment()):
            gateway = Gateway(bench.port("uplink", "gateway"), 11)
            try:
                yield Gauge(board, gateway, pins, world, clock)
            finally:
                gateway.close()


def test_each_tip_counts_once_however_its_contact_bounces(tmp_path: Path) -> None:
    with gauge(tmp_path) as running:
        dry = running.wait_for_total(0)
        running.pour(1.4)
        totals = running.wait_for_total(14)
    assert set(dry) == {0}
    assert totals == sorted(totals)


def test_a_contact_that_chatters_for_less_than_the_debounce_time_is_one_tip(tmp_path: Path) -> None:
    for attempt in range(10):
        (tmp_path / str(attempt)).mkdir()
        with gauge(tmp_path / str(attempt)) as running:
            running.wait_for_total(0)
            if _chatter(running):
                assert running.wait_for_total(2)
                return
    raise AssertionError("this machine is too busy to move a contact for 40 ms")


def _chatter(running: Gauge) -> bool:
    """Open and close the contact for half the debounce time; whether the machine let it be less than the whole."""
    begun, at = time.monotonic(), 0
    while time.monotonic() < begun + DEBOUNCE_S / 2:
        drive_pin(running.pins, PIN, at % 2)
        at += 1
    drive_pin(running.pins, PIN, 1)
    return at > 10 and time.monotonic() < begun + DEBOUNCE_S


def test_the_total_goes_on_after_a_power_cut_and_what_tipped_meanwhile_is_lost(tmp_path: Path) -> None:
    with gauge(tmp_path) as running:
        running.pour(0.6)
        running.wait_for_total(6)
        running.board.power_cut()
        running.pour(0.4)
        running.wait_for_tips(5)
        running.board.start()
        running.board.console.wait_for("tram station=ben-thu")
        running.pour(0.2)
        totals = running.wait_for_total(8)
    assert totals == sorted(totals)


def test_a_restart_keeps_the_total(tmp_path: Path) -> None:
    with gauge(tmp_path) as running:
        running.pour(0.6)
        running.wait_for_total(6)
        boots = running.gateway.registers(15, 1)[0]
        running.gateway.command(RESTART, boots)
        running.board.console.wait_for("tram station=ben-thu")
        running.pour(0.4)
        totals = running.wait_for_total(10)
    assert totals == sorted(totals)


def test_buckets_of_a_quarter_of_a_millimetre_are_exact(tmp_path: Path) -> None:
    with gauge(tmp_path, per_pulse_mm=0.254) as running:
        running.pour(10 * 0.254)
        assert running.wait_for_total(25)  # 2.54 mm, not ten times 0.3


@pytest.fixture
def shower_s() -> float:
    """When a shower is about to begin at the station's place, in the rainy season."""
    place = Place("ben-thu", 1.0)
    at = 1_783_000_000.0
    while True:
        before, after = (weather(at + hours * 3600, place, 1).rain_total_mm for hours in (0.0, 0.5))
        if 1.0 < after - before < 6.0:
            return at
        at += 600.0


def test_a_shower_of_the_simulated_weather_reaches_the_records(tmp_path: Path, shower_s: float) -> None:
    with gauge(tmp_path, start_s=shower_s - 900, rate=120.0) as running:
        began_s = running.clock.now()
        running.gateway.set_clock(round(began_s))
        records = running.gateway.wait_for(lambda rs: bool(running.totals(rs)) and running.totals(rs)[-1] >= 6)
        ended_s = running.clock.now()  # not the record's own time: the board's clock is as late as the machine let it
    last = [r for r in records if (r.sensor, r.parameter) == (NUMBER, RAIN_TOTAL)][-1]
    place = Place("ben-thu", 1.0, -3.0, 0.0)
    fallen_mm = weather(ended_s, place, 1).rain_total_mm - weather(shower_s, place, 1).rain_total_mm
    assert last.count / 10 <= fallen_mm + 0.2
    totals = running.totals(records)
    assert totals == sorted(totals)
