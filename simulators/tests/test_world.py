"""A running world on a real pty, asked by an independent Modbus client, and by bytes where instruments break rules."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ModbusIOException

from simulators.answer_log import read_answers
from simulators.world import WorldConfigurationError, read_configuration
from station_config.clock import BenchClock

START_S = 1773200000.0  # an afternoon in March 2026
DEADLINE_S = 60.0

# Documented frames of the Yosemitech Y520: question, answer.
DOCUMENTED = {
    "start measurement, no registers": ("01 10 1C 00 00 00 00 D8 92", "01 10 1C 00 00 00 C7 99"),
    "K and B": ("01 03 11 00 00 04 41 35", "01 03 08 00 00 80 3F 00 00 00 00 9E 12"),
    "set K and B": ("01 10 11 00 00 04 08 00 00 80 3F 00 00 00 00 81 AE", "01 10 11 00 00 04 C4 F6"),
    "version": ("01 03 07 00 00 02 C5 7F", "01 03 04 01 00 01 00 FA 5F"),
}


class Wire:
    """Two ptys joined by a thread: what one end writes the other reads."""

    def __init__(self) -> None:
        self._open = ExitStack()
        ends = [os.openpty() for _ in range(2)]
        for master, slave in ends:
            tty.setraw(slave)
            self._open.callback(os.close, master)
            self._open.callback(os.close, slave)
        self._masters = [master for master, _ in ends]
        self.here, self.there = (Path(os.ttyname(slave)) for _, slave in ends)
        self._stop = os.pipe()
        self._pump = threading.Thread(target=self._run)

    def _run(self) -> None:
        one, other = self._masters
        while True:
            ready, _, _ = select.select([one, other, self._stop[0]], [], [])
            if self._stop[0] in ready:
                return
            for master in ready:
                os.write(other if master == one else one, os.read(master, 4096))

    def __enter__(self) -> Wire:
        self._pump.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.write(self._stop[1], b"x")
        self._pump.join()
        for end in self._stop:
            os.close(end)
        self._open.close()


@dataclass
class World:
    """A world process and the two ways to reach it."""

    process: subprocess.Popen[bytes]
    wire: Wire
    socket: Path
    clock: BenchClock

    def control(self, request: object) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rwb") as lines:
            connection.settimeout(DEADLINE_S)
            connection.connect(str(self.socket))
            lines.write(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")
            lines.flush()
            answer: dict[str, Any] = json.loads(lines.readline())
            return answer

    def say(self, frame: bytes, length: int, timeout_s: float = DEADLINE_S) -> bytes:
        """Write bytes and return what comes back, up to `length` or until the line stays quiet."""
        port = os.open(self.wire.here, os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(port, frame)
            answer = b""
            while len(answer) < length and select.select([port], [], [], timeout_s)[0]:
                answer += os.read(port, 256)
            return answer
        finally:
            os.close(port)

    def client(self) -> ModbusSerialClient:
        return ModbusSerialClient(str(self.wire.here), baudrate=9600, timeout=10.0, retries=0)


def start(folder: Path, wire: Wire, clock: BenchClock, **more: object) -> World:
    control = folder / "world.socket"
    stations = [{"id": "hoa-binh", "river_km": 20.0, "port": str(wire.there)}]
    config = folder / "world.json"
    config.write_text(json.dumps({"stations": stations, "seed": 3, "socket": str(control), **more}))
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators.world", "--config", str(config)],
        stdout=subprocess.PIPE,
        env={**os.environ, **clock.as_environment()},
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"ready": True}
    return World(process, wire, control, clock)


def stop(world: World) -> int:
    world.process.send_signal(signal.SIGTERM)
    code = world.process.wait(DEADLINE_S)
    assert world.process.stdout is not None
    world.process.stdout.close()
    return code


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Wire() as wire:
        running = start(tmp_path_factory.mktemp("world"), wire, BenchClock(time.time(), START_S, 60.0))
        yield running
        assert stop(running) == 0


def floats(registers: list[int], form: str) -> tuple[Any, ...]:
    return struct.unpack(form, struct.pack(f">{len(registers)}H", *registers)[: struct.calcsize(form)])


def water_now(world: World) -> dict[str, float]:
    water: dict[str, float] = world.control({"truth": {"station": "hoa-binh"}})["water"]
    return water


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_probe_answers_as_its_maker_documents(world: World, name: str) -> None:
    question, answer = (bytes.fromhex(frame) for frame in DOCUMENTED[name])
    assert world.say(question, len(answer)) == answer


def test_the_probe_replies_to_stop_with_a_byte_count_that_is_not_true(world: World) -> None:
    answer = world.say(bytes.fromhex("01 03 2E 00 00 01 8D 22"), 7)
    world.say(bytes.fromhex(DOCUMENTED["start measurement, no registers"][0]), 8)
    assert answer[:5] == bytes.fromhex("01 03 00 00 00")
    assert len(answer) == 7


def test_anybody_with_address_255_is_the_probe(world: World) -> None:
    assert world.say(bytes.fromhex("FF 03 30 00 00 01 9E D4"), 7)[:5] == bytes.fromhex("FF 03 02 01 00")


def test_an_independent_client_reads_conductivity_as_in_the_water(world: World) -> None:
    with world.client() as client:
        assert client.connect()
        temperature, conductivity_25, status = floats(
            client.read_holding_registers(0x2600, count=5, device_id=1).registers, "<ffB"
        )
        serial = client.read_holding_registers(0x0900, count=7, device_id=1).registers
    water = water_now(world)
    expected = water["conductivity_ms_cm"] / (1 + 0.0191 * (water["water_temperature_c"] - 25.0))
    assert (conductivity_25, temperature, status) == (
        pytest.approx(expected, rel=0.02),
        pytest.approx(water["water_temperature_c"], abs=0.1),
        0,
    )
    assert struct.pack(">7H", *serial)[1:5] == b"YL09"


def test_an_independent_client_reads_level_and_weather(world: World) -> None:
    with world.client() as client:
        assert client.connect()
        pressure_bar, _ = floats(client.read_holding_registers(0x0100, count=4, device_id=2).registers, ">ff")
        sky = client.read_holding_registers(0x0165, count=10, device_id=0x90).registers
    truth = world.control({"truth": {"station": "hoa-binh"}})
    assert pressure_bar == pytest.approx((truth["water"]["level_m"] + 3.0) * 0.0984, rel=0.03)
    assert (sky[2] - 400) / 10 == pytest.approx(truth["weather"]["air_temperature_c"], abs=0.5)
    assert sky[8] / 10 == pytest.approx(truth["weather"]["air_pressure_hpa"], abs=0.3)


def test_who_is_refused_and_who_is_met_with_silence(world: World) -> None:
    with world.client() as client:
        assert client.connect()
        refused = client.read_holding_registers(0x0400, count=1, device_id=2)
        assert (refused.isError(), refused.exception_code) == (True, 2)
        client.comm_params.timeout_connect = 0.15
        for address, device in ((0x4444, 1), (0x0100, 7)):
            with pytest.raises(ModbusIOException):
                client.read_holding_registers(address, count=1, device_id=device)


def test_a_silenced_sensor_leaves_the_others_on_the_bus_alone(world: World) -> None:
    question = bytes.fromhex(DOCUMENTED["version"][0])
    assert world.control({"station": "hoa-binh", "sensor": 1, "fault": "silent", "on": True}) == {"ok": True}
    try:
        assert world.say(question, 9, timeout_s=0.15) == b""
        with world.client() as client:
            assert client.connect()
            assert not client.read_holding_registers(0x0100, count=2, device_id=2).isError()
    finally:
        world.control({"station": "hoa-binh", "sensor": 1, "fault": "silent", "on": False})
    assert len(world.say(question, 9)) == 9


def test_noise_and_half_a_frame_are_forgotten_after_a_pause(world: World) -> None:
    question, answer = (bytes.fromhex(frame) for frame in DOCUMENTED["version"])
    broken = bytes.fromhex("01 10 26 00 00 7B F6 00")
    assert world.say(broken, 1, timeout_s=0.15) == b""
    assert world.say(question, len(answer)) == answer


def test_truth_is_the_same_for_the_same_moment(world: World) -> None:
    ask = {"truth": {"station": "hoa-binh", "time": START_S}}
    assert world.control(ask) == world.control(ask)
    assert world.control(ask)["time"] == START_S


@pytest.mark.parametrize(
    ("request_line", "complaint"),
    [
        ({"truth": {"station": "nowhere"}}, "no station nowhere; have hoa-binh"),
        ({"station": "hoa-binh", "sensor": 9, "fault": "silent", "on": True}, r"no sensor 9; have [1, 2, 3]"),
        (
            {"station": "hoa-binh", "sensor": 1, "fault": "sleepy", "on": True},
            "fault: Input should be 'silent', 'stuck', 'dry'",
        ),
        ({"station": "hoa-binh", "sensor": 3, "fault": "dry", "on": True}, "possible: restart, silent, stuck"),
        ([1], "a request is a JSON object"),
        (b"nonsense\n", "not JSON"),
        ({"truth": {}}, "station: Field required"),
    ],
)
def test_control_lines_that_cannot_be_done_say_why(world: World, request_line: object, complaint: str) -> None:
    assert complaint in world.control(request_line)["error"]


def test_a_measured_file_plays_without_noise_and_the_world_ends_when_told(tmp_path: Path) -> None:
    export = tmp_path / "export.csv"
    export.write_text(
        "StationCode,DateTimeStamp,Temp,F_Temp,SpCond,F_SpCond,Sal,F_Sal,Depth,F_Depth\n"
        "gndblwq   ,7/2/2021 0:00,30.7,<0> ,13.73,<0> ,7.9,<0> ,0.63,<0> \n"
    )
    begin = 1625205600.0
    with Wire() as wire:
        world = start(tmp_path, wire, BenchClock(time.time(), begin + 10.0, 1.0), replay=str(export))
        try:
            with world.client() as client:
                assert client.connect()
                pressure_bar, temperature = floats(
                    client.read_holding_registers(0x0100, count=4, device_id=2).registers, ">ff"
                )
            truth = world.control({"truth": {"station": "hoa-binh", "time": begin + 899.0}})["water"]
            after = world.control({"truth": {"station": "hoa-binh", "time": begin + 900.0}})["water"]
        finally:
            code = stop(world)
    assert temperature == pytest.approx(30.7, abs=1e-5)
    assert pressure_bar == pytest.approx(0.63 * 0.0982, rel=0.01)
    assert (truth["salinity"], truth["level_m"]) == (7.9, pytest.approx(-2.37))
    assert after["salinity"] is None
    assert code == 0


def test_the_port_is_opened_again_when_the_line_comes_back(tmp_path: Path) -> None:
    link = tmp_path / "port"
    question, answer = (bytes.fromhex(frame) for frame in DOCUMENTED["version"])
    with Wire() as first:
        link.symlink_to(first.there)
        aliased = type("Alias", (), {"there": link})()
        world = start(tmp_path, aliased, BenchClock(time.time(), START_S, 60.0))
        world.wire = first
        assert world.say(question, len(answer)) == answer
    link.unlink()
    with Wire() as second:
        link.symlink_to(second.there)
        world.wire = second
        deadline = time.monotonic() + DEADLINE_S
        while (said := world.say(question, len(answer), timeout_s=0.1)) != answer and time.monotonic() < deadline:
            pass
        assert stop(world) == 0
    assert said == answer


def test_a_port_that_never_comes_is_named(tmp_path: Path) -> None:
    config = tmp_path / "world.json"
    station = {"id": "hoa-binh", "river_km": 20.0, "port": str(tmp_path / "absent")}
    config.write_text(json.dumps({"stations": [station], "socket": str(tmp_path / "s")}))
    command = [sys.executable, "-m", "simulators.world", "--config", str(config), "--port-timeout-s", "0.3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S * 2, check=False)
    assert done.returncode == 1
    assert "absent: cannot be opened as a serial port; start `tram-sim lines` first" in done.stderr


def test_every_fault_of_a_configuration_is_named_at_once(tmp_path: Path) -> None:
    config = tmp_path / "world.json"
    station = {"id": "hoa-binh", "river_km": "far", "port": "/dev/null", "colour": "red"}
    config.write_text(json.dumps({"stations": [station]}))
    with pytest.raises(WorldConfigurationError) as refused:
        read_configuration(config)
    for fault in ("stations.0.river_km", "stations.0.colour", "socket"):
        assert fault in str(refused.value)


def test_an_unknown_instrument_is_named_with_those_we_have(tmp_path: Path) -> None:
    config = tmp_path / "world.json"
    instruments = [{"sensor": 1, "model": "y-999", "address": 1}]
    station = {"id": "hoa-binh", "river_km": 20.0, "port": "/dev/null", "instruments": instruments}
    config.write_text(json.dumps({"stations": [station], "socket": "s"}))
    with pytest.raises(WorldConfigurationError, match="no such instrument: y-999; have yosemitech-y520"):
        read_configuration(config)


def test_every_answer_is_written_down_as_it_left_the_instrument(tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    with Wire() as wire:
        world = start(tmp_path, wire, BenchClock(time.time(), START_S, 60.0), answers=str(answers))
        try:
            with world.client() as client:
                assert client.connect()
                registers = client.read_holding_registers(0x0100, count=4, device_id=2).registers
                client.read_holding_registers(0x0400, count=1, device_id=2)  # refused: no answer to keep
        finally:
            assert stop(world) == 0
    (answer,) = read_answers(answers)
    assert answer[1:] == ("hoa-binh", 2, 0x0100, struct.pack(">4H", *registers))
    assert START_S < answer.time < world.clock.now()
