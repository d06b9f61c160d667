"""Makes a script of what was written in a timeline, and says all that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Sequence

from simulators.faults.plan import Injection
from simulators.timeline.script import Place, Script, TimelineRefused, field_seconds, problems
from simulators.timeline.steps import PLUGS, Expected, Fault, Moment, Restore, Step
from simulators.timeline.verdict import Expectation, ExpectRecords


class Compiler:
    """Makes a script of what was written, and gathers what is wrong with it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._wrong: list[str] = []
        self._injections: dict[Injection, str] = {}
        self._expectations: list[Expectation] = []
        self._written: list[tuple[float, str]] = []

    def script(self, steps: Sequence[Step], end: Moment | None) -> Script:
        """Return the script. Raises TimelineRefused."""
        end_s = self._end(steps, end)
        for step in steps:
            try:
                self._take(step, steps, end_s)
            except (ValueError, LookupError) as error:
                self._wrong.append(f"{step.said}: {error}")
        if not any(isinstance(one, ExpectRecords) for one in self._expectations):
            self._expectations.append(ExpectRecords(end_s, 0, 0, "every record once (always expected)"))
        script = Script(end_s, tuple(self._injections), tuple(self._expectations), tuple(self._written))
        self._wrong += problems(script, self._injections, self._place)
        if self._wrong:
            raise TimelineRefused("the timeline cannot be run:\n  " + "\n  ".join(self._wrong))
        return script

    def _end(self, steps: Sequence[Step], end: Moment | None) -> float:
        moments = [m for step in steps for m in _moments(step)] if end is None else [end]
        if not moments:
            self._wrong.append("nothing is written in it")
        return max((seconds for moment in moments if (seconds := _or_none(moment)) is not None), default=0.0)

    def _take(self, step: Step, steps: Sequence[object], end_s: float) -> None:
        if isinstance(step, Fault):
            self._take_fault(step, steps, end_s)
        elif isinstance(step, Expected):
            first_s, last_s = field_seconds(step.first), field_seconds(step.last)
            if last_s < first_s:
                raise ValueError(f"ends at {last_s:g} s, before it begins at {first_s:g} s")
            self._expectations.append(step.make(first_s, last_s, self._place))
            self._written.append((first_s, step.said))
        else:
            self._written.append((field_seconds(step.at), step.said))
            if not any(_ends(step, other) for other in steps):
                raise ValueError("nothing was cut there before")

    def _take_fault(self, step: Fault, steps: Sequence[object], end_s: float) -> None:
        if step.kind.startswith("plug "):
            raise ValueError(f"no plug {step.kind.removeprefix('plug ')!r}; there are {', '.join(PLUGS)}")
        first_s = field_seconds(step.first)
        last_s = self._until(step, steps, end_s)
        if last_s < first_s:
            raise ValueError(f"ends at {last_s:g} s, before it begins at {first_s:g} s")
        target = step.target or self._place.target(step.kind.split(".")[0], step.station, step.sensor)
        self._injections[Injection(first_s, last_s - first_s, step.kind, target, _Hashed(step.parameters))] = step.said
        self._written.append((first_s, step.said))

    def _until(self, step: Fault, steps: Sequence[object], end_s: float) -> float:
        if step.last is not None:
            return field_seconds(step.last)
        restored = [field_seconds(one.at) for one in steps if isinstance(one, Restore) and _ends(one, step)]
        return min(restored, default=end_s)


class _Hashed(dict[str, float]):
    """Parameters as part of an injection that is a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def _ends(restore: Restore, other: object) -> bool:
    """Whether this puts back what that has cut."""
    if not isinstance(other, Fault) or other.last is not None:
        return False
    before = (_or_none(other.first) or 0.0) <= (_or_none(restore.at) or 0.0)
    return before and (other.kind, other.station) == (restore.kind, restore.station)


def _moments(step: Step) -> list[Moment]:
    if isinstance(step, Restore):
        return [step.at]
    return [step.first] if step.last is None else [step.first, step.last]


def _or_none(moment: Moment) -> float | None:
    try:
        return field_seconds(moment)
    except ValueError:
        return None
