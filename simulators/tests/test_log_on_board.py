"""Every fault ends in the station's log, which the gateway reads over the uplink (FC 20), on real MicroPython."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from firmware.record import NO_VALUE
from simulators.board import BoardSettings, VirtualBoard
from simulators.station_client import LOG, OLDER_LOG, Result, StationClient
from simulators.tests.test_update import Bench, _change
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from simulators.wire import Wire
from station_config.board import board_configuration, encode
from station_config.flash import board_files, firmware_folder, flash
from station_config.network import load_network

NETWORK = Path(__file__).parents[1] / "demo_network.toml"
RATE = 60.0
LOG_BYTES = 4096


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


def configuration() -> dict[str, Any]:
    return board_configuration(load_network(NETWORK), "vam-kenh")


@contextmanager
def station(folder: Path, content: bytes, *changes: tuple[str, str, str]) -> Iterator[Bench]:
    """A running station whose firmware has (module, text, other text) changed in it."""
    source = folder / "source"
    shutil.copytree(firmware_folder(), source, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    for change in changes:
        _change(source, *change)
    with Wire(folder / "wire") as wire:
        settings = BoardSettings(flash=folder / "board.flash", uarts={2: wire.ends["board"]}, rate=RATE)
        with VirtualBoard(settings) as board:
            board.console.wait_for(">>> ")
            flash(str(board.console_path), board_files(content, folder=source))
            client = StationClient(wire.ends["gateway"], configuration()["address"])
            try:
                yield Bench(board, client)
            finally:
                client.close()


def wait_for_line(bench: Bench, text: bytes) -> bytes:
    """Return the log once it holds the text."""
    found = b""

    def is_there() -> bool:
        nonlocal found
        found = bench.client.read_file(LOG)
        return text in found

    bench.client.wait_until(is_there, 60)
    return found


def test_a_line_that_cannot_be_opened_is_told_and_the_station_records_silence(tmp_path: Path) -> None:
    with station(tmp_path, encode(configuration())) as bench:  # UART 1 is not wired here
        log = wait_for_line(bench, b"bus: UART 1 cannot be opened, check station.json: ValueError")
        bench.client.wait_until(lambda: any(r.sensor == 1 for r in bench.client.fetch(acknowledge=False)))
        flags = {r.flag for r in bench.client.fetch(acknowledge=False) if r.sensor}
    assert flags == {NO_VALUE}
    assert all(int(line.split(maxsplit=1)[0]) >= 0 for line in log.splitlines())  # a time before every text


@pytest.mark.parametrize(
    ("change", "logged"),
    [
        (
            ("station", "    async def _record_once(self):\n", "    async def _record_once(self):\n        1 // 0\n"),
            b"record: ZeroDivisionError: divide by zero",
        ),
        (
            ("station", "    async def _sample_once(self):\n", "    async def _sample_once(self):\n        {}[1]\n"),
            b"sample: KeyError: 1",
        ),
        (
            (
                "station",
                "    async def _sample_once(self):\n",
                "    async def _sample_once(self):\n        bytearray(1 << 20)\n",
            ),
            b"sample: MemoryError: memory allocation failed",
        ),
    ],
    ids=["in the record loop", "in the sample loop", "no memory"],
)
def test_an_exception_nobody_foresaw_is_read_by_the_gateway_and_the_station_goes_on(
    tmp_path: Path, change: tuple[str, str, str], logged: bytes
) -> None:
    content = encode(configuration() | {"pulses": [PULSE], "sensors": []})
    with station(tmp_path, content, change) as bench:
        log = wait_for_line(bench, logged)
        up_s = bench.client.number(13)
        bench.client.wait_until(lambda: bench.client.number(13) > up_s + 120)
        again = bench.client.read_file(LOG)
        boots = bench.client.registers(15, 1)
    assert log.count(logged) == again.count(logged) == 1  # the same in a row is written once an hour
    assert boots == [1]  # nothing restarted it


PULSE = {"number": 9, "pin": 14, "parameter": 70, "decimals": 1, "per_pulse": 2000}


def test_the_log_is_a_ring_of_two_files_and_outlives_the_power(tmp_path: Path) -> None:
    with station(tmp_path, json.dumps(configuration() | {"sensors": []}).encode()) as bench:
        asked = 0
        while not bench.client.describe(OLDER_LOG)[0]:
            asked += 1
            assert bench.client.command(1000 + asked, 0) is Result.UNKNOWN_COMMAND
            assert asked < 500
        newest = b"command %d: " % (1000 + asked)
        newer, older = bench.client.read_file(LOG), bench.client.read_file(OLDER_LOG)
        bench.board.power_cut()
        bench.board.start()
        bench.board.console.wait_for("tram station=")
        after = bench.client.read_file(OLDER_LOG), bench.client.read_file(LOG)
    assert len(newer) <= LOG_BYTES
    assert len(older) <= LOG_BYTES
    assert newest in newer
    assert b"command %d: " % (1000 + asked - 1) in older
    assert after[0] == older
    assert after[1].startswith(newer)
