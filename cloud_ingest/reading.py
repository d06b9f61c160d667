"""Reading the store: connections of their own, read-only, so that no question ever waits for ingest or holds it up."""

from __future__ import annotations

import json
import queue
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_ingest.audit import Declared
from cloud_ingest.book_names import moment_of
from cloud_ingest.columns import Bytes, Floats, Ints, Observation, SeriesKey, arrivals_after
from cloud_ingest.decode import RECORD_DTYPE, Records
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.ledger import RangeSet
from cloud_ingest.observation_log import LogStore
from cloud_ingest.observations import Moment, ObservationStore
from cloud_ingest.review_spans import Depth, Span, waiting_spans
from cloud_ingest.schema import require_newest, sqlite_errors
from cloud_ingest.store import DATABASE, STORED, UNUSABLE
from firmware.record import CLOCK_UNSET_BELOW, EVENT_OVERWRITTEN

CONNECTIONS = 4
WAIT_S = 10.0


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
    """Up to four connections, opened when first needed. Any thread may ask; `close` when nobody does any more."""

    def __init__(
        self, state_dir: Path, scale: npt.NDArray[np.float64], observations: ObservationStore | None = None
    ) -> None:
        self._observations = observations or LogStore()
        self._uri = f"{(state_dir / DATABASE).resolve().as_uri()}?mode=ro"
        self._scale = scale  # by parameter code: value = count / scale
        self._idle: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        for _ in range(CONNECTIONS):
            self._idle.put(None)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while not self._idle.empty():
            connection = self._idle.get_nowait()
            if connection is not None:
                connection.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.get(timeout=WAIT_S)
        except queue.Empty:
            raise StoreUnavailable("too many questions at once: ask again, or for less") from None
        try:
            with sqlite_errors():
                connection = connection or sqlite3.connect(
                    self._uri, uri=True, timeout=WAIT_S, isolation_level=None, check_same_thread=False
                )
                yield connection
        finally:
            self._idle.put(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Moment]:
        """Lend the store as it is at one moment, whatever is written meanwhile."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                require_newest(connection)
                yield moment_of(connection, self._observations)
            finally:
                connection.execute("ROLLBACK")

    def latest(self) -> list[Newest]:
        """Return the newest value of every series."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT station, sensor, parameter, time, value, flag FROM latest"
                " JOIN series ON series.id = latest.series ORDER BY station, sensor, parameter"
            )
            return [Newest(SeriesKey(*row[:3]), *row[3:]) for row in rows]

    def gateways(self) -> dict[str, dict[str, Any]]:
        """Return the newest status message of each gateway."""
        with self._connection() as connection:
            return {row[0]: json.loads(row[1]) for row in connection.execute("SELECT gateway, status FROM gateways")}

    def sensors_of(self, station: str, parameter: int) -> list[int]:
        """Return the sensors of a station that have a series of this parameter."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT sensor FROM series WHERE station = ? AND parameter = ? ORDER BY sensor", (station, parameter)
            )
            return [row[0] for row in rows]

    def series(self, key: SeriesKey, from_s: int, to_s: int) -> tuple[Ints, Floats, Bytes]:
        """Return (times, values, flags) of a series from from_s to to_s, both included; NaN where there is no value."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT id FROM series WHERE station = ? AND sensor = ? AND parameter = ?", key
            ).fetchone()
            if row is None:
                return np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8)
            scales = {row[0]: float(self._scale[key.parameter])}
            return moment_of(connection, self._observations).log.shown(scales, from_s, to_s)[row[0]]

    def newest_journal(self, station: str) -> int | None:
        """Return the journal of a station that was seen last, None when nothing came from it."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT journal FROM journals WHERE station = ? ORDER BY id DESC LIMIT 1", (station,)
            ).fetchone()
            return None if row is None else int(row[0])

    def records(self, station: str, journal: int, after_seq: int, limit: int) -> tuple[Records, Ints]:
        """Return up to `limit` records after after_seq as the station made them, and their true times (-1: unknown)."""
        with self._connection() as connection:
            number = connection.execute(
                "SELECT id FROM journals WHERE station = ? AND journal = ?", (station, journal)
            ).fetchone()
            if number is None:
                return np.empty(0, RECORD_DTYPE), np.empty(0, np.int64)
            slices = _raw_after(connection, number[0], after_seq, limit)
            stamps = connection.execute(
                "SELECT first_seq, last_seq, offset_s FROM stamps WHERE journal = ?", (number[0],)
            ).fetchall()
        records: Records = np.frombuffer(b"".join(slices), RECORD_DTYPE)
        records = records[records["seq"] > after_seq][:limit]
        return records, true_times(records, stamps)

    def journals(self) -> list[Journal]:
        """Return every journal with its ledger."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT id, station, journal, duplicates, conflicts, set_aside FROM journals ORDER BY station, id"
            ).fetchall()
            ledgers: dict[tuple[int, int], RangeSet] = {}
            for journal, kind, first, last in connection.execute("SELECT journal, kind, first, last FROM ledger"):
                ledgers.setdefault((journal, kind), RangeSet()).add(first, last)
            overwritten: dict[int, list[tuple[int, int]]] = {}
            events = connection.execute(
                "SELECT journal, seq, count FROM events WHERE parameter = ? ORDER BY journal, seq", (EVENT_OVERWRITTEN,)
            )
            for journal, seq, count in events:
                overwritten.setdefault(journal, []).append((seq, count))
            declared: dict[int, list[Declared]] = {}
            for journal, *said in connection.execute(
                "SELECT journal, first, last, reason, gateway, declared_at FROM declared"
                " ORDER BY journal, first, reason"
            ):
                declared.setdefault(journal, []).append(Declared(*said))
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
        with self._connection() as connection:
            return int(connection.execute("SELECT count(*) FROM set_aside").fetchone()[0])

    def waiting_spans(self, depth: Depth) -> list[Span]:
        """Return what waits for a review of this depth."""
        with self._connection() as connection:
            return waiting_spans(connection, depth)

    def last_arrival(self) -> int:
        """Return the number of the newest arrival, 0 before the first."""
        with self._connection() as connection:
            return int(connection.execute("SELECT coalesce(max(last), 0) FROM arrivals").fetchone()[0])

    def arrivals_after(self, cursor: int, limit: int) -> list[Observation]:
        """Return up to `limit` observations that arrived after `cursor`, in order of arrival."""
        with self._connection() as connection:
            rows = connection.execute("SELECT id, station, sensor, parameter FROM series")
            keys = {row[0]: SeriesKey(*row[1:]) for row in rows}
            return arrivals_after(connection, keys, cursor, limit)


def _raw_after(connection: sqlite3.Connection, journal: int, after_seq: int, limit: int) -> list[bytes]:
    slices: list[bytes] = []
    wanted = limit
    # the slice that holds after_seq, if one does, begins at or before it
    rows = connection.execute(
        "SELECT first_seq, last_seq, records FROM raw WHERE journal = :journal AND first_seq >= coalesce(("
        "SELECT max(first_seq) FROM raw WHERE journal = :journal AND first_seq <= :after), 0) ORDER BY first_seq",
        {"journal": journal, "after": after_seq},
    )
    for first, last, data in rows:
        slices.append(data)
        wanted -= max(0, last - max(first, after_seq + 1) + 1)
        if wanted <= 0:
            break
    return slices


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
