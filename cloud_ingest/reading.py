"""Reading the store: connections of their own, read-only, so that no question ever waits for ingest or holds it up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, func, select

from cloud_ingest import book_tables as tables
from cloud_ingest.audit import Declared
from cloud_ingest.book_names import moment_of
from cloud_ingest.chunked_log import LogStore
from cloud_ingest.columns import Bytes, Floats, Ints, Observation, SeriesKey, arrivals_after, read_series
from cloud_ingest.database import Database, reading_engine, store_errors
from cloud_ingest.decode import RECORD_DTYPE, Records
from cloud_ingest.ledger import RangeSet
from cloud_ingest.observations import Moment, ObservationStore
from cloud_ingest.review_spans import Depth, Span, waiting_spans
from cloud_ingest.schema import require_newest
from cloud_ingest.transaction import STORED, UNUSABLE
from firmware.record import CLOCK_UNSET_BELOW, EVENT_OVERWRITTEN

SLICES_AT_ONCE = 100  # of raw records, each of up to a batch


class Newest(NamedTuple):
    """The newest value of a series."""

    key: SeriesKey
    time: int
    value: float | None
    flag: int


@dataclass(frozen=True)
class Journal:
    """What the store knows of one journal; `overwritten` is (seq of the event, how many), in order of seq."""

    station: str
    journal: int
    duplicates: int
    conflicts: int
    set_aside: int
    stored: RangeSet
    unusable: RangeSet
    overwritten: list[tuple[int, int]]
    declared: list[Declared]


class Reader:
    """Up to four connections, opened when first needed. Any thread may ask; `close` when nobody does any more.

    `scale` by parameter code: value = count / scale. Without `observations` they are in the books' own file, without
    `database` the books are in a file of state_dir.
    """

    def __init__(
        self,
        state_dir: Path,
        scale: npt.NDArray[np.float64],
        observations: ObservationStore | None = None,
        database: Database | None = None,
    ) -> None:
        self._engine = reading_engine(database or Database.in_folder(state_dir))
        self._scale = scale
        self._observations = observations or LogStore()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    @contextmanager
    def books(self) -> Iterator[Connection]:
        """Lend the books as they are at one moment, whatever is written meanwhile.

        Raises StoreRefused, StoreUnavailable.
        """
        with store_errors(), self._engine.connect() as connection, connection.begin():
            require_newest(connection)
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Moment]:
        """Lend the store as it is at one moment, with its observations."""
        with self.books() as connection:
            yield moment_of(connection, self._observations)

    def latest(self) -> list[Newest]:
        """Return the newest value of every series."""
        columns = (tables.latest.c.series, tables.latest.c.time, tables.latest.c.value, tables.latest.c.flag)
        with self.books() as connection:
            found = {row.series: row[1:] for row in connection.execute(select(*columns))}
            keys = read_series(connection)
        return [Newest(key, *found[number]) for number, key in keys.items() if number in found]

    def gateways(self) -> dict[str, dict[str, Any]]:
        """Return the newest status message of each gateway."""
        with self.books() as connection:
            rows = connection.execute(select(tables.gateways.c.gateway, tables.gateways.c.status))
            return {gateway: json.loads(status) for gateway, status in rows}

    def sensors_of(self, station: str, parameter: int) -> list[int]:
        """Return the sensors of a station that have a series of this parameter."""
        with self.books() as connection:
            return [key.sensor for key in read_series(connection, station).values() if key.parameter == parameter]

    def series(self, key: SeriesKey, from_s: int, to_s: int) -> tuple[Ints, Floats, Bytes]:
        """Return (times, values, flags) of a series from from_s to to_s, both included; NaN where there is no value."""
        with self.snapshot() as moment:
            number = {one: number for number, one in read_series(moment.books, key.station).items()}.get(key)
            if number is None:
                return np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8)
            return moment.log.shown({number: float(self._scale[key.parameter])}, from_s, to_s)[number]

    def newest_journal(self, station: str) -> int | None:
        """Return the journal of a station that was seen last, None when nothing came from it."""
        journals = tables.journals.c
        query = select(journals.journal).where(journals.station == station).order_by(journals.id.desc()).limit(1)
        with self.books() as connection:
            return connection.scalar(query)

    def records(self, station: str, journal: int, after_seq: int, limit: int) -> tuple[Records, Ints]:
        """Return up to `limit` records after after_seq as the station made them, and their true times (-1: unknown)."""
        journals = tables.journals.c
        with self.books() as connection:
            this = select(journals.id).where(journals.station == station, journals.journal == journal)
            number = connection.scalar(this)
            if number is None:
                return np.empty(0, RECORD_DTYPE), np.empty(0, np.int64)
            slices = _raw_after(connection, number, after_seq, limit)
            stamps = stamps_of(connection, number)
        records: Records = np.frombuffer(b"".join(slices), RECORD_DTYPE)
        records = records[records["seq"] > after_seq][:limit]
        return records, true_times(records, stamps)

    def journals(self) -> list[Journal]:
        """Return every journal with its ledger."""
        journals, ledger, declared_table = tables.journals, tables.ledger, tables.declared
        with self.books() as connection:
            rows = [tuple(row) for row in connection.execute(select(journals).order_by(journals.c.id))]
            rows.sort(key=lambda row: str(row[1]))
            ledgers: dict[tuple[int, int], RangeSet] = {}
            for journal, kind, first, last in connection.execute(select(ledger)):
                ledgers.setdefault((journal, kind), RangeSet()).add(first, last)
            overwritten = _overwritten(connection)
            declared: dict[int, list[Declared]] = {}
            for journal, *said in connection.execute(select(declared_table)):
                declared.setdefault(journal, []).append(Declared(*said))
        for one in declared.values():
            one.sort(key=lambda said: (said.first, said.reason))
        return [
            Journal(
                station=station,
                journal=journal,
                duplicates=duplicates,
                conflicts=conflicts,
                set_aside=set_aside,
                stored=ledgers.get((number, STORED), RangeSet()),
                unusable=ledgers.get((number, UNUSABLE), RangeSet()),
                overwritten=overwritten.get(number, []),
                declared=declared.get(number, []),
            )
            for number, station, journal, duplicates, conflicts, set_aside in rows
        ]

    def set_aside(self) -> int:
        """Return how many different messages and records are set aside."""
        with self.books() as connection:
            return connection.scalar(select(func.count()).select_from(tables.set_aside)) or 0

    def waiting_spans(self, depth: Depth) -> list[Span]:
        """Return what waits for a review of this depth."""
        with self.books() as connection:
            return waiting_spans(connection, depth)

    def last_arrival(self) -> int:
        """Return the number of the newest arrival, 0 before the first."""
        with self.books() as connection:
            return connection.scalar(select(func.max(tables.arrivals.c.last))) or 0

    def arrivals_after(self, cursor: int, limit: int) -> list[Observation]:
        """Return up to `limit` observations that arrived after `cursor`, in order of arrival."""
        with self.books() as connection:
            return arrivals_after(connection, read_series(connection), cursor, limit)


def _overwritten(connection: Connection) -> dict[int, list[tuple[int, int]]]:
    events = tables.events.c
    query = select(events.journal, events.seq, events.count).where(events.parameter == EVENT_OVERWRITTEN)
    found: dict[int, list[tuple[int, int]]] = {}
    for journal, seq, count in connection.execute(query.order_by(events.journal, events.seq)):
        found.setdefault(journal, []).append((seq, count))
    return found


def _raw_after(connection: Connection, journal: int, after_seq: int, limit: int) -> list[bytes]:
    slices: list[bytes] = []
    wanted, raw = limit, tables.raw.c
    # the slice that holds after_seq, if one does, begins at or before it
    holder = select(func.max(raw.first_seq)).where(raw.journal == journal, raw.first_seq <= after_seq)
    begin = func.coalesce(holder.scalar_subquery(), 0)
    query = select(raw.first_seq, raw.last_seq, raw.records).where(raw.journal == journal, raw.first_seq >= begin)
    query = query.order_by(raw.first_seq).execution_options(yield_per=SLICES_AT_ONCE)
    with connection.execute(query) as rows:
        for first, last, data in rows:
            slices.append(data)
            wanted -= max(0, last - max(first, after_seq + 1) + 1)
            if wanted <= 0:
                break
    return slices


def stamps_of(connection: Connection, journal: int) -> list[tuple[int, int, int]]:
    """Return how ranges of a journal (its number) are dated: first seq, last seq, offset in seconds."""
    stamps = tables.stamps.c
    query = select(stamps.first_seq, stamps.last_seq, stamps.offset_s).where(stamps.journal == journal)
    return [(first, last, offset_s) for first, last, offset_s in connection.execute(query)]


def true_times(records: Records, stamps: list[tuple[int, int, int]]) -> Ints:
    """Return the true times of records, by stamps (first seq, last seq, offset in seconds); -1 where unknown."""
    times = records["time"].astype(np.int64)
    unset = times < CLOCK_UNSET_BELOW
    result: Ints = np.where(unset, -1, times)
    for first, last, offset_s in stamps:
        covered = unset & (records["seq"] >= first) & (records["seq"] <= last)
        result[covered] = times[covered] + offset_s
    return result


def thin(times: Ints, values: Floats, flags: Bytes, limit: int) -> tuple[Ints, Floats, Bytes]:
    """Return at most `limit` points: the smallest and the largest of each of limit/2 equal runs, so that peaks stay."""
    number = len(times)
    if number <= limit:
        return times, values, flags
    run = np.arange(number) * max(limit // 2, 1) // number
    ends = np.flatnonzero(np.diff(run, append=-1))
    starts = np.concatenate(([0], ends[:-1] + 1))
    # NaN sorts last: as the smallest only where a run has nothing else, and never as the largest of a run with values
    lowest = np.lexsort((values, run))[starts]
    highest = np.lexsort((np.where(np.isnan(values), -np.inf, values), run))[ends]
    kept = np.unique(np.concatenate((lowest, highest)))[:limit] if limit > 1 else lowest
    return times[kept], values[kept], flags[kept]
