"""Observations as InfluxDB's line protocol, questions as InfluxQL, answers as columns. Pure.

One measurement; tags parameter (its code), sensor, station; times in seconds. Fields, whole numbers but for `value`:

    count, journal, seq        what the record said and which it was; derived rows have none of them
    value, flag                what people see, for anybody's charts
    calibration, failed        the layers' other halves; absent is 0
    valueless                  true where there is no value: a field once written can be replaced, and never be removed

A value without a calibration is its count on the scale, and is read from the count: so a scale that was corrected
counts at once. `journal` is the id that the board gave it: it means the same whatever happens to the books.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Bytes, DerivedValues, Ints, Layer, Observed, SeriesKey
from cloud_ingest.errors import StoreRefused
from cloud_ingest.observations import NOBODY
from firmware.record import MISSING

MEASUREMENT = "observations"
LAST_TIME = 0xFFFFFFFF  # a record's time is a u32
WHOLE = ("count", "journal", "seq", "calibration", "flag", "failed")
ABSENT = {"count": MISSING, "journal": NOBODY, "seq": 0, "calibration": 0, "flag": 0, "failed": 0}

_UNSAYABLE = re.compile(r"[\x00-\x1f\x7f\\]")
_TAG = re.compile(r"([,= ])")


class Channel(NamedTuple):
    """A series of one station."""

    sensor: int
    parameter: int


def beginning(key: SeriesKey) -> str:
    """Return what every line of a series begins with. Raises StoreRefused for a name that no line can hold."""
    station = _TAG.sub(r"\\\1", _sayable(key.station))
    return f"{MEASUREMENT},parameter={key.parameter},sensor={key.sensor},station={station} "


def observed_lines(
    rows: Observed, beginnings: Mapping[int, str], journal_id: Callable[[int], int], fresh: npt.NDArray[np.bool_]
) -> Iterator[str]:
    """Yield a line for each observation; `fresh` says where there was nothing before, so that less need be said."""
    ids = {number: journal_id(number) for number in np.unique(rows.journal).tolist()}
    columns = (rows.time, rows.series, rows.count, rows.value, rows.flag, rows.journal, rows.seq)
    lists = (column.tolist() for column in (*columns, rows.calibration, rows.failed, fresh))
    for time, series, count, value, flag, journal, seq, calibration, failed, new in zip(*lists, strict=True):
        counted = "" if count == MISSING else f"count={count}i,"
        layers = _layers(value, calibration, flag, failed, new)
        yield f"{beginnings[series]}{counted}{layers},journal={ids[journal]}i,seq={seq}i {time}"


def derived_lines(rows: DerivedValues, beginning_of_series: str, fresh: npt.NDArray[np.bool_]) -> Iterator[str]:
    """Yield a line for each derived value."""
    lists = (column.tolist() for column in (rows.time, rows.value, rows.flag, rows.failed, fresh))
    for time, value, flag, failed, new in zip(*lists, strict=True):
        yield f"{beginning_of_series}{_layers(value, 0, flag, failed, new)} {time}"


def layer_lines(layer: Layer, beginning_of_series: str) -> Iterator[str]:
    """Yield a line for each row whose layers change."""
    columns = (layer.time, layer.value, layer.calibration, layer.flag, layer.failed)
    for time, value, calibration, flag, failed in zip(*(column.tolist() for column in columns), strict=True):
        yield f"{beginning_of_series}{_layers(value, calibration, flag, failed, False)} {time}"


def _layers(value: float, calibration: int, flag: int, failed: int, new: bool) -> str:
    if value - value != 0.0:  # NaN or infinite: lines have no way to say so
        shown = ",valueless=true"
    else:
        shown = f",value={value!r}" if new else f",value={value!r},valueless=false"
    if new:
        said = f"{f'calibration={calibration}i,' if calibration else ''}{f'failed={failed}i,' if failed else ''}"
        return f"{said}flag={flag}i{shown}"
    return f"calibration={calibration}i,failed={failed}i,flag={flag}i{shown}"


def question(
    fields: Sequence[str],
    station: str | None,
    channels: Iterable[Channel],
    first: int,
    last: int,
    *,
    newest_first: bool = False,
    limit: int | None = None,
) -> str:
    """Return the InfluxQL for fields (and tags) of a station's channels, or of all, from first to last."""
    conditions = [f"time >= {max(first, 0)}s", f"time <= {min(last, LAST_TIME)}s"]
    if station is not None:
        conditions.append(f"\"station\" = '{_quoted(station)}'")
    wanted = [f"(\"sensor\" = '{one.sensor}' AND \"parameter\" = '{one.parameter}')" for one in channels]
    if wanted:
        conditions.append(f"({' OR '.join(wanted)})")
    selected = ", ".join(f'"{name}"' for name in fields)
    text = f'SELECT {selected} FROM "{MEASUREMENT}" WHERE {" AND ".join(conditions)}'  # noqa: S608  names of ours
    text += f" ORDER BY time {'DESC' if newest_first else 'ASC'}"
    return text if limit is None else f"{text} LIMIT {limit}"


def _quoted(text: str) -> str:
    return _sayable(text).replace("'", "\\'")


def _sayable(station: str) -> str:
    if not station or _UNSAYABLE.search(station):
        raise StoreRefused(f"station {station!r}: InfluxDB has no way to write this name")
    return station


Table = dict[str, npt.NDArray[Any]]


def tables(series: Mapping[str, Any]) -> Table:
    """Return one series of an answer as columns; absent whole numbers as ABSENT says, absent values NaN.

    Raises KeyError, TypeError, ValueError or OverflowError when it is not what was asked for.
    """
    rows = series["values"]
    columns = dict(zip(series["columns"], zip(*rows, strict=True), strict=True)) if rows else {}
    return {name: _column(name, column) for name, column in columns.items()}


def _column(name: str, column: Sequence[Any]) -> npt.NDArray[Any]:
    if name in ABSENT:
        absent = ABSENT[name]
        return np.array([absent if one is None else one for one in column], np.int64)
    if name == "value":
        return np.array([np.nan if one is None else one for one in column], np.float64)
    if name == "valueless":
        return np.array([one is True for one in column], np.bool_)
    return np.array([int(one) for one in column], np.int64)  # time; sensor and parameter are texts of numbers


def nothing(fields: Sequence[str]) -> Table:
    """Return columns without a row."""
    return {name: _column(name, ()) for name in ("time", *fields)}


def joined(parts: Sequence[Table], fields: Sequence[str]) -> Table:
    """Return the rows of several answers, in order."""
    return {
        name: np.concatenate([part[name] for part in parts]) if parts else column
        for name, column in nothing(fields).items()
    }


def seen_values(table: Table) -> npt.NDArray[np.float64]:
    """Return the stored values as the books' stores mean them: NaN where the count is the value, or there is none."""
    of_count = (table["journal"] != NOBODY) & (table["calibration"] == 0)
    return np.where(table["valueless"] | of_count, np.nan, table["value"])


def flags_of(table: Table) -> Bytes:
    """Return the flags as they are kept elsewhere."""
    return table["flag"].astype(np.uint8)


def packed(series: Ints, times: Ints) -> Ints:
    """Return one number for each (series, time); sorts as the pair does."""
    return (series << 32) | times
