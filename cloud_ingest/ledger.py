"""Sets of sequence numbers as sorted ranges: what arrived, what is missing, what was asked twice.

Pure: no clock, no disk. A journal of a million records that arrived without a gap is one pair of integers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Range = tuple[int, int]  # first and last, both included
Sequences = npt.NDArray[np.int64]


class RangeSet:
    """A set of integers kept as disjoint, non-touching, sorted ranges."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"

    @property
    def count(self) -> int:
        """How many integers the set holds."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    @property
    def span(self) -> Range | None:
        """The smallest and the largest integer, or None when the set is empty."""
        return (self._firsts[0], self._lasts[-1]) if self._firsts else None

    def copy(self) -> RangeSet:
        """Return an independent copy."""
        twin = RangeSet()
        twin._firsts, twin._lasts = self._firsts.copy(), self._lasts.copy()
        return twin

    def add(self, first: int, last: int) -> None:
        """Add first..last. Raises ValueError when last < first."""
        if last < first:
            raise ValueError(f"range {first}..{last} ends before it begins")
        # every range that overlaps or touches first..last melts into it
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def covers(self, first: int, last: int) -> bool:
        """Return whether every integer of first..last is in the set."""
        at = bisect_right(self._firsts, first) - 1
        return at >= 0 and last <= self._lasts[at]

    def missing(self, first: int, last: int) -> list[Range]:
        """Return the ranges of first..last that are not in the set."""
        gaps = []
        at = bisect_left(self._lasts, first)
        while first <= last:
            if at == len(self._firsts) or self._firsts[at] > last:
                gaps.append((first, last))
                break
            if self._firsts[at] > first:
                gaps.append((first, self._firsts[at] - 1))
            first = self._lasts[at] + 1
            at += 1
        return gaps

    def mask(self, numbers: Sequences) -> npt.NDArray[np.bool_]:
        """Return for each of `numbers` (any order) whether the set holds it."""
        if not self._firsts:
            return np.zeros(len(numbers), np.bool_)
        at = np.searchsorted(np.array(self._firsts, np.int64), numbers, side="right") - 1
        inside: npt.NDArray[np.bool_] = (at >= 0) & (numbers <= np.array(self._lasts, np.int64)[at])
        return inside


def ranges_of(numbers: Sequences) -> list[Range]:
    """Return sorted ranges that name exactly `numbers` (any order, repeats allowed)."""
    if len(numbers) == 0:
        return []
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first == len(numbers) - 1 and (numbers[1:] > numbers[:-1]).all():  # without a gap, as nearly always
        return [(first, last)]
    steps = np.diff(numbers)
    ordered = numbers if (steps > 0).all() else np.unique(numbers)
    breaks = np.flatnonzero(np.diff(ordered) != 1)
    firsts = ordered[np.concatenate(([0], breaks + 1))].tolist()
    lasts = ordered[np.concatenate((breaks, [len(ordered) - 1]))].tolist()
    return list(zip(firsts, lasts, strict=True))
