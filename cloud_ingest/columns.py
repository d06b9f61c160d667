"""What travels between the steps of ingest and the store: series keys, columns of observations, arrivals."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, delete, func, insert, select

from cloud_ingest.book_tables import arrivals, series

ARRIVAL_DTYPE = np.dtype([("series", "<u4"), ("time", "<u4"), ("value", "<f8"), ("flag", "u1")])
GROUPS_AT_ONCE = 4  # of arrivals, each of some 200 kB
Arrivals = npt.NDArray[np.void]  # of ARRIVAL_DTYPE
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


class SeriesKey(NamedTuple):
    """What a series number stands for; parameter is the code."""

    station: str
    sensor: int
    parameter: int


class Observation(NamedTuple):
    """One arrival, as the alert engine takes it; value None means no value."""

    station: str
    parameter: int
    sensor: int
    time: int
    value: float | None
    flag: int
    arrival: int


@dataclass(frozen=True)
class Observed:
    """Columns of observations made from records, dated, calibrated and flagged; `value` NaN where there is none.

    `calibration` is the id of the record that made the value, 0 without one; `failed` the set of tests that objected.
    """

    time: Ints
    series: Ints
    count: Ints
    value: Floats
    flag: Bytes
    journal: Ints
    seq: Ints
    calibration: Ints
    failed: Ints

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Observed:
        """Return these rows."""
        return Observed(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class DerivedValues:
    """Columns of derived series, each series in order of time."""

    series: Ints
    time: Ints
    value: Floats
    flag: Bytes
    failed: Ints

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> DerivedValues:
        """Return these rows."""
        return DerivedValues(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Counted:
    """What records said of one series: times ascending, counts, and where the station itself said fail."""

    time: Ints
    count: Ints
    station_failed: npt.NDArray[np.bool_]


class Shown(NamedTuple):
    """A series as people see it: times ascending, values (NaN: none) and flags."""

    time: Ints
    value: Floats
    flag: Bytes


@dataclass(frozen=True)
class Layer:
    """The layers of one series; `calibration` 0 where no record was in force."""

    time: Ints
    value: Floats
    calibration: Ints
    flag: Bytes
    failed: Ints


def arrivals_after(connection: Connection, keys: dict[int, SeriesKey], cursor: int, limit: int) -> list[Observation]:
    """Return up to `limit` observations that arrived after `cursor`, in order of arrival."""
    found: list[Observation] = []
    after = select(arrivals.c.first, arrivals.c.rows).where(arrivals.c.last > cursor).order_by(arrivals.c.last)
    with connection.execute(after.execution_options(yield_per=GROUPS_AT_ONCE)) as groups:
        for first, blob in groups:
            rows = np.frombuffer(blob, ARRIVAL_DTYPE)
            skip = max(0, cursor + 1 - first)
            wanted = rows[skip : skip + limit - len(found)]
            for at, (number, time, value, flag) in enumerate(wanted.tolist(), first + skip):
                key, shown = keys[number], None if value != value else value
                found.append(Observation(key.station, key.parameter, key.sensor, time, shown, flag, at))
            if len(found) >= limit:
                break
    return found


def number_arrivals(connection: Connection, rows: Arrivals, kept: int) -> None:
    """Append what arrived, numbered; of more than `kept` the oldest go. Nobody else may number meanwhile."""
    c = arrivals.c
    before = connection.scalar(select(func.max(c.last))) or 0
    last = before + len(rows)
    connection.execute(insert(arrivals).values(last=last, first=before + 1, rows=rows.tobytes()))
    connection.execute(delete(arrivals).where(c.last < last - kept))


def numbers_of(connection: Connection, keys: Collection[SeriesKey]) -> dict[SeriesKey, int]:
    """Return the numbers of those of these series that there are."""
    query = select(series.c.id, series.c.station, series.c.sensor, series.c.parameter)
    query = query.where(series.c.station.in_({key.station for key in keys}))
    found = {SeriesKey(*row[1:]): int(row[0]) for row in connection.execute(query)}
    return {key: found[key] for key in keys if key in found}


def read_series(connection: Connection, station: str | None = None) -> dict[int, SeriesKey]:
    """Return what the numbers of series stand for, of one station or of all, in the order of the keys."""
    query = select(series.c.id, series.c.station, series.c.sensor, series.c.parameter)
    if station is not None:
        query = query.where(series.c.station == station)
    found = [(SeriesKey(*row[1:]), int(row[0])) for row in connection.execute(query)]
    return {number: key for key, number in sorted(found)}  # sorted here: databases sort text in ways of their own
