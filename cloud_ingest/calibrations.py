"""Calibration records in the store: entered, withdrawn, never changed. Each asks for a review of its span."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path

from cloud_ingest import schema
from cloud_ingest.columns import SeriesKey
from cloud_ingest.errors import ChangeRefused
from cloud_ingest.review_spans import ask_for_review
from cloud_ingest.schema import sqlite_errors
from station_config.calibration import Calibration, in_order
from station_config.parameters import load_parameters

ALWAYS = 0xFFFFFFFF  # the last time a record can have


def all_records(connection: sqlite3.Connection) -> list[Calibration]:
    """Return every record, withdrawn ones too, by id."""
    rows = connection.execute("SELECT record FROM calibrations ORDER BY id")
    return [Calibration.model_validate_json(row[0]) for row in rows]


def read_calibrations(connection: sqlite3.Connection, as_of: int | None = None) -> dict[SeriesKey, list[Calibration]]:
    """Return the records in force by series, as they take over from each other; `as_of`: as known at that time."""
    by_series: dict[SeriesKey, list[Calibration]] = defaultdict(list)
    for record in all_records(connection):
        code = load_parameters().by_name[record.parameter].code
        by_series[SeriesKey(record.station, record.sensor, code)].append(record)
    return {key: in_order(records, as_of) for key, records in by_series.items()}


class CalibrationBook:
    """Enters and withdraws records, beside a running ingest or without one. `with CalibrationBook(path) as book:`."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> CalibrationBook:
        with sqlite_errors():
            self._connection = schema.open_for_writing(self._database)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def records(self) -> list[Calibration]:
        """Return every record, withdrawn ones too."""
        with sqlite_errors():
            return all_records(self._opened())

    def enter(self, record: Calibration) -> Calibration:
        """Store a record under the next id and return it so. Raises StoreUnavailable."""
        connection = self._opened()
        with sqlite_errors(), connection:
            connection.execute("BEGIN IMMEDIATE")
            number = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM calibrations").fetchone()[0]
            entered = record.model_copy(update={"id": number})
            connection.execute("INSERT INTO calibrations VALUES (?, ?)", (number, entered.model_dump_json()))
            _ask_for_review(connection, entered)
        return entered

    def withdraw(self, number: int, now_s: int) -> Calibration:
        """Have a record count no more from now on; it stays. Raises ChangeRefused, StoreUnavailable."""
        connection = self._opened()
        with sqlite_errors(), connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT record FROM calibrations WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise ChangeRefused(f"there is no calibration {number}; tram-cloud calibration list shows all")
            record = Calibration.model_validate_json(row[0])
            if record.withdrawn_at is not None:
                raise ChangeRefused(f"calibration {number} was withdrawn before")
            withdrawn = record.model_copy(update={"withdrawn_at": now_s})
            connection.execute("UPDATE calibrations SET record = ? WHERE id = ?", (withdrawn.model_dump_json(), number))
            _ask_for_review(connection, withdrawn)
        return withdrawn

    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "open the book first"
        return self._connection


def _ask_for_review(connection: sqlite3.Connection, record: Calibration) -> None:
    ask_for_review(
        connection, record.station, record.valid_from, ALWAYS if record.valid_to is None else record.valid_to
    )
