"""The demo's own decisions: when plugs are pulled, what counts as lost, what the panel and the front door show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware.record import Record
from simulators import check, demo
from simulators import site as sites
from simulators.check import Alerting, Counts

PLUGS = ["link", "broker", "gateway", "board:a", "board:b"]


class Recorder:
    """Takes the place of a bench where only its plugs are wanted."""

    def __init__(self) -> None:
        self.done: list[tuple[str, bool]] = []

    def report(self, text: str) -> None:
        """Say nothing."""

    def pull(self, plug: str) -> None:
        """Note it."""
        self.done.append((plug, True))

    def put_back(self, plug: str) -> None:
        """Note it."""
        self.done.append((plug, False))


@pytest.mark.parametrize("seconds", [60.0, 120.0, 600.0])
def test_every_plug_is_out_once_and_back_before_the_end(seconds: float) -> None:
    pulls = demo.timetable(PLUGS, seconds)
    assert [pull.plug for pull in pulls] == PLUGS
    assert max(pull.at_s + pull.out_s for pull in pulls) < seconds
    assert all(2.0 <= pull.out_s <= 8.0 for pull in pulls)


def test_a_timetable_that_is_late_still_pulls_and_puts_back_everything_in_order() -> None:
    bench = Recorder()
    table = demo.Timetable(bench, demo.timetable(PLUGS, 100.0))  # type: ignore[arg-type]  # plugs are all it uses
    table.tick(7.0)
    assert bench.done == []
    table.tick(float("inf"))
    assert [plug for plug, out in bench.done if out] == PLUGS
    assert sorted(bench.done) == sorted([(plug, out) for plug in PLUGS for out in (True, False)])
    assert all(bench.done.index((plug, True)) < bench.done.index((plug, False)) for plug in PLUGS)


def row(seq: int, count: int = 5) -> dict[str, Any]:
    """Return a record as the API gives it."""
    return {"journal": 7, "seq": seq, "time": 60 * seq, "count": count, "sensor": 1, "parameter": 34, "flag": 2}


def record(seq: int, count: int = 5) -> Record:
    """Return the same record as the board has it."""
    return Record(seq, 60 * seq, count, 1, 34, 2)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([row(1), row(2)], Counts(2, 2, 0, 0, 0)),
        ([row(1)], Counts(2, 1, 1, 0, 0, ("a/00000007/2",))),
        ([row(1), row(2), row(2)], Counts(2, 2, 0, 1, 0)),
        ([row(1), row(2, count=6)], Counts(2, 2, 0, 0, 1)),
        ([row(1), row(2), row(3)], Counts(2, 2, 0, 0, 0)),  # made after the journal was read
        ([], Counts(2, 0, 2, 0, 0, ("a/00000007/1", "a/00000007/2"))),
    ],
    ids=["all", "one lost", "one twice", "one changed", "one newer", "none"],
)
def test_the_journal_is_compared_with_the_database(stored: list[Mapping[str, Any]], expected: Counts) -> None:
    assert check.compare({("a", 7): {1: record(1), 2: record(2)}}, {"a": stored}) == expected


GOOD = Counts(10, 10, 0, 0, 0)
TOLD = Alerting(True, True, 2, ("raised", "cleared"), 612.0, 600.0, 0.2)


@pytest.mark.parametrize(
    ("counts", "alerting", "pulled", "fault"),
    [
        (GOOD, TOLD, dict.fromkeys(PLUGS, 1), None),
        (Counts(0, 0, 0, 0, 0), TOLD, dict.fromkeys(PLUGS, 1), "no records"),
        (Counts(10, 9, 1, 0, 0, ("a/00000007/3",)), TOLD, dict.fromkeys(PLUGS, 1), "a/00000007/3"),
        (Counts(10, 10, 0, 2, 0), TOLD, dict.fromkeys(PLUGS, 1), "2 records stored twice"),
        (Counts(10, 10, 0, 0, 1), TOLD, dict.fromkeys(PLUGS, 1), "another content"),
        (GOOD, Alerting(True, False, 1, ("raised",), 612.0, 600.0, 0.2), dict.fromkeys(PLUGS, 1), "not cleared"),
        (GOOD, Alerting(True, True, 2, ("a", "b", "b"), 612.0, 600.0, 0.2), dict.fromkeys(PLUGS, 1), "3 messages"),
        (GOOD, TOLD, {"link": 1}, "not every plug"),
    ],
)
def test_a_run_fails_for_every_single_fault(
    counts: Counts, alerting: Alerting, pulled: dict[str, int], fault: str | None
) -> None:
    found = check.faults(counts, alerting, PLUGS, pulled)
    assert found == [] if fault is None else len(found) == 1 and fault in found[0]


def test_a_minute_that_straddles_two_rows_of_the_file_is_not_compared() -> None:
    rows, salinity = np.array([0.0, 900.0, 1800.0]), np.array([1.0, 2.0, np.nan])
    times = [300, 600, 900, 960, 1200, 1500, 2400]
    values = [1.01, 1.0, 1.0, 1.9, 2.05, None, 3.0]
    assert check.salinity_errors(times, values, rows, salinity) == pytest.approx([0.01, 0.0, 0.05])


def test_a_run_empties_only_what_a_run_has_made(tmp_path: Path) -> None:
    plan = demo.plan_run(None, 1, 7200.0)
    precious = tmp_path / "home" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("ten years of work", encoding="utf-8")
    with pytest.raises(sites.SiteError, match="not empty"):
        sites.lay_out(precious.parent, plan)
    assert precious.exists()
    first = sites.lay_out(tmp_path / "run", plan)
    (first.directory / "old.log").touch()
    sites.lay_out(tmp_path / "run", plan)
    assert not (first.directory / "old.log").exists()
