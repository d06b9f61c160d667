"""The store's writer: everything that arrived, durable when `transaction()` returns.

The books lie in a SQLite file of the state directory (WAL, synchronous=FULL) or in PostgreSQL (synchronous_commit=on),
so that a finished transaction survives a power cut. In SQLite there is one writer, by a lock on the state directory. In
PostgreSQL there may be several, each with the stations of its own shards, by a lock for each shard that lives as long
as its connection. Reading goes through cloud_ingest.reading and never waits for a write.

The writer keeps ledgers, journals and series numbers in memory; a transaction that fails drops them and reads them
again.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Table,
    select,
)

from cloud_ingest import book_tables as tables
from cloud_ingest import schema
from cloud_ingest.calibrations import changes, read_calibrations
from cloud_ingest.chunked_log import LogStore
from cloud_ingest.columns import (
    Observation,
    SeriesKey,
    arrivals_after,
    read_series,
)
from cloud_ingest.database import (
    Database,
    Lock,
    commit_later,
    insert_into,
    lock,
    own_shard,
    settle,
    store_errors,
    unsettled,
    writing_engine,
)
from cloud_ingest.errors import Overtaken, StoreInUse, StoreUnavailable
from cloud_ingest.ledger import RangeSet
from cloud_ingest.observations import NOBODY, ObservationStore
from cloud_ingest.rollup_marks import Marks
from cloud_ingest.topics import SHARDS, shard_of
from cloud_ingest.transaction import Transaction
from station_config.calibration import Calibration

LOCK = "store.lock"
SHARDS_WITHIN_S = 5.0  # a server notices after a moment that the process before us is gone


class Store:
    """The writer. Use `with Store(path) as store:`; raises StoreRefused, or StoreUnavailable when the disk says no.

    `shards` (two hex digits each, None: all of them) are whose stations this writer has; fewer than all only in
    PostgreSQL. Without `observations` they are in the books' own file, without `database` the books are in a file of
    state_dir.
    """

    def __init__(
        self,
        state_dir: Path,
        observations: ObservationStore | None = None,
        database: Database | None = None,
        shards: Collection[str] | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._database = database or Database.in_folder(state_dir)
        self._shards = None if shards is None else frozenset(shards)
        self._observations = observations or LogStore()
        self._engine: Engine | None = None
        self._db: Connection | None = None
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
        self.marks = Marks()
        self._calibration_changes = -1
        self._stale = True  # memory does not agree with the books

    def __enter__(self) -> Store:
        self._take_state_dir()
        try:
            with store_errors():
                self._engine = writing_engine(self._database)
                self._connect(time.monotonic() + SHARDS_WITHIN_S)
            with self.transaction():
                pass
        except BaseException:  # whatever it was, Ctrl-C too: no lock stays taken; it is raised on
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back; what was committed stays."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        if self._lock is not None:
            self._lock.close()

    @property
    def owns_all(self) -> bool:
        """Return whether there is no other writer."""
        return self._shards is None

    def owns(self, station: str) -> bool:
        """Return whether a station is this writer's."""
        return self._shards is None or shard_of(station) in self._shards

    @contextmanager
    def transaction(self, *, later: bool = False) -> Iterator[Transaction]:
        """Everything done inside is stored when this returns, or nothing of it. Raises StoreUnavailable.

        `later`: it is stored when `settle` returns, or the next transaction does. Until then that may be prepared:
        only what has to ask the database waits. Raises Overtaken where it was prepared with what has changed since.
        """
        assert self._engine is not None, "open the store first"
        with store_errors():
            db = self._connect(0.0) if self._db is None else self._db
            try:
                with db.begin():
                    lock(db, Lock.PEOPLE, shared=True)
                    ahead = later and unsettled(db) and not self._stale
                    if self._stale:
                        self._load(db)
                    self._stale = True
                    if not ahead:
                        self._see_changes(db)
                    transaction = Transaction(self, db, self._observations)
                    yield transaction
                    if ahead and changes(db) != self._calibration_changes:
                        raise Overtaken("calibrations have changed")
                    transaction.finish()
                    if later:
                        commit_later(db)
                self._stale = False
            finally:
                if self._db is not None and self._db.invalidated:
                    self._db.close()  # and with it our shards: taken anew before the next transaction
                    self._db = None

    def settle(self) -> None:
        """Return when the last transaction is stored. Raises StoreUnavailable: nothing of it is."""
        if self._db is None:
            return
        try:
            with store_errors():
                settle(self._db)
        except BaseException:  # whatever it was, memory has what the books have not; it is raised on
            self._stale = True
            raise

    def numbers(
        self, table: Table, *of: Column[int] | Column[str], values: Sequence[tuple[str | int, ...]]
    ) -> list[int]:
        """Return the numbers of rows by their keys (each once); rows that are not there are made.

        In PostgreSQL in a transaction of their own: what another store was told about a number stays true when ours
        fails, and another writer may have made the same row.
        """
        assert self._db is not None
        if self._db.dialect.name != "postgresql":
            return [_numbered(self._db, table, of, one) for one in values]
        assert self._engine is not None
        with self._engine.connect() as other, other.begin():
            return _numbered_together(other, table, of, values)

    def _take_state_dir(self) -> None:
        """Of PostgreSQL there are several writers, also on one machine: their shards' locks say who writes what."""
        try:
            self._state_dir.mkdir(parents=True, exist_ok=True)
            if self._database.file is None:
                return  # its shards are locked where the books are
            self._lock = (self._state_dir / LOCK).open("w")
        except OSError as error:
            where = f"{self._state_dir} cannot be written: {error.strerror}"
            raise StoreUnavailable(f"{where}; free the disk or mend its rights") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StoreInUse(
                f"another tram-cloud writes {self._state_dir}: stop it, or name another state_dir"
            ) from None

    def _connect(self, shards_until: float) -> Connection:
        """Open the connection and take the shards; those that another holds are waited for until then (monotonic)."""
        assert self._engine is not None
        db = self._engine.connect()
        try:
            schema.prepare_postgresql(db)
            if db.dialect.name == "postgresql":
                self._take_shards(db, shards_until)
        except BaseException:  # whatever it was: the shards taken so far are given back; it is raised on
            db.invalidate()
            db.close()
            raise
        self._db, self._stale = db, True
        return db

    def _take_shards(self, db: Connection, until: float) -> None:
        wanted = {f"{shard:02x}" for shard in range(SHARDS)} if self._shards is None else self._shards
        left = sorted(wanted)
        while True:
            with db.begin():
                left = [shard for shard in left if not own_shard(db, int(shard, 16))]
            if not left:
                return
            if time.monotonic() > until:
                break
            time.sleep(0.2)
        text = f"shards {', '.join(left)} are another process's: stop it, or give this one others (--shards)"
        raise (StoreInUse if until else StoreUnavailable)(text)

    def _load(self, db: Connection) -> None:
        self.marks.forget()
        self.keys = {number: key for number, key in read_series(db).items() if self.owns(key.station)}
        self.series = {key: number for number, key in self.keys.items()}
        known = tables.journals.c
        rows = [row for row in db.execute(select(known.id, known.station, known.journal)) if self.owns(row.station)]
        self.journals = {(station, journal): number for number, station, journal in rows}
        self.stations = {number: station for (station, _), number in self.journals.items()}
        self.journal_ids = {number: journal for journal, number in self.journals.items()}
        self.ledgers = {}
        for journal, kind, first, last in db.execute(select(tables.ledger)):
            if journal in self.stations:
                self.ledgers.setdefault((journal, kind), RangeSet()).add(first, last)
        undated = db.scalars(select(tables.unstamped.c.journal).distinct())
        self.waiting_for_clock = {journal for journal in undated if journal in self.stations}
        latest = db.execute(select(tables.latest.c.series, tables.latest.c.time))
        self.latest_times = {number: time_s for number, time_s in latest if number in self.keys}
        self._calibration_changes = -1
        self._stale = False

    def _see_changes(self, db: Connection) -> None:
        """Read calibrations again when somebody has entered or withdrawn one: they do while ingest runs."""
        made = changes(db)
        if made != self._calibration_changes:
            self.calibrations, self._calibration_changes = read_calibrations(db), made

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
        assert self._db is not None
        with store_errors(), self._db.begin():
            return arrivals_after(self._db, read_series(self._db), cursor, limit)


def _numbered_together(
    db: Connection, table: Table, of: tuple[Column[int] | Column[str], ...], values: Sequence[tuple[str | int, ...]]
) -> list[int]:
    """Make rows many at a time, in one order, so that two that make the same ones wait for each other and no more."""
    rows = [{column.name: value for column, value in zip(of, one, strict=True)} for one in sorted(values)]
    made = insert_into(db, table).on_conflict_do_nothing().returning(table.c.id, *of)
    found = {tuple(key): number for number, *key in db.execute(made, rows)} if rows else {}
    return [found[tuple(one)] if tuple(one) in found else _numbered(db, table, of, one) for one in values]


def _numbered(
    db: Connection, table: Table, of: tuple[Column[int] | Column[str], ...], values: tuple[str | int, ...]
) -> int:
    row = {column.name: value for column, value in zip(of, values, strict=True)}
    made = insert_into(db, table).values(row).on_conflict_do_nothing().returning(table.c.id)
    number = db.scalar(made)
    if number is None:
        number = db.scalar(select(table.c.id).where(*(column == row[column.name] for column in of)))
    assert number is not None
    return int(number)
