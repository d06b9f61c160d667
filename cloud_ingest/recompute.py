"""All layers made again from what records said: by a running service, here, only compared, or as of a date."""

from __future__ import annotations

import csv
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cloud_ingest import schema
from cloud_ingest.book_names import moment_of
from cloud_ingest.calibrations import ALWAYS, read_calibrations
from cloud_ingest.columns import Layer, SeriesKey
from cloud_ingest.errors import StoreRefused
from cloud_ingest.layers import BLOCK_S
from cloud_ingest.observation_log import LogStore
from cloud_ingest.observations import Moment, Observations, ObservationStore
from cloud_ingest.quality import Test
from cloud_ingest.registry import Registry
from cloud_ingest.review import BESIDE_S, Made, Review, differences, made_layers
from cloud_ingest.review_spans import Depth, Span, ask_for_review, waiting_spans
from cloud_ingest.rollup_marks import mark_all
from cloud_ingest.rollup_reading import differing
from cloud_ingest.rollups import Rollups
from cloud_ingest.schema import sqlite_errors
from cloud_ingest.store import DATABASE, Store
from station_config.calibration import Calibration

Told = Callable[[int, int], None]  # stations done, of how many


class Recompute:
    """`with Recompute(state_dir, registry) as work:` has a connection of its own; `run` needs none."""

    def __init__(self, state_dir: Path, registry: Registry, observations: ObservationStore | None = None) -> None:
        self._observations = observations or LogStore()
        self._database = state_dir / DATABASE
        self._registry = registry
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Recompute:
        if not self._database.exists():
            raise StoreRefused(f"{self._database.parent}: no store here yet; tram-cloud run makes it")
        with sqlite_errors():
            self._connection = schema.open_for_writing(self._database)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def ask(self, station: str | None) -> int:
        """Have the running service do it; return how many stations were asked for."""
        stations = self._stations(station)
        with sqlite_errors(), self._opened() as connection:
            for one in stations:
                ask_for_review(connection, one, 0, ALWAYS)
            mark_all(connection, self._moment().log, self._numbers(station).values())
        return len(stations)

    def run(self, store: Store, station: str | None, told: Told) -> None:
        """Do it now, with the store that nobody else writes."""
        stations = sorted({key.station for key in store.series} if station is None else {station})
        for at, one in enumerate(stations):
            told(at, len(stations))
            with store.transaction() as transaction:
                transaction.to_review(one, 0, ALWAYS)
            Review(store, self._registry).finish()
        with store.transaction() as transaction:
            transaction.mark_all_rollups(number for key, number in store.series.items() if key.station in stations)
        Rollups(store, self._registry).finish(time.time())
        told(len(stations), len(stations))

    def check(self, station: str | None) -> dict[str, int]:
        """Return by station how many rows are stored otherwise than they follow from the counts; change nothing.

        What still waits for its review is left out: new observations settle once a day.
        """
        connection = self._opened()
        calibrations = read_calibrations(connection)
        waiting = {span.station: span.first for depth in Depth for span in waiting_spans(connection, depth)}
        books = _Books(self._series(), self._moment().log)
        found: dict[str, int] = {}
        for one in self._stations(station):
            settled_until = waiting.get(one, ALWAYS) - BESIDE_S - 1
            for span, made in self._made(one, calibrations):
                settled = Span(one, span.first, min(span.last, settled_until))
                rows = sum(len(layer.time) for _, layer in differences(books, books, settled, made, Depth.SETTLE))
                if rows:
                    found[one] = found.get(one, 0) + rows
        return found

    def check_rollups(self, station: str | None) -> dict[str, int]:
        """Return by station how many stored hours and days are not what the log comes to; change nothing."""
        found: dict[str, int] = {}
        with sqlite_errors():
            for key, rows in differing(self._moment(), self._registry, self._series(), self._numbers(station)).items():
                found[key.station] = found.get(key.station, 0) + rows
        return found

    def write(self, out: Path, station: str | None, as_of: int) -> int:
        """Write every layer with the calibrations known at `as_of` as CSV; return the number of rows."""
        calibrations = read_calibrations(self._opened(), as_of)
        rows = 0
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["station", "sensor", "parameter", "time_utc", "value", "calibration", "flag", "failed"])
            for one in self._stations(station):
                for span, made in self._made(one, calibrations):
                    for key, layer in made.layers.items():
                        rows += self._write_layer(writer.writerow, key, layer, span)
        return rows

    def _write_layer(self, writerow: Callable[[list[object]], object], key: SeriesKey, layer: Layer, span: Span) -> int:
        parameter = self._registry.parameter(key.parameter)
        name = parameter.name if parameter else str(key.parameter)
        inside = np.flatnonzero((layer.time >= span.first) & (layer.time <= span.last))
        for row in inside.tolist():
            value = float(layer.value[row])
            writerow(
                [
                    *(key.station, key.sensor, name),
                    datetime.fromtimestamp(int(layer.time[row]), UTC).isoformat().replace("+00:00", "Z"),
                    "" if np.isnan(value) else f"{value:.12g}",
                    *(int(layer.calibration[row]), int(layer.flag[row])),
                    " ".join(Test(int(layer.failed[row])).names),
                ]
            )
        return len(inside)

    def _made(self, station: str, calibrations: dict[SeriesKey, list[Calibration]]) -> Iterator[tuple[Span, Made]]:
        """Yield block by block what a station's layers are."""
        books = _Books(self._series(), self._moment().log)
        for begin in books.log.blocks(books.numbers_of(station), BLOCK_S):
            span = Span(station, begin, begin + BLOCK_S - 1)
            yield span, made_layers(books, books, self._registry, span, Depth.SETTLE, calibrations)

    def _series(self) -> dict[SeriesKey, int]:
        rows = self._opened().execute("SELECT station, sensor, parameter, id FROM series")
        return {SeriesKey(*row[:3]): row[3] for row in rows}

    def _numbers(self, station: str | None) -> dict[SeriesKey, int]:
        return {key: number for key, number in self._series().items() if station in (None, key.station)}

    def _stations(self, station: str | None) -> list[str]:
        known = sorted({key.station for key in self._series()})
        return [one for one in known if station in (None, one)]

    def _moment(self) -> Moment:
        return moment_of(self._opened(), self._observations)

    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "use it in a with statement"
        return self._connection


@dataclass(frozen=True)
class _Books:
    """What making layers asks of a store: which series there are, and their log."""

    series: dict[SeriesKey, int]
    log: Observations

    def numbers_of(self, station: str) -> list[int]:
        return [number for key, number in self.series.items() if key.station == station]
