"""One catalogue of faults, and plans that can be printed and run again."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from simulators.commands import app
from simulators.faults import FaultPlan, FaultRefused, Injection, draw, kind, kinds
from simulators.faults.catalogue import SCOPES

TARGETS = {
    "bus": ["xuan-hoa", "hoa-binh"],
    "instrument": ["xuan-hoa/1"],
    "board": ["xuan-hoa"],
    "link": ["link"],
    "gateway": ["gateway"],
    "broker": ["broker"],
    "cloud": ["cloud"],
    "people": ["phone"],
}


def test_every_part_of_the_chain_has_faults_and_each_says_what_it_leaves() -> None:
    assert {one.scope for one in kinds().values()} == set(SCOPES)
    assert all(one.what and one.leaves for one in kinds().values())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(1, 900), st.booleans())
def test_the_same_seed_gives_the_same_plan_and_no_part_has_two_faults_at_once(
    seed: int, span_s: float, hardware: bool
) -> None:
    plan = draw(seed, span_s, TARGETS, hardware=hardware)
    assert plan == draw(seed, span_s, TARGETS, hardware=hardware)
    assert FaultPlan.from_json(json.loads(json.dumps(plan.as_json()))) == plan
    assert not any(one.overlaps(other) for one, other in combinations(plan.injections, 2))
    assert all(one.until_s <= span_s + 0.02 for one in plan.injections)
    assert not (hardware and any(kind(one.kind).no_hardware for one in plan.injections))


def test_all_that_is_wrong_with_a_plan_is_said_at_once() -> None:
    wrong = (
        Injection(1, 1, "bus.nose", "xuan-hoa"),
        Injection(2, 1, "bus.noise", "xuan-hoa", {"chance": 2.0, "volume": 1.0}),
        Injection(99, 1, "bus.stuck", "xuan-hoa"),
    )
    with pytest.raises(FaultRefused) as refused:
        FaultPlan(1, 60.0, wrong)
    assert [word in str(refused.value) for word in ("bus.nose", "0.05 to 0.5 share", "volume", "after the end")] == [
        True
    ] * 4


def test_a_name_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(FaultRefused, match=r"perhaps .*bus\.noise"):
        kind("bus.nois")


def test_the_command_lists_the_kinds_and_prints_a_plan() -> None:
    listed = CliRunner().invoke(app, ["faults", "--json"])
    assert {one["id"] for one in json.loads(listed.stdout)} == set(kinds())
    planned = CliRunner().invoke(app, ["faults", "board", "--seed", "7", "--json"])
    assert {one["kind"].split(".")[0] for one in json.loads(planned.stdout)["injections"]} == {"board"}
    assert CliRunner().invoke(app, ["faults", "boat"]).exit_code == 2
