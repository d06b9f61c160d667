"""What a station does not have takes none of its memory: the modules a running board has loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulators.board import BoardSettings, VirtualBoard
from simulators.tests.test_firmware_on_board import interpreter
from simulators.tests.test_sdi12_on_board import STATION
from station_config.board import board_configuration, encode
from station_config.console import Board
from station_config.flash import board_files, flash
from station_config.network import load_network

__all__ = ["interpreter"]  # its fixture builds the virtual board, or skips

RARE = {"burst", "power", "pulse", "sdi12", "sdi12_line", "sdi12_sensor", "wind", "wiper"}
LOADED = "import json, sys\nprint(json.dumps([name[9:] for name in sys.modules if name[:9] == 'firmware.']))"
KELLER = '[[stations.sensors]]\nnumber = 1\ninstrument = "keller-acculevel"\naddress = 1\n'
HYDROS = '[[stations.sensors]]\nnumber = 2\ninstrument = "meter-hydros-21"\naddress = "0"\n'
Y511 = '[[stations.sensors]]\nnumber = 3\ninstrument = "yosemitech-y511"\naddress = 3\nwipe_every_s = 600\n'


def loaded(folder: Path, *sensors: str) -> set[str]:
    network = folder / "network.toml"
    network.write_text(STATION + "".join(sensors), encoding="utf-8")
    content: dict[str, Any] = board_configuration(load_network(network), "ben-thu")
    wires = {"uarts": {1: folder / "bus", 2: folder / "uplink"}, "uart_pins": {(1, 18): folder / "sdi12"}}
    with VirtualBoard(BoardSettings(flash=folder / "board.flash", **wires)) as board:  # type: ignore[arg-type]
        board.console.wait_for(">>> ")
        flash(str(board.console_path), board_files(encode(content)))
        with Board(str(board.console_path)) as technician:
            technician.enter_repl()
            return set(technician.ask(LOADED))


@pytest.mark.parametrize(
    ("sensors", "rare"),
    [
        ([], set()),
        ([KELLER], set()),
        (["pulses = [{ number = 9, pin = 22, per_pulse = 0.2 }]\n"], {"pulse"}),
        ([KELLER, HYDROS], {"sdi12", "sdi12_line", "sdi12_sensor"}),
        ([KELLER, Y511], {"wiper"}),
        ([KELLER + "power = 32\nburst = { readings = 3 }\n"], {"power", "burst"}),
    ],
    ids=["nothing", "Modbus", "rain", "SDI-12 beside it", "a brush", "switched power and bursts"],
)
def test_only_what_is_configured_is_loaded(tmp_path: Path, sensors: list[str], rare: set[str]) -> None:
    assert loaded(tmp_path, *sensors) & RARE == rare
