"""The language a scenario is written in. What is written is only noted; `script` checks all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from simulators.timeline.compiler import Compiler
from simulators.timeline.script import Place, Script
from simulators.timeline.steps import AT_ONCE, PLUGS, Expected, Fault, Moment, Restore, Step
from simulators.timeline.verdict import Expectation, ExpectMissing, ExpectRecords, ExpectSms, ExpectValue, Verdict


@dataclass
class Timeline:
    """Notes what a scenario says. `runner` carries a written timeline out: the fixture's is the bench's."""

    runner: Callable[[Timeline], Verdict] | None = None
    end: Moment | None = None
    steps: list[Step] = field(default_factory=list)

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
        return Compiler(place).script(self.steps, self.end)


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
            Fault(said, self.moment, None, kind, station, None, None, dict(AT_ONCE.get(kind, {})))
        )

    def restore(self, what: str, station: str | None = None) -> None:
        """Put a plug back."""
        said = f"{self.said}.restore({_words(what, station=station)})"
        self.timeline.steps.append(Restore(said, self.moment, PLUGS.get(what, f"plug {what}"), station))


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
        self.timeline.steps.append(Fault(said, self.first, self.last, kind, station, sensor, target, dict(parameters)))

    def cut(self, what: str, station: str | None = None) -> None:
        """Pull a plug and put it back."""
        said = f"{self.said}.cut({_words(what, station=station)})"
        kind = PLUGS.get(what, f"plug {what}")
        self.timeline.steps.append(
            Fault(said, self.first, self.last, kind, station, None, None, dict(AT_ONCE.get(kind, {})))
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
        self.timeline.steps.append(Expected(said, self.first, self.last, make))


@dataclass(frozen=True)
class By(Span):
    """The time until a moment."""

    def expect_records(self, lost: int = 0, twice: int = 0) -> None:
        """Expect of all records the boards made: so many lost, so many stored twice, none with another content."""
        said = f"{self.said}.expect_records({_words(lost=lost, twice=twice)})"
        self._expect(said, lambda _, last, __: ExpectRecords(last, lost, twice, said))


def _words(*plain: object, **named: object) -> str:
    return ", ".join(
        [*(repr(one) for one in plain), *(f"{name}={value!r}" for name, value in named.items() if value is not None)]
    )
