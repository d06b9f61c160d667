"""All layers made again from what records said: by a running service, here, only compared, or as of a date."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from cloud_ingest.book_names import moment_of
from cloud_ingest.calibrations import ALWAYS, read_calibrations
from cloud_ingest.chunked_log import LogStore
from cloud_ingest.columns import Layer, SeriesKey, read_series
from cloud_ingest.database import Database, changing, owned_shards, person_changes
from cloud_ingest.errors import StoreRefused
from cloud_ingest.layers import BLOCK_S
from cloud_ingest.observations import Moment, Observations, ObservationStore
from cloud_ingest.quality import Test
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from cloud_ingest.review import Made, Review, differences, made_layers
from cloud_ingest.review_spans import Depth, Span, ask_for_review, waiting_spans
from cloud_ingest.rollup_marks import mark_all
from cloud_ingest.rollup_reading import differing
from cloud_ingest.rollups import Rollups
from cloud_ingest.store import Store
from station_config.calibration import Calibration

Told = Callable[[int, int], None]  # stations done, of how many


class Recompute:
    """`with Recompute(state_dir, registry) as work:` reads beside a running service; `run` needs the store for itself.

    Where observations and books are: as in Store.
    """

    def __init__(
        self,
        state_dir: Path,
        registry: Registry,
        observations: ObservationStore | None = None,
        database: Database | None = None,
    ) -> None:
        self._observations = observations or LogStore()
        self._database = database or Database.in_folder(state_dir)
        self._registry = registry
        self._reader = Reader(state_dir, registry.scale, self._observations, self._database)

    def __enter__(self) -> Recompute:
        if not self._database.exists():
            raise StoreRefused(f"{self._database}: no store here yet; tram-cloud run makes it")
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def is_for_workers(self) -> bool:
        """Return whether workers run that should be asked: a store opened beside them would take what the others of
        them need when they start."""
        if self._database.file is not None:
            return False
        with changing(self._database) as books, books.begin():
            return bool(owned_shards(books))

    def ask(self, station: str | None) -> int:
        """Have the running service do it; return how many stations were asked for."""
        with changing(self._database) as books, person_changes(books):
            numbers = _numbers(books, station)
            stations = {key.station for key in numbers}
            ask_for_review(books, dict.fromkeys(stations, (0, ALWAYS)))
            mark_all(books, moment_of(books, self._observations).log, numbers.values())
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
        with self._reader.books() as books:
            stations = _stations(books, station)
        found: dict[str, int] = {}
        for one in stations:
            with self._reader.snapshot() as moment:
                rows = self._check(moment, one)
            if rows:
                found[one] = rows
        return found

    def _check(self, moment: Moment, station: str) -> int:
        calibrations = read_calibrations(moment.books)
        waiting = [
            span.first for depth in Depth for span in waiting_spans(moment.books, depth) if span.station == station
        ]
        settled_until = min(waiting, default=ALWAYS) - 1
        books, rows = _Books(_numbers(moment.books), moment.log), 0
        for span, made in self._made(books, station, calibrations):
            settled = Span(station, span.first, min(span.last, settled_until))
            rows += sum(len(layer.time) for _, layer in differences(books, books, settled, made, Depth.SETTLE))
        return rows

    def check_rollups(self, station: str | None) -> dict[str, int]:
        """Return by station how many stored hours and days are not what the log comes to; change nothing."""
        with self._reader.books() as books:
            numbers, compared = _numbers(books), _numbers(books, station)
        found: dict[str, int] = {}
        for key, rows in differing(self._reader.snapshot, self._registry, numbers, compared).items():
            found[key.station] = found.get(key.station, 0) + rows
        return found

    def write(self, out: Path, station: str | None, as_of: int) -> int:
        """Write every layer with the calibrations known at `as_of` as CSV; return the number of rows."""
        rows = 0
        with out.open("w", encoding="utf-8", newline="") as file, self._reader.snapshot() as moment:
            calibrations = read_calibrations(moment.books, as_of)
            books = _Books(_numbers(moment.books), moment.log)
            writer = csv.writer(file)
            writer.writerow(["station", "sensor", "parameter", "time_utc", "value", "calibration", "flag", "failed"])
            for one in _stations(moment.books, station):
                for span, made in self._made(books, one, calibrations):
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

    def _made(
        self, books: _Books, station: str, calibrations: dict[SeriesKey, list[Calibration]]
    ) -> Iterator[tuple[Span, Made]]:
        """Yield block by block what a station's layers are."""
        for begin in books.log.blocks(books.numbers_of(station), BLOCK_S):
            span = Span(station, begin, begin + BLOCK_S - 1)
            yield span, made_layers(books, books, self._registry, span, Depth.SETTLE, calibrations)


def _numbers(books: Connection, station: str | None = None) -> dict[SeriesKey, int]:
    return {key: number for number, key in read_series(books, station).items()}


def _stations(books: Connection, station: str | None) -> list[str]:
    return sorted({key.station for key in read_series(books, station).values()})


@dataclass(frozen=True)
class _Books:
    """What making layers asks of a store: which series there are, and their log."""

    series: dict[SeriesKey, int]
    log: Observations

    def numbers_of(self, station: str) -> list[int]:
        return [number for key, number in self.series.items() if key.station == station]
