"""What the largest station takes of a board's heap: twelve instruments, forty channels, asked all the time."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware.record import NOT_EVALUATED
from simulators.board import BoardSettings, VirtualBoard
from simulators.station_client import APPLY_CONFIGURATION, APPLY_UPDATE, CONFIGURATION, FIRMWARE, Result, StationClient
from simulators.virtual_board.build import build, built_interpreter
from simulators.virtual_board.errors import VirtualBoardMissing
from simulators.wire import Wire
from station_config.board import board_configuration, encode
from station_config.clock import BenchClock
from station_config.flash import board_files, firmware_folder, flash
from station_config.image import build as build_image
from station_config.instruments import load_instruments
from station_config.keys import board_keys, generate, load_private, load_public
from station_config.network import Gateway, Network, Sensor, Station

BUDGET = 0.70  # of the smaller heap
RATE = 60.0
START_S = 1_780_000_000.0
ADDRESS = 11
FLASH_BYTES = 2 << 20
FREE_HEAP_KIB = 17  # input register
ASKED_S = 12.0  # real: twelve minutes of the station, with health records among them
DEADLINE_S = 60.0
INSTRUMENTS = (
    "ecowitt-wn90lp sensecap-one-s700 yosemitech-y4000 sensecap-orch-s4 yosemitech-y504 yosemitech-y521"
    " yosemitech-y511 vega-vegapuls-c21 yosemitech-y533 yosemitech-y533 dfrobot-sen0676 renke-rs-fx"
).split()
CHANNELS = 40
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
# The loader says before it starts the application what its start has taken at the most.
RUN = "asyncio.run(application)"
SAY_PEAK = "import gc, _vboard; print('%s peak', _vboard.heap_peak(), gc.mem_alloc() + gc.mem_free(), '.')"


@dataclass(frozen=True)
class Largest:
    """The largest station, running."""

    board: VirtualBoard
    client: StationClient
    heap_bytes: int

    def ask_for(self, seconds: float) -> int:
        """Ask for everything again and again; return the least free heap it has told, in KiB."""
        least, end = self.heap_bytes // 1024, time.monotonic() + seconds
        while time.monotonic() < end:
            least = min(least, self.client.registers(0, 56)[FREE_HEAP_KIB])
            self.client.registers(100, 4 * 30)
            self.client.holding(0, 4)
            self.client.fetch(max(1, self.client.number(6) - 50))
        return least

    def peak(self, of: str = "start") -> float:
        """Return which part of the heap the board has said was in use at the most."""
        said = re.search(rf"{of} peak (\d+) (\d+) \.", self.board.console.text())
        assert said is not None
        heap = self.heap_bytes * built_interpreter().heap_factor
        return (int(said[1]) + heap - int(said[2])) / heap  # what is not usable are the collector's tables

    def stop(self) -> float:
        """Stop the station; return which part of the heap was in use at the most since it ran."""
        console = self.board.console
        console.write(b"\x03")
        console.wait_for("KeyboardInterrupt", DEADLINE_S)
        console.write(f"{SAY_PEAK % 'run'}\r".encode())
        console.wait_for("\nrun peak", DEADLINE_S)
        console.wait_for(" .", DEADLINE_S)
        return self.peak("run")


def network() -> Network:
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
        address=ADDRESS,
        sample_interval_s=10,
        record_interval_s=60,
        sensors=sensors,
    )
    return Network(name="Thử", gateways=(Gateway(id="gw"),), stations=(station,))


def configuration(**changes: object) -> bytes:
    return encode(board_configuration(network(), "ben-thu") | changes)


def _shown(model: str) -> dict[str, float]:
    fields = [field.parameter for read in load_instruments()[model].reads for field in read.fields]
    return {parameter: VALUES[parameter] for parameter in fields}


@contextmanager
def instruments(folder: Path, port: Path) -> Iterator[None]:
    """All twelve, on one bus."""
    models = [
        {"sensor": number, "model": name, "address": number, "values": _shown(name)}
        for number, name in enumerate(INSTRUMENTS, 1)
    ]
    station = {"id": "ben-thu", "river_km": 1.0, "port": str(port), "instruments": models}
    world = folder / "world.json"
    world.write_text(json.dumps({"stations": [station], "socket": str(folder / "world.sock")}))
    clock = BenchClock(time.time(), START_S, RATE)
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators.world", "--config", str(world)],
        stdout=subprocess.PIPE,
        env={**os.environ, **clock.as_environment()},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


@contextmanager
def running(folder: Path, heap_bytes: int, keys: bytes | None = None) -> Iterator[Largest]:
    (folder / "wires").mkdir()
    with Wire(folder / "wires" / "bus") as bus, Wire(folder / "wires" / "uplink") as uplink:
        settings = BoardSettings(
            flash=folder / "board.flash",
            size_bytes=FLASH_BYTES,
            uarts={1: bus.ends["board"], 2: uplink.ends["board"]},
            rate=RATE,
            heap_bytes=heap_bytes,
        )
        with instruments(folder, bus.ends["gateway"]), VirtualBoard(settings) as board:
            board.console.wait_for(">>> ")
            files = board_files(configuration(), keys)
            files["/main.py"] = files["/main.py"].replace(RUN.encode(), f"{SAY_PEAK % 'start'}; {RUN}".encode())
            flash(str(board.console_path), files)
            client = StationClient(uplink.ends["gateway"], ADDRESS)
            largest = Largest(board, client, heap_bytes)
            client.wait_until(lambda: _all_recorded(client), DEADLINE_S)
            yield largest
            client.close()


def _all_recorded(client: StationClient) -> bool:
    records = client.fetch()
    return len({(r.sensor, r.parameter) for r in records if r.flag == NOT_EVALUATED and r.sensor}) == CHANNELS


@pytest.mark.parametrize(("port", "heap_kib"), [("ESP32", 120), ("RP2040", 190)])
def test_at_its_largest_the_station_leaves_30_percent_of_the_heap_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], port: str, heap_kib: int
) -> None:
    with running(tmp_path, heap_kib * 1024) as station:
        start = station.peak()
        least = station.ask_for(ASKED_S)
        peak = station.stop()
    with capsys.disabled():
        sys.stdout.write(
            f"\n{port}, {len(INSTRUMENTS)} instruments, {CHANNELS} channels: {peak:.1%} of {heap_kib} KiB at the peak"
            f" ({start:.1%} at the start); {least} KiB free when asked at the worst moment\n"
        )
    assert peak < BUDGET
    assert start < BUDGET


def test_the_largest_station_works_on_while_it_is_updated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(tmp_path / "key.pem", tmp_path / "key.pub.pem")
    image = build_image(load_private(tmp_path / "key.pem"), (0, 0, 0), _next_version(tmp_path))
    with running(tmp_path, 120 * 1024, board_keys([load_public(tmp_path / "key.pub.pem")])) as station:
        client = station.client
        seqs = len(client.fetch())
        client.send_file(FIRMWARE, image)
        assert client.command(APPLY_UPDATE, image) is Result.DONE
        least = station.ask_for(1.0)
        unpacking = station.stop()
    with capsys.disabled():
        sys.stdout.write(
            f"\nan image of {len(image)} bytes sent and unpacked beside them: {unpacking:.1%} of 120 KiB at the peak,"
            f" {least} KiB free afterwards\n"
        )
    assert unpacking < 1
    assert seqs > 0


def _next_version(folder: Path) -> Path:
    source = folder / "source"
    shutil.copytree(firmware_folder(), source, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    module = source / "version.py"
    module.write_text(module.read_text().replace("VERSION = (0, 1, 0)", "VERSION = (0, 2, 0)"))
    return source


def test_the_largest_station_takes_another_configuration(tmp_path: Path) -> None:
    other = configuration(record_s=120)
    with running(tmp_path, 120 * 1024) as station:
        client = station.client
        client.send_file(CONFIGURATION, other)
        assert client.command(APPLY_CONFIGURATION, other) is Result.DONE
        client.restart()
        client.wait_until(lambda: bool(client.fetch()) and client.holding(15, 1) == [0], DEADLINE_S)
        assert client.read_file(1) == other
