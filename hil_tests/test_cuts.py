"""A few of the power cuts of `make cuts`, and that they would find a journal that does not keep its word."""

from __future__ import annotations

import importlib.resources
import os
import sys
from pathlib import Path

import pytest

from hil_tests.cuts.journal import MODULES, JournalCuts
from hil_tests.cuts.table import Cut, Tally, sample, try_all
from hil_tests.cuts.witness import LOST
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the virtual board cannot be built here: {error}")


def try_sampled(table: JournalCuts, folder: Path, per_row: int) -> Tally:
    return try_all(table, sample(table.cuts(folder), per_row, seed=1), folder, boards=2, tried=lambda: None)


def test_a_power_cut_costs_the_journal_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = try_sampled(JournalCuts(), tmp_path, per_row=12)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.line()} (sampled; all: make cuts)\n")
    assert tally.is_clean, "\n".join(tally.faults)


STORES = "        self._file.write(raw)\n"
REWRITES_IN_PLACE = """\
        name = self._path("%08x" % self._segments[-1][0])
        self._close()
        with self._open(name, "rb") as file:
            raw = file.read() + raw
        self._open(name, "wb").close()
        self._file = self._open(name, "ab")
        self._file.write(raw)
"""


def test_a_journal_that_does_not_keep_its_word_is_found_out(tmp_path: Path) -> None:
    real, broken = Path(str(importlib.resources.files("firmware"))), tmp_path / "broken"
    broken.mkdir()
    for module in MODULES:
        (broken / f"{module}.py").write_text((real / f"{module}.py").read_text().replace(STORES, REWRITES_IN_PLACE))
    tally = try_sampled(JournalCuts(broken), tmp_path, per_row=8)
    assert tally.total[LOST] > 0


def test_a_sample_has_the_ends_of_every_row() -> None:
    cuts = [Cut(row, n) for row in ("append", "format") for n in range(1, 50)]
    chosen = sample(cuts, 5, seed=3)
    assert [cut.operation for cut in chosen if cut.row == "append"][::4] == [1, 49]
    assert len(chosen) == 10
