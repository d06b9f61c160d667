"""The SQLite store: everything that arrived, durable when `transaction()` returns.

One writer (an exclusive lock on the state directory says so), WAL and synchronous=FULL, so that a finished transaction
survives a power cut. Reading goes through cloud_ingest.reading on connections of its own and never waits for a write.

The writer keeps ledgers, journals and series numbers in memory; a transaction that fails drops them and reads them
again from the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from cloud_ingest import schema
from cloud_ingest.calibrations import read_calibrations
from cloud_ingest.columns import (
    Arrivals,
    Ints,
    Observation,
    Observed,
    SeriesKey,
    arrivals_after,
)
from cloud_ingest.errors import StoreRefused, StoreUnavailable
from cloud_ingest.ledger import Range, RangeSet, ranges_of
from cloud_ingest.observation_log import LogStore
from cloud_ingest.observations import NOBODY, ObservationStore, ObservationsWriter
from cloud_ingest.restamp import JournalEvent, Stamp
from cloud_ingest.review_spans import Depth, Span, ask_for_review, reviewed, waiting_spans
from cloud_ingest.rollup_marks import Marks, mark_all, waiting
from cloud_ingest.rollup_table import RollupTable
from cloud_ingest.schema import sqlite_errors
from cloud_ingest.set_aside import Aside, Message, make_room, settle, wanted_again
from firmware.record import BATCH_HEADER_SIZE, SIZE
from station_config.calibration import Calibration

DATABASE = "store.sqlite"
LOCK = "store.lock"
STORED, UNUSABLE = 1, 2

# Arrivals wait here for the alert worker. When this many wait, the oldest go: by then an alert on them would be stale.
ARRIVALS_KEPT = 2_000_000
# Messages and records, and their bytes; beyond that the oldest go, counted.
SET_ASIDE_KEPT, SET_ASIDE_KEPT_BYTES = 20_000, 64 << 20
SET_ASIDE_BYTES = BATCH_HEADER_SIZE + 0xFFFF * SIZE  # the longest batch there can be


class Store:
    """The writer. Use `with Store(path) as store:`; raises StoreRefused, or StoreUnavailable when the disk says no."""

    def __init__(self, state_dir: Path, observations: ObservationStore | None = None) -> None:
        """Without `observations` they are kept in the same file."""
        self._observations = observations or LogStore()
        self._state_dir = state_dir
        self._connection: sqlite3.Connection | None = None
        self._lock: IO[str] | None = None
        self.series: dict[SeriesKey, int] = {}
        self.keys: dict[int, SeriesKey] = {}
        self.journals: dict[tuple[str, int], int] = {}
        self.stations: dict[int, str] = {}  # of a journal's number
        self.journal_ids: dict[int, tuple[str, int]] = {}
        self.ledgers: dict[tuple[int, int], RangeSet] = {}
        self.waiting_for_clock: set[int] = set()  # journals with unstamped records
        self.latest_times: dict[int, int] = {}
        self.calibrations: dict[SeriesKey, list[Calibration]] = {}
        self.last_arrival = 0
        self.marks = Marks()
        self._data_version = -1  # SQLite's count of what others have written
        self._stale = True  # memory does not agree with the file

    def __enter__(self) -> Store:
        try:
            self._state_dir.mkdir(parents=True, exist_ok=True)
            self._lock = (self._state_dir / LOCK).open("w")
        except OSError as error:
            where = f"{self._state_dir} cannot be written: {error.strerror}"
            raise StoreUnavailable(f"{where}; free the disk or mend its rights") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StoreRefused(
                f"another tram-cloud writes {self._state_dir}: stop it, or name another state_dir"
            ) from None
        try:
            with sqlite_errors():
                self._connection = schema.open_for_writing(self._state_dir / DATABASE)
                self._load()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the files back; what was committed stays."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything done inside is stored when this returns, or nothing of it. Raises StoreUnavailable."""
        assert self._connection is not None, "open the store first"
        with sqlite_errors():
            if self._stale:
                self._load()
            self._see_changes()
            self._connection.execute("BEGIN IMMEDIATE")
            self._stale = True
            try:
                transaction = Transaction(self, self._connection, self._observations)
                yield transaction
                transaction.finish()
                transaction.log.settle()
                self._connection.execute("COMMIT")
                self._stale = False
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _load(self) -> None:
        assert self._connection is not None
        self.marks.forget()
        rows = self._connection.execute
        self.keys = {row[0]: SeriesKey(*row[1:]) for row in rows("SELECT id, station, sensor, parameter FROM series")}
        self.series = {key: number for number, key in self.keys.items()}
        self.journals = {(row[1], row[2]): row[0] for row in rows("SELECT id, station, journal FROM journals")}
        self.stations = {number: station for (station, _), number in self.journals.items()}
        self.journal_ids = {number: journal for journal, number in self.journals.items()}
        self.ledgers = {}
        for journal, kind, first, last in rows("SELECT journal, kind, first, last FROM ledger"):
            self.ledgers.setdefault((journal, kind), RangeSet()).add(first, last)
        self.waiting_for_clock = {row[0] for row in rows("SELECT DISTINCT journal FROM unstamped")}
        self.latest_times = dict(rows("SELECT series, time FROM latest"))
        self.last_arrival = rows("SELECT coalesce(max(last), 0) FROM arrivals").fetchone()[0]
        self._load_calibrations()
        self._stale = False

    def _see_changes(self) -> None:
        """Read calibrations again when somebody else has written to the file: they are entered while ingest runs."""
        assert self._connection is not None
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._load_calibrations()

    def _load_calibrations(self) -> None:
        assert self._connection is not None
        self._data_version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        self.calibrations = read_calibrations(self._connection)

    def key_of(self, series: int) -> SeriesKey:
        """Return whose series it is. Raises KeyError."""
        return self.keys[series]

    def journal_of(self, number: int) -> tuple[str, int]:
        """Return the station of a journal, and the id that its board gave it. Raises KeyError."""
        return self.journal_ids[number]

    def journal_number(self, station: str, journal: int) -> int:
        """Return the number of a journal, NOBODY when the books do not know it."""
        return self.journals.get((station, journal), NOBODY)

    def calibrations_of(self, key: SeriesKey) -> list[Calibration]:
        """Return the calibration records in force of a series, as they take over from each other."""
        return self.calibrations.get(key, [])

    def arrivals_after(self, cursor: int, limit: int = 10_000) -> list[Observation]:
        """Return up to `limit` observations that arrived after `cursor`, in order of arrival.

        Call it from the thread that writes, or use cloud_ingest.reading from another.
        """
        assert self._connection is not None
        return arrivals_after(self._connection, self.keys, cursor, limit)


class Transaction:
    """What can be stored together. Made by Store.transaction() only."""

    def __init__(self, store: Store, connection: sqlite3.Connection, observations: ObservationStore) -> None:
        self._store = store
        self._db = connection
        self.log: ObservationsWriter = observations.writer(connection, store, partial(store.marks.set, connection))
        self.rollups = RollupTable(connection)
        self._ledgers_before: dict[tuple[int, int], set[Range]] = {}

    # who: series and journals get small numbers

    def series_number(self, key: SeriesKey) -> int:
        """Return the number of a series; a new one is made on first sight."""
        number = self._store.series.get(key)
        if number is None:
            number = _id(self._db.execute("INSERT INTO series (station, sensor, parameter) VALUES (?, ?, ?)", key))
            self._store.series[key] = number
            self._store.keys[number] = key
        return number

    def journal_number(self, station: str, journal: int) -> int:
        """Return the number of a station's journal; a new one is made on first sight."""
        number = self._store.journals.get((station, journal))
        if number is None:
            number = _id(self._db.execute("INSERT INTO journals (station, journal) VALUES (?, ?)", (station, journal)))
            self._store.journals[station, journal] = number
            self._store.stations[number] = station
            self._store.journal_ids[number] = (station, journal)
        return number

    # what arrived: ledger, raw records, what cannot be used

    def ledger(self, journal: int, kind: int = STORED) -> RangeSet:
        """Return the ledger of a journal; what is added to it is stored with the transaction."""
        ledger = self._store.ledgers.setdefault((journal, kind), RangeSet())
        self._ledgers_before.setdefault((journal, kind), set(ledger))
        return ledger

    def add_raw(self, journal: int, seqs: Ints, records: npt.NDArray[np.void]) -> None:
        """Store new records of one journal (sorted by seq, none stored before) and enter them in its ledger."""
        ledger = self.ledger(journal)
        at = 0
        for first, last in ranges_of(seqs):
            number = last - first + 1
            self._db.execute(
                "INSERT INTO raw (journal, first_seq, last_seq, records) VALUES (?, ?, ?, ?)",
                (journal, first, last, records[at : at + number].tobytes()),
            )
            ledger.add(first, last)
            at += number

    def count_duplicates(self, journal: int, number: int) -> None:
        """Count records that were stored before."""
        self._db.execute("UPDATE journals SET duplicates = duplicates + ? WHERE id = ?", (number, journal))

    def set_aside(self, topic: str, data: bytes, reason: str, now_s: int, journal: int | None = None) -> None:
        """Keep bytes that cannot be used, once; the same bytes again only count. Of more than any batch can have, the
        beginning is kept."""
        digest = hashlib.sha256(f"{journal}:".encode() + data).digest()
        if len(data) > SET_ASIDE_BYTES:
            reason = f"{reason} (the first {SET_ASIDE_BYTES} of {len(data)} bytes are kept)"
        times = self._db.execute(
            "INSERT INTO set_aside (topic, reason, bytes, digest, received_at, journal) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (topic, digest) DO UPDATE SET times = times + 1, retry = 0, reason = excluded.reason"
            " RETURNING times",
            (topic, reason, data[:SET_ASIDE_BYTES], digest, now_s, journal),
        ).fetchone()
        if times == (1,):
            make_room(self._db, SET_ASIDE_KEPT, SET_ASIDE_KEPT_BYTES)
        if journal is not None and times == (1,):
            self._db.execute("UPDATE journals SET set_aside = set_aside + 1 WHERE id = ?", (journal,))

    def wanted_again(self, limit: int) -> list[tuple[Aside, Message]]:
        """Return what a person wants tried again, as messages."""
        return wanted_again(self._db, limit)

    def settle(self, tried: Aside) -> bool:
        """Take a retried one off the shelf, unless it was set aside once more; return whether it is gone."""
        return settle(self._db, tried)

    def declare_lost(self, journal: int, gateway: str, reason: str, ranges: Iterable[Range], said_at_s: int) -> None:
        """Keep what a gateway declares lost, with what it said before for the same reason as the fewest ranges."""
        who = (journal, reason, gateway)
        known = self._db.execute(
            "SELECT first, last FROM declared WHERE journal = ? AND reason = ? AND gateway = ?", who
        ).fetchall()
        after = set(RangeSet([*known, *ranges]))
        self._db.executemany(
            "DELETE FROM declared WHERE journal = ? AND reason = ? AND gateway = ? AND first = ?",
            ((*who, first) for first, _ in set(known) - after),
        )
        self._db.executemany(
            "INSERT INTO declared (journal, first, last, reason, gateway, declared_at) VALUES (?, ?, ?, ?, ?, ?)",
            ((journal, *one, reason, gateway, said_at_s) for one in sorted(after - set(known))),
        )

    # events and clocks

    def add_events(self, journal: int, rows: Iterable[tuple[int, ...]]) -> None:
        """Store event records: (seq, time, count, sensor, parameter)."""
        self._db.executemany(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?)", ((journal, *row) for row in rows)
        )

    def add_unstamped(self, journal: int, rows: Iterable[tuple[int, ...]]) -> None:
        """Keep records without a date, events too: (seq, time, count, sensor, parameter, flag)."""
        self._db.executemany(
            "INSERT OR IGNORE INTO unstamped VALUES (?, ?, ?, ?, ?, ?, ?)", ((journal, *row) for row in rows)
        )
        self._store.waiting_for_clock.add(journal)

    def unstamped(self, journal: int) -> tuple[list[int], list[JournalEvent]]:
        """Return the seqs still without a date, and the events that may date them."""
        seqs = self._db.execute("SELECT seq FROM unstamped WHERE journal = ?", (journal,))
        events = self._db.execute("SELECT seq, parameter, count FROM events WHERE journal = ?", (journal,))
        return [row[0] for row in seqs], [JournalEvent(*row) for row in events]

    def newest_event_seq(self, journal: int) -> int:
        """Return the seq of the journal's last event that is here, 0 when none is."""
        row = self._db.execute("SELECT coalesce(max(seq), 0) FROM events WHERE journal = ?", (journal,)).fetchone()
        return int(row[0])

    def take_unstamped(self, journal: int, stamp: Stamp) -> list[tuple[int, ...]]:
        """Remember how a range is dated and return its records (seq, true time, count, sensor, parameter, flag)."""
        span = (journal, stamp.first_seq, stamp.last_seq)
        self._db.execute(
            "INSERT INTO stamps VALUES (?, ?, ?, ?) ON CONFLICT (journal, first_seq)"
            " DO UPDATE SET last_seq = max(last_seq, excluded.last_seq)",
            (*span, stamp.offset_s),
        )
        rows = self._db.execute(
            "DELETE FROM unstamped WHERE journal = ? AND seq BETWEEN ? AND ?"
            " RETURNING seq, time, count, sensor, parameter, flag",
            span,
        ).fetchall()
        if not self._db.execute("SELECT 1 FROM unstamped WHERE journal = ? LIMIT 1", (journal,)).fetchone():
            self._store.waiting_for_clock.discard(journal)
        return [(row[0], row[1] + stamp.offset_s, *row[2:]) for row in rows]

    # values

    def add_observed(self, rows: Observed) -> npt.NDArray[np.bool_]:
        """Store observations (sorted by time, series); return which are in the log. The others are conflicts: another
        record has that series and time already. They are kept aside and counted."""
        kept = self.log.add(rows)
        for row in np.flatnonzero(~kept).tolist():
            journal = int(rows.journal[row])
            self._db.execute(
                "INSERT OR IGNORE INTO conflicts VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(journal, int(rows.seq[row]), int(rows.time[row])),
                    *(int(rows.series[row]), int(rows.count[row]), int(rows.flag[row])),
                ),
            )
            self._db.execute("UPDATE journals SET conflicts = conflicts + 1 WHERE id = ?", (journal,))
        return kept

    def put_latest(self, series: int, time_s: int, value: float | None, flag: int, failed: int = 0) -> bool:
        """Offer a newest value; return False (and change nothing) when a newer one is known."""
        if time_s < self._store.latest_times.get(series, 0):
            return False
        self._store.latest_times[series] = time_s
        self._db.execute(
            "INSERT OR REPLACE INTO latest (series, time, value, flag, failed) VALUES (?, ?, ?, ?, ?)",
            (series, time_s, value, flag, failed),
        )
        return True

    def to_review(self, station: str, first: int, last: int) -> None:
        """Note that a station's layers from first to last (times) have to be made again."""
        ask_for_review(self._db, station, first, last)

    def waiting_spans(self, depth: Depth) -> list[Span]:
        """Return what waits for a review of this depth."""
        return waiting_spans(self._db, depth)

    def waiting_rollups(self, closed_s: int, limit: int) -> tuple[int, list[int]] | None:
        """Return (block, up to `limit` series) whose rollups have to be made again; it ended before closed_s."""
        return waiting(self._db, closed_s, limit)

    def mark_all_rollups(self, series: Iterable[int]) -> None:
        """Have everything of these series summed up again."""
        mark_all(self._db, self.log, series)

    def strike_rollup_marks(self, block: int, series: Iterable[int]) -> None:
        """Note that these rollups are what the log says."""
        self._store.marks.strike(self._db, block, series)

    def reviewed(self, depth: Depth, span: Span, left_until: int) -> None:
        """Strike a span off, but for what is left of it: from its first time to `left_until`."""
        reviewed(self._db, depth, span, left_until)

    def add_arrivals(self, rows: Arrivals) -> None:
        """Hand observations on to whoever follows `arrivals_after`."""
        if len(rows) == 0:
            return
        first = self._store.last_arrival + 1
        self._store.last_arrival += len(rows)
        self._db.execute("INSERT INTO arrivals VALUES (?, ?, ?)", (self._store.last_arrival, first, rows.tobytes()))
        self._db.execute("DELETE FROM arrivals WHERE last < ?", (self._store.last_arrival - ARRIVALS_KEPT,))

    def put_gateway_status(self, gateway: str, status: str, now_s: int) -> None:
        """Keep the newest status message of a gateway."""
        self._db.execute(
            "INSERT INTO gateways VALUES (?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET"
            " status = excluded.status, received_at = excluded.received_at",
            (gateway, status, now_s),
        )

    def finish(self) -> None:
        """Write what changed in the ledgers."""
        for (journal, kind), before in self._ledgers_before.items():
            after = set(self._store.ledgers[journal, kind])
            self._db.executemany(
                "DELETE FROM ledger WHERE journal = ? AND kind = ? AND first = ?",
                ((journal, kind, first) for first, _ in before - after),
            )
            self._db.executemany(
                "INSERT INTO ledger VALUES (?, ?, ?, ?)", ((journal, kind, *one) for one in after - before)
            )


def _id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid
