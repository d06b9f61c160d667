"""The bench with real ports: pseudo-terminals stand for a board's console, two RS-485 adapters and a relay.

The board behind them is the virtual one, started and stopped by the relay alone; the bench knows nothing of that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from simulators.board import BoardSettings, VirtualBoard
from simulators.relay_board import RelayBoard
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing
from simulators.wire import Wire

SPEED = 60
SCENARIO = """
def test_a_board_that_loses_power_loses_no_record(timeline):
    timeline.during("1 min", "3 min").fault("bus.noise", chance=0.1)
    timeline.at("3 min").cut("board")
    timeline.at("4 min").restore("board")
    timeline.at("4 min").cut("link")
    timeline.at("6 min").restore("link")
    timeline.between("1 min", "8 min").expect_value("water_temperature", near="truth")
    timeline.by("8 min").expect_records(lost=0, twice=0)
    timeline.run()


def test_what_a_chip_cannot_have_is_skipped(timeline):
    timeline.during("1 min", "2 min").fault("board.heap-full")
    timeline.run()
"""


@dataclass
class Workbench:
    """Ports with a board behind them; `switched` is what the relay did to it."""

    options: list[str]
    switched: list[bool]


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[Workbench]:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no virtual board here: {error}")
    switched: list[bool] = []
    orders = threading.Condition()
    with ExitStack() as undo:
        bus, uplink = (undo.enter_context(Wire(tmp_path / name)) for name in ("bus", "uplink"))
        console = tmp_path / "console"
        settings = BoardSettings(
            flash=tmp_path / "flash",
            uarts={1: bus.ends["board"], 2: uplink.ends["board"]},
            console_link=console,
            rate=SPEED,
        )
        board = VirtualBoard(settings)
        undo.callback(board.stop)

        def switch(closed: bool) -> None:
            with orders:
                switched.append(closed)
                orders.notify()

        def power() -> None:
            """Do what the relay says, from a thread that outlives the board."""
            done, has_power = 0, False
            while True:
                with orders:
                    orders.wait_for(lambda: len(switched) > done or over.is_set())  # noqa: B023
                    if over.is_set():
                        return
                    wanted, done = switched[done], done + 1
                if wanted and not has_power:
                    board.start()
                elif not wanted:
                    board.power_cut()
                has_power = wanted

        over = threading.Event()
        thread = threading.Thread(target=power, name="power")
        thread.start()

        def end() -> None:
            with orders:
                over.set()
                orders.notify()
            thread.join()

        undo.callback(end)
        relay = undo.enter_context(RelayBoard(tmp_path / "plug", switch, "modbus", 0))
        switch(True)  # as it comes from the shelf: with power
        ports = {"board": console, "bus": bus.ends["gateway"], "uplink": uplink.ends["gateway"]}
        options = [f"--{name}={port}" for name, port in ports.items()]
        yield Workbench([*options, f"--relay=modbus:{relay.port}", f"--speed={SPEED}"], switched)


def test_a_scenario_runs_on_real_ports_with_a_report(workbench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "test_power.py").write_text(SCENARIO, encoding="utf-8")
    report = tmp_path / "report"
    argv = [sys.executable, "-m", "simulators.bench_command", "scenarios", *workbench.options, f"--report={report}"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    changes = [closed for closed, _ in groupby(workbench.switched)]
    assert changes == [True, False, True, False, True], "off after the flash, and in the scenario"
    suite = ElementTree.parse(report / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "0", "1")
    page = (report / "report.html").read_text(encoding="utf-8")
    for words in (
        "firmware 0.1.0 on",
        "board.power-cut",
        "a chip has the memory it has",
        "<svg",
        str(tmp_path / "console"),
    ):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org", ""), "one file, nothing fetched"
