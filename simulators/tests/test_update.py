"""A station gets new firmware and a new configuration over its uplink, from pymodbus, and keeps what proves itself."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from firmware.record import EVENT_CONFIGURATION, EVENT_UPDATE_APPLIED, EVENT_UPDATE_ROLLED_BACK
from simulators.board import BoardSettings, VirtualBoard
from simulators.station_client import (
    APPLY_CONFIGURATION,
    APPLY_UPDATE,
    CONFIGURATION,
    FIRMWARE,
    FORGET,
    LOG,
    RESTART,
    Result,
    StationClient,
    StationRefuses,
)
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from simulators.wire import Wire
from station_config.board import board_configuration, encode
from station_config.flash import board_files, firmware_folder, flash
from station_config.image import build as build_image
from station_config.keys import board_keys, generate, load_private, load_public
from station_config.network import load_network

NETWORK = Path(__file__).parents[1] / "demo_network.toml"
STATION = "vam-kenh"
RATE = 600.0  # a trial of 15 minutes takes a second and a half


@dataclass(frozen=True)
class Workshop:
    """What the office has: a key, images, and the flash of a station as it was sent out."""

    folder: Path
    flash: Path

    def image(self, version: str, change: tuple[str, str, str] | None = None, replaces: str = "0.0.0") -> bytes:
        """Sign the firmware as `version`, with (module, text, other text) changed in it."""
        source = self.folder / f"source-{time.monotonic_ns()}"
        shutil.copytree(firmware_folder(), source, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        _change(source, "version", "VERSION = (0, 1, 0)", f"VERSION = ({version.replace('.', ', ')})")
        if change is not None:
            _change(source, *change)
        over = tuple(map(int, replaces.split(".")))
        return build_image(load_private(self.folder / "key.pem"), over, source)  # type: ignore[arg-type]


def _change(source: Path, module: str, text: str, other: str) -> None:
    file = source / f"{module}.py"
    before = file.read_text()
    assert text in before
    file.write_text(before.replace(text, other))


@dataclass(frozen=True)
class Bench:
    """A station in the field, and the gateway's end of its uplink."""

    board: VirtualBoard
    client: StationClient

    def prove(self) -> None:
        """Fetch as a gateway does, until nothing is on trial."""

        def fetched_and_proved() -> bool:
            self.client.fetch()
            return self.client.holding(15, 1) == [0]

        self.client.wait_until(fetched_and_proved)

    def events(self, parameter: int) -> list[int]:
        return [record.count for record in self.client.fetch(acknowledge=False) if record.parameter == parameter]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")
    folder = tmp_path_factory.mktemp("workshop")
    generate(folder / "key.pem", folder / "key.pub.pem")
    keys = board_keys([load_public(folder / "key.pub.pem")])
    with VirtualBoard(BoardSettings(flash=folder / "board.flash")) as board:
        board.console.wait_for(">>> ")
        files = board_files(_encoded(), keys)
        files["/main.py"] = files["/main.py"].replace(b"WATCHDOG_MS = 8000", b"WATCHDOG_MS = 1000")  # saves waiting
        flash(str(board.console_path), files)
    return Workshop(folder, folder / "board.flash")


def _configuration() -> dict[str, Any]:
    return board_configuration(load_network(NETWORK), STATION)


def _encoded(**changes: object) -> bytes:
    """A configuration without instruments: a trial then asks for the gateway only."""
    return encode(_configuration() | {"sensors": []} | changes)


@contextmanager
def _running(flash_file: Path, folder: Path, wait_for: str = "tram station=") -> Iterator[Bench]:
    with Wire(folder / "wire") as wire:
        settings = BoardSettings(flash=flash_file, uarts={2: wire.ends["board"]}, rate=RATE)
        with VirtualBoard(settings) as board:
            board.console.wait_for(wait_for)
            client = StationClient(wire.ends["gateway"], _configuration()["address"])
            yield Bench(board, client)
            client.close()


@pytest.fixture
def bench(workshop: Workshop, tmp_path: Path) -> Iterator[Bench]:
    shutil.copy(workshop.flash, tmp_path / "board.flash")
    with _running(tmp_path / "board.flash", tmp_path) as bench:
        yield bench


def _update(bench: Bench, image: bytes) -> int:
    bench.client.send_file(FIRMWARE, image)
    return bench.client.command(APPLY_UPDATE, image)


def test_new_firmware_runs_from_the_other_slot_once_the_gateway_has_its_records(
    bench: Bench, workshop: Workshop
) -> None:
    journal, newest = bench.client.number(2), bench.client.number(6)
    assert _update(bench, workshop.image("0.2.0")) == Result.DONE
    bench.client.restart()
    assert (bench.client.version(), bench.client.holding(14, 2)) == ("0.2.0", [1, 1])
    bench.prove()
    assert (bench.client.number(2), bench.events(EVENT_UPDATE_APPLIED)) == (journal, [200])
    assert bench.client.number(6) > newest
    bench.client.restart()
    assert (bench.client.version(), bench.client.holding(14, 2)) == ("0.2.0", [1, 0])
    assert bench.events(EVENT_UPDATE_APPLIED) == [200]


def test_the_next_update_takes_the_first_slot_again(bench: Bench, workshop: Workshop) -> None:
    for version in ("0.2.0", "0.3.0"):
        assert _update(bench, workshop.image(version)) == Result.DONE
        bench.client.restart()
        bench.prove()
    assert (bench.client.version(), bench.client.holding(14, 1)) == ("0.3.0", [0])


def test_firmware_whose_records_nobody_fetches_is_rolled_back(bench: Bench, workshop: Workshop) -> None:
    _update(bench, workshop.image("0.2.0"))
    bench.client.command(RESTART, bench.client.registers(15, 1)[0])
    bench.board.console.wait_for("version=0.2.0")
    bench.board.console.wait_for("version=0.1.0", 60)
    assert (bench.client.version(), bench.client.holding(14, 2)) == ("0.1.0", [0, 0])
    assert bench.events(EVENT_UPDATE_ROLLED_BACK) == [200]
    assert b"the gateway stored no record" in bench.client.read_file(LOG)


@pytest.mark.parametrize(
    ("change", "logged"),
    [
        (
            ("main", "def start():\n", "def start():\n    raise ValueError('no')\n"),
            b"loader: the application did not start: ValueError: no",
        ),
        (
            ("main", "import machine\n", "import machine\n\nimport there_is_none\n"),
            b"loader: slot b cannot be used: ImportError: no module named 'there_is_none'",
        ),
        (
            ("uplink", "import struct\n", "import struct\n\nimport there_is_none\n"),
            b"loader: slot b cannot be used: ImportError: no module named 'there_is_none'",
        ),
        (
            ("main", "def start():\n", "def start():\n    while True:\n        pass\n"),
            b"started again by the watchdog",
        ),
    ],
    ids=["fails in its start", "cannot be imported", "a part needed late cannot be imported", "hangs"],
)
def test_firmware_that_cannot_start_gives_way_and_the_gateway_reads_why(
    bench: Bench, workshop: Workshop, change: tuple[str, str, str], logged: bytes
) -> None:
    _update(bench, workshop.image("0.2.0", change))
    bench.client.command(RESTART, bench.client.registers(15, 1)[0])
    bench.board.console.wait_for("tram station=", 60)
    bench.client.wait_until(lambda: bench.client.version() == "0.1.0")
    assert bench.events(EVENT_UPDATE_ROLLED_BACK) == [200]
    assert logged in bench.client.read_file(LOG)


@pytest.mark.parametrize(
    ("version", "replaces", "result"),
    [
        ("0.1.0", "0.0.0", Result.NOT_NEWER),
        ("0.1.0", "0.1.0", Result.DONE),
    ],
)
def test_older_firmware_is_refused_unless_signed_to_replace_this_one(
    bench: Bench, workshop: Workshop, version: str, replaces: str, result: Result
) -> None:
    assert _update(bench, workshop.image(version, replaces=replaces)) == result


def test_an_image_of_somebody_else_is_refused_and_the_station_runs_on(bench: Bench, workshop: Workshop) -> None:
    generate(workshop.folder / "other.pem", workshop.folder / "other.pub.pem", 2048)
    image = build_image(load_private(workshop.folder / "other.pem"), (0, 1, 0))
    assert _update(bench, image) is Result.BAD_SIGNATURE
    assert bench.client.holding(14, 2) == [0, 0]


def test_an_image_that_changed_on_the_way_is_refused(bench: Bench, workshop: Workshop) -> None:
    image = workshop.image("0.2.0")
    changed = image[:20000] + bytes([image[20000] ^ 1]) + image[20001:]
    assert _update(bench, changed) is Result.BAD_IMAGE


def test_a_board_without_a_key_takes_no_firmware(workshop: Workshop, tmp_path: Path) -> None:
    with VirtualBoard(BoardSettings(flash=tmp_path / "board.flash")) as board:
        board.console.wait_for(">>> ")
        flash(str(board.console_path), board_files(_encoded()))
    with _running(tmp_path / "board.flash", tmp_path) as bench:
        assert _update(bench, workshop.image("0.2.0")) == Result.NO_KEY


def test_a_transfer_that_broke_off_goes_on_where_it_was(bench: Bench, workshop: Workshop) -> None:
    image = workshop.image("0.2.0")
    bench.client.declare(FIRMWARE, image)
    for start in range(0, 2440, 244):
        bench.client.write(FIRMWARE, start, image[start : start + 244])
    bench.board.power_cut()
    bench.board.start()
    bench.board.console.wait_for("tram station=")
    assert bench.client.describe(FIRMWARE)[2] == 2440
    bench.client.write(FIRMWARE, 244, image[244:488])
    assert _update(bench, image) == Result.DONE


def test_a_chunk_with_a_hole_before_it_is_refused(bench: Bench, workshop: Workshop) -> None:
    bench.client.declare(FIRMWARE, bytes(1000))
    with pytest.raises(StationRefuses, match="exception 2"):
        bench.client.write(FIRMWARE, 244, bytes(244))


@pytest.mark.parametrize(("size", "code"), [(131073, 3), (0, 3), (131072, 4)])
def test_a_file_for_which_there_is_no_room_is_refused_and_the_journal_stays(
    workshop: Workshop, tmp_path: Path, size: int, code: int
) -> None:
    with VirtualBoard(BoardSettings(flash=tmp_path / "board.flash", size_bytes=256 * 1024)) as board:
        board.console.wait_for(">>> ")
        flash(str(board.console_path), board_files(_encoded()))
    with Wire(tmp_path / "wire") as wire:
        settings = BoardSettings(
            flash=tmp_path / "board.flash", size_bytes=256 * 1024, uarts={2: wire.ends["board"]}, rate=RATE
        )
        with VirtualBoard(settings) as board:
            board.console.wait_for("tram station=")
            client = StationClient(wire.ends["gateway"], _configuration()["address"])
            before = client.fetch(acknowledge=False)
            with pytest.raises(StationRefuses) as refusal:
                client.declare(FIRMWARE, bytes(size))
            after = client.fetch(acknowledge=False)
            client.close()
    assert (refusal.value.code, after[: len(before)]) == (code, before)


def test_a_staged_file_can_be_forgotten(bench: Bench) -> None:
    bench.client.send_file(CONFIGURATION, b"something else")
    assert bench.client.command(FORGET, CONFIGURATION) == Result.DONE
    assert bench.client.describe(CONFIGURATION) == (0, bytes(32), 0)


def test_the_results_are_those_of_the_documentation() -> None:
    page = (firmware_folder() / "REGISTERS.md").read_text()
    for result in Result:
        assert f"| {result.value} | {result.name.lower().replace('_', ' ')} |" in page


def test_a_restart_that_comes_late_does_nothing(bench: Bench) -> None:
    assert bench.client.command(RESTART, bench.client.registers(15, 1)[0] - 1) == Result.BAD_ARGUMENT


def test_a_new_configuration_stays_when_the_gateway_has_records_made_with_it(bench: Bench) -> None:
    journal, before = bench.client.number(2), bench.client.fetch()
    new = _encoded(record_s=120, journal={"segment_records": 64, "max_bytes": 65536})
    bench.client.send_file(CONFIGURATION, new)
    assert bench.client.command(APPLY_CONFIGURATION, new) == Result.DONE
    assert bench.client.read_file(1) == _encoded()
    bench.client.restart()
    assert bench.client.holding(15, 1) == [2]
    bench.prove()
    assert bench.client.read_file(1) == new
    after = bench.client.fetch(acknowledge=False)
    assert (bench.client.number(2), after[: len(before)]) == (journal, before)
    assert [record.seq for record in after] == list(range(1, len(after) + 1))
    assert bench.events(EVENT_CONFIGURATION)[-1] == bench.client.number(18)


def test_a_configuration_with_which_nobody_can_reach_the_station_goes_by_itself(bench: Bench) -> None:
    old, before = bench.client.number(18), bench.client.fetch()
    lost = _encoded(address=77)
    bench.client.send_file(CONFIGURATION, lost)
    bench.client.command(APPLY_CONFIGURATION, lost)
    bench.client.command(RESTART, bench.client.registers(15, 1)[0])
    bench.client.wait_until(lambda: bench.client.registers(15, 1)[0] >= 4)
    assert (bench.client.number(18), bench.client.holding(15, 1), bench.client.read_file(1)) == (old, [0], _encoded())
    after = bench.client.fetch(acknowledge=False)
    assert after[: len(before)] == before
    assert bench.events(EVENT_CONFIGURATION)[-1] == old


@pytest.mark.parametrize(
    "content",
    [b"{", json.dumps(_configuration() | {"record_s": 65}).encode()],
    ids=["not JSON", "65 is no multiple of 10"],
)
def test_a_faulty_configuration_is_refused_at_once(bench: Bench, content: bytes) -> None:
    bench.client.send_file(CONFIGURATION, content)
    assert bench.client.command(APPLY_CONFIGURATION, content) == Result.BAD_CONFIGURATION
    assert bench.client.read_file(1) == _encoded()


def test_two_things_are_not_tried_at_once(bench: Bench, workshop: Workshop) -> None:
    _update(bench, workshop.image("0.2.0"))
    new = _encoded(record_s=120)
    bench.client.send_file(CONFIGURATION, new)
    assert bench.client.command(APPLY_CONFIGURATION, new) == Result.ON_TRIAL
