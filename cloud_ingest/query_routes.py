"""Routes that answer with numbers over time: series, aggregates, newest values, completeness; JSON or CSV."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Response
from starlette.requests import Request

from cloud_ingest import models
from cloud_ingest.aggregates import USABLE, USABLE_AND_SUSPECT
from cloud_ingest.columns import SeriesKey
from cloud_ingest.csv_answers import aggregate_rows, completeness_rows, csv_text, newest_rows, points_rows
from cloud_ingest.errors import QuestionRefused
from cloud_ingest.json_answers import (
    Fields,
    bucket_fields,
    completeness_fields,
    json_response,
    newest_fields,
    series_fields,
)
from cloud_ingest.local_time import LAST_MOMENT, By, widened
from cloud_ingest.queries import LayerName, Points, Sums, layer, layers_of, newest, sensor_of, series_numbers
from cloud_ingest.reading import Reader, thin
from cloud_ingest.registry import Registry
from station_config.clock import Clock
from station_config.parameters import Parameter

SERIES_SPAN_S = 48 * 3600
DEFAULT_SPAN_S = {By.MINUTE: 6 * 3600, By.HOUR: 48 * 3600, By.DAY: 31 * 86400, By.MONTH: 366 * 86400}
POINTS, MOST_POINTS = 2000, 600_000  # JSON
MOST_LINES = 100_000  # CSV
MOST_SERIES = 100  # of one question

_SERIES = re.compile(r"(?P<station>[a-z0-9-]{1,32})/(?P<sensor>[0-9]{1,3})/(?P<parameter>[a-z0-9_]{1,64})")
StationId = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,32}$")]
From = Annotated[int | None, Query(alias="from", ge=0, le=LAST_MOMENT, description="unix seconds UTC")]
To = Annotated[int | None, Query(alias="to", ge=0, le=LAST_MOMENT, description="unix seconds UTC")]
SensorNumber = Annotated[int | None, Query(ge=0, le=255, description="without it the lowest that has the parameter")]
OnlyStation = Annotated[str | None, Query(pattern=r"^[a-z0-9-]{1,32}$", description="this station only")]
AS_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


def wants_csv(
    request: Request,
    form: Annotated[
        Literal["json", "csv"] | None, Query(alias="format", description="else as the Accept header says")
    ] = None,
) -> bool:
    """Return whether the answer should be CSV."""
    return form == "csv" if form else request.headers.get("accept", "").strip().startswith("text/csv")


AsCsv = Annotated[bool, Depends(wants_csv)]


def add_query_routes(app: FastAPI, reader: Reader, registry: Registry, clock: Clock) -> None:
    """Add the routes."""
    _add_series(app, reader, registry, clock)
    _add_aggregates(app, reader, registry, clock)
    _add_network_wide(app, reader, registry, clock)


def _add_series(app: FastAPI, reader: Reader, registry: Registry, clock: Clock) -> None:
    @app.get("/api/v1/stations/{station}/series/{parameter}", response_model=models.Series, responses=AS_CSV)
    def get_series(
        station: StationId,
        parameter: str,
        as_csv: AsCsv,
        from_s: From = None,
        to_s: To = None,
        sensor: SensorNumber = None,
        name: Annotated[LayerName, Query(alias="layer")] = LayerName.FLAGGED,
        limit: Annotated[int | None, Query(ge=2, le=MOST_POINTS)] = None,
    ) -> Response:
        """Return a parameter over time, both ends included, the last 48 hours by default.

        JSON is thinned to `limit` points (2000; at most 600,000, a year of minutes), CSV is refused when it has more
        (100,000).
        """
        known = _parameter(registry, parameter)
        with reader.snapshot() as moment:
            key = _key(registry, series_numbers(moment, station), station, known, sensor)
            points = layer(moment, registry, key, span_of(clock, from_s, to_s, SERIES_SPAN_S), name)
        if as_csv:
            _refuse_long(len(points.time), min(limit or MOST_LINES, MOST_LINES))
            return csv_response(
                csv_text(points_rows(points, name, known.unit, registry.zone)), f"{station}-{parameter}"
            )
        return json_response(_thinned(key, known, name, points, limit or POINTS))

    @app.get("/api/v1/series", response_model=models.SeveralSeries)
    def get_several_series(
        of: Annotated[
            list[str],
            Query(
                min_length=1,
                max_length=MOST_SERIES,
                description="station/sensor/parameter, again for each series, as in xuan-hoa/1/salinity",
            ),
        ],
        from_s: From = None,
        to_s: To = None,
        name: Annotated[LayerName, Query(alias="layer")] = LayerName.FLAGGED,
        limit: Annotated[int, Query(ge=2, le=MOST_POINTS, description="points of each series")] = POINTS,
    ) -> Response:
        """Return several series over the same time, in the order they were asked for, as JSON.

        One that has no values has no points. At most 600,000 points in all are answered.
        """
        asked = [_asked(registry, one) for one in of]
        keys = [key for key, _ in asked]
        with reader.snapshot() as moment:
            layers = layers_of(moment, registry, keys, span_of(clock, from_s, to_s, SERIES_SPAN_S), name)
        _refuse_long(sum(min(len(points.time), limit) for points in layers), MOST_POINTS)
        answers = zip(asked, layers, strict=True)
        return json_response({"series": [_thinned(*one, name, points, limit) for one, points in answers]})


def _add_aggregates(app: FastAPI, reader: Reader, registry: Registry, clock: Clock) -> None:
    @app.get("/api/v1/stations/{station}/aggregates/{parameter}", response_model=models.Aggregates, responses=AS_CSV)
    def get_aggregates(
        station: StationId,
        parameter: str,
        as_csv: AsCsv,
        by: By = By.HOUR,
        from_s: From = None,
        to_s: To = None,
        sensor: SensorNumber = None,
        suspect: Annotated[bool, Query(description="count values of flag 3 too")] = False,
    ) -> Response:
        """Return what a parameter came to by local minutes, hours, days or months: all that have something of the time
        from `from` to `to`, at most 10,000."""
        known = _parameter(registry, parameter)
        span = span_of(clock, from_s, to_s, DEFAULT_SPAN_S[by])
        with reader.snapshot() as moment:
            key = _key(registry, series_numbers(moment, station), station, known, sensor)
            answers = Sums(moment, registry, int(clock.now())).of(key, by, span, suspect=suspect)
        if as_csv:
            return csv_response(
                csv_text(aggregate_rows(answers, known.unit, registry.zone)), f"{station}-{parameter}-{by}"
            )
        return json_response(
            {
                "station": station,
                "parameter": parameter,
                "unit": known.unit,
                "sensor": key.sensor,
                "by": by.value,
                "timezone": registry.zone.key,
                "usable_flags": USABLE_AND_SUSPECT if suspect else USABLE,
                "buckets": bucket_fields(answers),
            }
        )


def _add_network_wide(app: FastAPI, reader: Reader, registry: Registry, clock: Clock) -> None:
    @app.get("/api/v1/latest", response_model=list[models.NewestValue], responses=AS_CSV)
    def get_latest(as_csv: AsCsv, station: OnlyStation = None) -> Response:
        """Return the newest value of every series."""
        with reader.snapshot() as moment:
            answers = newest(moment, station)
        if as_csv:
            return csv_response(csv_text(newest_rows(answers, registry)), "latest")
        return json_response(newest_fields(answers, registry))

    @app.get("/api/v1/completeness", response_model=models.Completeness, responses=AS_CSV)
    def get_completeness(as_csv: AsCsv, from_s: From = None, to_s: To = None, station: OnlyStation = None) -> Response:
        """Return how much of what every series should have had has come, by whole local days; yesterday and today by
        default."""
        span = span_of(clock, from_s, to_s, 86400)
        with reader.snapshot() as moment:
            answers = Sums(moment, registry, int(clock.now())).completeness(span, station)
        if as_csv:
            return csv_response(csv_text(completeness_rows(answers, registry)), "completeness")
        start, end = widened(*span, By.DAY, registry.zone)
        series = completeness_fields(answers, registry)
        return json_response({"start": start, "end": end, "timezone": registry.zone.key, "series": series})


def _thinned(key: SeriesKey, known: Parameter, name: LayerName, points: Points, limit: int) -> Fields:
    number = len(points.time)
    if number > limit:
        kept, _, _ = thin(points.time, points.value, points.flag, limit)
        points = points.take(np.searchsorted(points.time, kept))
    return series_fields(key, known, name, points, thinned=len(points.time) < number)


def _asked(registry: Registry, text: str) -> tuple[SeriesKey, Parameter]:
    """Return the series that station/sensor/parameter names."""
    match = _SERIES.fullmatch(text)
    if match is None:
        raise HTTPException(422, f"{text!r} is no series: station/sensor/parameter, as in xuan-hoa/1/salinity")
    known = _parameter(registry, match["parameter"])
    return SeriesKey(match["station"], int(match["sensor"]), known.code), known


def _parameter(registry: Registry, name: str) -> Parameter:
    parameter = registry.vocabulary.by_name.get(name)
    if parameter is None or parameter.kind == "event":
        raise HTTPException(404, f"no parameter {name!r}")
    return parameter


def _key(
    registry: Registry, numbers: dict[SeriesKey, int], station: str, known: Parameter, sensor: int | None
) -> SeriesKey:
    if station not in registry.stations and not any(key.parameter == known.code for key in numbers):
        raise HTTPException(404, f"no station {station!r}")
    return SeriesKey(station, sensor_of(numbers, station, known.code) if sensor is None else sensor, known.code)


def span_of(clock: Clock, from_s: int | None, to_s: int | None, default_s: int) -> tuple[int, int]:
    """Return from when to when is asked: until now, and for this long, unless it is said."""
    end = int(clock.now()) if to_s is None else to_s
    return (max(0, end - default_s) if from_s is None else from_s), end


def _refuse_long(number: int, limit: int) -> None:
    if number > limit:
        raise QuestionRefused(f"{number:,} points, and at most {limit:,} are answered: ask for less time at once")


def csv_response(text: str, name: str) -> Response:
    """Return CSV as a file of this name."""
    return Response(text, media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="{name}.csv"'})
