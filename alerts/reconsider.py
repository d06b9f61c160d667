"""A decision judged again when quality control fails what it was made of. Pure.

Values arrive with the flags of their own moment. What came after them may fail them a minute later (a spike, a probe in
the air) or hours later (a stuck sensor). Then the rule is run again over what is left of the time around them:

    raised on failed values only     withdrawn: people hear that the warning had no ground, not that water is sweet
    cleared on failed values only    reinstated: people hear that the all-clear had no ground
    a dwell that runs                runs again from what is left
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from alerts.rules import FLAGS_THAT_COUNT, Decision, Kind, Observation, Reason, Rule, State, step

LONGEST_S = 2 * 86400  # nothing earlier is looked at again


class Correction(NamedTuple):
    """From when to when (event times) values that may have counted have failed."""

    first: int
    last: int

    def window(self, rule: Rule, now: float) -> int:
        """Return the first time whose value can have had a part in what these values led to."""
        return max(self.first, int(now) - LONGEST_S) - max(rule.set_dwell_s, rule.clear_dwell_s) - rule.max_gap_s


class Told(NamedTuple):
    """An event that people know of."""

    kind: Kind
    time: int


def correction(observations: Iterable[Observation], state: State) -> Correction | None:
    """Return what observations of one rule and station take back: failed ones no newer than what counted before."""
    times = [
        one.time
        for one in observations
        if one.flag not in FLAGS_THAT_COUNT and state.last_time is not None and one.time <= state.last_time
    ]
    return Correction(min(times), max(times)) if times else None


def judge_again(
    rule: Rule, state: State, told: Iterable[Told], history: Iterable[Observation], failed: Correction, now: float
) -> Decision:
    """Return what a rule comes to over `history` (in order of time, from `failed.window` on, as it is judged now).

    `told` are the rule's events at the station, the newest first. Only an event of that time is taken back.
    """
    first = failed.window(rule, now)
    events = list(told)
    before = next((one for one in events if one.time < first), None)
    raised = before is not None and before.kind is Kind.RAISED
    again = State(active=raised, since=before.time if before and raised else None)
    for observation in history:
        again = step(rule, again, observation, observation.time).state
    again = replace(again, last_time=state.last_time, doubted=state.doubted)
    if again.active == state.active:
        return Decision(
            replace(again, since=state.since, last_value=_last_value(again, state)), None, Reason.JUDGED_AGAIN
        )
    if not events or events[0].time < first:
        return Decision(replace(state, pending_since=None), None, Reason.JUDGED_AGAIN)  # decided by what has not failed
    if state.active:
        return Decision(replace(again, doubted=True, last_value=state.last_value), Kind.CLEARED, Reason.WITHDRAWN)
    return Decision(replace(again, last_value=_last_value(again, state)), Kind.RAISED, Reason.REINSTATED)


def _last_value(again: State, state: State) -> float | None:
    return state.last_value if again.last_value is None else again.last_value
