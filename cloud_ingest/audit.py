"""Every sequence number of a journal accounted for: stored, set aside, overwritten, declared lost, or unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cloud_ingest.ledger import Range, RangeSet

FIRST_SEQ = 1  # of a new journal
OVERWRITTEN = "overwritten at the station before it was read"  # said by a gateway; the board's own event says it too


class Declared(NamedTuple):
    """What a gateway says is lost, why, which gateway, and when (unix seconds, the gateway's clock)."""

    first: int
    last: int
    reason: str
    gateway: str
    at: int


@dataclass(frozen=True)
class Account:
    """Where the sequence numbers from the journal's first to the last known one are.

    `declared` is what of the gateways' declarations is missing in truth.
    """

    stored: list[Range]
    set_aside: list[Range]
    overwritten: list[Range]
    declared: list[Declared]
    unexplained: list[Range]

    @property
    def missing(self) -> list[Range]:
        """Everything that is neither stored nor set aside."""
        return list(RangeSet([*self.overwritten, *((one.first, one.last) for one in self.declared), *self.unexplained]))


def account_for(
    stored: RangeSet, unusable: RangeSet, overwritten: Sequence[tuple[int, int]], declared: Sequence[Declared] = ()
) -> Account:
    """Explain a journal. overwritten: (seq of the event, how many records the board's ring overwrote unsent).

    A declaration names numbers and goes first. An event explains missing numbers before it, the nearest first, as many
    as it says; those a gateway has declared overwritten are among them.
    """
    arrived = RangeSet([*stored, *unusable])
    span = RangeSet([*arrived, *((one.first, one.last) for one in declared)]).span
    gaps = RangeSet(arrived.missing(min(FIRST_SEQ, span[0]), span[1]) if span else [])
    lost = _missing_of(declared, arrived)
    explained = RangeSet((one.first, one.last) for one in lost)
    said = RangeSet((one.first, one.last) for one in lost if one.reason == OVERWRITTEN)
    by_events, counted = RangeSet(), 0
    for seq, count in sorted(overwritten):
        already_said = min(max(0, count), _number_before(said, seq) - counted)
        counted += already_said
        left = count - already_said
        for first, last in reversed(_not_yet(gaps, explained, seq)):
            if left <= 0:
                break
            begin = max(first, last - left + 1)
            explained.add(begin, last)
            by_events.add(begin, last)
            left -= last - begin + 1
    unexplained = [rest for first, last in gaps for rest in explained.missing(first, last)]
    only_unusable = [rest for first, last in unusable for rest in stored.missing(first, last)]
    return Account(list(stored), only_unusable, list(by_events), lost, unexplained)


def in_cloud(account: Account, most: int) -> list[Range]:
    """Return which numbers nobody needs to send again, as `most` ranges: of more the longest."""
    explained = [*account.overwritten, *((one.first, one.last) for one in account.declared)]
    ranges = RangeSet([*account.stored, *account.set_aside, *explained])
    return sorted(sorted(ranges, key=lambda one: one[0] - one[1])[:most])


def _missing_of(declared: Sequence[Declared], arrived: RangeSet) -> list[Declared]:
    """Return of each declaration what did not arrive; a number that two declare counts for the first."""
    found, seen = [], RangeSet()
    for one in declared:
        for begin, end in seen.missing(one.first, one.last):
            found += [one._replace(first=first, last=last) for first, last in arrived.missing(begin, end)]
        seen.add(one.first, one.last)
    return sorted(found)


def _number_before(numbers: RangeSet, seq: int) -> int:
    return sum(min(last, seq - 1) - first + 1 for first, last in numbers if first < seq)


def _not_yet(gaps: RangeSet, explained: RangeSet, before: int) -> list[Range]:
    """Return the gaps before a seq that nothing explains so far."""
    return [rest for first, last in gaps if first < before for rest in explained.missing(first, min(last, before - 1))]
