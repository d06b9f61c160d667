"""Every kind of fault in turn: what is written for it, and the table that says what came of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators import demo
from simulators.bench_fixture import SPAN_S
from simulators.bench_options import BenchOptions
from simulators.every_fault import scenario, with_a_brush
from simulators.fault_table import Row, as_table, row_of, total
from simulators.faults import kinds
from simulators.faults.plan import parameters_of
from simulators.timeline import Timeline
from station_config.network import load_network


def test_the_seed_gives_parameters_that_the_kinds_take() -> None:
    for seed in range(20):
        for one in kinds().values():
            given = parameters_of(seed, one)
            assert given == one.complete(given) == parameters_of(seed, one)
    drawn = {tuple(parameters_of(seed, kinds()["bus.delay"]).items()) for seed in range(20)}
    assert len(drawn) > 10


@pytest.mark.parametrize("name", list(kinds()))
def test_each_kind_is_in_force_once_and_the_account_comes_after_it(name: str) -> None:
    steps = scenario(Timeline(), name, parameters_of(1, kinds()[name])).steps
    assert sum(f"fault({name!r}" in step.said for step in steps) == 1
    assert "expect_records(lost=0, twice=0)" in steps[-1].said


def test_the_station_gets_a_probe_with_a_brush_besides_its_own(tmp_path: Path) -> None:
    plan = demo.plan_run(None, 1, SPAN_S)
    options = with_a_brush(BenchOptions(tmp_path / "run", plan, stations=(plan.station,)))
    models = {s.id: [sensor.instrument for sensor in s.sensors] for s in load_network(options.network).stations}
    assert models.pop(plan.station) == ["yosemitech-y520", "keller-acculevel", "ecowitt-wn90lp", "yosemitech-y511"]
    assert {len(sensors) for sensors in models.values()} == {3}


def test_a_kind_that_failed_is_in_the_table_with_the_reason() -> None:
    green = Row("bus.noise", 1, 15, 213, result="green")
    lost = row_of(dict([Row("cloud.kill", 1, 20, 300, lost=2).as_property()]), "failed", "2 records lost\nmore")
    assert lost is not None
    assert lost.cells == ["cloud.kill", "1", "20", "300", "2", "0", "failed: 2 records lost"]
    assert total([green, lost]).cells == ["all", "2", "35", "513", "2", "0", "1 of 2 green"]
    assert as_table([green, lost]).row_count == 3
    assert row_of({}, "passed", "") is None
