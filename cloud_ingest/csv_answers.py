"""Answers as CSV: one row per line, local time and UTC first, so that a spreadsheet can use it as it comes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cloud_ingest.aggregates import DIGITS
from cloud_ingest.quality import Test
from cloud_ingest.queries import Aggregate, Complete, LayerName, Newest, Points
from cloud_ingest.registry import Registry

Row = Sequence[object]


def csv_text(rows: Iterable[Row]) -> str:
    """Return rows as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue()


def times(moment: int, zone: ZoneInfo) -> tuple[str, str]:
    """Return a moment in local time, with its distance from UTC, and in UTC."""
    utc = datetime.fromtimestamp(moment, UTC)
    return utc.astimezone(zone).isoformat(), utc.isoformat().replace("+00:00", "Z")


def points_rows(points: Points, layer: LayerName, unit: str | None, zone: ZoneInfo) -> Iterable[Row]:
    """Yield a layer of a series."""
    last = {LayerName.RAW: "", LayerName.CALIBRATED: "calibration", LayerName.FLAGGED: "failed"}[layer]
    yield ["time_local", "time_utc", f"value [{unit or ''}]", "flag", *([last] if last else [])]
    columns = (column.tolist() for column in points)
    for moment, value, flag, failed, calibration in zip(*columns, strict=True):
        more = {"failed": " ".join(Test(failed).names), "calibration": calibration or ""}
        shown = "" if value != value else round(value, DIGITS)
        yield [*times(moment, zone), shown, flag, *([more[last]] if last else [])]


def aggregate_rows(answers: Iterable[Aggregate], unit: str | None, zone: ZoneInfo) -> Iterable[Row]:
    """Yield sums over local time."""
    yield [
        *("start_local", "start_utc", "end_local", "end_utc"),
        *(f"{name} [{unit or ''}]" for name in ("mean", "minimum", "maximum", "sum")),
        *("vector_speed [m/s]", "n", "n_usable", "percent_good", "expected", "completeness"),
    ]
    for one in answers:
        yield [
            *(*times(one.start, zone), *times(one.end, zone)),
            *(one.mean, one.minimum, one.maximum, one.sum, one.vector_speed),
            *(one.n, one.n_usable, one.percent_good, one.expected, one.completeness),
        ]


def newest_rows(answers: Iterable[Newest], registry: Registry) -> Iterable[Row]:
    """Yield the newest values."""
    yield ["station", "sensor", "parameter", "unit", "time_local", "time_utc", "value", "flag", "failed"]
    for one in answers:
        parameter = registry.parameter(one.key.parameter)
        name, unit = (parameter.name, parameter.unit) if parameter else (str(one.key.parameter), "")
        value = one.value if one.value is None or parameter is None else round(one.value, parameter.decimals)
        failed = " ".join(Test(one.failed).names)
        yield [one.key.station, one.key.sensor, name, unit, *times(one.time, registry.zone), value, one.flag, failed]


def completeness_rows(answers: Iterable[Complete], registry: Registry) -> Iterable[Row]:
    """Yield how much has come."""
    yield ["station", "sensor", "parameter", "expected", "came", "usable", "percent"]
    for one in answers:
        parameter = registry.parameter(one.key.parameter)
        name = parameter.name if parameter else str(one.key.parameter)
        yield [one.key.station, one.key.sensor, name, one.expected, one.came, one.usable, one.percent]
