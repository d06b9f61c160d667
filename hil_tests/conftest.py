"""One running chain for all scenarios: a station at Xuân Hòa, sixty times faster than the river, salt on its way.

The board is virtual, or the real one at --board (see docs/test_bench.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hil_tests.scene import Scene
from simulators.bench_fixture import started, timeline_of
from simulators.pytest_plugin import OPTIONS
from simulators.timeline import Timeline


def pytest_addoption(parser: pytest.Parser) -> None:
    """Give the options of the bench their short names here: --board is --tram-board."""
    group = parser.getgroup("bench", "the same as --tram-…, short")
    for name, (metavar, text) in OPTIONS.items():
        group.addoption(f"--{name}", dest=f"tram_{name}", metavar=metavar, default=None, help=text)


@pytest.fixture(scope="session")
def scene(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Bring the chain up once; leaving it ends every process."""
    with started(pytestconfig, tmp_path_factory) as bench:
        yield Scene(bench)


@pytest.fixture
def timeline(scene: Scene, request: pytest.FixtureRequest) -> Timeline:
    """Write a scenario for the one chain, then `timeline.run()`."""
    return timeline_of(scene.bench, request.node)
