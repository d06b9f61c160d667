"""What Prometheus reads at /metrics: one picture of the service at the moment of asking.

Names follow Prometheus' conventions (base units, _total for what only grows). Stations and gateways are those of the
network, and no others: what a stranger sends cannot make labels.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from cloud_ingest.errors import StoreRefused, StoreUnavailable
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from cloud_ingest.review_spans import Depth
from cloud_ingest.schema import SCHEMA
from cloud_ingest.worker import WorkerState
from cloud_ingest.workers import ALL_SHARDS, WorkersState
from station_config.clock import Clock

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Service(Collector):
    """Everything there is to ask; `undelivered` counts alert messages not sent yet, None without alerts."""

    state_dir: Path
    reader: Reader
    registry: Registry
    clock: Clock
    worker: Callable[[], WorkerState]
    undelivered: Callable[[], int] | None = None
    workers: Callable[[], WorkersState] | None = None

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format 0.0.4."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is is found out when asked."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; without those of the store while it cannot be read."""
        yield InfoMetricFamily("tram_build", "This program.", {"version": version("tram"), "schema": str(SCHEMA)})
        yield from _of_ingest(self.worker())
        with suppress(OSError):  # the directory is away: /health says so
            yield from list(self._of_files())
        with suppress(SQLAlchemyError):  # the alerts' own log tells why
            yield from list(self._of_alerts())
        try:
            readable = list(self._of_store())
        except (StoreUnavailable, StoreRefused):
            readable = []
        yield _gauge("tram_store_readable", "Whether the store could be read just now.", bool(readable))
        yield from readable

    def _of_files(self) -> Iterator[Metric]:
        usage = shutil.disk_usage(self.state_dir)
        yield _gauge("tram_disk_free_bytes", "Room on the disk of state_dir.", usage.free)
        yield _gauge("tram_disk_size_bytes", "Size of the disk of state_dir.", usage.total)
        sizes = GaugeMetricFamily("tram_database_size_bytes", "Size of a database's files.", labels=["database"])
        for file in sorted(self.state_dir.glob("*.sqlite")):
            parts = (file, file.with_name(file.name + "-wal"))
            sizes.add_metric([file.stem], sum(part.stat().st_size for part in parts if part.exists()))
        yield sizes

    def _of_store(self) -> Iterator[Metric]:
        yield from self._of_stations()
        yield from self._of_gateways()
        if self.workers is not None:
            yield from _of_workers(self.workers())
        kept = self.reader.set_aside()
        yield _gauge("tram_set_aside_kept", "Messages and records that are set aside now.", kept)
        waiting = GaugeMetricFamily("tram_review_waiting_stations", "Stations to be judged again.", labels=["depth"])
        span = GaugeMetricFamily(
            "tram_review_waiting_span_seconds", "How much time of stations is to be judged again.", labels=["depth"]
        )
        for depth in Depth:
            spans = self.reader.waiting_spans(depth)
            waiting.add_metric([depth.name.lower()], len(spans))
            span.add_metric([depth.name.lower()], sum(one.last - one.first + 1 for one in spans))
        yield from (waiting, span)

    def _of_alerts(self) -> Iterator[Metric]:
        if self.undelivered is not None:
            yield _gauge("tram_alert_deliveries_waiting", "Messages to people not sent yet.", self.undelivered())

    def _of_stations(self) -> Iterator[Metric]:
        newest: dict[str, int] = {}
        for one in self.reader.latest():
            newest[one.key.station] = max(one.time, newest.get(one.key.station, 0))
        ages = GaugeMetricFamily(
            "tram_station_newest_record_age_seconds", "Age of a station's newest value.", labels=["station"]
        )
        for station in self.registry.stations:
            if station in newest:
                ages.add_metric([station], self.clock.now() - newest[station])
        yield ages

    def _of_gateways(self) -> Iterator[Metric]:
        statuses = self.reader.gateways()
        online = GaugeMetricFamily("tram_gateway_online", "Whether a gateway says it is online.", labels=["gateway"])
        for gateway in self.registry.network.gateways:
            online.add_metric([gateway.id], statuses.get(gateway.id, {}).get("online") is True)
        yield online


def _of_workers(state: WorkersState) -> Iterator[Metric]:
    lag = GaugeMetricFamily("tram_worker_lag_seconds", "How long a worker's oldest message waits.", labels=["worker"])
    silent = GaugeMetricFamily("tram_worker_silent_seconds", "Since a worker last said how it is.", labels=["worker"])
    for one in state.said:
        lag.add_metric([one.name], one.lag_s)
        silent.add_metric([one.name], state.now_s - one.said_at)
    yield from (lag, silent)
    unowned = len(ALL_SHARDS - state.owned)
    yield _gauge("tram_shards_without_worker", "Shards whose records nobody takes in.", unowned)


def _of_ingest(state: WorkerState) -> Iterator[Metric]:
    totals = state.totals
    yield _gauge("tram_broker_connected", "Whether every broker has accepted us.", state.broker_connected)
    yield _gauge("tram_store_writable", "Whether the last transaction could be written.", state.trouble is None)
    yield _gauge("tram_ingest_lag_seconds", "How long the oldest message waits to be stored.", state.lag_s)
    yield _gauge("tram_ingest_inbox_messages", "Messages that wait to be stored.", state.inbox_messages)
    yield _gauge("tram_ingest_inbox_bytes", "Bytes of messages that wait to be stored.", state.inbox_bytes)
    yield _gauge("tram_review_behind_seconds", "How long newer values wait for their review.", state.review_behind_s)
    yield _counter("tram_records_received", "Records that arrived.", totals.received)
    yield _counter("tram_records_stored", "Records that were stored for the first time.", totals.stored)
    yield _counter("tram_records_duplicate", "Records that were stored before.", totals.duplicates)
    yield _counter("tram_set_aside", "Messages and records that could not be used.", totals.set_aside)
    yield _counter("tram_store_transactions", "Groups of messages made durable.", totals.transactions)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=float(value))
