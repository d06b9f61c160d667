"""The route of computed quantities; JSON or CSV."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response

from cloud_ingest.computed import models
from cloud_ingest.computed.quantities import Quantity, compute
from cloud_ingest.computed.rows import as_data, computed_rows
from cloud_ingest.csv_answers import csv_text
from cloud_ingest.local_time import By
from cloud_ingest.queries import Sums, series_numbers
from cloud_ingest.query_routes import AS_CSV, DEFAULT_SPAN_S, AsCsv, From, StationId, To, csv_response, span_of
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from station_config.clock import Clock


def add_computed_routes(app: FastAPI, reader: Reader, registry: Registry, clock: Clock) -> None:
    """Add the route."""

    @app.get("/api/v1/stations/{station}/computed/{quantity}", response_model=models.Computed, responses=AS_CSV)
    def get_computed(
        station: StationId,
        quantity: Quantity,
        as_csv: AsCsv,
        by: By = By.DAY,
        from_s: From = None,
        to_s: To = None,
        suspect: Annotated[bool, Query(description="use values of flag 3 too")] = False,
    ) -> models.Computed | Response:
        """Return reference evapotranspiration (hour, day, month), rain intensity (minute to month) or the water quality
        index (hour, day, month): refused (422) with what the station lacks, null with the reason where a span does."""
        if station not in registry.stations:
            raise HTTPException(404, f"no station {station!r}")
        span = span_of(clock, from_s, to_s, DEFAULT_SPAN_S[by])
        with reader.snapshot() as moment:
            sums = Sums(moment, registry, int(clock.now()))
            answer = compute(sums, series_numbers(moment, station), station, quantity, by, span, suspect=suspect)
        if as_csv:
            return csv_response(csv_text(computed_rows(answer, registry)), f"{station}-{quantity}-{by}")
        return models.Computed.model_validate(as_data(answer))
