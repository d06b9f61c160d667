"""One running chain for all scenarios: a station at Xuân Hòa, sixty times faster than the river, salt on its way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.scene import Scene
from simulators import demo
from simulators.bench import Bench, BenchOptions
from simulators.errors import SimulatorError
from simulators.virtual_board.build import build

SPEED = 60.0
SPAN_S = 7200.0


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Bring the chain up once; leaving it ends every process."""
    try:
        build()
    except SimulatorError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no virtual board here: {error}")
    plan = demo.plan_run(None, 1, SPAN_S)
    folder: Path = tmp_path_factory.mktemp("bench")
    with Bench(BenchOptions(folder, plan, SPEED, stations=(plan.station,))) as bench:
        bench.start()
        yield Scene(bench)
