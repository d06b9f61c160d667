"""A station that works for months takes no more memory than one that works for an hour."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from hil_tests.cuts.journal import install
from hil_tests.cuts.orders import OrderedBoard
from simulators.board import BoardSettings, VirtualBoard
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from station_config.board import board_configuration, encode
from station_config.flash import compile_firmware, firmware_folder
from station_config.network import load_network

NETWORK = Path(__file__).parents[1] / "simulators" / "demo_network.toml"
PROGRAM = Path(__file__).with_name("soak_on_board.py")
FLASH_BYTES = 1 << 20
ROUNDS = 10
DEADLINE_S = 600.0  # for one round
WARM_UP = 1000  # cycles: until the ring has turned over and the log has been renamed
ALLOWED_BYTES = 512  # between two looks: lists of the ring and of what is in doubt on the bus come and go


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


@pytest.mark.parametrize("cycles", [2_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_memory_does_not_grow(tmp_path: Path, capsys: pytest.CaptureFixture[str], cycles: int) -> None:
    flash = tmp_path / "board.flash"
    flash.write_bytes(b"\xff" * FLASH_BYTES)
    station = encode(board_configuration(load_network(NETWORK), "vam-kenh"))
    modules = {f"/firmware/{name}": code for name, code in compile_firmware(_with_program(tmp_path)).items()}
    install(flash, modules | {"/station.json": station, "/main.py": b"import firmware.soak"}, FLASH_BYTES)
    with VirtualBoard(BoardSettings(flash=flash, size_bytes=FLASH_BYTES)) as board:
        ordered = OrderedBoard(board, DEADLINE_S)
        used = [_run(ordered, WARM_UP)]
        used += [_run(ordered, cycles // ROUNDS) for _ in range(ROUNDS)]
    with capsys.disabled():
        grown = used[-1] - used[0]
        sys.stdout.write(
            f"\n{cycles} sample cycles: {min(used)} to {max(used)} bytes of heap in use, {grown:+d} at the end\n"
        )
    assert max(used) - used[0] <= ALLOWED_BYTES


def _with_program(folder: Path) -> Path:
    """Return the firmware and the program as one: it calls what only the firmware itself does."""
    together = folder / "firmware"
    together.mkdir()
    for module in firmware_folder().glob("*.py"):
        shutil.copy(module, together)
    shutil.copy(PROGRAM, together / "soak.py")
    return together


def _run(board: OrderedBoard, cycles: int) -> int:
    """Run so many cycles; return the bytes of heap in use. Every kind of trouble must have been met and logged."""
    (words,) = [line for line in board.ask("cycles", cycles) if line[0] == "after"]
    _, used, _, log_bytes, _, timeouts, crc_errors = words
    assert int(log_bytes) > 0
    assert int(timeouts) > 0
    assert int(crc_errors) > 0
    return int(used)
