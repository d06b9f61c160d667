"""The account of a run, from logs alone. Pure.

    journals (read over the boards' consoles, or from the gateways' files)  ─┐
    answers (what the instruments wrote down themselves)                     ├─▶ Account, wrong_values
    stored (raw records of the cloud's API), snapshots (its ledger, polled)  ─┘

A journal gives its numbers without a hole, so every number from 1 to its last was made. Each must be stored once, as
the journal has it, or be declared: overwritten before anybody read it, or given up by a journal that power cuts had
left with a damaged end. A damaged record was never shown to anybody, because a journal shows a record when its flush
has returned; so a number that is stored and that the ring still spans must be in the journal ("vanished").
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from math import inf
from typing import NamedTuple

from firmware.record import CLOCK_UNSET_BELOW, EVENT_BOOT, EVENT_CLOCK_SET, EVENT_OVERWRITTEN, Record

Key = tuple[str, int]
"""Station and journal."""
Ranges = Sequence[tuple[int, int]]
FIRST_SEQ = 1
HOUR_S = 3600


class Snapshot(NamedTuple):
    """What the store's ledger covered at a moment of bench time."""

    at: float
    ranges: Mapping[Key, Ranges]


@dataclass(frozen=True)
class Series:
    """One journal: what its station still has, what the cloud has (each number as often as it is there)."""

    journal: Mapping[int, Record]
    stored: Mapping[int, Sequence[Record]]
    declared: Ranges = ()

    @property
    def last_made(self) -> int:
        """The highest number the station had when its journal was read; of a journal nobody has, the highest stored."""
        return max(self.journal or self.stored, default=0)


@dataclass
class Account:
    """Numbers of one journal by what became of them; `lost`, `duplicated`, `different`, `vanished` are faults."""

    made: int = 0
    stored: int = 0
    declared: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    duplicated: list[int] = field(default_factory=list)
    different: list[int] = field(default_factory=list)
    vanished: list[int] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many numbers are not explained."""
        return sum(map(len, (self.lost, self.duplicated, self.different, self.vanished)))


def account_for(series: Series) -> Account:
    """Account for every number of a journal."""
    found = Account(made=series.last_made)
    ring_from = min(series.journal, default=0)
    said = _explained_by_events(series)
    for seq in range(FIRST_SEQ, series.last_made + 1):
        copies, held = series.stored.get(seq, ()), series.journal.get(seq)
        if copies:
            found.stored += 1
        elif held is None and (within(series.declared, seq) or seq in said):
            found.declared.append(seq)
        else:  # a record that the station still has is lost, whatever somebody declared
            found.lost.append(seq)
        if len(copies) > 1:
            found.duplicated.append(seq)
        if held is not None and any(copy != held for copy in copies):
            found.different.append(seq)
        if copies and held is None and 0 < ring_from < seq:
            found.vanished.append(seq)
    return found


def _explained_by_events(series: Series) -> set[int]:
    """Return the missing numbers that the board's own events account for: so many before each, the nearest first."""
    records = {seq: copies[0] for seq, copies in series.stored.items()} | dict(series.journal)
    found: set[int] = set()
    for seq, count in sorted((s, r.count) for s, r in records.items() if r.parameter == EVENT_OVERWRITTEN):
        before = (
            one
            for one in range(seq - 1, 0, -1)
            if one not in records and one not in found and not within(series.declared, one)
        )
        found.update(islice(before, max(0, count)))
    return found


def within(ranges: Ranges, seq: int) -> bool:
    """Whether a number is in one of the ranges."""
    return any(first <= seq <= last for first, last in ranges)


def stored_at(snapshots: Iterable[Snapshot]) -> dict[Key, dict[int, float]]:
    """Return for each stored number the moment of the first snapshot that has it."""
    found: dict[Key, dict[int, float]] = defaultdict(dict)
    before: dict[Key, Ranges] = {}
    for snapshot in snapshots:
        for key, ranges in snapshot.ranges.items():
            for first, last in _new(ranges, before.get(key, ())):
                found[key].update((seq, snapshot.at) for seq in range(first, last + 1) if seq not in found[key])
            before[key] = ranges
    return dict(found)


def _new(ranges: Ranges, before: Ranges) -> list[tuple[int, int]]:
    """Return ranges without those that were there before just so; of one that grew at its end only the growth."""
    ends = dict(before)
    return [(ends.get(first, first - 1) + 1, last) for first, last in ranges if ends.get(first) != last]


class Shown(NamedTuple):
    """One value an instrument gave: when it was asked, and the value in counts of a record."""

    time: float
    value: float


@dataclass(frozen=True)
class Window:
    """How far before and after a record's time its answers may have been given, in bench seconds."""

    before_s: float
    after_s: float


EXACT, IN_RANGE, DATED_EARLY = "exact", "in range", "dated early by a station that was behind"
OUTSIDE, NOTHING_GIVEN = "outside", "nothing given"
_BEHIND_S = 60 * 60  # firmware.schedule makes up for so many intervals of a minute after a standstill
_LONGEST_RUN = 6
_ASKED_BEFORE = 3  # a loaded machine may stand still between an answer and its record: the last ones before the window
_ROUNDING = 1.01  # the mean and each of its values are rounded to a whole count, in single floats


def judge_value(count: int, moments: Sequence[float], shown: Sequence[Shown], window: Window) -> str:
    """Say how a record's count follows from what its instrument gave around one of the moments it may be of.

    EXACT: the mean of successive answers; IN_RANGE: between the lowest and the highest; otherwise it is not explained.
    The last answers before the window count too. DATED_EARLY: the mean of answers of the next hour, as when a station
    whose disk is slower than its intervals closes them one after the other, long after their end.
    """
    best = NOTHING_GIVEN
    for moment in moments:
        low = bisect_left(shown, moment - window.before_s, key=lambda one: one.time)
        high = bisect_right(shown, moment + window.after_s, key=lambda one: one.time)
        counts = [one.value for one in shown[max(0, low - _ASKED_BEFORE) : high]]
        if not counts:
            continue
        rounding = _ROUNDING + 2e-6 * abs(count)
        if _is_mean_of_some(count, counts, rounding):
            return EXACT
        if min(counts) - rounding <= count <= max(counts) + rounding:
            best = IN_RANGE
        elif best == NOTHING_GIVEN:
            best = OUTSIDE
    explained = best == IN_RANGE or window.after_s >= _BEHIND_S
    if not explained and judge_value(count, moments, shown, Window(0.0, _BEHIND_S)) == EXACT:
        return DATED_EARLY
    return best


def _is_mean_of_some(count: int, counts: Sequence[float], rounding: float) -> bool:
    sums = [0.0]
    for value in counts:
        sums.append(sums[-1] + value)
    return any(
        abs((sums[begin + length] - sums[begin]) / length - count) <= rounding
        for length in range(1, _LONGEST_RUN + 1)
        for begin in range(len(counts) - length + 1)
    )


class Clocks:
    """What a journal says of its clock: boots, clock-set events, and the dates its records have.

    `moved`: by how much this clock was moved on purpose.
    """

    def __init__(self, records: Mapping[int, Record], moved: Sequence[float] = ()) -> None:
        self._moved = moved
        self._boots = sorted(seq for seq, one in records.items() if one.parameter == EVENT_BOOT)
        self._sets = sorted((seq, one.count) for seq, one in records.items() if one.parameter == EVENT_CLOCK_SET)
        dated = [(seq, one.time) for seq, one in sorted(records.items()) if one.time >= CLOCK_UNSET_BELOW]
        self._dated_seqs, self._dates = [seq for seq, _ in dated], [time for _, time in dated]

    def moments_of(self, record: Record) -> list[float]:
        """Return the moments a record may be of, bench time: its own, and what wrong clocks may have made of it.

        One of a boot that never learned the time is of any minute between the dates around it.
        """
        begin, end = self._boot_of(record.seq)
        after = [step for seq, step in self._sets if record.seq < seq < end]
        before = [step for seq, step in reversed(self._sets) if begin <= seq <= record.seq]
        found = [float(record.time)] if record.time >= CLOCK_UNSET_BELOW else []
        found += (record.time + shift for shift in accumulate(after))
        found += (record.time - shift for shift in accumulate(before))
        if not found:
            found = self._minutes_around(record.seq)
        return found + [moment - step for moment in list(found) for step in self._moved]

    def _boot_of(self, seq: int) -> tuple[int, float]:
        place = bisect_right(self._boots, seq)
        return self._boots[place - 1] if place else 0, self._boots[place] if place < len(self._boots) else inf

    def _minutes_around(self, seq: int) -> list[float]:
        place = bisect_left(self._dated_seqs, seq)
        if not self._dates:
            return []
        first = self._dates[place - 1] if place else self._dates[0] - HOUR_S
        last = self._dates[place] if place < len(self._dates) else first + HOUR_S
        return [float(at) for at in range(int(first), int(min(last, first + 24 * HOUR_S)) + 60, 60)]
