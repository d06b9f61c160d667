"""The table of a run through the kinds of faults, as a pytest plugin: `tram-sim bench --every-fault` loads it.

A scenario says what came of its kind in a property of its report (`Row`); the table stands at the end of the run, and
in report.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

FAULT = "tram_fault"
NUMBERS = ("injected", "in_flight", "made", "lost", "doubled")
HEAD = ("fault", "injected", "records in flight", "made", "lost", "doubled", "result")


@dataclass
class Row:
    """What came of one kind: how often it began, the most records under way at a moment, and the account."""

    kind: str
    injected: int = 0
    in_flight: int = 0
    made: int = 0
    lost: int = 0
    doubled: int = 0
    result: str = ""

    @property
    def cells(self) -> list[str]:
        """Return it as HEAD names it."""
        return [self.kind, *(f"{getattr(self, name):,}" for name in NUMBERS), self.result]

    def as_property(self) -> tuple[str, str]:
        """Return it for a report of pytest."""
        return FAULT, json.dumps(asdict(self))


def row_of(properties: Mapping[str, object], outcome: str, why: str) -> Row | None:
    """Return the row of a scenario's report, None where it is about no kind; how it ended is the result."""
    if FAULT not in properties:
        return None
    row = Row(**json.loads(str(properties[FAULT])))
    if outcome != "passed":
        row.result = f"{outcome}: {why.partition(chr(10))[0]}"
    return row


class FaultTable:
    """Gathers rows, and prints them."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a scenario's row: of its call, or of what before or after it failed or was skipped."""
        if report.when != "call" and report.outcome == "passed":
            return
        row = row_of(dict(report.user_properties), report.outcome, why_of(report))
        if row is not None:
            self.rows[row.kind] = row

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, as wide as it wants to be."""
        console = Console(width=160)
        with console.capture() as captured:
            console.print(as_table(list(self.rows.values())))
        terminalreporter.write_line("\n" + captured.get())


def as_table(rows: list[Row]) -> Table:
    """Return the rows as a table, with their sums."""
    table = Table(*HEAD, title_justify="left")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row.cells)
    table.add_section()
    table.add_row(*total(rows).cells)
    return table


def total(rows: list[Row]) -> Row:
    """Return the sums of rows; the records of one kind's scenario are counted in that kind only."""
    green = sum(row.result.startswith("green") for row in rows)
    sums = {name: sum(getattr(row, name) for row in rows) for name in NUMBERS}
    return Row("all", **sums, result=f"{green} of {len(rows)} green")


def why_of(report: pytest.TestReport) -> str:
    """Return why a test failed or was skipped, empty where it passed."""
    longrepr: Any = report.longrepr
    if longrepr is None:
        return ""
    if isinstance(longrepr, tuple):  # a skip: file, line, reason
        return str(longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(longrepr, "reprcrash", None)
    return str(crash.message if crash else longrepr)


def pytest_configure(config: pytest.Config) -> None:
    """Begin to gather."""
    config.pluginmanager.register(FaultTable(), "tram-fault-table")
