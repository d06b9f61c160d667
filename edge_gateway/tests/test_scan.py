"""Who is on a line, by the command a technician types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer import FramerType
from typer.testing import CliRunner

from edge_gateway.commands import app
from edge_gateway.tests.conftest import wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.running import RunningGateway
from edge_gateway.tests.tcp_servers import StationServer
from station_config.free_ports import free_port

FAST = ["--last", "14", "--timeout", "0.05", "--json"]


class Stranger(FakeStation):
    """A Modbus device of somebody else's: registers, but not ours."""

    def _status(self) -> list[int]:
        return [0] * 31


def run(*argv: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["scan", *argv])
    return done.exit_code, done.stdout, done.stderr


def scans(*argv: str) -> list[dict[str, Any]]:
    code, told, complaint = run(*argv)
    assert code == 0, complaint
    found: list[dict[str, Any]] = json.loads(told)["scans"]
    return found


@pytest.fixture
def line() -> Iterator[FakeLine]:
    with FakeLine(FakeStation("xuan-hoa", 11), Stranger("pump", 12), FakeStation("my-tho", 14)) as line:
        yield line


def gateway_toml(folder: Path, port: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(
        f'id = "gw"\nstate_dir = "state"\n[[line]]\nname = "uplink"\nport = "{port}"\nbaud = 38400\n'
        '[[line.station]]\nid = "xuan-hoa"\naddress = 11\n'
    )
    return file


def test_stations_are_known_and_others_shown_as_what_they_say(line: FakeLine) -> None:
    (scan,) = scans("--port", line.port, "--baud", "38400", *FAST)

    assert [(one["address"], one["kind"], one["station"]) for one in scan["found"]] == [
        (11, "station", "xuan-hoa"),
        (12, "device", None),
        (14, "station", "my-tho"),
    ]
    assert scan["found"][1]["identification"] == {"vendor": "Tram", "product": "station", "revision": "0.1.0"}
    assert scan["toml"] == (
        f'[[line]]\nname = "line"\nport = "{line.port}"\nbaud = 38400\nparity = "N"\n'
        '[[line.station]]\nid = "xuan-hoa"\naddress = 11\n[[line.station]]\nid = "my-tho"\naddress = 14'
    )


def test_only_what_gateway_toml_does_not_have_is_to_be_added(line: FakeLine, tmp_path: Path) -> None:
    (scan,) = scans("--config", str(gateway_toml(tmp_path, line.port)), *FAST)

    assert scan["baud"] == 38400
    assert scan["toml"] == '[[line.station]]\nid = "my-tho"\naddress = 14'


def test_several_bauds_are_tried_one_after_the_other(line: FakeLine) -> None:
    both = scans("--port", line.port, "--baud", "9600", "--baud", "19200", "--first", "11", "--last", "11", "--json")

    assert [(scan["baud"], len(scan["found"])) for scan in both] == [(9600, 1), (19200, 1)]


@pytest.mark.parametrize(("scheme", "framer"), [("tcp", FramerType.SOCKET), ("rtu+tcp", FramerType.RTU)])
def test_a_line_in_the_network_is_scanned_too(scheme: str, framer: FramerType) -> None:
    with StationServer(FakeStation("xuan-hoa", 3), framer=framer) as server:
        (scan,) = scans("--port", f"{scheme}://127.0.0.1:{server.port}", "--first", "3", "--last", "3", "--json")

    assert [(one["address"], one["station"]) for one in scan["found"]] == [(3, "xuan-hoa")]


def test_what_is_for_people_says_what_to_add(line: FakeLine) -> None:
    code, told, _ = run("--port", line.port, "--baud", "38400", "--first", "10", "--last", "12", "--timeout", "0.05")

    assert code == 0
    assert "station xuan-hoa, firmware 0.0.0" in told
    assert "Modbus device: vendor Tram" in told
    assert '[[line.station]]\nid = "xuan-hoa"\naddress = 11\n' in told


def test_noise_before_answers_is_skipped_and_a_name_that_is_no_text_shown_as_it_is(line: FakeLine) -> None:
    line.noise = b"\xff" * 6
    line.stations[0]._identity = lambda: [0xFFFF] * 16  # type: ignore[method-assign]

    (scan,) = scans("--port", line.port, "--baud", "38400", *FAST)

    assert scan["found"][0]["station"].startswith("\\xff")


def test_a_line_the_gateway_polls_is_left_alone(line: FakeLine, tmp_path: Path) -> None:
    gateway = RunningGateway(tmp_path, line.port, free_port(), {"xuan-hoa": 11})
    gateway.start()
    try:
        wait_for(lambda: "the gateway runs" in gateway.log())
        code, _, complaint = run("--config", str(gateway.file), *FAST)
        by_port, _, held = run("--port", line.port, *FAST)
    finally:
        gateway.close()

    assert (code, "systemctl stop tram-gateway" in complaint) == (1, True)
    assert (by_port, "cannot be opened" in held) == (1, True)


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        pytest.param([], "say which line", id="nothing named"),
        pytest.param(["--port", "ftp://x"], "a port is a device", id="no such kind of port"),
        pytest.param(["--port", "/dev/ttyUSB0", "--baud", "7"], "baud", id="no such baud rate"),
        pytest.param(["--port", "/dev/ttyUSB0", "--parity", "X"], "parity", id="no such parity"),
    ],
)
def test_wrong_use_is_exit_2_in_words(argv: list[str], why: str) -> None:
    code, _, complaint = run(*argv)

    assert (code, why in complaint) == (2, True)


def test_a_name_that_is_no_line_names_those_there_are(line: FakeLine, tmp_path: Path) -> None:
    code, _, complaint = run("--config", str(gateway_toml(tmp_path, line.port)), "--line", "radio")

    assert (code, "gateway.toml has uplink" in complaint) == (2, True)


def test_a_port_that_is_not_there_is_exit_1() -> None:
    code, _, complaint = run("--port", "/dev/tty-that-is-not-there", *FAST)

    assert (code, "check the cable" in complaint) == (1, True)
