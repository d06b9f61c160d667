"""What a store of observations can do: one row for each series and time, whoever keeps it.

    chunked_log.LogStore              in the books' own SQLite file, in the same transaction
    influx_observations.InfluxStore   in a database that speaks as InfluxDB does

A store of its own (on another machine) does not take part in the books' transaction. So the writer's order is:
observations first (`settle`), then the commit of the books. After a crash in between the same records come again, are
found with their identity, and change nothing.

Series and journals are named by their numbers in the books; `Names` says what these stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from cloud_ingest.columns import Bytes, Counted, DerivedValues, Floats, Ints, Layer, Observed, SeriesKey, Shown
from firmware.record import MISSING

LoggedRow = tuple[int, int | None, float | None, int, int]  # time, count, value, flag, failed
NOBODY = -1  # the journal of a derived row


@dataclass(frozen=True)
class Logged:
    """All that is kept of one series, times ascending.

    `count` MISSING where there is none; `value` NaN where there is none, or where the count on its scale is it;
    `calibration` 0 without one; `journal` NOBODY and `seq` 0 in derived rows.
    """

    time: Ints
    count: Ints
    value: Floats
    calibration: Ints
    flag: Bytes
    failed: Ints
    journal: Ints
    seq: Ints

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> Logged:
        """Return these rows."""
        return Logged(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Layered:
    """What answers are made of, as in `Logged`, without whose records it is."""

    time: Ints
    count: Ints
    value: Floats
    calibration: Ints
    flag: Bytes
    failed: Ints


def each_at(at: Callable[[int, Ints], list[LoggedRow]], series: Ints, times: Ints) -> Logged:
    """Return what `at` has for each of these (series, time), in their order; flag 0 where there is none. What no layer
    is, is left out."""
    number = len(times)
    zeros = (np.zeros(number, np.int64) for _ in range(5))
    calibration, failed, journal, seq, count = zeros
    found = Logged(
        *(times, count + MISSING, np.full(number, np.nan), calibration),
        *(np.zeros(number, np.uint8), failed, journal + NOBODY, seq),
    )
    for one in np.unique(series).tolist():
        rows = np.flatnonzero(series == one)
        rows = rows[np.argsort(times[rows], kind="stable")]
        for time, counted, value, flag, objected in at(one, np.unique(times[rows])):
            here = rows[times[rows] == time]
            found.flag[here], found.failed[here] = flag, objected
            found.count[here] = MISSING if counted is None else counted
            found.value[here] = np.nan if value is None else value
    return found


class Observations(Protocol):
    """The reader's view. Spans of time have both ends included, answers are in order of time; layers, layered, shown
    and logged have every series that was asked for. Every method raises StoreUnavailable."""

    def at(self, series: int, times: Ints) -> list[LoggedRow]:
        """Return the rows of a series at those of `times` (ascending) it has."""

    def counted(self, series: Iterable[int], first: int, last: int) -> dict[int, Counted]:
        """Return what records said of these series; a series without a row is not there."""

    def layers(self, series: Iterable[int], first: int, last: int) -> dict[int, Layer]:
        """Return the layers of these series as they are stored; derived series too."""

    def shown(self, scales: Mapping[int, float], first: int, last: int) -> dict[int, Shown]:
        """Return what people see of these series; count / scale is a value."""

    def layered(self, series: Iterable[int], first: int, last: int) -> dict[int, Layered]:
        """Return counts and layers of these series."""

    def logged(self, series: Iterable[int], first: int, last: int) -> dict[int, Logged]:
        """Return everything of these series."""

    def counts(self, series: Iterable[int], first: int, last: int) -> dict[int, tuple[int, int]]:
        """Return (rows, rows of flag 1 or 2 with a value or a count) by series; one without a row is not there."""

    def blocks(self, series: Iterable[int], block_s: int, shift_s: int = 0) -> list[int]:
        """Return the beginnings of the blocks of time (multiples of block_s) that have a row of these series at
        begin + shift_s <= time < begin + shift_s + block_s."""

    def newest_time(self, until: int) -> int | None:
        """Return the time of the newest row that is not after `until`, of any series; None when there is none."""

    def oldest_time(self, since: int) -> int | None:
        """Return the time of the oldest row that is not before `since`, of any series; None when there is none."""


class ObservationsWriter(Observations, Protocol):
    """The view of the one writer of these series, within one transaction of the books: it sees what it wrote."""

    def add(self, rows: Observed) -> npt.NDArray[np.bool_]:
        """Store observations (sorted by time, series); return which are in the store now.

        Not in it is a row whose series and time another record has: the first stays. The same record again is in.
        """

    def at_each(self, series: Ints, times: Ints) -> Logged:
        """Return the row of each of these (series, time), in their order; flag 0 where there is none."""

    def put_derived(self, rows: DerivedValues) -> None:
        """Store derived values; a later computation of the same moment replaces the earlier one."""

    def put_layer(self, series: int, layer: Layer, *, derived: bool) -> None:
        """Change the layers of one series at these times: of observed rows that are there; a derived one is made."""

    def settle(self) -> None:
        """Return when all that was written is as durable as the store makes it; the books are committed after that."""


@dataclass(frozen=True)
class Moment:
    """One moment of the store: the books, and the observations they speak of."""

    books: Connection
    log: Observations


class Names(Protocol):
    """What the numbers of the books stand for."""

    def key_of(self, series: int) -> SeriesKey:
        """Return whose series it is. Raises KeyError."""

    def journal_of(self, number: int) -> tuple[str, int]:
        """Return the station of a journal, and the id that its board gave it. Raises KeyError."""

    def journal_number(self, station: str, journal: int) -> int:
        """Return the number of a journal, NOBODY when the books do not know it."""


Changed = Callable[[Ints, Ints | int], None]  # rows of these times (ascending) and series are about to change


class ObservationStore(Protocol):
    """Where observations are kept. It hands out views that live as long as a transaction of the books does."""

    @property
    def is_apart(self) -> bool:
        """Return whether what is written is there before the books are committed, and stays when they are not."""

    def writer(self, books: Connection, names: Names, changed: Changed, /) -> ObservationsWriter:
        """Return the view of the one writer."""

    def reader(self, books: Connection, names: Names, /) -> Observations:
        """Return the view of somebody who reads."""
