"""Trạm's test bench for pytest: fixtures `bench` and `timeline`, and options to run on real hardware.

Loaded by its entry point in every project that has Trạm installed; it does nothing until a test asks for a fixture,
imports nothing before, and all its options begin with --tram-.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simulators.bench import Bench
    from simulators.own_bench import OwnInstrument
    from simulators.timeline import Timeline

#: option: (what it takes, help)
OPTIONS = {
    "board": ("PORT", "console of a real station board; without it the board is virtual"),
    "bus": ("PORT", "RS-485 adapter at which the bench plays the instruments"),
    "uplink": ("PORT", "RS-485 adapter at which the gateway asks the board"),
    "relay": ("PORT", "relay that is the board's plug: PORT, lcus:PORT#CHANNEL or modbus:PORT#COIL"),
    "speed": ("TIMES", "how fast bench time runs: 60 with a virtual board, 1 with a real one"),
    "seed": ("NUMBER", "the same seed gives the same river and noise"),
    "report": ("FOLDER", "write report.html and junit.xml there"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each under a name no other plugin has."""
    group = parser.getgroup("tram", "Trạm test bench")
    for name, (metavar, text) in OPTIONS.items():
        group.addoption(f"--tram-{name}", dest=f"tram_{name}", metavar=metavar, default=None, help=text)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Write a report where one is asked for."""
    if config.getoption("tram_report"):
        from simulators.bench_report import Reporter

        config.pluginmanager.register(Reporter(config), "tram-bench-report")


@pytest.fixture(scope="module")
def instruments() -> list[OwnInstrument]:
    """Override this to put your own instruments on the bus: a list of simulators.own_bench.OwnInstrument."""
    return []


@pytest.fixture(scope="module")
def bench(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, instruments: list[OwnInstrument]
) -> Iterator[Bench]:
    """Bring up the whole chain, once for a module: board, gateway, broker, cloud, phone, with a tested board."""
    with _open(pytestconfig, tmp_path_factory, instruments) as running:
        yield running


@pytest.fixture
def timeline(bench: Bench, request: pytest.FixtureRequest) -> Timeline:
    """Write a scenario, then `timeline.run()`."""
    from simulators.bench_fixture import timeline_of

    return timeline_of(bench, request.node)


def _open(
    config: pytest.Config, factory: pytest.TempPathFactory, instruments: list[OwnInstrument]
) -> AbstractContextManager[Bench]:
    try:
        from simulators.bench_fixture import started
    except ImportError as error:
        pytest.fail(f"the bench needs more: pip install 'tram[simulators,technician,gateway,cloud]' ({error})")
    return started(config, factory, instruments)
