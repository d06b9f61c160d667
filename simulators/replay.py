"""Measured series played through the same instruments: nothing interpolated, nothing invented.

Two formats are read, both NERRS sonde files at 15-minute steps: the original CDMO export (one row per time in the
station's own standard time, flags such as `<1> [SDO] (CCU)`) and the project's UTC table. Each row holds until the next
one is due; a value that is missing or not flagged good is NaN, which an instrument shows as its own fault.
Both files' conductivity was compensated to 25 °C with 1.91 %/K.
"""

from __future__ import annotations

import csv
import gzip
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

import numpy as np

from simulators.errors import SimulatorError
from simulators.estuary import Place, WaterState
from simulators.noise import Array
from station_config.salinity import conductivity_from_25, practical_salinity

COMPENSATION_ALPHA_PER_C = 0.0191
ROW_S = 900.0

# Standard time all year, whatever the clocks of the state do: "local standard time" in the files' own description.
STANDARD_TIME_H = {"gndblwq": -6.0, "apacpwq": -5.0}

_GOOD = 0
_DEPTH_GOOD = (0, 3)  # 3: depth calculated from pressure
_FLAG = re.compile(r"<(-?\d+)>")
_CDMO_COLUMNS = ("StationCode", "DateTimeStamp", "Temp", "SpCond", "Sal", "Depth")
_UTC_COLUMNS = ("datetime_utc", "temp", "spcond", "sal", "depth")


class ReplayError(SimulatorError):
    """A file cannot be replayed; the text says what was expected."""


@dataclass(frozen=True)
class Series:
    """A measured series, one entry per row; times ascend. NaN where the file has no good value."""

    name: str
    times: Array  # unix seconds UTC at which the row begins to hold
    temperature_c: Array
    conductivity_25_ms_cm: Array
    salinity: Array  # the file's own column, rounded to 0.1 there
    depth_m: Array
    flags: tuple[str, ...]  # the file's flag of the conductivity, as written

    def shifted(self, shift_s: float) -> Series:
        """Return the same series later by `shift_s`."""
        return replace(self, times=self.times + shift_s)

    def row_at(self, time: float) -> int | None:
        """Return the row that holds at this moment, or None before, after, and in a gap of the file."""
        row = bisect_right(self.times, time) - 1
        return row if row >= 0 and time < self.times[row] + ROW_S else None


@dataclass(frozen=True)
class Replay:
    """A measured series as the state of the water; a station with a shift is late by it."""

    series: Series

    def water(self, place: Place, time: float) -> WaterState:
        """Return the row that holds at this moment; all NaN where there is none."""
        row = self.series.row_at(time - place.shift_s)
        if row is None:
            return WaterState(np.nan, np.nan, np.nan, np.nan)
        temperature = float(self.series.temperature_c[row])
        conductivity_25 = float(self.series.conductivity_25_ms_cm[row])
        return WaterState(
            salinity=float(self.series.salinity[row]),
            conductivity_ms_cm=conductivity_from_25(conductivity_25, temperature, COMPENSATION_ALPHA_PER_C),
            water_temperature_c=temperature,
            level_m=place.elevation_m + float(self.series.depth_m[row]),
        )

    def salinity(self, place: Place, times: Array) -> Array:
        """Return practical salinity for many moments, from conductivity: what the chain will make of these rows."""
        late = times - place.shift_s
        rows = np.searchsorted(self.series.times, late, side="right") - 1
        holds = (rows >= 0) & (late < self.series.times[rows] + ROW_S)
        temperature, compensated = self.series.temperature_c[rows], self.series.conductivity_25_ms_cm[rows]
        in_situ = conductivity_from_25(compensated, temperature, COMPENSATION_ALPHA_PER_C)
        return np.where(holds, practical_salinity(in_situ, temperature), np.nan)

    def scan_times(self, place: Place) -> Array:
        """Return the beginning of every row's quarter of an hour, gaps included."""
        return np.arange(self.series.times[0], self.series.times[-1] + ROW_S, ROW_S) + place.shift_s


def read_series(path: Path, standard_time_h: float | None = None) -> Series:
    """Read a measured file. Raises ReplayError.

    `standard_time_h` is the zone of a CDMO file (hours ahead of UTC); without it the zone is known by station code.
    """
    try:
        with _opened(path) as file:
            rows = csv.DictReader(file, restval="")  # a line that was cut off
            columns = rows.fieldnames = [column.strip() for column in rows.fieldnames or ()]
            if set(_CDMO_COLUMNS) <= set(columns):
                return _series(path, list(_cdmo_rows(path, rows, standard_time_h)))
            if set(_UTC_COLUMNS) <= set(columns):
                return _series(path, list(_utc_rows(path, rows)))
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ReplayError(f"{path}: cannot be read: {error}") from None
    raise ReplayError(
        f"{path}: neither a CDMO export (columns {', '.join(_CDMO_COLUMNS)} and F_ flags) "
        f"nor a UTC table (columns {', '.join(_UTC_COLUMNS)} and f_ flags); it has {', '.join(columns) or 'no columns'}"
    )


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8-sig", newline="")


@dataclass(frozen=True)
class _Row:
    time: float
    temperature_c: float
    conductivity_25_ms_cm: float
    salinity: float
    depth_m: float
    flag: str


def _series(path: Path, rows: list[_Row]) -> Series:
    if not rows:
        raise ReplayError(f"{path}: has a header and no rows")
    rows.sort(key=lambda row: row.time)
    return Series(
        path.name,
        np.array([row.time for row in rows]),
        np.array([row.temperature_c for row in rows]),
        np.array([row.conductivity_25_ms_cm for row in rows]),
        np.array([row.salinity for row in rows]),
        np.array([row.depth_m for row in rows]),
        tuple(row.flag for row in rows),
    )


def _cdmo_rows(path: Path, rows: csv.DictReader[str], standard_time_h: float | None) -> Iterator[_Row]:
    for row in rows:
        code = row["StationCode"].strip()
        zone_h = STANDARD_TIME_H.get(code) if standard_time_h is None else standard_time_h
        if zone_h is None:
            raise ReplayError(
                f"{path}: station {code!r}: its standard time is not known; give it in hours ahead of UTC"
            )
        stamp = _parsed_time(path, rows.line_num, row["DateTimeStamp"], _us_time, "month/day/year hour:minute")
        yield _row(
            path, rows.line_num, row, stamp - timedelta(hours=zone_h), ("Temp", "SpCond", "Sal", "Depth"), "F_{}"
        )


def _utc_rows(path: Path, rows: csv.DictReader[str]) -> Iterator[_Row]:
    for row in rows:
        stamp = _parsed_time(path, rows.line_num, row["datetime_utc"], datetime.fromisoformat, "year-month-day h:m:s")
        yield _row(path, rows.line_num, row, stamp, ("temp", "spcond", "sal", "depth"), "f_{}")


def _parsed_time(path: Path, line: int, text: str, parse: Callable[[str], datetime], form: str) -> datetime:
    try:
        return parse(text.strip()).replace(tzinfo=UTC)
    except ValueError:
        raise ReplayError(f"{path}:{line}: {text!r} is not a time of the form {form}") from None


def _us_time(text: str) -> datetime:
    return datetime.strptime(text, "%m/%d/%Y %H:%M").replace(tzinfo=UTC)


def _row(
    path: Path, line: int, row: Mapping[str, str], stamp: datetime, columns: tuple[str, str, str, str], flag_name: str
) -> _Row:
    temperature, conductivity, salinity, depth = columns
    value = _good_value(path, line, row, flag_name)
    return _Row(
        stamp.timestamp(),
        value(temperature, (_GOOD,)),
        value(conductivity, (_GOOD,)),
        value(salinity, (_GOOD,)),
        value(depth, _DEPTH_GOOD),
        (row.get(flag_name.format(conductivity)) or "").strip(),
    )


def _good_value(
    path: Path, line: int, row: Mapping[str, str], flag_name: str
) -> Callable[[str, tuple[int, ...]], float]:
    """Return a function that gives a column's value, NaN where it is missing or its flag is not among the good ones."""

    def value(column: str, good: tuple[int, ...]) -> float:
        flag = _FLAG.search(row.get(flag_name.format(column)) or "")
        text = (row.get(column) or "").strip()
        if not text or flag is None or int(flag.group(1)) not in good:
            return float("nan")
        try:
            return float(text)
        except ValueError:
            raise ReplayError(f"{path}:{line}: {column} is {text!r}, not a number") from None

    return value
