"""When a command is published again, and which stations of a rollout are next. Pure, with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

REPEAT_AT_MOST = 10  # times the first interval; an accepted command rests three times as long
ACCEPTED_RESTS = 30


class State(StrEnum):
    """Where a command is."""

    HELD = "held"
    """Of a rollout whose wave has not come."""
    WAITING = "waiting"
    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected."""
        return self not in (State.HELD, State.WAITING, State.ACCEPTED)


OPEN = (State.HELD, State.WAITING, State.ACCEPTED)
TOLD = (State.DONE, State.FAILED, State.REFUSED)
"""What only a gateway can have said."""


class RolloutState(StrEnum):
    """Where a rollout is."""

    RUNNING = "running"
    HALTED = "halted"
    DONE = "done"


def repeat_after_s(times: int, accepted: bool, repeat_s: float) -> float:
    """Return how long to wait for an answer after a command was published `times` times.

    One the gateway has accepted is on its disk; it is asked about now and then only in case its result got lost.
    """
    return repeat_s * (ACCEPTED_RESTS if accepted else min(REPEAT_AT_MOST, 2 ** (times - 1)))


@dataclass(frozen=True)
class Member:
    """One station of a rollout; `reason` of its failure, `forgiven` when somebody has resumed the rollout since."""

    station: str
    state: State
    reason: str = ""
    forgiven: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether it has ended without the new firmware, and nobody has said that this may be."""
        return self.state.is_over and self.state is not State.DONE and not self.forgiven


@dataclass(frozen=True)
class Rollout:
    """What `next_wave` needs to know of a rollout. `members` in their order."""

    state: RolloutState
    first_wave: int
    then_wave: int
    failures_allowed: int
    members: Sequence[Member]


class Step(Enum):
    """What happens next."""

    WAIT = "wait"
    RELEASE = "release"
    HALT = "halt"
    FINISH = "finish"


@dataclass(frozen=True)
class Wave:
    """What happens next, to which stations, and why."""

    step: Step
    reason: str
    stations: Sequence[str] = ()


def next_wave(rollout: Rollout) -> Wave:
    """Return what a rollout does next. A wave goes out only when every station of the last one has confirmed."""
    if rollout.state is not RolloutState.RUNNING:
        return Wave(Step.WAIT, f"the rollout is {rollout.state}")
    failed = [member for member in rollout.members if member.has_failed]
    if len(failed) > rollout.failures_allowed:
        told = "; ".join(f"{member.station}: {member.state}, {member.reason}" for member in failed)
        return Wave(Step.HALT, f"{len(failed)} failed, {rollout.failures_allowed} allowed: {told}")
    under_way = [member.station for member in rollout.members if member.state in (State.WAITING, State.ACCEPTED)]
    if under_way:
        return Wave(Step.WAIT, f"waiting for {', '.join(under_way)}")
    held = [member.station for member in rollout.members if member.state is State.HELD]
    if not held:
        return Wave(Step.FINISH, f"{len(rollout.members) - len(failed)} of {len(rollout.members)} stations are done")
    begun = len(held) < len(rollout.members)
    number = rollout.then_wave if begun else rollout.first_wave
    return Wave(Step.RELEASE, "nothing of the last wave is open" if begun else "the first wave", held[:number])
