"""Routes that answer with numbers over time: series, aggregates, newest values, completeness; JSON or CSV."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Response
from starlette.requests import Request

from cloud_ingest import models
from cloud_ingest.aggregates import USABLE, USABLE_AND_SUSPECT
from cloud_ingest.columns import SeriesKey
from cloud_ingest.csv_answers import aggregate_rows, completeness_rows, csv_text, newest_rows, points_rows
from cloud_ingest.errors import QuestionRefused
from cloud_ingest.local_time import LAST_MOMENT, By, widened
from cloud_ingest.quality import Test
from cloud_ingest.queries import LayerName, Points, Sums, layer, newest, sensor_of, series_numbers
from cloud_ingest.reading import Reader, thin
from cloud_ingest.registry import Registry
from station_config.clock import Clock
from station_config.parameters import Parameter

SERIES_SPAN_S = 48 * 3600
DEFAULT_SPAN_S = {By.MINUTE: 6 * 3600, By.HOUR: 48 * 3600, By.DAY: 31 * 86400, By.MONTH: 366 * 86400}
POINTS, MOST_POINTS = 2000, 100_000

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
    ) -> models.Series | Response:
        """Return a parameter over time, both ends included, the last 48 hours by default.

        JSON is thinned to `limit` points (2000), CSV is refused when it has more (100,000).
        """
        known = _parameter(registry, parameter)
        with reader.snapshot() as moment:
            key = _key(registry, series_numbers(moment, station), station, known, sensor)
            points = layer(moment, registry, key, span_of(clock, from_s, to_s, SERIES_SPAN_S), name)
        if as_csv:
            _refuse_long(len(points.time), limit or MOST_POINTS)
            return csv_response(
                csv_text(points_rows(points, name, known.unit, registry.zone)), f"{station}-{parameter}"
            )
        kept, _, _ = thin(points.time, points.value, points.flag, limit or POINTS)
        return _series(key, known, name, points.take(np.searchsorted(points.time, kept)), len(points.time))


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
    ) -> models.Aggregates | Response:
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
        return models.Aggregates(
            station=station,
            parameter=parameter,
            unit=known.unit,
            sensor=key.sensor,
            by=by.value,
            timezone=registry.zone.key,
            usable_flags=list(USABLE_AND_SUSPECT if suspect else USABLE),
            buckets=[models.AggregateBucket(**one._asdict()) for one in answers],
        )


def _add_network_wide(app: FastAPI, reader: Reader, registry: Registry, clock: Clock) -> None:
    @app.get("/api/v1/latest", response_model=list[models.NewestValue], responses=AS_CSV)
    def get_latest(as_csv: AsCsv, station: OnlyStation = None) -> list[models.NewestValue] | Response:
        """Return the newest value of every series."""
        with reader.snapshot() as moment:
            answers = newest(moment, station)
        if as_csv:
            return csv_response(csv_text(newest_rows(answers, registry)), "latest")
        found = []
        for one in answers:
            parameter = registry.parameter(one.key.parameter)
            decimals = parameter.decimals if parameter else 0
            found.append(
                models.NewestValue(
                    station=one.key.station,
                    sensor=one.key.sensor,
                    parameter=parameter.name if parameter else str(one.key.parameter),
                    unit=parameter.unit if parameter else None,
                    time=one.time,
                    value=None if one.value is None else round(one.value, decimals),
                    flag=one.flag,
                    failed=list(Test(one.failed).names),
                )
            )
        return found

    @app.get("/api/v1/completeness", response_model=models.Completeness, responses=AS_CSV)
    def get_completeness(
        as_csv: AsCsv, from_s: From = None, to_s: To = None, station: OnlyStation = None
    ) -> models.Completeness | Response:
        """Return how much of what every series should have had has come, by whole local days; yesterday and today by
        default."""
        span = span_of(clock, from_s, to_s, 86400)
        with reader.snapshot() as moment:
            answers = Sums(moment, registry, int(clock.now())).completeness(span, station)
        if as_csv:
            return csv_response(csv_text(completeness_rows(answers, registry)), "completeness")
        start, end = widened(*span, By.DAY, registry.zone)
        return models.Completeness(
            start=start,
            end=end,
            timezone=registry.zone.key,
            series=[
                models.SeriesCompleteness(
                    station=one.key.station,
                    sensor=one.key.sensor,
                    parameter=parameter.name if (parameter := registry.parameter(one.key.parameter)) else "unknown",
                    expected=one.expected,
                    came=one.came,
                    usable=one.usable,
                    percent=one.percent,
                )
                for one in answers
            ],
        )


def _series(key: SeriesKey, known: Parameter, name: LayerName, points: Points, number: int) -> models.Series:
    return models.Series(
        station=key.station,
        parameter=known.name,
        unit=known.unit,
        sensor=key.sensor,
        layer=name.value,
        thinned=len(points.time) < number,
        times=points.time.tolist(),
        values=[None if np.isnan(value) else value for value in points.value.tolist()],
        flags=points.flag.tolist(),
        failed=[list(Test(one).names) for one in points.failed.tolist()] if name is LayerName.FLAGGED else [],
        calibrations=points.calibration.tolist() if name is LayerName.CALIBRATED else [],
    )


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
