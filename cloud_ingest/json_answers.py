"""Answers as JSON, straight from columns: orjson writes numpy arrays, so a year of minutes takes no object for each.

The models of the API (models.py) describe these answers and a test holds them against each other; nothing is validated
on the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from fastapi import Response

from cloud_ingest.columns import Ints, SeriesKey
from cloud_ingest.quality import Test
from cloud_ingest.queries import Aggregate, Complete, LayerName, Newest, Points
from cloud_ingest.registry import Registry
from station_config.parameters import Parameter

Fields = Mapping[str, Any]


def json_response(answer: Any) -> Response:
    """Return an answer of plain objects and numpy columns; NaN is null."""
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def series_fields(key: SeriesKey, known: Parameter, name: LayerName, points: Points, *, thinned: bool) -> Fields:
    """Return one layer of a series (models.Series)."""
    return {
        "station": key.station,
        "parameter": known.name,
        "unit": known.unit,
        "sensor": key.sensor,
        "layer": name.value,
        "thinned": thinned,
        "times": np.ascontiguousarray(points.time),
        "values": np.ascontiguousarray(points.value),
        "flags": np.ascontiguousarray(points.flag),
        "failed": _names_of_each(points.failed) if name is LayerName.FLAGGED else [],
        "calibrations": np.ascontiguousarray(points.calibration) if name is LayerName.CALIBRATED else [],
    }


def bucket_fields(answers: Iterable[Aggregate]) -> list[Fields]:
    """Return sums over local time (models.AggregateBucket)."""
    names = Aggregate._fields
    return [dict(zip(names, one, strict=True)) for one in answers]


def newest_fields(answers: Iterable[Newest], registry: Registry) -> list[Fields]:
    """Return the newest values (models.NewestValue)."""
    return [_newest(one, registry.parameter(one.key.parameter)) for one in answers]


def completeness_fields(answers: Iterable[Complete], registry: Registry) -> list[Fields]:
    """Return how much has come (models.SeriesCompleteness)."""
    return [
        {
            "station": one.key.station,
            "sensor": one.key.sensor,
            "parameter": parameter.name if (parameter := registry.parameter(one.key.parameter)) else "unknown",
            "expected": one.expected,
            "came": one.came,
            "usable": one.usable,
            "percent": one.percent,
        }
        for one in answers
    ]


def _newest(one: Newest, parameter: Parameter | None) -> Fields:
    station, sensor, code = one.key
    return {
        "station": station,
        "sensor": sensor,
        "parameter": parameter.name if parameter else str(code),
        "unit": parameter.unit if parameter else None,
        "time": one.time,
        "value": None if one.value is None else round(one.value, parameter.decimals if parameter else 0),
        "flag": one.flag,
        "failed": names_of(one.failed),
    }


@lru_cache(maxsize=1024)
def names_of(failed: int) -> Sequence[str]:
    """Return the names of the tests of a set; there are few sets."""
    return Test(failed).names


@lru_cache(maxsize=1024)
def _with_comma(failed: int) -> bytes:
    return orjson.dumps(names_of(failed)) + b","


def _names_of_each(failed: Ints) -> orjson.Fragment:
    """Return a list of the names for each row. Most have none, so runs of the same set are written at once."""
    if not len(failed):
        return orjson.Fragment(b"[]")
    starts = np.concatenate(([0], np.flatnonzero(np.diff(failed)) + 1))
    lengths = np.diff(starts, append=len(failed))
    runs = zip(failed[starts].tolist(), lengths.tolist(), strict=True)
    return orjson.Fragment(b"[" + b"".join(_with_comma(one) * length for one, length in runs)[:-1] + b"]")
