"""tram-station on a board: real MicroPython with littlefs, watchdog and console, mpremote's protocol between them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firmware.record import EVENT_BOOT, SIZE, decode, split_batch
from simulators.board import BoardSettings, VirtualBoard
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from station_config import flash as flashing
from station_config.board import board_configuration, encode
from station_config.commands import app
from station_config.console import Board
from station_config.errors import BoardError, BoardSilent, BoardStorageFull, VerificationFailed
from station_config.flash import board_files, flash
from station_config.journal import read_journal
from station_config.network import load_network

NETWORK = Path(__file__).parents[1] / "demo_network.toml"
FLASH_BYTES = 512 * 1024
BITING = """\
import machine, time

def start():
    watchdog = machine.WDT(timeout=1500)
    print("tram station=xuan-hoa journal=00000000 next_seq=1 version=0.0.0")
    while True:
        watchdog.feed()
        time.sleep_ms(20)
"""


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """What belongs on the board of the station Xuan Hoa."""
    return board_files(_configuration("xuan-hoa"))


@pytest.fixture(scope="module")
def flashed(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flash of a board that was flashed once and has run."""
    directory = tmp_path_factory.mktemp("flashed")
    with _powered(directory) as board:
        flash(str(board.console_path), files)
    return directory / "board.flash"


@pytest.fixture
def board(flashed: Path, tmp_path: Path) -> Iterator[VirtualBoard]:
    """A board in the field: flashed before, its application running."""
    shutil.copy(flashed, tmp_path / "board.flash")
    with _powered(tmp_path, wait_for="tram station=xuan-hoa") as board:
        yield board


def _configuration(station: str) -> bytes:
    return encode(board_configuration(load_network(NETWORK), station))


@contextmanager
def _powered(
    directory: Path, wait_for: str = ">>> ", size_bytes: int = FLASH_BYTES, cut_at_operation: int = 0
) -> Iterator[VirtualBoard]:
    settings = BoardSettings(flash=directory / "board.flash", size_bytes=size_bytes, cut_at_operation=cut_at_operation)
    with VirtualBoard(settings) as board:
        board.console.wait_for(wait_for)
        yield board


def _other_firmware(directory: Path, main: str) -> dict[str, bytes]:
    (directory / "main.py").write_text(main, encoding="utf-8")
    return board_files(_configuration("xuan-hoa"), folder=directory)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_blank_board_becomes_the_station(tmp_path: Path, files: dict[str, bytes]) -> None:
    with _powered(tmp_path) as board:
        done = flash(str(board.console_path), files)
        with Board(str(board.console_path)) as link:
            link.enter_repl()
            on_board = link.hashes(list(files))
    assert (done.written, done.started.station, on_board) == (
        tuple(files),
        "xuan-hoa",
        {path: _sha256(data) for path, data in files.items()},
    )


def test_flashing_again_writes_nothing_and_keeps_the_journal(board: VirtualBoard, files: dict[str, bytes]) -> None:
    before = read_journal(str(board.console_path))
    done = flash(str(board.console_path), files)
    assert (done.written, done.removed, int(done.started.journal, 16)) == ((), (), before.journal)
    assert done.started.next_seq > (before.last_seq or 0)


def test_another_configuration_is_the_only_file_written(board: VirtualBoard, files: dict[str, bytes]) -> None:
    done = flash(str(board.console_path), {**files, "/station.json": _configuration("vam-kenh")})
    assert (done.written, done.started.station) == (("/station.json",), "vam-kenh")


def test_a_watchdog_that_runs_does_not_bite_into_the_work(tmp_path: Path) -> None:
    biting = _other_firmware(tmp_path, BITING)
    with _powered(tmp_path) as board:
        flash(str(board.console_path), biting)
        with Board(str(board.console_path)) as link, link.maintenance():
            link.run("import time\ntime.sleep_ms(2000)")
            on_board = link.hashes(list(biting))
    assert on_board == {path: _sha256(data) for path, data in biting.items()}


def test_modules_of_older_versions_are_removed_since_they_would_come_first(
    board: VirtualBoard, files: dict[str, bytes]
) -> None:
    with Board(str(board.console_path)) as link, link.maintenance():
        link.write_file("/a/firmware/record.py", b"raise ValueError('an old module')\n")
    done = flash(str(board.console_path), files)
    assert (done.written, done.removed) == ((), ("/a/firmware/record.py",))


def test_a_program_that_is_not_ours_gives_way(tmp_path: Path, files: dict[str, bytes]) -> None:
    with _powered(tmp_path) as board:
        with Board(str(board.console_path)) as link:
            link.enter_repl()
            link.write_file("/main.py", b"print('mine')\nwhile True:\n    pass\n")
            link.reset()
        board.console.wait_for("mine")
        done = flash(str(board.console_path), files)
    assert done.started.station == "xuan-hoa"


def test_a_flash_that_is_too_small_says_so(tmp_path: Path, files: dict[str, bytes]) -> None:
    with (
        _powered(tmp_path, size_bytes=40 * 1024) as board,
        pytest.raises(BoardStorageFull, match="flash is full while"),
    ):
        flash(str(board.console_path), files)


def test_a_file_that_reads_back_differently_is_named(board: VirtualBoard) -> None:
    with Board(str(board.console_path)) as link, link.maintenance():
        link.write_file("/x.mpy", b"what the flash made of it")
        with pytest.raises(VerificationFailed, match=r"/x\.mpy"):
            flashing._verify(link, {"/x.mpy": _sha256(b"what was sent")}, "")


def test_a_firmware_that_fails_shows_why(tmp_path: Path) -> None:
    broken = _other_firmware(tmp_path, "def start():\n    raise ValueError('no such pin')\n")
    with _powered(tmp_path) as board, pytest.raises(BoardSilent, match="ValueError: no such pin"):
        flash(str(board.console_path), broken)


def test_power_lost_while_flashing_leaves_the_old_firmware_whole(
    flashed: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    shutil.copy(flashed, tmp_path / "board.flash")
    newer = {path: data + b"\n" if path.endswith(".mpy") else data for path, data in files.items()}
    with _powered(tmp_path, "tram station=", cut_at_operation=40) as board, pytest.raises(BoardError):
        flash(str(board.console_path), newer)
    with _powered(tmp_path, wait_for="tram station=xuan-hoa") as board:
        assert flash(str(board.console_path), files).written == ()


def test_the_journal_is_read_out_and_the_station_runs_on(board: VirtualBoard, tmp_path: Path) -> None:
    out = tmp_path / "out.trb"
    result = CliRunner().invoke(app, ["journal", "--port", str(board.console_path), "--out", str(out), "--json"])
    told = json.loads(result.stdout)
    journal, raw = split_batch(out.read_bytes())
    records = [decode(raw, at) for at in range(0, len(raw), SIZE)]
    assert (told["station"], int(told["journal"], 16), told["records"], told["damaged"]) == (
        "xuan-hoa",
        journal,
        len(records),
        0,
    )
    assert [record.seq for record in records] == list(range(told["first_seq"], told["last_seq"] + 1))
    assert [record.count for record in records if record.parameter == EVENT_BOOT][:2] == [1, 2]
    board.console.wait_for("tram station=xuan-hoa")


def test_a_board_can_be_left_at_its_prompt(board: VirtualBoard) -> None:
    read_journal(str(board.console_path), restart=False)
    assert "tram station=" not in board.console.wait_for("\n>>> ").rpartition("raw REPL")[2]


def test_the_command_line_as_the_demo_uses_it(tmp_path: Path) -> None:
    with _powered(tmp_path) as board:
        arguments = ["flash", "--port", str(board.console_path), "--network", str(NETWORK), "--station", "hoa-binh"]
        result = CliRunner().invoke(app, [*arguments, "--json"])
    assert (result.exit_code, json.loads(result.stdout)["started"]["station"]) == (0, "hoa-binh")


def test_a_read_out_ended_by_sigterm_leaves_the_station_running(board: VirtualBoard, tmp_path: Path) -> None:
    arguments = ["journal", "--port", str(board.console_path), "--out", str(tmp_path / "out.trb")]
    command = [sys.executable, "-m", "station_config.commands", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        board.console.wait_for("tram maintenance")
        process.terminate()
    board.console.wait_for("tram station=xuan-hoa")
