"""Modbus and SDI-12 on one board: two lines that have one UART in turn, each on its own pins.

network.toml -> flash -> real MicroPython -> instruments on two wires, simulated from their files -> pymodbus.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmware.record import NO_VALUE, NOT_EVALUATED, Record
from simulators import control
from simulators.board import BoardSettings, VirtualBoard
from simulators.lines import Lines
from simulators.tests.test_firmware_on_board import Bench, Gateway, _program, interpreter
from station_config.board import board_configuration, encode
from station_config.clock import BenchClock
from station_config.flash import board_files, flash
from station_config.network import load_network
from station_config.parameters import load_parameters

__all__ = ["interpreter"]  # its fixture builds the virtual board, or skips

RATE = 20.0
START_S = 1_780_000_000.0
SDI12_TX = 18
STATION = """
name = "Thử"
[[gateways]]
id = "gw"
[[stations]]
id = "ben-thu"
name_vi = "Bến thử"
name_en = "Test pier"
latitude = 10.3
longitude = 106.5
river = "Tiền"
river_km = 1.0
gateway = "gw"
address = 11
sample_interval_s = 30
record_interval_s = 60
"""
VALUES = {
    "keller-acculevel": {"water_pressure": 0.31, "water_temperature": 28.3},
    "yosemitech-y532": {"ph": 7.24, "water_temperature": 28.6, "ph_potential": -14.5},
    "meter-hydros-21": {"water_pressure": 0.29, "water_temperature": 28.4, "conductivity_25": 7.28},
    "campbell-hygrovue5": {"air_temperature": 31.2, "relative_humidity": 78.0},
    "insitu-level-troll-500": {"water_pressure": 0.35, "water_temperature": 27.9},
}
MODBUS = {1: ("keller-acculevel", 1), 2: ("yosemitech-y532", 2)}
SDI12 = {3: ("meter-hydros-21", "0"), 4: ("campbell-hygrovue5", "a"), 5: ("insitu-level-troll-500", "7")}


def network_file(folder: Path, sensors: dict[int, tuple[str, int | str]]) -> Path:
    rows = (
        f'[[stations.sensors]]\nnumber = {number}\ninstrument = "{name}"\naddress = {json.dumps(address)}\n'
        for number, (name, address) in sensors.items()
    )
    path = folder / "network.toml"
    path.write_text(STATION + "".join(rows), encoding="utf-8")
    return path


class Pier:
    """A running station and its gateway's end."""

    def __init__(self, gateway: Gateway, world: Path) -> None:
        self.gateway = gateway
        self._world = world

    def set_silent(self, sensor: int, on: bool) -> None:
        control.ask(self._world, {"station": "ben-thu", "sensor": sensor, "fault": "silent", "on": on})


@contextmanager
def pier(tmp_path: Path, sensors: dict[int, tuple[str, int | str]]) -> Iterator[Pier]:
    clock = BenchClock(time.time(), START_S, RATE)
    bench = Bench(tmp_path, clock, Lines(tmp_path / "lines.sock"))
    lines = {"bus": ["board", "instruments"], "sdi12": ["board", "instruments"], "uplink": ["gateway", "board"]}
    station = {
        "id": "ben-thu",
        "river_km": 1.0,
        "port": str(bench.port("bus", "instruments")),
        "sdi12_port": str(bench.port("sdi12", "instruments")),
        "instruments": [
            {"sensor": number, "model": name, "address": address, "values": VALUES[name]}
            for number, (name, address) in sensors.items()
        ],
    }
    lines_json, world_json, world = tmp_path / "lines.json", tmp_path / "world.json", tmp_path / "world.sock"
    lines_json.write_text(
        json.dumps({"dir": str(tmp_path / "lines"), "socket": str(tmp_path / "lines.sock"), "lines": lines})
    )
    world_json.write_text(json.dumps({"stations": [station], "socket": str(world)}))
    settings = BoardSettings(
        flash=tmp_path / "board.flash",
        uarts={1: bench.port("bus", "board"), 2: bench.port("uplink", "board")},
        uart_pins={(1, SDI12_TX): bench.port("sdi12", "board")},
        rate=RATE,
        heap_bytes=120 * 1024,
    )
    configuration = encode(board_configuration(load_network(network_file(tmp_path, sensors)), "ben-thu"))
    with (
        _program("simulators.lines", lines_json, {}),
        _program("simulators.world", world_json, clock.as_environment()),
        VirtualBoard(settings) as board,
    ):
        board.console.wait_for(">>> ")
        flash(str(board.console_path), board_files(configuration))
        gateway = Gateway(bench.port("uplink", "gateway"), 11)
        try:
            yield Pier(gateway, world)
        finally:
            gateway.close()


def expected(sensors: dict[int, tuple[str, int | str]]) -> dict[tuple[int, int], int]:
    by_name = load_parameters().by_name
    return {
        (number, by_name[parameter].code): round(value * 10 ** by_name[parameter].decimals)
        for number, (name, _) in sensors.items()
        for parameter, value in VALUES[name].items()
    }


def good(records: list[Record]) -> dict[tuple[int, int], int]:
    return {(r.sensor, r.parameter): r.count for r in records if r.flag == NOT_EVALUATED and r.sensor}


def test_both_kinds_of_instruments_are_read_on_one_uart_from_their_lines_to_the_gateway(tmp_path: Path) -> None:
    sensors: dict[int, tuple[str, int | str]] = {**MODBUS, **SDI12}
    with pier(tmp_path, sensors) as running:
        records = running.gateway.wait_for(lambda records: set(good(records)) == set(expected(sensors)))
        later = running.gateway.wait_for(lambda records: len(records) >= 3 * len(expected(sensors)), records[-1].seq)
    assert good(records) == expected(sensors)
    assert good(later) == expected(sensors)
    assert not [r for r in later if r.sensor and r.flag != NOT_EVALUATED]  # neither line disturbs the other


def test_a_station_with_sdi12_alone_is_read_too(tmp_path: Path) -> None:
    sensors: dict[int, tuple[str, int | str]] = {**SDI12}
    with pier(tmp_path, sensors) as running:
        records = running.gateway.wait_for(lambda records: set(good(records)) == set(expected(sensors)))
    assert good(records) == expected(sensors)


@pytest.mark.parametrize("silent", [1, 3], ids=["of Modbus", "of SDI-12"])
def test_a_silent_instrument_takes_no_reading_from_the_other_line(tmp_path: Path, silent: int) -> None:
    sensors: dict[int, tuple[str, int | str]] = {**MODBUS, **SDI12}
    with pier(tmp_path, sensors) as running:
        running.gateway.wait_for(lambda records: set(good(records)) == set(expected(sensors)))
        running.set_silent(silent, True)
        seq = running.gateway.number(6)
        records = running.gateway.wait_for(
            lambda records: sum(r.flag == NO_VALUE and r.sensor == silent for r in records) >= 4, seq
        )
        assert {r.sensor for r in records if r.flag == NO_VALUE} == {silent}
        running.set_silent(silent, False)
        seq = running.gateway.number(6)
        back = running.gateway.wait_for(lambda records: any(s == silent for s, _ in good(records)), seq)
    assert good(back).items() <= expected(sensors).items()
