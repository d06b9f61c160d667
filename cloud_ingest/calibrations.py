"""Calibration records in the store: entered, withdrawn, never changed. Each asks for a review of its span."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack

from sqlalchemy import Connection, func, insert, select, update

from cloud_ingest.book_tables import calibrations, counters
from cloud_ingest.columns import SeriesKey
from cloud_ingest.database import Database, changing, insert_into, person_changes, store_errors
from cloud_ingest.errors import ChangeRefused
from cloud_ingest.review_spans import ask_for_review
from station_config.calibration import Calibration, in_order
from station_config.parameters import load_parameters

CHANGES = "calibration_changes"
ALWAYS = 0xFFFFFFFF  # the last time a record can have


def all_records(connection: Connection) -> list[Calibration]:
    """Return every record, withdrawn ones too, by id."""
    rows = connection.scalars(select(calibrations.c.record).order_by(calibrations.c.id))
    return [Calibration.model_validate_json(record) for record in rows]


def changes(connection: Connection) -> int:
    """Return how often calibrations have been entered or withdrawn: whoever keeps them in memory looks at this."""
    return int(connection.scalar(select(counters.c.value).where(counters.c.name == CHANGES)) or 0)


def read_calibrations(connection: Connection, as_of: int | None = None) -> dict[SeriesKey, list[Calibration]]:
    """Return the records in force by series, as they take over from each other; `as_of`: as known at that time."""
    by_series: dict[SeriesKey, list[Calibration]] = defaultdict(list)
    for record in all_records(connection):
        code = load_parameters().by_name[record.parameter].code
        by_series[SeriesKey(record.station, record.sensor, code)].append(record)
    return {key: in_order(records, as_of) for key, records in by_series.items()}


class CalibrationBook:
    """Enters and withdraws records, beside a running ingest or without one. `with CalibrationBook(where) as book:`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._opened = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> CalibrationBook:
        self._connection = self._opened.enter_context(changing(self._database))
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def records(self) -> list[Calibration]:
        """Return every record, withdrawn ones too."""
        connection = self._open()
        with store_errors(), connection.begin():
            return all_records(connection)

    def enter(self, record: Calibration) -> Calibration:
        """Store a record under the next id and return it so. Raises StoreUnavailable."""
        connection = self._open()
        with store_errors(), person_changes(connection):
            number = connection.scalar(select(func.coalesce(func.max(calibrations.c.id), 0) + 1))
            entered = record.model_copy(update={"id": number})
            connection.execute(insert(calibrations).values(id=number, record=entered.model_dump_json()))
            _note(connection, entered)
        return entered

    def withdraw(self, number: int, now_s: int) -> Calibration:
        """Have a record count no more from now on; it stays. Raises ChangeRefused, StoreUnavailable."""
        connection, this = self._open(), calibrations.c.id == number
        with store_errors(), person_changes(connection):
            found = connection.scalar(select(calibrations.c.record).where(this))
            if found is None:
                raise ChangeRefused(f"there is no calibration {number}; tram-cloud calibration list shows all")
            record = Calibration.model_validate_json(found)
            if record.withdrawn_at is not None:
                raise ChangeRefused(f"calibration {number} was withdrawn before")
            withdrawn = record.model_copy(update={"withdrawn_at": now_s})
            connection.execute(update(calibrations).where(this).values(record=withdrawn.model_dump_json()))
            _note(connection, withdrawn)
        return withdrawn

    def _open(self) -> Connection:
        assert self._connection is not None, "open the book first"
        return self._connection


def _note(connection: Connection, record: Calibration) -> None:
    """Have the writers read calibrations again, and make the span's layers again."""
    insert = insert_into(connection, counters).values(name=CHANGES, value=1)
    more = {"value": counters.c.value + 1}
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=more))
    until = ALWAYS if record.valid_to is None else record.valid_to
    ask_for_review(connection, {record.station: (record.valid_from, until)})
