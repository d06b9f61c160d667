"""The parts of a chain that faults are injected into, and the one who injects them by plan.

    parts = Parts({"bus": {"xuan-hoa": Bus(...)}, "link": {"link": LinkPart(...)}})
    heal = parts.begin(Injection(0, 5, "bus.noise", "xuan-hoa", {"chance": 0.2}))
    heal()

A part knows how to begin each of its faults and returns how to end it. What it cannot do it refuses with the reason.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from simulators.errors import SimulatorError
from simulators.faults.catalogue import SCOPES, FaultRefused, kind, like
from simulators.faults.plan import FaultPlan, Injection

GRACE_S = 1.0  # a fault that has had its time may still begin, so many seconds late

Heal = Callable[[], None]
Begin = Callable[[Mapping[str, float]], Heal]


class Part(Protocol):
    """One part of the chain."""

    def faults(self) -> Mapping[str, Begin]:
        """Return {name of the kind within its scope: how it begins}."""


def nothing_to_heal() -> None:
    """Do nothing: the fault ended by itself."""


@dataclass(frozen=True)
class Absent:
    """A part that this bench does not have: everything is refused with the reason."""

    why: str

    def faults(self) -> Mapping[str, Begin]:
        """Return nothing."""
        return {}


class Parts:
    """All parts of a bench, by scope and name; `hardware` where they are real."""

    def __init__(self, parts: Mapping[str, Mapping[str, Part]], hardware: bool = False) -> None:
        self._parts: dict[str, dict[str, Part]] = {scope: dict(parts.get(scope, {})) for scope in SCOPES}
        self.hardware = hardware

    @property
    def targets(self) -> dict[str, list[str]]:
        """Names of the parts of each scope, as `draw` wants them."""
        return {scope: sorted(parts) for scope, parts in self._parts.items() if parts}

    def possible(self) -> list[str]:
        """Return the kinds that at least one part here can have."""
        known = {
            f"{scope}.{name}" for scope, parts in self._parts.items() for p in parts.values() for name in p.faults()
        }
        return sorted(id_ for id_ in known if not (self.hardware and kind(id_).no_hardware))

    def why_not(self, injection: Injection) -> str | None:
        """Return in words why this cannot be injected here, None when it can."""
        if faults := list(injection.faults()):
            return "; ".join(faults)
        of, parts = kind(injection.kind), self._parts[injection.scope]
        if injection.target not in parts:
            return f"{of.id}: no {of.scope} {injection.target!r}; {like(injection.target, parts)}"
        if why := self.not_on_hardware(injection):
            return why
        part = parts[injection.target]
        if of.name not in part.faults():
            why = part.why if isinstance(part, Absent) else f"it can have {', '.join(part.faults())}"
            return f"{of.id}: not at {injection.target}: {why}"
        return None

    def not_on_hardware(self, injection: Injection) -> str | None:
        """Return why real parts, or this bench's, cannot have this fault; None where they can, or nothing is real."""
        of, part = kind(injection.kind), self._parts[injection.scope].get(injection.target)
        if not self.hardware or part is None or (not of.no_hardware and of.name in part.faults()):
            return None
        why = of.no_hardware or (part.why if isinstance(part, Absent) else f"here it has {', '.join(part.faults())}")
        return f"{of.id}: not on hardware: {why}"

    def begin(self, injection: Injection) -> Heal:
        """Inject a fault and return how to end it. Raises FaultRefused with the reason, or the part's own error."""
        if why := self.why_not(injection):
            raise FaultRefused(why)
        of = kind(injection.kind)
        return self._parts[injection.scope][injection.target].faults()[of.name](of.complete(injection.parameters))


@dataclass(frozen=True)
class Happened:
    """One thing that happened in a run: a fault began, ended, or was refused with this reason."""

    at_s: float
    what: str
    injection: Injection
    reason: str = ""

    def __str__(self) -> str:
        where = f"{self.injection.kind} at {self.injection.target}"
        return f"{self.at_s:7.1f} s  {self.what} {where}" + (f": {self.reason}" if self.reason else "")


class Injector:
    """Carries a plan out while a run goes on, from `tick`; what happened when is in `log`."""

    def __init__(
        self,
        parts: Parts,
        plan: FaultPlan,
        report: Callable[[Happened], None] = lambda _: None,
        grace_s: float = GRACE_S,
    ) -> None:
        self._parts = parts
        self._grace_s = grace_s
        self._report = report
        self._due = [(one.at_s, number, one) for number, one in enumerate(plan.injections)]
        heapq.heapify(self._due)
        self._begun: list[tuple[float, int, Injection, Heal]] = []
        self.log: list[Happened] = []

    @property
    def in_force(self) -> list[Injection]:
        """Faults that have begun and not ended."""
        return [injection for _, _, injection, _ in sorted(self._begun)]

    @property
    def done(self) -> bool:
        """Whether nothing is left to begin or end."""
        return not self._due and not self._begun

    def next_due_s(self) -> float | None:
        """Return when something is to be done next, None when all is done."""
        return min([*(at for at, *_ in self._due[:1]), *(until for until, *_ in self._begun)], default=None)

    def tick(self, elapsed_s: float) -> None:
        """Do all that is due. What a part refuses is in the log with its reason, and the run goes on."""
        while (due_s := self.next_due_s()) is not None and due_s <= elapsed_s:
            if self._begun and min(self._begun)[0] <= due_s:
                self._end(min(self._begun), elapsed_s)
            else:
                self._begin(*heapq.heappop(self._due)[1:], elapsed_s)

    def heal_all(self, elapsed_s: float) -> None:
        """End all that is in force and begin nothing more."""
        self._due.clear()
        for one in sorted(self._begun):
            self._end(one, elapsed_s)

    def _begin(self, number: int, injection: Injection, elapsed_s: float) -> None:
        late_s = elapsed_s - injection.at_s
        if elapsed_s > injection.until_s and late_s > self._grace_s:
            late = f"the bench was {late_s:.0f} s late, and its time over"
            self._say(Happened(elapsed_s, "refused", injection, late))
            return
        try:
            heal = self._parts.begin(injection)
        except SimulatorError as error:
            self._say(Happened(elapsed_s, "refused", injection, str(error)))
            return
        self._begun.append((max(injection.until_s, elapsed_s), number, injection, heal))
        self._say(Happened(elapsed_s, "began", injection))

    def _end(self, begun: tuple[float, int, Injection, Heal], elapsed_s: float) -> None:
        self._begun.remove(begun)
        _, _, injection, heal = begun
        try:
            heal()
        except SimulatorError as error:
            self._say(Happened(elapsed_s, "refused", injection, f"did not end: {error}"))
            return
        self._say(Happened(elapsed_s, "ended", injection))

    def _say(self, happened: Happened) -> None:
        self.log.append(happened)
        self._report(happened)
