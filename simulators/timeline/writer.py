"""The language a scenario is written in. What is written is only noted; `script` checks all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from simulators.faults.plan import Injection
from simulators.timeline.script import Place, Script, TimelineRefused, field_seconds, problems
from simulators.timeline.verdict import Expectation, ExpectMissing, ExpectRecords, ExpectSms, ExpectValue, Verdict

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
_AT_ONCE = {"board.power-cut": {"n": 0.0}}


@dataclass(frozen=True)
class _Fault:
    said: str
    first: Moment
    last: Moment | None  # None: until it is restored, or the end
    kind: str
    station: str | None
    sensor: int | None
    target: str | None
    parameters: dict[str, float]


@dataclass(frozen=True)
class _Restore:
    said: str
    at: Moment
    kind: str
    station: str | None


@dataclass(frozen=True)
class _Expected:
    said: str
    first: Moment
    last: Moment
    make: Callable[[float, float, Place], Expectation]


@dataclass
class Timeline:
    """Notes what a scenario says. `runner` carries a written timeline out: the fixture's is the bench's."""

    runner: Callable[[Timeline], Verdict] | None = None
    end: Moment | None = None
    steps: list[_Fault | _Restore | _Expected] = field(default_factory=list)

    def at(self, moment: Moment) -> At:
        """Name a moment at which something is done."""
        return At(self, f"at({moment!r})", moment)

    def during(self, first: Moment, last: Moment) -> Span:
        """Name a time for which something lasts, or in which something is expected."""
        return Span(self, f"during({first!r}, {last!r})", first, last)

    def between(self, first: Moment, last: Moment) -> Span:
        """Name a time in which something is expected, or for which something lasts."""
        return Span(self, f"between({first!r}, {last!r})", first, last)

    def by(self, moment: Moment) -> By:
        """Name the moment by which something is expected; the account of records is taken then or at the end."""
        return By(self, f"by({moment!r})", 0.0, moment)

    def run(self) -> Verdict:
        """Check, run, judge. Raises TimelineRefused before anything is done, AssertionError with the verdict after."""
        assert self.runner is not None, "this timeline belongs to no bench; take the fixture, or hand in a runner"
        verdict = self.runner(self)
        if not verdict.passed:
            raise AssertionError(f"the scenario failed\n{verdict}")
        return verdict

    def script(self, place: Place) -> Script:
        """Return the whole, checked. Raises TimelineRefused that names every fault."""
        return _Compiler(place).script(self)


@dataclass(frozen=True)
class At:
    """A moment."""

    timeline: Timeline
    said: str
    moment: Moment

    def cut(self, what: str, station: str | None = None) -> None:
        """Pull a plug: link, bus, board, gateway, broker or cloud; it is out until restored, or the end."""
        said = f"{self.said}.cut({_words(what, station=station)})"
        kind = PLUGS.get(what, f"plug {what}")
        self.timeline.steps.append(
            _Fault(said, self.moment, None, kind, station, None, None, dict(_AT_ONCE.get(kind, {})))
        )

    def restore(self, what: str, station: str | None = None) -> None:
        """Put a plug back."""
        said = f"{self.said}.restore({_words(what, station=station)})"
        self.timeline.steps.append(_Restore(said, self.moment, PLUGS.get(what, f"plug {what}"), station))


@dataclass(frozen=True)
class Span:
    """A time from one moment to another."""

    timeline: Timeline
    said: str
    first: Moment
    last: Moment

    def fault(
        self,
        kind: str,
        station: str | None = None,
        sensor: int | None = None,
        target: str | None = None,
        **parameters: float,
    ) -> None:
        """Let this fault be in force: a name of `tram-sim faults`, at a station, a sensor, or another target."""
        said = f"{self.said}.fault({_words(kind, station=station, sensor=sensor, target=target, **parameters)})"
        self.timeline.steps.append(_Fault(said, self.first, self.last, kind, station, sensor, target, dict(parameters)))

    def cut(self, what: str, station: str | None = None) -> None:
        """Pull a plug and put it back."""
        said = f"{self.said}.cut({_words(what, station=station)})"
        kind = PLUGS.get(what, f"plug {what}")
        self.timeline.steps.append(
            _Fault(said, self.first, self.last, kind, station, None, None, dict(_AT_ONCE.get(kind, {})))
        )

    def expect_sms(self, text: str, times: int | None = None) -> None:
        """Expect messages with this text (without diacritics is the same): so many, or one and more."""
        said = f"{self.said}.expect_sms({_words(text, times=times)})"
        self._expect(said, lambda first, last, _: ExpectSms(first, last, text, times, said))

    def expect_no_sms(self, text: str = "") -> None:
        """Expect no message with this text, or none at all."""
        said = f"{self.said}.expect_no_sms({_words(text)})"
        self._expect(said, lambda first, last, _: ExpectSms(first, last, text, 0, said))

    def expect_value(
        self,
        parameter: str,
        near: float | Literal["truth"] = "truth",
        within: float | None = None,
        station: str | None = None,
    ) -> None:
        """Expect all stored values near a number, or near what the instrument stood in; 5 % when nothing is said."""
        said = f"{self.said}.expect_value({_words(parameter, near=near, within=within, station=station)})"
        number = None if near == "truth" else float(near)
        self._expect(
            said,
            lambda first, last, place: ExpectValue(
                first, last, place.station(station), parameter, number, within, said
            ),
        )

    def expect_missing(self, parameter: str, station: str | None = None) -> None:
        """Expect records that say there is no value."""
        said = f"{self.said}.expect_missing({_words(parameter, station=station)})"
        self._expect(
            said, lambda first, last, place: ExpectMissing(first, last, place.station(station), parameter, said)
        )

    def _expect(self, said: str, make: Callable[[float, float, Place], Expectation]) -> None:
        self.timeline.steps.append(_Expected(said, self.first, self.last, make))


@dataclass(frozen=True)
class By(Span):
    """The time until a moment."""

    def expect_records(self, lost: int = 0, twice: int = 0) -> None:
        """Expect of all records the boards made: so many lost, so many stored twice, none with another content."""
        said = f"{self.said}.expect_records({_words(lost=lost, twice=twice)})"
        self._expect(said, lambda _, last, __: ExpectRecords(last, lost, twice, said))


class _Compiler:
    """Makes a script of what was written, and gathers what is wrong with it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._wrong: list[str] = []
        self._injections: dict[Injection, str] = {}
        self._expectations: list[Expectation] = []
        self._written: list[tuple[float, str]] = []

    def script(self, timeline: Timeline) -> Script:
        """Return the script. Raises TimelineRefused."""
        end_s = self._end(timeline)
        for step in timeline.steps:
            try:
                self._take(step, timeline.steps, end_s)
            except (ValueError, LookupError) as error:
                self._wrong.append(f"{step.said}: {error}")
        if not any(isinstance(one, ExpectRecords) for one in self._expectations):
            self._expectations.append(ExpectRecords(end_s, 0, 0, "every record once (always expected)"))
        script = Script(end_s, tuple(self._injections), tuple(self._expectations), tuple(self._written))
        self._wrong += problems(script, self._injections, self._place)
        if self._wrong:
            raise TimelineRefused("the timeline cannot be run:\n  " + "\n  ".join(self._wrong))
        return script

    def _end(self, timeline: Timeline) -> float:
        moments = [m for step in timeline.steps for m in _moments(step)] if timeline.end is None else [timeline.end]
        if not moments:
            self._wrong.append("nothing is written in it")
        return max((seconds for moment in moments if (seconds := _or_none(moment)) is not None), default=0.0)

    def _take(self, step: _Fault | _Restore | _Expected, steps: Sequence[object], end_s: float) -> None:
        if isinstance(step, _Fault):
            self._take_fault(step, steps, end_s)
        elif isinstance(step, _Expected):
            first_s, last_s = field_seconds(step.first), field_seconds(step.last)
            if last_s < first_s:
                raise ValueError(f"ends at {last_s:g} s, before it begins at {first_s:g} s")
            self._expectations.append(step.make(first_s, last_s, self._place))
            self._written.append((first_s, step.said))
        else:
            self._written.append((field_seconds(step.at), step.said))
            if not any(_ends(step, other) for other in steps):
                raise ValueError("nothing was cut there before")

    def _take_fault(self, step: _Fault, steps: Sequence[object], end_s: float) -> None:
        if step.kind.startswith("plug "):
            raise ValueError(f"no plug {step.kind.removeprefix('plug ')!r}; there are {', '.join(PLUGS)}")
        first_s = field_seconds(step.first)
        last_s = self._until(step, steps, end_s)
        if last_s < first_s:
            raise ValueError(f"ends at {last_s:g} s, before it begins at {first_s:g} s")
        target = step.target or self._place.target(step.kind.split(".")[0], step.station, step.sensor)
        self._injections[Injection(first_s, last_s - first_s, step.kind, target, _Hashed(step.parameters))] = step.said
        self._written.append((first_s, step.said))

    def _until(self, step: _Fault, steps: Sequence[object], end_s: float) -> float:
        if step.last is not None:
            return field_seconds(step.last)
        restored = [field_seconds(one.at) for one in steps if isinstance(one, _Restore) and _ends(one, step)]
        return min(restored, default=end_s)


class _Hashed(dict[str, float]):
    """Parameters as part of an injection that is a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def _ends(restore: _Restore, other: object) -> bool:
    """Whether this puts back what that has cut."""
    if not isinstance(other, _Fault) or other.last is not None:
        return False
    before = (_or_none(other.first) or 0.0) <= (_or_none(restore.at) or 0.0)
    return before and (other.kind, other.station) == (restore.kind, restore.station)


def _moments(step: _Fault | _Restore | _Expected) -> list[Moment]:
    if isinstance(step, _Restore):
        return [step.at]
    return [step.first] if step.last is None else [step.first, step.last]


def _or_none(moment: Moment) -> float | None:
    try:
        return field_seconds(moment)
    except ValueError:
        return None


def _words(*plain: object, **named: object) -> str:
    return ", ".join(
        [*(repr(one) for one in plain), *(f"{name}={value!r}" for name, value in named.items() if value is not None)]
    )
