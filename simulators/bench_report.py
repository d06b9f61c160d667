"""The report of a bench run: report.html, one file worth showing, and junit.xml, by pytest's own writer.

reports of pytest (also from the workers of xdist) ─▶ Run ─▶ bench_page.page ─▶ report.html
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from simulators.bench import Bench
from simulators.bench_fixture import FACTS, TIMELINE
from simulators.bench_page import page
from simulators.fault_table import Row, row_of, why_of


@dataclass
class Scenario:
    """One test: how it ended, how long it took, why, and its timeline if it has one."""

    name: str
    outcome: str
    seconds: float
    why: str = ""
    timeline: dict[str, Any] | None = None
    row: Row | None = None  # of the table of faults


@dataclass
class Run:
    """A bench run."""

    began: datetime
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    scenarios: list[Scenario] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something ran and nothing failed."""
        outcomes = [one.outcome for one in self.scenarios]
        return "passed" in outcomes and "failed" not in outcomes


class Reporter:
    """A pytest plugin that gathers and writes."""

    def __init__(self, config: pytest.Config) -> None:
        self._folder = Path(config.getoption("tram_report"))
        self._is_worker = hasattr(config, "workerinput")
        self._run = Run(datetime.now(UTC))
        self._began = time.monotonic()
        if not self._is_worker and config.option.xmlpath is None:
            config.option.xmlpath = str(self._folder / "junit.xml")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Add what the report says of the bench to a test that used one."""
        if call.when == "call" and (bench := _bench_of(item)) is not None:
            item.user_properties.append((FACTS, json.dumps(bench.facts)))
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's outcome: its call, or whatever before or after it failed or was skipped."""
        if report.when != "call" and report.outcome == "passed":
            return
        said = dict(report.user_properties)
        self._run.facts = self._run.facts or json.loads(str(said.get(FACTS, "{}")))
        timeline = json.loads(str(said[TIMELINE])) if TIMELINE in said else None
        why = why_of(report)
        row = row_of(said, report.outcome, why)
        self._run.scenarios.append(Scenario(_name(report), report.outcome, report.duration, why, timeline, row))

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        if self._is_worker:
            return
        self._run.seconds = time.monotonic() - self._began
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "report.html").write_text(page(self._run), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where it is."""
        terminalreporter.write_line(f"bench report: {self._folder / 'report.html'}")


def _bench_of(item: pytest.Item) -> Bench | None:
    values = getattr(item, "funcargs", {}).values()
    found = (one if isinstance(one, Bench) else getattr(one, "bench", None) for one in values)
    return next((one for one in found if isinstance(one, Bench)), None)


def _name(report: pytest.TestReport) -> str:
    words = report.nodeid.partition("::")[2] or report.nodeid
    return words.removeprefix("test_").replace("_", " ")
