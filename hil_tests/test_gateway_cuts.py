"""Some of the gateway's power cuts, and that they find a gateway that does not keep its word."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hil_tests.cuts.gateway import GatewayCuts
from hil_tests.cuts.gateway_judge import DUPLICATED, LOST, UNREADABLE
from hil_tests.cuts.gateway_rounds import DISTURBANCE, play_round
from hil_tests.cuts.table import DECLARED, sample, try_all
from simulators.disk.shim import ShimMissing, build

HASTY = "import edge_gateway.outbox_file as file; file.SYNCHRONOUS = 'OFF'; "
START = "from edge_gateway.commands import app; app()"


@pytest.fixture(scope="module", autouse=True)
def _shim() -> None:
    try:
        build()
    except ShimMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def test_a_power_cut_costs_the_gateway_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = GatewayCuts()
    chosen = sample([cut for cut in table.cuts(tmp_path) if cut.kept is not None], 4, seed=1)
    tally = try_all(table, chosen, tmp_path, boards=2, tried=lambda: None)
    with capsys.disabled():
        sys.stdout.write(f"\n{tally.line()} (sampled; all: make cuts ARGS=gateway)\n")
    assert tally.is_clean, "\n".join(tally.faults)


@pytest.mark.parametrize("row", DISTURBANCE)
def test_a_gateway_disturbed_at_random_moments_loses_nothing(row: str, tmp_path: Path) -> None:
    outcome = play_round(row, 100, tmp_path)
    assert (outcome.counts, outcome.faults) == ({LOST: 0, DUPLICATED: 0, UNREADABLE: 0, DECLARED: 0}, ())


def test_a_gateway_that_acknowledges_before_the_disk_has_it_is_found_out(tmp_path: Path) -> None:
    table = GatewayCuts(program=[sys.executable, "-c", HASTY + START], lives=["appending"])
    cuts = [cut for cut in table.cuts(tmp_path) if cut.row == "append"]
    tally = try_all(table, sample(cuts, 20, seed=1), tmp_path, boards=2, tried=lambda: None)
    assert tally.total[LOST] > 0
