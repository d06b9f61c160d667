"""Alert rules as pure functions: one observation in, one decision with its reason out.

A rule is a small machine per station. It is quiet or active, and may be on its way to the other side (a pending dwell):

    quiet --value >= set level for the set dwell--> raised --value <= clear level for the clear dwell--> cleared (quiet)

Event time decides, never the time of arrival: a dwell is the time between the first and the latest of consecutive
observations that qualify. What is too old is kept as history (it may start a dwell) but never raises or clears.

Only the standard library is used, so that a gateway can evaluate the same rules while the cloud is out of reach.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

#: QARTOD flags (1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing) that may move a rule.
FLAGS_THAT_COUNT = frozenset({1, 2, 3})
FLAG_SUSPECT = 3
#: A message is news for this long after its event; then it is marked expired, not sent.
EXPIRE_AFTER_S = 2 * 3600
#: After a warning that had to be withdrawn the next one waits this long at least: longer than quality control takes.
DOUBT_DWELL_S = 300

_IDENTITY = uuid.UUID("6f3ad2f4-7d0e-4c5b-9f47-2c1f0a8e52b1")


class Kind(StrEnum):
    """What a decision tells people."""

    RAISED = "raised"
    CLEARED = "cleared"


class Reason(StrEnum):
    """Why a decision is what it is: one word for the log, the test and the person who asks."""

    RAISED = "raised"
    RAISED_ON_SUSPECT = "raised_on_suspect"
    CLEARED = "cleared"
    CLEARED_ON_SUSPECT = "cleared_on_suspect"
    SET_DWELL_RUNS = "set_dwell_runs"
    CLEAR_DWELL_RUNS = "clear_dwell_runs"
    GAP_RESTARTED_DWELL = "gap_restarted_dwell"
    BELOW_SET_LEVEL = "below_set_level"
    ABOVE_CLEAR_LEVEL = "above_clear_level"
    STALE = "stale"
    OUT_OF_ORDER = "out_of_order"
    AHEAD_OF_CLOCK = "ahead_of_clock"
    FLAG_DOES_NOT_COUNT = "flag_does_not_count"
    NO_VALUE = "no_value"
    JUDGED_AGAIN = "judged_again"
    WITHDRAWN = "withdrawn"
    REINSTATED = "reinstated"
    NOT_FOR_THIS_RULE = "not_for_this_rule"


@dataclass(frozen=True)
class Observation:
    """One value of one parameter at one station; `time` is unix seconds UTC of the end of its interval."""

    station: str
    parameter: str
    time: int
    value: float | None
    flag: int
    sensor: int = 0


@dataclass(frozen=True)
class Rule:
    """When to raise and clear an alert; levels in the parameter's unit, `sensor` None takes any sensor."""

    id: str
    parameter: str
    stations: tuple[str, ...]
    set_level: float
    clear_level: float
    set_dwell_s: int = 0
    clear_dwell_s: int = 0
    stale_after_s: int = 3600
    max_gap_s: int = 1800
    max_ahead_s: int = 900
    severity: str = "warning"
    threshold: str | None = None
    sensor: int | None = None
    text: str = "threshold"
    crop: Mapping[str, str] = field(default_factory=dict)

    def applies_to(self, observation: Observation) -> bool:
        """Say whether this rule watches the observation's series."""
        return (
            observation.parameter == self.parameter
            and observation.station in self.stations
            and self.sensor in (None, observation.sensor)
        )


@dataclass(frozen=True)
class State:
    """What a rule remembers about one station; times are event times (unix seconds UTC)."""

    active: bool = False
    since: int | None = None
    pending_since: int | None = None
    last_time: int | None = None
    last_value: float | None = None
    doubted: bool = False  # the last warning was withdrawn

    def to_json(self) -> str:
        """Return the state as JSON text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> State:
        """Return the state written by `to_json`. Raises ValueError or TypeError when the text is something else."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields)


@dataclass(frozen=True)
class Decision:
    """The state afterwards, what to tell people (None: nothing), and why."""

    state: State
    kind: Kind | None
    reason: Reason


def step(rule: Rule, state: State, observation: Observation, now: float) -> Decision:
    """Take one observation into account; `now` is unix seconds UTC.

    An observation that cannot count leaves the state as it was. Its reason names the first check it did not pass.
    """
    refusal = _why_it_does_not_count(rule, state, observation, now)
    if refusal is not None:
        return Decision(state, None, refusal)
    restarted = _gap_breaks_dwell(rule, state, observation)
    state = replace(
        state,
        pending_since=None if restarted else state.pending_since,
        last_time=observation.time,
        last_value=observation.value,
    )
    stale = now - observation.time > rule.stale_after_s
    return _move(rule, state, observation, stale=stale, restarted=restarted)


def _why_it_does_not_count(rule: Rule, state: State, observation: Observation, now: float) -> Reason | None:
    if not rule.applies_to(observation):
        return Reason.NOT_FOR_THIS_RULE
    if observation.flag not in FLAGS_THAT_COUNT:
        return Reason.FLAG_DOES_NOT_COUNT
    if observation.value is None or not math.isfinite(observation.value):
        return Reason.NO_VALUE
    if observation.time - now > rule.max_ahead_s:
        # A station whose clock runs years ahead would otherwise make every true observation after it "older".
        return Reason.AHEAD_OF_CLOCK
    if state.last_time is not None and observation.time <= state.last_time:
        return Reason.OUT_OF_ORDER
    return None


def _gap_breaks_dwell(rule: Rule, state: State, observation: Observation) -> bool:
    if state.pending_since is None or state.last_time is None:
        return False
    return observation.time - state.last_time > rule.max_gap_s


def _move(rule: Rule, state: State, observation: Observation, *, stale: bool, restarted: bool) -> Decision:
    qualifies, dwell_s, resting, dwelling = _way_out(rule, state)
    if not qualifies:
        return Decision(replace(state, pending_since=None), None, Reason.STALE if stale else resting)
    pending_since = observation.time if state.pending_since is None else state.pending_since
    state = replace(state, pending_since=pending_since)
    if stale:
        return Decision(state, None, Reason.STALE)
    if observation.time - pending_since < dwell_s:
        return Decision(state, None, Reason.GAP_RESTARTED_DWELL if restarted else dwelling)
    return _turn(state, observation)


def _way_out(rule: Rule, state: State) -> tuple[bool, int, Reason, Reason]:
    """Return whether the last value asks for the other side, how long it must, and the reasons for staying."""
    assert state.last_value is not None
    if state.active:
        asks = state.last_value <= rule.clear_level
        return asks, rule.clear_dwell_s, Reason.ABOVE_CLEAR_LEVEL, Reason.CLEAR_DWELL_RUNS
    asks = state.last_value >= rule.set_level
    return (
        asks,
        max(rule.set_dwell_s, DOUBT_DWELL_S if state.doubted else 0),
        Reason.BELOW_SET_LEVEL,
        Reason.SET_DWELL_RUNS,
    )


def _turn(state: State, observation: Observation) -> Decision:
    """Change sides. A suspect value counts (it is the best we have), and the reason says that it was one."""
    suspect = observation.flag == FLAG_SUSPECT
    if state.active:
        quiet = replace(state, active=False, since=None, pending_since=None)
        return Decision(quiet, Kind.CLEARED, Reason.CLEARED_ON_SUSPECT if suspect else Reason.CLEARED)
    active = replace(state, active=True, since=observation.time, pending_since=None, doubted=False)
    return Decision(active, Kind.RAISED, Reason.RAISED_ON_SUSPECT if suspect else Reason.RAISED)


def identity(*parts: str) -> str:
    """Return the same id for the same parts everywhere: two engines over one stream still make one SMS."""
    return str(uuid.uuid5(_IDENTITY, "\n".join(parts)))


def event_identity(rule: str, station: str, kind: Kind, time: int) -> str:
    """Return the id of an event; cloud and gateway give it the same one."""
    return identity(rule, station, kind, str(time))
