"""What was expected of a run, and whether it came: pure functions of what happened."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from simulators.faults.parts import Happened

NEAR_SHARE = 0.05  # of a value, when nothing is said about how near
NEAR_AT_LEAST = 0.01
MISSING_FLAG = 9


@dataclass(frozen=True)
class Message:
    """A text that reached a telephone; moments are field seconds of the timeline."""

    at_s: float
    to: str
    text: str


@dataclass(frozen=True)
class Value:
    """A stored value, None where the record says there is none, and what the instrument stood in, where it is known."""

    at_s: float
    station: str
    parameter: str
    value: float | None
    flag: int
    truth: float | None = None


@dataclass(frozen=True)
class Account:
    """One journal: what its board made against what is stored. `different` are stored with another content."""

    station: str
    journal: str
    first_seq: int
    last_seq: int
    made: int
    stored: int
    lost: int
    twice: int
    different: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunLog:
    """All that happened in a run."""

    happened: tuple[Happened, ...] = ()
    messages: tuple[Message, ...] = ()
    values: tuple[Value, ...] = ()
    accounts: tuple[Account, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Judged:
    """One expectation: what was said, whether it held, why, when it was decided; and the time it was about."""

    said: str
    passed: bool
    why: str
    at_s: float
    first_s: float = 0.0
    last_s: float = 0.0


class Expectation(Protocol):
    """Something a scenario expects."""

    @property
    def said(self) -> str:
        """Return it as it was written."""

    @property
    def first_s(self) -> float:
        """Return where the time begins that it is about."""

    @property
    def last_s(self) -> float:
        """Return where that time ends."""

    def judge(self, log: RunLog) -> Judged:
        """Decide."""


@dataclass(frozen=True)
class ExpectSms:
    """So many messages with this text between two moments; None: one or more. Diacritics and case do not count."""

    first_s: float
    last_s: float
    text: str
    times: int | None
    said: str

    def judge(self, log: RunLog) -> Judged:
        """Decide."""
        found = [one for one in log.messages if folded(self.text) in folded(one.text)]
        within = [one for one in found if self.first_s <= one.at_s <= self.last_s]
        passed = bool(within) if self.times is None else len(within) == self.times
        outside = ", ".join(f"{one.at_s:.0f} s" for one in found if one not in within)
        came = ", ".join(f"{one.at_s:.0f} s" for one in within) or "none"
        why = f"came: {came}" + (f"; outside the time: {outside}" if outside else "")
        return Judged(self.said, passed, why, within[0].at_s if within else self.last_s)


@dataclass(frozen=True)
class ExpectValue:
    """Stored values between two moments are near a number, or near what the instrument stood in ("truth")."""

    first_s: float
    last_s: float
    station: str
    parameter: str
    near: float | None
    within: float | None
    said: str

    def judge(self, log: RunLog) -> Judged:
        """Decide: at least one value, and none farther away than allowed."""
        values = [one for one in _of(self, log.values) if one.value is not None]
        compared = [(one, wanted) for one in values if (wanted := self._wanted(one)) is not None]
        far = [(one, wanted) for one, wanted in compared if abs(_number(one) - wanted) > self._allowed(wanted)]
        if not compared:
            return Judged(self.said, False, "no value was stored in that time", self.last_s)
        if far:
            one, wanted = far[0]
            why = f"{len(far)} of {len(compared)} too far, first {_number(one):g} instead of {wanted:g}"
            return Judged(self.said, False, why, one.at_s)
        worst = max(abs(_number(one) - wanted) for one, wanted in compared)
        return Judged(self.said, True, f"{len(compared)} values, at most {worst:.3g} away", compared[-1][0].at_s)

    def _wanted(self, one: Value) -> float | None:
        return one.truth if self.near is None else self.near

    def _allowed(self, wanted: float) -> float:
        return max(NEAR_SHARE * abs(wanted), NEAR_AT_LEAST) if self.within is None else self.within


@dataclass(frozen=True)
class ExpectMissing:
    """At least one record between two moments says that there is no value (flag 9)."""

    first_s: float
    last_s: float
    station: str
    parameter: str
    said: str

    def judge(self, log: RunLog) -> Judged:
        """Decide."""
        missing = [one for one in _of(self, log.values) if one.flag == MISSING_FLAG]
        at_s = missing[0].at_s if missing else self.last_s
        return Judged(self.said, bool(missing), f"{len(missing)} records with flag {MISSING_FLAG}", at_s)


@dataclass(frozen=True)
class ExpectRecords:
    """The account of all journals at the end: so many lost and stored twice, none with another content."""

    last_s: float
    lost: int
    twice: int
    said: str

    @property
    def first_s(self) -> float:
        """The account is of a moment."""
        return self.last_s

    def judge(self, log: RunLog) -> Judged:
        """Decide; a run without records has shown nothing."""
        made = sum(one.made for one in log.accounts)
        lost, twice = sum(one.lost for one in log.accounts), sum(one.twice for one in log.accounts)
        different = sum(one.different for one in log.accounts)
        examples = ", ".join(example for one in log.accounts for example in one.examples[:3])
        passed = made > 0 and (lost, twice, different) == (self.lost, self.twice, 0)
        why = f"{made} made, {lost} lost, {twice} stored twice, {different} with another content"
        return Judged(self.said, passed, why + (f": {examples}" if examples else ""), self.last_s)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run. It passed when every expectation held and no fault was refused."""

    judged: tuple[Judged, ...]
    log: RunLog
    refused: tuple[Happened, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether all held."""
        return not self.refused and all(one.passed for one in self.judged)

    def __str__(self) -> str:
        lines = [f"{'ok    ' if one.passed else 'FAILED'} {one.said}: {one.why}" for one in self.judged]
        lines += [f"FAILED {one}" for one in self.refused]
        for one in self.log.accounts:
            lines.append(
                f"       {one.station} journal {one.journal}: seq {one.first_seq} to {one.last_seq}, {one.made} made,"
                f" {one.stored} stored, {one.lost} lost, {one.twice} twice, {one.different} different"
            )
        return "\n".join([*lines, "passed" if self.passed else "FAILED"])

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {"passed": self.passed, **asdict(self)}


def judge(expectations: Sequence[Expectation], log: RunLog) -> Verdict:
    """Decide every expectation from what happened."""
    refused = tuple(one for one in log.happened if one.what == "refused")
    judged = (replace(one.judge(log), first_s=one.first_s, last_s=one.last_s) for one in expectations)
    return Verdict(tuple(judged), log, refused)


def folded(text: str) -> str:
    """Return a text without diacritics and capitals: an SMS in GSM-7 has none."""
    decomposed = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).casefold()


def _of(wanted: ExpectValue | ExpectMissing, values: Sequence[Value]) -> list[Value]:
    return [
        one
        for one in values
        if (one.station, one.parameter) == (wanted.station, wanted.parameter)
        and wanted.first_s <= one.at_s <= wanted.last_s
    ]


def _number(one: Value) -> float:
    assert one.value is not None
    return one.value
