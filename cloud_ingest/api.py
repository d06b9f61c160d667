"""The HTTP API, read only. Routes ask the reader and the alert engine and shape the answer; they decide nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import JSONResponse
from starlette.requests import Request

from alerts.engine import AlertEngine
from alerts.rules import Rule
from cloud_ingest import models, static_pages
from cloud_ingest.audit import account_for
from cloud_ingest.computed.routes import add_computed_routes
from cloud_ingest.errors import ChunkDamaged, QuestionRefused, StoreRefused, StoreUnavailable
from cloud_ingest.metrics import CONTENT_TYPE
from cloud_ingest.overview import overview
from cloud_ingest.query_routes import StationId, add_query_routes
from cloud_ingest.reading import Journal, Reader
from cloud_ingest.registry import Registry
from station_config.clock import Clock

_REFUSALS = {404: "there is no such thing", 422: "asked otherwise than it can be answered", 503: "the store is busy"}


@dataclass(frozen=True)
class Sources:
    """What the routes ask."""

    reader: Reader
    registry: Registry
    clock: Clock
    health: Callable[[], models.Health]
    metrics: Callable[[], bytes]
    rules: tuple[Rule, ...] = ()
    engine: AlertEngine | None = None


def make_app(sources: Sources) -> FastAPI:
    """Return the application: /api/v1, /health, /openapi.json, and the page at /."""
    app = FastAPI(
        title="Trạm",
        description="Readings, records, ledger and alerts of one monitoring network. Times are unix seconds UTC.",
        version="1",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        responses={code: {"model": models.Refusal, "description": why} for code, why in _REFUSALS.items()},
    )
    _add_station_routes(app, sources)
    _add_network_routes(app, sources)
    add_query_routes(app, sources.reader, sources.registry, sources.clock)
    add_computed_routes(app, sources.reader, sources.registry, sources.clock)
    _add_error_answers(app)
    static_pages.add_pages(app)
    app.add_middleware(static_pages.SecurityHeaders)
    return app


def _add_network_routes(app: FastAPI, sources: Sources) -> None:
    @app.get("/health", responses={503: {"model": models.Health}})
    def health(response: Response) -> models.Health:
        """Say whether ingest works: 200, or 503 with the reasons."""
        state = sources.health()
        if state.status != "ok":
            response.status_code = 503
        return state

    @app.get("/metrics", include_in_schema=False)
    def get_metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(sources.metrics(), media_type=CONTENT_TYPE)

    @app.get("/api/v1/overview")
    def get_overview() -> models.Overview:
        """Return all stations with their newest values, thresholds and active alerts."""
        reader, engine = sources.reader, sources.engine
        active = engine.active() if engine else []
        return overview(
            sources.registry, reader.latest(), reader.gateways(), sources.rules, active, sources.clock.now()
        )

    @app.get("/api/v1/ledger")
    def get_ledger() -> list[models.JournalLedger]:
        """Return what arrived, journal by journal, and what is missing."""
        return [_ledger_entry(journal) for journal in sources.reader.journals()]

    @app.get("/api/v1/alerts")
    def get_alerts(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> models.Alerts:
        """Return the newest alerts with the messages they led to."""
        recent = sources.engine.recent(limit) if sources.engine else []
        return models.Alerts(alerts=[models.Alert.model_validate(alert) for alert in recent])


def _add_station_routes(app: FastAPI, sources: Sources) -> None:
    reader = sources.reader

    @app.get("/api/v1/stations/{station}/records")
    def get_records(
        station: StationId,
        journal: Annotated[int | None, Query(ge=0, le=0xFFFFFFFF)] = None,
        after_seq: Annotated[int, Query(ge=0, le=0xFFFFFFFF)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> models.Records:
        """Return a journal's records as the station made them; without `journal` the newest journal's."""
        if journal is None:
            journal = reader.newest_journal(station)
        if journal is None:
            if station not in sources.registry.stations:
                raise HTTPException(404, f"no station {station!r}")
            return models.Records(records=[], next_after_seq=after_seq)
        return _records(sources, station, journal, after_seq, limit)


def _records(sources: Sources, station: str, journal: int, after_seq: int, limit: int) -> models.Records:
    records, true_times = sources.reader.records(station, journal, after_seq, limit)
    fields = ("seq", "time", "count", "sensor", "parameter", "flag")
    columns = (*(records[name].tolist() for name in fields), true_times.tolist())
    return models.Records(
        records=[
            models.RecordRow(
                journal=journal,
                stamped_time=None if true_time < 0 else true_time,
                **dict(zip(fields, values, strict=True)),
            )
            for *values, true_time in zip(*columns, strict=True)
        ],
        next_after_seq=int(records["seq"][-1]) if len(records) else after_seq,
    )


def _ledger_entry(journal: Journal) -> models.JournalLedger:
    account = account_for(journal.stored, journal.unusable, journal.overwritten, journal.declared)
    return models.JournalLedger(
        station=journal.station,
        journal=journal.journal,
        ranges=account.stored,
        stored=journal.stored.count,
        duplicates_received=journal.duplicates,
        conflicts=journal.conflicts,
        set_aside=journal.set_aside,
        missing=account.missing,
        declared_lost=[models.DeclaredLoss(**one._asdict()) for one in account.declared],
    )


def _add_error_answers(app: FastAPI) -> None:
    def unavailable(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503)

    def refused(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=422)

    app.add_exception_handler(QuestionRefused, refused)
    app.add_exception_handler(StoreUnavailable, unavailable)
    app.add_exception_handler(StoreRefused, unavailable)
    app.add_exception_handler(ChunkDamaged, unavailable)
