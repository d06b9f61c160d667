"""What the books' numbers of series and journals stand for, as a reading transaction sees it."""

from __future__ import annotations

from functools import cached_property

from sqlalchemy import Connection, select

from cloud_ingest.book_tables import journals
from cloud_ingest.columns import SeriesKey, read_series
from cloud_ingest.observations import NOBODY, Moment, ObservationStore


class BookNames:
    """Reads the names when the first one is asked for."""

    def __init__(self, books: Connection) -> None:
        self._books = books

    def key_of(self, series: int) -> SeriesKey:
        """Return whose series it is. Raises KeyError."""
        return self._keys[series]

    def journal_of(self, number: int) -> tuple[str, int]:
        """Return the station of a journal, and the id that its board gave it. Raises KeyError."""
        return self._journals[number]

    def journal_number(self, station: str, journal: int) -> int:
        """Return the number of a journal, NOBODY when the books do not know it."""
        return self._numbers.get((station, journal), NOBODY)

    @cached_property
    def _keys(self) -> dict[int, SeriesKey]:
        return read_series(self._books)

    @cached_property
    def _journals(self) -> dict[int, tuple[str, int]]:
        rows = self._books.execute(select(journals.c.id, journals.c.station, journals.c.journal))
        return {number: (station, journal) for number, station, journal in rows}

    @cached_property
    def _numbers(self) -> dict[tuple[str, int], int]:
        return {journal: number for number, journal in self._journals.items()}


def moment_of(books: Connection, observations: ObservationStore) -> Moment:
    """Return the moment that a reading transaction sees."""
    return Moment(books, observations.reader(books, BookNames(books)))
