"""Every sequence number of a journal accounted for: stored, set aside, overwritten on the board, or unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_ingest.ledger import Range, RangeSet

FIRST_SEQ = 1  # of a new journal


@dataclass(frozen=True)
class Account:
    """Where the sequence numbers from the journal's first to the last known one are."""

    stored: list[Range]
    set_aside: list[Range]
    overwritten: list[Range]
    unexplained: list[Range]

    @property
    def missing(self) -> list[Range]:
        """Everything that is neither stored nor set aside."""
        return list(RangeSet([*self.overwritten, *self.unexplained]))


def account_for(stored: RangeSet, unusable: RangeSet, overwritten: Sequence[tuple[int, int]]) -> Account:
    """Explain a journal. overwritten: (seq of the event, how many records the board's ring overwrote unsent).

    An event explains missing numbers before it, the nearest first, as many as it says.
    """
    arrived = RangeSet([*stored, *unusable])
    span = arrived.span
    gaps = RangeSet(arrived.missing(min(FIRST_SEQ, span[0]), span[1]) if span else [])
    explained = RangeSet()
    for seq, count in sorted(overwritten):
        for first, last in reversed(_not_yet(gaps, explained, seq)):
            if count <= 0:
                break
            begin = max(first, last - count + 1)
            explained.add(begin, last)
            count -= last - begin + 1
    unexplained = [rest for first, last in gaps for rest in explained.missing(first, last)]
    only_unusable = [rest for first, last in unusable for rest in stored.missing(first, last)]
    return Account(list(stored), only_unusable, list(explained), unexplained)


def _not_yet(gaps: RangeSet, explained: RangeSet, before: int) -> list[Range]:
    """Return the gaps before a seq that nothing explains so far."""
    return [rest for first, last in gaps if first < before for rest in explained.missing(first, min(last, before - 1))]
