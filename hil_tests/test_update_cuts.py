"""A few of the power cuts of `make cuts` in an update, and that they would find one that strands a station."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from hil_tests.cuts.table import Tally, sample, try_all
from hil_tests.cuts.update import UpdateCuts
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from station_config.flash import firmware_folder


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


def try_sampled(table: UpdateCuts, folder: Path, per_row: int) -> Tally:
    return try_all(table, sample(table.cuts(folder), per_row, seed=1), folder, boards=2, tried=lambda: None)


def test_a_power_cut_strands_no_station(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = try_sampled(UpdateCuts(), tmp_path, per_row=3)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.line()} (sampled; all: make cuts)\n")
    assert tally.is_clean, "\n".join(tally.faults)


def test_an_update_that_writes_over_what_runs_is_found_out(tmp_path: Path) -> None:
    reckless = tmp_path / "reckless"
    shutil.copytree(firmware_folder(), reckless, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    slots = reckless / "slots.py"
    right = 'return "b" if self.running == "a" else "a"'
    assert slots.read_text().count(right) == 1
    slots.write_text(slots.read_text().replace(right, "return self.running"))
    tally = try_sampled(UpdateCuts(reckless, frozenset({"unpack"})), tmp_path, per_row=3)
    assert tally.total["stranded"]
