"""What the office has for tests of updates: a signing key, images of any version, and the flash of stations sent out.

Stations have no instruments here: a trial then asks for the gateway only, and nobody has to simulate a river.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simulators.board import BoardSettings, VirtualBoard
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from station_config.board import board_configuration, encode
from station_config.flash import board_files, firmware_folder, flash
from station_config.image import build as build_image
from station_config.keys import board_keys, generate, load_private, load_public
from station_config.network import load_network

NETWORK = Path(__file__).parents[1] / "simulators" / "demo_network.toml"
STATIONS = {"vam-kenh": 11, "hoa-binh": 12, "xuan-hoa": 13}


@dataclass(frozen=True)
class Workshop:
    """A folder with the key, the firmware's source as it is now, and one flash per station."""

    folder: Path

    def flash(self, station: str) -> Path:
        """Return the flash of a station as it leaves the workshop."""
        return self.folder / f"{station}.flash"

    def flash_station(self, station: str, *, keys: bool = True) -> None:
        """Make the flash of a station, with the key for updates or without."""
        known = board_keys([load_public(self.folder / "key.pub.pem")]) if keys else None
        files = board_files(configuration(station), known)
        files["/main.py"] = files["/main.py"].replace(b"WATCHDOG_MS = 8000", b"WATCHDOG_MS = 1000")  # saves waiting
        self.flash(station).unlink(missing_ok=True)
        with VirtualBoard(BoardSettings(flash=self.flash(station))) as board:
            board.console.wait_for(">>> ")
            flash(str(board.console_path), files)

    def image(self, version: str, change: tuple[str, str, str] | None = None) -> bytes:
        """Sign the firmware as `version`, with (module, text, other text) changed in it."""
        source = self.folder / f"source-{time.monotonic_ns()}"
        shutil.copytree(self.folder / "source", source)
        _change(source, "version", "VERSION = (0, 1, 0)", f"VERSION = ({version.replace('.', ', ')})")
        if change is not None:
            _change(source, *change)
        return build_image(load_private(self.folder / "key.pem"), (0, 0, 0), source)


def configuration(station: str, **changes: object) -> bytes:
    """Return the station.json of a station without instruments."""
    plain: dict[str, Any] = board_configuration(load_network(NETWORK), station)
    return encode(plain | {"sensors": []} | changes)


def prepare(folder: Path) -> Workshop:
    """Make a key and flash all stations. Skips the test where there is no virtual board."""
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")
    workshop = Workshop(folder)
    shutil.copytree(firmware_folder(), folder / "source", ignore=shutil.ignore_patterns("tests", "__pycache__", "*.md"))
    generate(folder / "key.pem", folder / "key.pub.pem")
    for station in STATIONS:
        workshop.flash_station(station)
    return workshop


def _change(source: Path, module: str, text: str, other: str) -> None:
    file = source / f"{module}.py"
    before = file.read_text()
    assert text in before
    file.write_text(before.replace(text, other))
