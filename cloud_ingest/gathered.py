"""Rows of the log on their way into chunks: read window by window, taken series by series, then remembered by what
they were, so that only what is still the same goes out of the log."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Ints
from cloud_ingest.observations import Logged
from cloud_ingest.scan_windows import Key
from cloud_ingest.scans import GROUP_BITS, ROW_DTYPE, Scans, joined, starts_of

Digests = npt.NDArray[np.uint64]
_COLUMNS = tuple(name for name in ROW_DTYPE.names or () if name != "series")


class _Sorted(NamedTuple):
    """One window's rows in order of series and time: those of series[at] are from bounds[at] to bounds[at + 1]."""

    series: list[int]
    bounds: list[int]
    scans: Scans


class _Seen(NamedTuple):
    """One window's rows as they were: which they are (ascending), and what was in them."""

    places: Ints
    digests: Digests


@dataclass
class Gathered:
    """The rows of some groups of series, as the log had them between two keys, all of one day that begins at `origin`.

    `following`: the key that is read next; None: everything is here.
    """

    groups: tuple[int, ...]
    origin: int
    following: Key | None
    rows: int = field(default=0, init=False)
    seen: list[_Seen] = field(default_factory=list, init=False)
    _windows: list[_Sorted] = field(default_factory=list, init=False)

    def take(self, scans: Scans, following: Key | None) -> None:
        """Take the rows of the next window (in order of time and series)."""
        self.following = following
        if not len(scans.time):
            return
        self.rows += len(scans.time)
        self.seen.append(_Seen(_places(scans, self.origin), digests(scans)))
        order = np.argsort(scans.rows["series"].astype(np.int64), kind="stable")
        by_series = scans.take(order)
        starts = starts_of(by_series.rows["series"])
        numbers = by_series.rows["series"][starts].tolist()
        self._windows.append(_Sorted(numbers, [*starts.tolist(), len(order)], by_series))

    def series(self) -> list[int]:
        """Return the series that have rows."""
        return sorted(set().union(*(window.series for window in self._windows)))

    def of(self, number: int) -> Logged:
        """Return the rows of a series that has some, in order of time."""
        found = joined(*self._parts(number))
        rows = found.rows
        whole = {name: rows[name].astype(np.int64) for name in _COLUMNS if name not in ("value", "flag")}
        return Logged(time=found.time, value=np.array(rows["value"]), flag=np.array(rows["flag"]), **whole)

    def _parts(self, number: int) -> Iterator[Scans]:
        for series, bounds, scans in self._windows:
            at = bisect_left(series, number)
            if at < len(series) and series[at] == number:
                part = slice(bounds[at], bounds[at + 1])
                yield Scans(scans.time[part], scans.rows[part])


@dataclass
class Packed:
    """What went into chunks of a day and may go out of the log: 16 bytes for each row."""

    origin: int
    rows: int = field(default=0, init=False)
    _parts: list[tuple[npt.NDArray[np.bool_], list[int], list[_Seen]]] = field(default_factory=list, init=False)

    def add(self, gathered: Gathered) -> None:
        """Remember these rows; of the same groups none that are known."""
        groups = np.zeros(max(gathered.groups) + 1, np.bool_)
        groups[list(gathered.groups)] = True
        self._parts.append((groups, [int(one.places[0]) for one in gathered.seen], gathered.seen))
        self.rows += gathered.rows

    def groups(self) -> set[int]:
        """Return the groups of series that have such rows."""
        return set().union(*(np.flatnonzero(groups).tolist() for groups, _, _ in self._parts))

    def unchanged(self, scans: Scans) -> npt.NDArray[np.bool_]:
        """Return which rows (in order of time and series) are what they were."""
        same = np.zeros(len(scans.time), np.bool_)
        places, now = _places(scans, self.origin), digests(scans)
        group = scans.rows["series"] >> GROUP_BITS
        for groups, firsts, seen in self._parts:
            own = np.flatnonzero(groups[np.minimum(group, len(groups) - 1)] & (group < len(groups)))
            if len(own):
                begin = max(bisect_right(firsts, int(places[own[0]])) - 1, 0)
                end = bisect_right(firsts, int(places[own[-1]]))
                same[own] |= _same(seen[begin:end], places[own], now[own])
        return same


def digests(scans: Scans) -> Digests:
    """Return 64 bits that stand for all columns of each row but whose it is."""
    found = scans.time.astype(np.uint64)
    for name in _COLUMNS:
        column = np.ascontiguousarray(scans.rows[name])
        words = column.view(np.uint64) if column.itemsize == 8 else column.astype(np.uint64)
        found = (found ^ words) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


def _same(seen: list[_Seen], places: Ints, now: Digests) -> npt.NDArray[np.bool_]:
    if not seen:
        return np.zeros(len(places), np.bool_)
    known = np.concatenate([one.places for one in seen])
    at = np.minimum(np.searchsorted(known, places), len(known) - 1)
    same: npt.NDArray[np.bool_] = known[at] == places
    same &= np.concatenate([one.digests for one in seen])[at] == now
    return same


def _places(scans: Scans, origin: int) -> Ints:
    """Return time and series as one number that ascends with them."""
    places: Ints = ((scans.time - origin) << 32) | scans.rows["series"].astype(np.int64)
    return places
