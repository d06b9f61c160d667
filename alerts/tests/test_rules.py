"""The rule machine, told as the field would tell it: minutes on a timeline, a salinity each, and what is expected."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.rules import Decision, Kind, Observation, Reason, Rule, State, step

START = 1_773_000_000  # a day in March 2026, the height of the dry season
RULE = Rule(
    id="rice-xuan-hoa",
    parameter="salinity",
    stations=("xuan-hoa",),
    set_level=2.0,
    clear_level=1.8,
    set_dwell_s=600,
    clear_dwell_s=1200,
    stale_after_s=3600,
    max_gap_s=1800,
)


@dataclass
class Timeline:
    """Feeds one rule minute by minute and keeps every decision."""

    rule: Rule = RULE
    state: State = field(default_factory=State)
    told: list[tuple[float, Kind]] = field(default_factory=list)

    def salinity(
        self, minute: float, value: float | None, *, flag: int = 1, late_minutes: float = 0, station: str = "xuan-hoa"
    ) -> Decision:
        observation = Observation(station, "salinity", int(START + minute * 60), value, flag)
        decision = step(self.rule, self.state, observation, START + (minute + late_minutes) * 60)
        self.state = decision.state
        if decision.kind is not None:
            self.told.append((minute, decision.kind))
        return decision

    def steady(self, first: int, last: int, value: float, *, every: int = 5, late_minutes: float = 0) -> None:
        for minute in range(first, last + 1, every):
            self.salinity(minute, value, late_minutes=late_minutes)


def test_a_salt_tide_raises_once_after_its_dwell_and_clears_once_after_its_own() -> None:
    river = Timeline()
    river.steady(0, 30, 1.2)
    river.steady(35, 95, 2.4)
    river.steady(100, 110, 1.9)
    river.steady(115, 200, 1.5)

    assert river.told == [(45, Kind.RAISED), (135, Kind.CLEARED)]


def test_an_hour_of_values_around_the_set_level_raises_nothing() -> None:
    river = Timeline()
    for minute in range(0, 60, 5):
        river.salinity(minute, 2.1 if minute % 10 else 1.9)

    assert river.told == []


def test_values_between_the_levels_keep_an_alert_active() -> None:
    river = Timeline()
    river.steady(0, 15, 2.2)
    river.steady(20, 120, 1.9)

    assert (river.told, river.state.active) == ([(10, Kind.RAISED)], True)


def test_a_gap_longer_than_allowed_starts_a_pending_dwell_again() -> None:
    river = Timeline()
    river.salinity(0, 2.5)
    decision = river.salinity(31, 2.5)

    assert (decision.reason, decision.state.pending_since) == (Reason.GAP_RESTARTED_DWELL, START + 31 * 60)


def test_a_gap_never_clears_an_active_alert() -> None:
    river = Timeline()
    river.steady(0, 10, 2.5)
    river.salinity(600, 2.5)

    assert (river.told, river.state.active) == ([(10, Kind.RAISED)], True)


def test_a_gap_inside_a_clearing_dwell_starts_it_again() -> None:
    river = Timeline()
    river.steady(0, 10, 2.5)
    river.salinity(15, 1.0)
    river.salinity(50, 1.0)
    river.steady(55, 75, 1.0)

    assert river.told == [(10, Kind.RAISED), (70, Kind.CLEARED)]


def test_a_backlog_three_days_old_wakes_nobody() -> None:
    river = Timeline()
    river.steady(0, 300, 4.5, late_minutes=3 * 24 * 60)

    assert (river.told, river.state.active) == ([], False)


def test_history_from_a_backlog_counts_towards_the_dwell_of_the_first_fresh_observation() -> None:
    river = Timeline()
    river.steady(0, 20, 2.5, late_minutes=90)
    decision = river.salinity(25, 2.5, late_minutes=5)

    assert (decision.kind, decision.reason) == (Kind.RAISED, Reason.RAISED)


def test_stale_low_values_do_not_clear_an_active_alert() -> None:
    river = Timeline()
    river.steady(0, 10, 2.5)
    river.steady(15, 90, 0.5, late_minutes=120)

    assert (river.told, river.state.active) == ([(10, Kind.RAISED)], True)


def test_newest_first_after_an_outage_raises_on_the_newest_and_ignores_what_comes_behind() -> None:
    river = Timeline(rule=replace(RULE, set_dwell_s=0))
    raised = river.salinity(100, 2.5)
    behind = [river.salinity(minute, 0.5, late_minutes=100 - minute) for minute in (60, 70, 80)]

    assert (raised.kind, [decision.reason for decision in behind]) == (Kind.RAISED, [Reason.OUT_OF_ORDER] * 3)


BASE = State(last_time=START, last_value=1.0)
ONE_OBSERVATION = [
    # sentence, state before, observation's changes, seconds it is old, kind, reason
    ("below the set level is quiet", BASE, {"value": 1.99}, 0, None, Reason.BELOW_SET_LEVEL),
    ("the set level itself starts the dwell", BASE, {"value": 2.0}, 0, None, Reason.SET_DWELL_RUNS),
    ("flag 4 (fail) never counts", BASE, {"value": 9.9, "flag": 4}, 0, None, Reason.FLAG_DOES_NOT_COUNT),
    ("flag 9 (missing) never counts", BASE, {"value": None, "flag": 9}, 0, None, Reason.FLAG_DOES_NOT_COUNT),
    ("an unknown flag never counts", BASE, {"value": 9.9, "flag": 7}, 0, None, Reason.FLAG_DOES_NOT_COUNT),
    ("flag 2 (not evaluated) counts", BASE, {"value": 2.5, "flag": 2}, 0, None, Reason.SET_DWELL_RUNS),
    ("no value", BASE, {"value": None}, 0, None, Reason.NO_VALUE),
    ("not a number", BASE, {"value": float("nan")}, 0, None, Reason.NO_VALUE),
    ("infinity is no value", BASE, {"value": float("inf")}, 0, None, Reason.NO_VALUE),
    ("another station", BASE, {"station": "vam-kenh"}, 0, None, Reason.NOT_FOR_THIS_RULE),
    ("another parameter", BASE, {"parameter": "water_level"}, 0, None, Reason.NOT_FOR_THIS_RULE),
    ("the same time again", BASE, {"time": START}, 300, None, Reason.OUT_OF_ORDER),
    ("older than the last", BASE, {"time": START - 60}, 360, None, Reason.OUT_OF_ORDER),
    ("a clock that runs ahead", BASE, {"value": 9.9}, -901, None, Reason.AHEAD_OF_CLOCK),
    ("a clock that runs ahead a little", BASE, {"value": 9.9}, -900, None, Reason.SET_DWELL_RUNS),
    ("one second too old", BASE, {"value": 9.9}, 3601, None, Reason.STALE),
    ("just young enough", BASE, {"value": 9.9}, 3600, None, Reason.SET_DWELL_RUNS),
    (
        "a suspect value raises and says so",
        replace(BASE, pending_since=START - 300),
        {"value": 2.5, "flag": 3},
        0,
        Kind.RAISED,
        Reason.RAISED_ON_SUSPECT,
    ),
    (
        "a suspect value clears and says so",
        replace(BASE, active=True, since=START - 9000, pending_since=START - 900),
        {"value": 0.5, "flag": 3},
        0,
        Kind.CLEARED,
        Reason.CLEARED_ON_SUSPECT,
    ),
    (
        "above the clear level stays active",
        replace(BASE, active=True, since=START - 9000),
        {"value": 1.81},
        0,
        None,
        Reason.ABOVE_CLEAR_LEVEL,
    ),
    (
        "the clear level itself starts the clearing dwell",
        replace(BASE, active=True, since=START - 9000),
        {"value": 1.8},
        0,
        None,
        Reason.CLEAR_DWELL_RUNS,
    ),
]


@pytest.mark.parametrize(
    ("before", "changes", "age_s", "kind", "reason"),
    [pytest.param(*row[1:], id=row[0]) for row in ONE_OBSERVATION],
)
def test_one_observation(
    before: State, changes: dict[str, Any], age_s: float, kind: Kind | None, reason: Reason
) -> None:
    observation = replace(Observation("xuan-hoa", "salinity", START + 300, 1.0, 1), **changes)

    decision = step(RULE, before, observation, observation.time + age_s)

    assert (decision.kind, decision.reason) == (kind, reason)


def test_a_rule_for_one_sensor_ignores_the_other() -> None:
    rule = replace(RULE, sensor=2)

    decision = step(rule, State(), Observation("xuan-hoa", "salinity", START, 9.0, 1, sensor=1), START)

    assert decision.reason == Reason.NOT_FOR_THIS_RULE


def test_a_state_of_another_shape_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        State.from_json('{"colour":"red"}')


observations = st.builds(
    Observation,
    station=st.sampled_from(["xuan-hoa", "xuan-hoa", "xuan-hoa", "vam-kenh"]),
    parameter=st.just("salinity"),
    time=st.integers(START, START + 50_000),
    value=st.one_of(st.none(), st.floats(0, 5), st.just(float("nan"))),
    flag=st.sampled_from([1, 1, 1, 2, 3, 4, 9]),
)
rules = st.builds(
    replace,
    st.just(RULE),
    set_dwell_s=st.integers(0, 3000),
    clear_dwell_s=st.integers(0, 3000),
    stale_after_s=st.integers(60, 30_000),
)


def run(rule: Rule, sequence: list[Observation], delays: list[int]) -> list[Decision]:
    state, decisions = State(), []
    for observation, delay_s in zip(sequence, delays, strict=False):
        decision = step(rule, state, observation, observation.time + delay_s)
        state = State.from_json(decision.state.to_json())
        assert state == decision.state
        decisions.append(decision)
    return decisions


@settings(deadline=None)  # the machine may be busy
@given(rules, st.lists(observations, max_size=60), st.lists(st.integers(0, 40_000), min_size=60, max_size=60))
def test_raises_and_clears_always_take_turns_and_every_decision_has_a_reason(
    rule: Rule, sequence: list[Observation], delays: list[int]
) -> None:
    decisions = run(rule, sequence, delays)

    told = [decision.kind for decision in decisions if decision.kind is not None]
    assert told == [Kind.RAISED, Kind.CLEARED] * (len(told) // 2) + [Kind.RAISED] * (len(told) % 2)
    assert all(isinstance(decision.reason, Reason) for decision in decisions)


@settings(deadline=None)  # the machine may be busy
@given(rules, st.lists(observations, max_size=60), st.lists(st.integers(0, 40_000), min_size=60, max_size=60))
def test_nothing_is_told_on_stale_failed_or_missing_data(
    rule: Rule, sequence: list[Observation], delays: list[int]
) -> None:
    decisions = run(rule, sequence, delays)

    for observation, delay_s, decision in zip(sequence, delays, decisions, strict=False):
        if decision.kind is not None:
            assert delay_s <= rule.stale_after_s
            assert observation.flag in (1, 2, 3)


@settings(deadline=None)  # the machine may be busy
@given(rules, st.lists(observations, max_size=60))
def test_replaying_what_was_already_seen_changes_nothing(rule: Rule, sequence: list[Observation]) -> None:
    ordered = sorted(sequence, key=lambda observation: observation.time)
    state = State()
    for observation in ordered:
        state = step(rule, state, observation, START + 50_000).state

    again = [step(rule, state, observation, START + 50_000) for observation in ordered]

    assert all(decision.state == state and decision.kind is None for decision in again)
