"""Six instruments of different manners on the real firmware on real MicroPython, each simulated from its own file.

A question that starts, an order before each sample with a wait read from the probe, a sleeper, a status in a register
of its own, forty-one registers of scaled integers, a brush the station sets going: all other files use these ways too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.record import NOT_EVALUATED, Record
from simulators import control
from simulators.board import BoardSettings, VirtualBoard
from simulators.lines import Lines
from simulators.tests.test_firmware_on_board import Bench, Gateway, _program, interpreter
from station_config.board import board_configuration, encode
from station_config.clock import BenchClock
from station_config.flash import board_files, flash
from station_config.instruments import load_instruments
from station_config.network import Gateway as NetworkGateway
from station_config.network import Network, Sensor, Station
from station_config.parameters import load_parameters

__all__ = ["interpreter"]  # its fixture builds the virtual board, or skips

RATE = 20.0
START_S = 1_780_000_000.0
ON_THE_BUS = {
    1: ("yosemitech-y504", {"water_temperature": 28.4, "oxygen_saturation": 84.2}),
    2: ("aqualabo-c4e", {"water_temperature": 28.5, "conductivity_25": 7.28}),
    3: ("insitu-rdo-pro", {"dissolved_oxygen": 6.42, "water_temperature": 28.6}),
    4: ("vega-vegapuls-c21", {"water_distance": 3.215}),
    5: (
        "lufft-ws-umb",
        {
            "relative_humidity": 78.0,
            "air_pressure": 1009.0,
            "wind_from_direction": 118.0,
            "precipitation_type": 60.0,
            "solar_radiation": 640.5,
            "air_temperature": 31.2,
            "dew_point": 26.9,
            "wind_speed": 3.4,
            "wind_speed_of_gust": 6.1,
            "rain_total": 12.4,
            "rain_intensity": 2.5,
        },
    ),
    6: ("yosemitech-y511", {"water_temperature": 28.7, "turbidity": 83.5}),
}
BRUSHED, WIPE_EVERY_S = 6, 120


def _network() -> Network:
    serial = load_instruments()["yosemitech-y504"].serial  # on one bus all are set to the same
    sensors = tuple(
        Sensor(
            number=number,
            instrument=name,
            address=number,
            serial=serial,
            wipe_every_s=WIPE_EVERY_S if number == BRUSHED else None,
        )
        for number, (name, _) in ON_THE_BUS.items()
    )
    station = Station(
        id="ben-thu",
        name_vi="Bến thử",
        name_en="Test pier",
        latitude=10.3,
        longitude=106.5,
        river="Tiền",
        river_km=1.0,
        gateway="gw",
        address=11,
        sample_interval_s=30,
        record_interval_s=60,
        sensors=sensors,
    )
    return Network(name="Thử", gateways=(NetworkGateway(id="gw"),), stations=(station,))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """The gateway's end of a running station with the six."""
    clock = BenchClock(time.time(), START_S, RATE)
    bench = Bench(tmp_path, clock, Lines(tmp_path / "lines.sock"))
    lines = {"bus": ["board", "instruments"], "uplink": ["gateway", "board"]}
    instruments = [
        {"sensor": number, "model": name, "address": number, "values": values}
        for number, (name, values) in ON_THE_BUS.items()
    ]
    station = {
        "id": "ben-thu",
        "river_km": 1.0,
        "port": str(bench.port("bus", "instruments")),
        "instruments": instruments,
    }
    lines_json, world_json = tmp_path / "lines.json", tmp_path / "world.json"
    lines_json.write_text(
        json.dumps({"dir": str(tmp_path / "lines"), "socket": str(tmp_path / "lines.sock"), "lines": lines})
    )
    world_json.write_text(json.dumps({"stations": [station], "socket": str(tmp_path / "world.sock")}))
    uarts = {1: bench.port("bus", "board"), 2: bench.port("uplink", "board")}
    settings = BoardSettings(flash=tmp_path / "board.flash", uarts=uarts, rate=RATE, heap_bytes=120 * 1024)
    with (
        _program("simulators.lines", lines_json, {}),
        _program("simulators.world", world_json, clock.as_environment()),
        VirtualBoard(settings) as board,
    ):
        board.console.wait_for(">>> ")
        flash(str(board.console_path), board_files(encode(board_configuration(_network(), "ben-thu"))))
        gateway = Gateway(bench.port("uplink", "gateway"), 11)
        yield gateway
        gateway.close()


def test_each_holds_what_its_instrument_stands_in(gateway: Gateway) -> None:
    vocabulary = load_parameters()
    expected = {
        (number, vocabulary.by_name[name].code): round(value * 10 ** vocabulary.by_name[name].decimals)
        for number, (_, values) in ON_THE_BUS.items()
        for name, value in values.items()
    }
    records = gateway.wait_for(
        lambda records: {(r.sensor, r.parameter) for r in records if r.flag == 2 and r.sensor} == set(expected)
    )
    held = {(r.sensor, r.parameter): r.count for r in records if r.flag == 2 and r.sensor}
    assert held == expected


def test_the_station_drives_the_brush_and_records_none_of_what_it_hides(gateway: Gateway, tmp_path: Path) -> None:
    def brushed_records(records: list[Record]) -> list[Record]:
        return [record for record in records if record.sensor == BRUSHED]

    def wiped() -> int:
        return int(control.ask(tmp_path / "world.sock", {"orders": {"station": "ben-thu", "sensor": BRUSHED}})["wipes"])

    gateway.wait_for(lambda records: wiped() >= 3)
    records = brushed_records(gateway.fetch())
    assert records[-1].time - records[0].time >= 2 * WIPE_EVERY_S
    assert {record.flag for record in records[2:]} == {NOT_EVALUATED}  # the first two: it was not warm yet
    assert {record.count for record in records[2:] if record.parameter == 38} == {835}
