"""Faults by plan: what is injected when, where and for how long; the same seed gives the same plan."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from simulators.faults.catalogue import FaultRefused, Kind, Parameter, kind, kinds

LONGEST_S, SHORTEST_S = 20.0, 0.5
TRIES_PER_FAULT = 50


@dataclass(frozen=True)
class Injection:
    """One fault: from `at_s` seconds after the start, for `for_s` seconds, of this kind, at this target."""

    at_s: float
    for_s: float
    kind: str
    target: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def until_s(self) -> float:
        """When it ends."""
        return self.at_s + self.for_s

    @property
    def scope(self) -> str:
        """What kind of part it is injected into."""
        return self.kind.split(".")[0]

    def __str__(self) -> str:
        said = "".join(f", {name} {value:g}" for name, value in self.parameters.items())
        return f"{self.at_s:7.1f} s  {self.kind} at {self.target} for {self.for_s:.1f} s{said}"

    def faults(self) -> Iterator[str]:
        """Yield in words what is wrong with it."""
        if self.kind not in kinds():
            yield f"no fault {self.kind!r}"
        else:
            yield from kind(self.kind).faults_of(self.parameters)
        if not (math.isfinite(self.at_s) and math.isfinite(self.for_s) and self.at_s >= 0 and self.for_s >= 0):
            yield f"{self.kind}: begins at {self.at_s} s for {self.for_s} s; both must be numbers from 0"

    def overlaps(self, other: Injection) -> bool:
        """Whether both are in force at the same part at some moment."""
        together = self.at_s <= other.until_s and other.at_s <= self.until_s
        return together and (self.scope, self.target) == (other.scope, other.target)


@dataclass(frozen=True)
class FaultPlan:
    """Injections in the order of their beginning. Raises FaultRefused that names every fault of it."""

    seed: int
    span_s: float
    injections: tuple[Injection, ...]

    def __post_init__(self) -> None:
        faults = [fault for injection in self.injections for fault in injection.faults()]
        faults += [
            f"{one.kind} at {one.at_s:g} s begins after the end" for one in self.injections if one.at_s > self.span_s
        ]
        if faults:
            raise FaultRefused("\n".join(faults))

    def __str__(self) -> str:
        head = f"seed {self.seed}: {len(self.injections)} faults in {self.span_s:g} s"
        return "\n".join([head, *map(str, self.injections)])

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> FaultPlan:
        """Return the plan that `as_json` gave. Raises FaultRefused."""
        try:
            injections = tuple(Injection(**one) for one in plain["injections"])
            return cls(int(plain["seed"]), float(plain["span_s"]), injections)
        except (KeyError, TypeError, ValueError) as error:
            raise FaultRefused(f"not a plan of faults: {error}") from None


def draw(
    seed: int,
    span_s: float,
    targets: Mapping[str, Sequence[str]],
    *,
    every_s: float = 5.0,
    wanted: Collection[str] | None = None,
    hardware: bool = False,
) -> FaultPlan:
    """Return a random plan: one fault every `every_s` on average, never two at one part at a time, none at the end.

    `targets` are the names of the parts of each scope; `wanted` limits the kinds. Raises FaultRefused.
    """
    chance = random.Random(f"{seed}/faults")  # noqa: S311 - the same seed must give the same plan
    possible = [one for one in _chosen(wanted) if targets.get(one.scope) and not (hardware and one.no_hardware)]
    if not possible:
        raise FaultRefused("none of these faults has a target here")
    planned: list[Injection] = []
    at_part: defaultdict[tuple[str, str], list[Injection]] = defaultdict(list)
    goal = max(1, round(span_s / every_s))
    for _ in range(goal * TRIES_PER_FAULT):
        if len(planned) == goal:
            break
        injection = _one(chance, span_s, possible, targets)
        there = at_part[injection.scope, injection.target]
        if not any(injection.overlaps(other) for other in there):
            there.append(injection)
            planned.append(injection)
    return FaultPlan(seed, span_s, tuple(sorted(planned, key=lambda one: (one.at_s, one.kind, one.target))))


def parameters_of(seed: int, of: Kind) -> dict[str, float]:
    """Return random parameters of a kind; the same seed gives the same."""
    chance = random.Random(f"{seed}/{of.id}")  # noqa: S311 - as above
    return {one.name: _drawn(chance, one) for one in of.parameters}


def _chosen(wanted: Collection[str] | None) -> list[Kind]:
    return list(kinds().values()) if wanted is None else [kind(name) for name in sorted(wanted)]


def _one(
    chance: random.Random, span_s: float, possible: Sequence[Kind], targets: Mapping[str, Sequence[str]]
) -> Injection:
    of = chance.choice(possible)
    for_s = min(math.exp(chance.uniform(math.log(SHORTEST_S), math.log(LONGEST_S))), span_s / 4)
    at_s = chance.uniform(0, span_s - for_s)
    target = chance.choice(sorted(targets[of.scope]))
    parameters = {one.name: _drawn(chance, one) for one in of.parameters}
    return Injection(round(at_s, 2), round(for_s, 2), of.id, target, parameters)


def _drawn(chance: random.Random, parameter: Parameter) -> float:
    """Draw between lowest and highest: evenly, over decades where there are several."""
    low, high = parameter.lowest, parameter.highest
    whole = all(edge == int(edge) for edge in (low, high, parameter.usual)) and parameter.unit != "share"
    if low > 0 and high / low >= 100:
        value = math.exp(chance.uniform(math.log(low), math.log(high)))
    else:
        value = chance.uniform(low, high)
    return float(round(value)) if whole else float(f"{value:.3g}")
