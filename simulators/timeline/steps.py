"""What a timeline notes: faults, their ends, expectations, each as it was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulators.timeline.script import Place
from simulators.timeline.verdict import Expectation

Moment = float | str
#: What `cut` pulls out, and the fault that is.
PLUGS = {
    "link": "link.cut",
    "bus": "bus.cut",
    "board": "board.power-cut",
    "gateway": "gateway.kill",
    "broker": "broker.lost-memory",
    "cloud": "cloud.kill",
}
AT_ONCE = {"board.power-cut": {"n": 0.0}}


@dataclass(frozen=True)
class Fault:
    """A fault from one moment to another, or until it is restored."""

    said: str
    first: Moment
    last: Moment | None  # None: until it is restored, or the end
    kind: str
    station: str | None
    sensor: int | None
    target: str | None
    parameters: dict[str, float]


@dataclass(frozen=True)
class Restore:
    """The end of what was cut before."""

    said: str
    at: Moment
    kind: str
    station: str | None


@dataclass(frozen=True)
class Expected:
    """An expectation, made when its moments and its station are known."""

    said: str
    first: Moment
    last: Moment
    make: Callable[[float, float, Place], Expectation]


Step = Fault | Restore | Expected
