"""What the largest station takes: twelve instruments, forty channels, on a heap of 120 KiB."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulators.board import BoardSettings, VirtualBoard
from simulators.lines import Lines
from simulators.tests.test_firmware_on_board import Bench, Gateway, _program, interpreter
from station_config.board import board_configuration, encode
from station_config.clock import BenchClock
from station_config.flash import board_files, flash
from station_config.instruments import load_instruments
from station_config.network import Gateway as NetworkGateway
from station_config.network import Network, Sensor, Station

__all__ = ["interpreter"]  # its fixture builds the virtual board, or skips

HEAP_KIB = 120
START_S = 1_780_000_000.0
INSTRUMENTS = (
    "ecowitt-wn90lp sensecap-one-s700 yosemitech-y4000 sensecap-orch-s4 yosemitech-y504 yosemitech-y521"
    " yosemitech-y511 vega-vegapuls-c21 yosemitech-y533 yosemitech-y533 dfrobot-sen0676 renke-rs-fx"
).split()
CHANNELS = 40
FREE_HEAP = 18
VALUES = {
    "air_pressure": 1009.0,
    "air_temperature": 31.2,
    "blue_green_algae": 1.2,
    "chlorophyll": 3.1,
    "conductivity_25": 7.28,
    "dissolved_oxygen": 6.4,
    "illuminance": 40000.0,
    "oxidation_reduction_potential": 210.0,
    "oxygen_saturation": 84.2,
    "ph": 7.4,
    "rain_total": 12.4,
    "relative_humidity": 78.0,
    "turbidity": 35.0,
    "uv_index": 5.0,
    "water_distance": 3.2,
    "water_temperature": 28.4,
    "wind_from_direction": 118.0,
    "wind_speed": 3.4,
    "wind_speed_of_gust": 6.1,
}


@dataclass(frozen=True)
class Running:
    """The largest station, running."""

    board: VirtualBoard
    gateway: Gateway


def _network(sample_s: int, record_s: int) -> Network:
    serial = load_instruments()["yosemitech-y504"].serial  # on one bus all are set to the same
    sensors = tuple(
        Sensor(number=number, instrument=name, address=number, serial=serial)
        for number, name in enumerate(INSTRUMENTS, 1)
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
        sample_interval_s=sample_s,
        record_interval_s=record_s,
        sensors=sensors,
    )
    return Network(name="Thử", gateways=(NetworkGateway(id="gw"),), stations=(station,))


def _shown(model: str) -> dict[str, float]:
    fields = [field.parameter for read in load_instruments()[model].reads for field in read.fields]
    return {parameter: VALUES[parameter] for parameter in fields}


@contextmanager
def running(folder: Path, rate: float, sample_s: int = 10, record_s: int = 60) -> Iterator[Running]:
    clock = BenchClock(time.time(), START_S, rate)
    bench = Bench(folder, clock, Lines(folder / "lines.sock"))
    lines = {"bus": ["board", "instruments"], "uplink": ["gateway", "board"]}
    instruments = [
        {"sensor": number, "model": name, "address": number, "values": _shown(name)}
        for number, name in enumerate(INSTRUMENTS, 1)
    ]
    port = str(bench.port("bus", "instruments"))
    station = {"id": "ben-thu", "river_km": 1.0, "port": port, "instruments": instruments}
    lines_json, world_json = folder / "lines.json", folder / "world.json"
    lines_json.write_text(
        json.dumps({"dir": str(folder / "lines"), "socket": str(folder / "lines.sock"), "lines": lines})
    )
    world_json.write_text(json.dumps({"stations": [station], "socket": str(folder / "world.sock")}))
    uarts = {1: bench.port("bus", "board"), 2: bench.port("uplink", "board")}
    settings = BoardSettings(flash=folder / "board.flash", uarts=uarts, rate=rate, heap_bytes=HEAP_KIB * 1024)
    with (
        _program("simulators.lines", lines_json, {}),
        _program("simulators.world", world_json, clock.as_environment()),
        VirtualBoard(settings) as board,
    ):
        board.console.wait_for(">>> ")
        network = _network(sample_s, record_s)
        flash(str(board.console_path), board_files(encode(board_configuration(network, "ben-thu"))))
        gateway = Gateway(bench.port("uplink", "gateway"), 11)
        yield Running(board, gateway)
        gateway.close()


def test_at_its_largest_the_station_leaves_30_percent_of_the_heap_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path, rate=60.0) as station:
        records = station.gateway.wait_for(
            lambda records: len({(r.sensor, r.parameter) for r in records if r.flag == 2 and r.sensor}) == CHANNELS
        )
        least, end = HEAP_KIB, time.monotonic() + 12.0
        while time.monotonic() < end:
            least = min(least, station.gateway.registers(17, 1)[0])
            station.gateway.fetch(max(1, records[-1].seq - 50))
        live = min(r.count for r in station.gateway.fetch() if r.parameter == FREE_HEAP) / 10
    used = (HEAP_KIB - least) / HEAP_KIB
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(INSTRUMENTS)} instruments, {CHANNELS} channels: {least} KiB of {HEAP_KIB} free at the least,"
            f" {used:.0%} used at the peak; {live} KiB free of what is needed\n"
        )
    assert used <= 0.70
