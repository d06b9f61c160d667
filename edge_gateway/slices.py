"""The words the gateway's parts share: a series, a slice of it, and ranges of sequence numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from firmware import record

Range = tuple[int, int]
"""First and last sequence number, both inside."""

MAX_SEQ = 0xFFFFFFFF
EARLIEST_BELIEVABLE_S = 1_262_304_000  # 2010-01-01: a host clock before it has not been set; measured series are newer


class Series(NamedTuple):
    """The records of one journal of one station; with `seq` it is a record's identity."""

    station: str
    journal: int


@dataclass(frozen=True)
class Slice:
    """Consecutive records of one series, end to end as the station made them."""

    series: Series
    first_seq: int
    records: bytes

    @property
    def number(self) -> int:
        """How many records."""
        return len(self.records) // record.SIZE

    @property
    def last_seq(self) -> int:
        """Sequence number of the last record."""
        return self.first_seq + self.number - 1

    def part(self, first_seq: int, last_seq: int) -> Slice:
        """Return the records first_seq..last_seq, which must lie inside."""
        begin = (first_seq - self.first_seq) * record.SIZE
        end = (last_seq - self.first_seq + 1) * record.SIZE
        return Slice(self.series, first_seq, self.records[begin:end])


class Loss(NamedTuple):
    """Records the gateway declares lost, and why."""

    series: Series
    first_seq: int
    last_seq: int
    reason: str


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Return the same numbers as the fewest ranges, in order."""
    result: list[Range] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def without(whole: Range, cuts: Iterable[Range]) -> list[Range]:
    """Return what remains of `whole` when every range of `cuts` is taken away, in order."""
    remaining = []
    first, last = whole
    for cut_first, cut_last in sorted(cuts):
        if cut_last < first:
            continue
        if cut_first > last:
            break
        if cut_first > first:
            remaining.append((first, cut_first - 1))
        first = cut_last + 1
    if first <= last:
        remaining.append((first, last))
    return remaining


class Progress(NamedTuple):
    """What of a series is settled (stored here, or declared lost): all up to `through`, and ranges beyond it.

    Only `through` may be acknowledged: a station frees everything up to it.
    """

    through: int
    ahead: tuple[Range, ...] = ()

    def having(self, *ranges: Range) -> Progress:
        """Return the progress when these are settled too."""
        through, ahead = self.through, []
        for first, last in joined([*self.ahead, *ranges]):
            if first <= through + 1:
                through = max(through, last)
            else:
                ahead.append((first, last))
        return Progress(through, tuple(ahead))

    def missing(self, first_seq: int, last_seq: int) -> list[Range]:
        """Return what of these records is not settled, in order."""
        first = max(first_seq, self.through + 1)
        return without((first, last_seq), self.ahead) if first <= last_seq else []
