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
import hashlib
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from cloud_ingest import book_tables as tables
from cloud_ingest import schema
from cloud_ingest.calibrations import changes, read_calibrations
from cloud_ingest.chunked_log import LogStore
from cloud_ingest.columns import (
    Arrivals,
    Ints,
    Observation,
    Observed,
    SeriesKey,
    arrivals_after,
    read_series,
)
from cloud_ingest.database import (
    DATABASE,
    Database,
    Lock,
    insert_into,
    lock,
    own_shard,
    store_errors,
    writing_engine,
)
from cloud_ingest.errors import StoreInUse, StoreUnavailable
from cloud_ingest.ledger import Range, RangeSet, ranges_of
from cloud_ingest.observations import NOBODY, ObservationStore, ObservationsWriter
from cloud_ingest.restamp import JournalEvent, Stamp
from cloud_ingest.review_spans import Depth, Span, ask_for_review, reviewed, waiting_spans
from cloud_ingest.rollup_marks import Marks, mark_all, waiting
from cloud_ingest.rollup_table import RollupTable
from cloud_ingest.scans import free_number
from cloud_ingest.set_aside import Aside, Message, make_room, settle, wanted_again
from cloud_ingest.topics import RECORDS, SHARDS, shard_of
from firmware.record import BATCH_HEADER_SIZE, SIZE
from station_config.calibration import Calibration

__all__ = ["DATABASE", "LOCK", "STORED", "UNUSABLE", "Store", "Transaction"]

LOCK = "store.lock"
STORED, UNUSABLE = 1, 2
SHARDS_WITHIN_S = 5.0  # a server notices after a moment that the process before us is gone

# Arrivals wait here for the alert worker. When this many wait, the oldest go: by then an alert on them would be stale.
ARRIVALS_KEPT = 2_000_000
# Messages and records, and their bytes; beyond that the oldest go, counted.
SET_ASIDE_KEPT, SET_ASIDE_KEPT_BYTES = 20_000, 64 << 20
SET_ASIDE_BYTES = BATCH_HEADER_SIZE + 0xFFFF * SIZE  # the longest batch there can be


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
        except BaseException:
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
    def transaction(self) -> Iterator[Transaction]:
        """Everything done inside is stored when this returns, or nothing of it. Raises StoreUnavailable."""
        assert self._engine is not None, "open the store first"
        with store_errors():
            db = self._connect(0.0) if self._db is None else self._db
            try:
                with db.begin():
                    lock(db, Lock.PEOPLE, shared=True)
                    if self._stale:
                        self._load(db)
                    self._see_changes(db)
                    self._stale = True
                    transaction = Transaction(self, db, self._observations)
                    yield transaction
                    transaction.finish()
                self._stale = False
            finally:
                if self._db is not None and self._db.invalidated:
                    self._db.close()  # and with it our shards: taken anew before the next transaction
                    self._db = None

    def numbers(
        self, table: Table, *of: Column[int] | Column[str], values: Iterable[tuple[str | int, ...]]
    ) -> list[int]:
        """Return the numbers of rows by their keys; rows that are not there are made.

        In PostgreSQL in a transaction of their own: what another store was told about a number stays true when ours
        fails, and another writer may have made the same row.
        """
        assert self._db is not None
        if self._db.dialect.name != "postgresql":
            return [_numbered(self._db, table, of, one) for one in values]
        assert self._engine is not None
        with self._engine.connect() as other, other.begin():
            return [_numbered(other, table, of, one) for one in values]

    def _take_state_dir(self) -> None:
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
        except BaseException:
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


class Transaction:
    """What can be stored together. Made by Store.transaction() only.

    Rows that nothing in the same transaction reads wait for `finish`, so that a group costs few statements.
    """

    def __init__(self, store: Store, connection: Connection, observations: ObservationStore) -> None:
        self._store = store
        self._db = connection
        self.log: ObservationsWriter = observations.writer(connection, store, partial(store.marks.set, connection))
        self.rollups = RollupTable(connection)
        self._ledgers_before: dict[tuple[int, int], set[Range]] = {}
        self._raw: list[dict[str, object]] = []
        self._latest: dict[int, dict[str, object]] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._counted: dict[tuple[str, int], int] = {}  # what to add to a column of a journal
        self._arrivals: list[Arrivals] = []

    # who: series and journals get small numbers

    def series_number(self, key: SeriesKey) -> int:
        """Return the number of a series; a new one is made on first sight."""
        number = self._store.series.get(key)
        if number is None:
            number = self._new_series(key)
            self._store.series[key] = number
            self._store.keys[number] = key
        return number

    def _new_series(self, key: SeriesKey) -> int:
        """Enter a series; the log wants a station's series side by side."""
        series = tables.series
        if self._db.dialect.name != "sqlite":
            of = (series.c.station, series.c.sensor, series.c.parameter)
            return self._store.numbers(series, *of, values=[key])[0]
        number = free_number(self._store.keys, key.station)
        self._db.execute(insert(series).values(id=number, **key._asdict()))
        return number

    def journal_number(self, station: str, journal: int) -> int:
        """Return the number of a station's journal; a new one is made on first sight."""
        number = self._store.journals.get((station, journal))
        if number is None:
            c = tables.journals.c
            (number,) = self._store.numbers(tables.journals, c.station, c.journal, values=[(station, journal)])
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
            data = records[at : at + number].tobytes()
            self._raw.append({"journal": journal, "first_seq": first, "last_seq": last, "records": data})
            ledger.add(first, last)
            at += number

    def count_duplicates(self, journal: int, number: int) -> None:
        """Count records that were stored before."""
        self._count("duplicates", journal, number)

    def set_aside(self, topic: str, data: bytes, reason: str, now_s: int, journal: int | None = None) -> None:
        """Keep bytes that cannot be used, once; the same bytes again only count. Of more than any batch can have, the
        beginning is kept."""
        digest = hashlib.sha256(f"{journal}:".encode() + data).digest()
        if len(data) > SET_ASIDE_BYTES:
            reason = f"{reason} (the first {SET_ASIDE_BYTES} of {len(data)} bytes are kept)"
        insert = insert_into(self._db, tables.set_aside).values(
            topic=topic,
            reason=reason,
            bytes=data[:SET_ASIDE_BYTES],
            digest=digest,
            received_at=now_s,
            journal=journal,
        )
        again = {"times": tables.set_aside.c.times + 1, "retry": 0, "reason": insert.excluded.reason}
        upsert = insert.on_conflict_do_update(index_elements=["topic", "digest"], set_=again)
        if self._db.scalar(upsert.returning(tables.set_aside.c.times)) != 1:
            return
        make_room(self._db, SET_ASIDE_KEPT, SET_ASIDE_KEPT_BYTES)
        if journal is not None:
            self._count("set_aside", journal, 1)

    def wanted_again(self, limit: int) -> list[tuple[Aside, Message]]:
        """Return what a person wants tried again, as messages."""
        return wanted_again(self._db, limit, self._is_own)

    def settle(self, tried: Aside) -> bool:
        """Take a retried one off the shelf, unless it was set aside once more; return whether it is gone."""
        return settle(self._db, tried)

    def declare_lost(self, journal: int, gateway: str, reason: str, ranges: Iterable[Range], said_at_s: int) -> None:
        """Keep what a gateway declares lost, with what it said before for the same reason as the fewest ranges."""
        table = tables.declared
        who = {"journal": journal, "reason": reason, "gateway": gateway}
        same = (table.c.journal == journal, table.c.reason == reason, table.c.gateway == gateway)
        rows = self._db.execute(select(table.c.first, table.c.last).where(*same))
        known = {(first, last) for first, last in rows}
        after = set(RangeSet([*known, *ranges]))
        gone = [{"begin": first} for first, _ in known - after]
        if gone:
            self._db.execute(delete(table).where(*same, table.c.first == bindparam("begin")), gone)
        new = [who | {"first": first, "last": last, "declared_at": said_at_s} for first, last in sorted(after - known)]
        if new:
            self._db.execute(insert(table), new)

    # events and clocks

    def add_events(self, journal: int, rows: Iterable[tuple[int, ...]]) -> None:
        """Store event records: (seq, time, count, sensor, parameter)."""
        self._add_new(tables.events, journal, rows)

    def add_unstamped(self, journal: int, rows: Iterable[tuple[int, ...]]) -> None:
        """Keep records without a date, events too: (seq, time, count, sensor, parameter, flag)."""
        self._add_new(tables.unstamped, journal, rows)
        self._store.waiting_for_clock.add(journal)

    def unstamped(self, journal: int) -> tuple[list[int], list[JournalEvent]]:
        """Return the seqs still without a date, and the events that may date them."""
        unstamped, events = tables.unstamped.c, tables.events.c
        seqs = self._db.scalars(select(unstamped.seq).where(unstamped.journal == journal).order_by(unstamped.seq))
        query = select(events.seq, events.parameter, events.count).where(events.journal == journal)
        return list(seqs), [JournalEvent(*row) for row in self._db.execute(query.order_by(events.seq))]

    def newest_event_seq(self, journal: int) -> int:
        """Return the seq of the journal's last event that is here, 0 when none is."""
        events = tables.events.c
        return self._db.scalar(select(func.max(events.seq)).where(events.journal == journal)) or 0

    def take_unstamped(self, journal: int, stamp: Stamp) -> list[tuple[int, ...]]:
        """Remember how a range is dated and return its records (seq, true time, count, sensor, parameter, flag)."""
        insert = insert_into(self._db, tables.stamps).values(
            journal=journal, first_seq=stamp.first_seq, last_seq=stamp.last_seq, offset_s=stamp.offset_s
        )
        known, new = tables.stamps.c.last_seq, insert.excluded.last_seq
        longer = {"last_seq": case((new > known, new), else_=known)}
        self._db.execute(insert.on_conflict_do_update(index_elements=["journal", "first_seq"], set_=longer))
        c = tables.unstamped.c
        gone = delete(tables.unstamped).where(c.journal == journal, c.seq.between(stamp.first_seq, stamp.last_seq))
        rows = self._db.execute(gone.returning(c.seq, c.time, c.count, c.sensor, c.parameter, c.flag)).all()
        if self._db.scalar(select(c.seq).where(c.journal == journal).limit(1)) is None:
            self._store.waiting_for_clock.discard(journal)
        return sorted((row[0], row[1] + stamp.offset_s, *row[2:]) for row in rows)

    # values

    def add_observed(self, rows: Observed) -> npt.NDArray[np.bool_]:
        """Store observations (sorted by time, series); return which are in the log. The others are conflicts: another
        record has that series and time already. They are kept aside and counted."""
        kept = self.log.add(rows)
        aside = rows.take(~kept)
        names = ("journal", "seq", "time", "series", "count", "flag")
        found = [
            dict(zip(names, values, strict=True))
            for values in zip(*(getattr(aside, name).tolist() for name in names), strict=True)
        ]
        if found:
            self._db.execute(insert_into(self._db, tables.conflicts).on_conflict_do_nothing(), found)
            for row in found:
                self._count("conflicts", row["journal"], 1)
        return kept

    def put_latest(self, series: int, time_s: int, value: float | None, flag: int, failed: int = 0) -> bool:
        """Offer a newest value; return False (and change nothing) when a newer one is known."""
        if time_s < self._store.latest_times.get(series, 0):
            return False
        self._store.latest_times[series] = time_s
        self._latest[series] = {"series": series, "time": time_s, "value": value, "flag": flag, "failed": failed}
        return True

    def to_review(self, station: str, first: int, last: int) -> None:
        """Note that a station's layers from first to last (times) have to be made again."""
        known = self._spans.get(station, (first, last))
        self._spans[station] = (min(first, known[0]), max(last, known[1]))

    def waiting_spans(self, depth: Depth) -> list[Span]:
        """Return what waits for a review of this depth."""
        self._flush_spans()
        return [span for span in waiting_spans(self._db, depth) if self._store.owns(span.station)]

    def waiting_rollups(self, closed_s: int, limit: int) -> tuple[int, list[int]] | None:
        """Return (block, up to `limit` series) whose rollups have to be made again; it ended before closed_s."""
        return waiting(self._db, closed_s, limit, None if self._store.owns_all else self._store.keys)

    def mark_all_rollups(self, series: Iterable[int]) -> None:
        """Have everything of these series summed up again."""
        mark_all(self._db, self.log, series)

    def strike_rollup_marks(self, block: int, series: Iterable[int]) -> None:
        """Note that these rollups are what the log says."""
        self._store.marks.strike(self._db, block, series)

    def reviewed(self, depth: Depth, span: Span, left_until: int) -> None:
        """Strike a span off, but for what is left of it: from its first time to `left_until`."""
        self._flush_spans()
        reviewed(self._db, depth, span, left_until)

    def add_arrivals(self, rows: Arrivals) -> None:
        """Hand observations on to whoever follows `arrivals_after`."""
        if len(rows):
            self._arrivals.append(rows)

    def put_gateway_status(self, gateway: str, status: str, now_s: int) -> None:
        """Keep the newest status message of a gateway."""
        insert = insert_into(self._db, tables.gateways).values(gateway=gateway, status=status, received_at=now_s)
        newer = {"status": insert.excluded.status, "received_at": insert.excluded.received_at}
        self._db.execute(insert.on_conflict_do_update(index_elements=["gateway"], set_=newer))

    def finish(self) -> None:
        """Write what has waited. The observations are durable before the books are."""
        self._write_ledgers()
        if self._raw:
            self._db.execute(insert(tables.raw), self._raw)
        self._write_counts()
        self._write_latest()
        self._flush_spans()
        self.log.settle()
        self._number_arrivals()

    def _write_ledgers(self) -> None:
        table, gone, new = tables.ledger, [], []
        for (journal, kind), before in self._ledgers_before.items():
            after = set(self._store.ledgers[journal, kind])
            of = {"journal": journal, "kind": kind}
            gone += [{"of_journal": journal, "of_kind": kind, "begin": first} for first, _ in before - after]
            new += [of | {"first": first, "last": last} for first, last in after - before]
        if gone:
            same = (table.c.journal == bindparam("of_journal"), table.c.kind == bindparam("of_kind"))
            self._db.execute(delete(table).where(*same, table.c.first == bindparam("begin")), gone)
        if new:
            self._db.execute(insert(table), new)

    def _write_counts(self) -> None:
        for (name, journal), number in self._counted.items():
            column = tables.journals.c[name]
            more = update(tables.journals).where(tables.journals.c.id == journal).values({column: column + number})
            self._db.execute(more)

    def _write_latest(self) -> None:
        if not self._latest:
            return
        insert = insert_into(self._db, tables.latest)
        newer = {name: insert.excluded[name] for name in ("time", "value", "flag", "failed")}
        upsert = insert.on_conflict_do_update(index_elements=["series"], set_=newer)
        self._db.execute(upsert, list(self._latest.values()))

    def _flush_spans(self) -> None:
        ask_for_review(self._db, self._spans)
        self._spans = {}

    def _number_arrivals(self) -> None:
        """Number what arrived. Nobody else does until this is committed, so that a reader's cursor passes over none."""
        if not self._arrivals:
            return
        rows = np.concatenate(self._arrivals)
        lock(self._db, Lock.ARRIVALS)
        c = tables.arrivals.c
        before = self._db.scalar(select(func.max(c.last))) or 0
        last = before + len(rows)
        self._db.execute(insert(tables.arrivals).values(last=last, first=before + 1, rows=rows.tobytes()))
        self._db.execute(delete(tables.arrivals).where(c.last < last - ARRIVALS_KEPT))

    def _add_new(self, table: Table, journal: int, rows: Iterable[tuple[int, ...]]) -> None:
        names = [column.name for column in table.columns]
        found = [dict(zip(names, (journal, *row), strict=True)) for row in rows]
        if found:
            self._db.execute(insert_into(self._db, table).on_conflict_do_nothing(), found)

    def _count(self, column: str, journal: int, number: int) -> None:
        self._counted[column, journal] = self._counted.get((column, journal), 0) + number

    def _is_own(self, topic: str) -> bool:
        """Return whether what is set aside is this writer's to try: by its shard; what has none, by its topic's."""
        parts = topic.removeprefix(RECORDS + "/").split("/")
        return self._store.owns(parts[2] if len(parts) == 3 and topic.startswith(RECORDS) else topic)


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
