"""What can be stored together in one transaction of the books, and how each thing is written.

Ingest hands over what arrived; what nothing in the same transaction reads waits for `finish`, so that a group of
messages costs few statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    Connection,
    insert,
    select,
    update,
)

from cloud_ingest import book_tables as tables
from cloud_ingest import clock_book, to_tell
from cloud_ingest.book_statements import ADD_RAW, PUT_LATEST, PUT_RANGE, STRIKE_RANGE
from cloud_ingest.columns import (
    Arrivals,
    Ints,
    Observed,
    SeriesKey,
    number_arrivals,
)
from cloud_ingest.database import (
    Lock,
    among,
    insert_into,
    lock,
)
from cloud_ingest.declared_book import declare_lost
from cloud_ingest.ledger import Range, RangeSet, ranges_of
from cloud_ingest.observations import ObservationStore, ObservationsWriter
from cloud_ingest.restamp import JournalEvent, Stamp
from cloud_ingest.review_spans import Depth, Span, ask_for_review, reviewed, waiting_spans
from cloud_ingest.rollup_marks import mark_all, waiting
from cloud_ingest.rollup_table import RollupTable
from cloud_ingest.scans import FreeNumbers
from cloud_ingest.set_aside import Aside, Message, make_room, put_aside, settle, wanted_again
from cloud_ingest.statements import Row
from cloud_ingest.topics import RECORDS
from firmware.record import BATCH_HEADER_SIZE, SIZE

if TYPE_CHECKING:
    from cloud_ingest.store import Store

Latest = tuple[int, float | None, int, int]  # time, value, flag, failed

STORED, UNUSABLE = 1, 2

# Arrivals wait here for the alert worker. When this many wait, the oldest go: by then an alert on them would be stale.
ARRIVALS_KEPT = 2_000_000
# Messages and records, and their bytes; beyond that the oldest go, counted.
SET_ASIDE_KEPT, SET_ASIDE_KEPT_BYTES = 20_000, 64 << 20
SET_ASIDE_BYTES = BATCH_HEADER_SIZE + 0xFFFF * SIZE  # the longest batch there can be


class Transaction:
    """Made by Store.transaction() only."""

    def __init__(self, store: Store, connection: Connection, observations: ObservationStore) -> None:
        self._store = store
        self._db = connection
        self._is_apart = observations.is_apart
        self.log: ObservationsWriter = observations.writer(connection, store, partial(store.marks.set, connection))
        self.rollups = RollupTable(connection)
        self._ledgers_before: dict[tuple[int, int], set[Range]] = {}
        self._raw: list[Row] = []
        self._shelved = False
        self._latest: dict[int, Latest] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._counted: dict[tuple[str, int], int] = {}  # what to add to a column of a journal
        self._arrivals: list[Arrivals] = []
        self._free_numbers: FreeNumbers | None = None  # of series, once one is new

    # who: series and journals get small numbers

    def series_number(self, key: SeriesKey) -> int:
        """Return the number of a series; a new one is made on first sight."""
        return self.series_numbers([key])[0]

    def series_numbers(self, keys: Iterable[SeriesKey]) -> list[int]:
        """Return the numbers of series; new ones are made, all together."""
        wanted, known = list(keys), self._store.series
        new = [key for key in dict.fromkeys(wanted) if key not in known]
        for key, number in zip(new, self._new_series(new), strict=True):
            known[key] = number
            self._store.keys[number] = key
        return [known[key] for key in wanted]

    def _new_series(self, keys: list[SeriesKey]) -> list[int]:
        """Enter series; the log wants a station's series side by side."""
        series = tables.series
        if not keys:
            return []
        if self._db.dialect.name != "sqlite":
            return self._store.numbers(series, series.c.station, series.c.sensor, series.c.parameter, values=keys)
        if self._free_numbers is None:
            self._free_numbers = FreeNumbers(self._store.keys)
        numbers = [self._free_numbers.take(key.station) for key in keys]
        rows = [{"id": number} | key._asdict() for number, key in zip(numbers, keys, strict=True)]
        self._db.execute(insert(series), rows)
        return numbers

    def journal_number(self, station: str, journal: int) -> int:
        """Return the number of a station's journal; a new one is made on first sight."""
        return self.journal_numbers([(station, journal)])[0]

    def journal_numbers(self, journals: Iterable[tuple[str, int]]) -> list[int]:
        """Return the numbers of journals (station, id); new ones are made, all together."""
        wanted, known, c = list(journals), self._store.journals, tables.journals.c
        new = [one for one in dict.fromkeys(wanted) if one not in known]
        for one, number in zip(
            new, self._store.numbers(tables.journals, c.station, c.journal, values=new) if new else [], strict=True
        ):
            known[one] = number
            self._store.stations[number] = one[0]
            self._store.journal_ids[number] = one
        return [known[one] for one in wanted]

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
            self._raw.append((journal, first, last, data))
            ledger.add(first, last)
            at += number

    def count_duplicates(self, journal: int, number: int) -> None:
        """Count records that were stored before."""
        self._count("duplicates", journal, number)

    def set_aside(self, topic: str, data: bytes, reason: str, now_s: int, journal: int | None = None) -> None:
        """Keep bytes that cannot be used, once; the same bytes again only count. Of more than any batch can have, the
        beginning is kept."""
        if not put_aside(self._db, topic, data, reason, now_s, journal, SET_ASIDE_BYTES):
            return
        self._shelved = True
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
        declare_lost(self._db, {"journal": journal, "reason": reason, "gateway": gateway}, ranges, said_at_s)

    # events and clocks

    def add_events(self, journal: int, rows: Iterable[tuple[int, ...]]) -> None:
        """Store event records: (seq, time, count, sensor, parameter)."""
        clock_book.add_new(self._db, tables.events, journal, rows)

    def add_unstamped(self, journal: int, rows: Iterable[tuple[int, ...]]) -> None:
        """Keep records without a date, events too: (seq, time, count, sensor, parameter, flag)."""
        clock_book.add_new(self._db, tables.unstamped, journal, rows)
        self._store.waiting_for_clock.add(journal)

    def unstamped(self, journal: int) -> tuple[list[int], list[JournalEvent]]:
        """Return the seqs still without a date, and the events that may date them."""
        return clock_book.unstamped(self._db, journal)

    def newest_event_seq(self, journal: int) -> int:
        """Return the seq of the journal's last event that is here, 0 when none is."""
        return clock_book.newest_event_seq(self._db, journal)

    def take_unstamped(self, journal: int, stamp: Stamp) -> list[tuple[int, ...]]:
        """Remember how a range is dated and return its records (seq, true time, count, sensor, parameter, flag)."""
        rows, left = clock_book.take_unstamped(self._db, journal, stamp)
        if not left:
            self._store.waiting_for_clock.discard(journal)
        return rows

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
        self._latest[series] = (time_s, value, flag, failed)
        return True

    def put_newest(self, rows: Mapping[int, Latest]) -> dict[int, Latest]:
        """Offer newest values by series; return those that nothing newer was known of."""
        known = self._store.latest_times
        newer = {number: row for number, row in rows.items() if row[0] >= known.get(number, 0)}
        known.update((number, row[0]) for number, row in newer.items())
        self._latest.update(newer)
        return newer

    def latest(self, series: Iterable[int]) -> dict[int, Latest]:
        """Return the newest values that are known of these series."""
        c = tables.latest.c
        wanted = set(series)
        if not wanted:
            return {}
        rows = self._db.execute(
            select(c.series, c.time, c.value, c.flag, c.failed).where(among(self._db, c.series, wanted))
        )
        known: dict[int, Latest] = {
            number: (time_s, value, flag, failed) for number, time_s, value, flag, failed in rows
        }
        return known | {number: self._latest[number] for number in wanted & self._latest.keys()}

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

    def may_fail(self, station: str, rows: Arrivals) -> bool:
        """Return whether layers may be changed now so that these rows fail. Where they would be changed before the
        books are committed the rows are noted, and may fail in the next transaction."""
        return not self._is_apart or to_tell.note(self._db, station, rows)

    def tell_failed(self, station: str, rows: Arrivals) -> None:
        """Hand on what has failed now, and what was noted by a transaction that came no further."""
        self.add_arrivals(to_tell.take(self._db, station, rows) if self._is_apart else rows)

    def put_gateway_status(self, gateway: str, status: str, now_s: int) -> None:
        """Keep the newest status message of a gateway."""
        insert = insert_into(self._db, tables.gateways).values(gateway=gateway, status=status, received_at=now_s)
        newer = {"status": insert.excluded.status, "received_at": insert.excluded.received_at}
        self._db.execute(insert.on_conflict_do_update(index_elements=["gateway"], set_=newer))

    def finish(self) -> None:
        """Write what has waited. The observations are durable before the books are."""
        if self._shelved:  # once for all: it looks at everything that is set aside
            make_room(self._db, SET_ASIDE_KEPT, SET_ASIDE_KEPT_BYTES)
        self._write_ledgers()
        ADD_RAW.run(self._db, self._raw)
        self._write_counts()
        self._write_latest()
        self._flush_spans()
        self.log.settle()
        self._number_arrivals()

    def _write_ledgers(self) -> None:
        gone: list[Row] = []
        new: list[Row] = []
        for (journal, kind), before in self._ledgers_before.items():
            after = set(self._store.ledgers[journal, kind])
            kept = {first for first, _ in after}
            gone += [(journal, kind, first) for first, _ in before - after if first not in kept]
            new += [(journal, kind, first, last) for first, last in after - before]
        STRIKE_RANGE.run(self._db, gone)
        PUT_RANGE.run(self._db, new)

    def _write_counts(self) -> None:
        for (name, journal), number in self._counted.items():
            column = tables.journals.c[name]
            more = update(tables.journals).where(tables.journals.c.id == journal).values({column: column + number})
            self._db.execute(more)

    def _write_latest(self) -> None:
        PUT_LATEST.run(self._db, [(number, *row) for number, row in self._latest.items()])

    def _flush_spans(self) -> None:
        ask_for_review(self._db, self._spans)
        self._spans = {}

    def _number_arrivals(self) -> None:
        """Number what arrived. Nobody else does until this is committed, so that a reader's cursor passes over none."""
        if not self._arrivals:
            return
        lock(self._db, Lock.ARRIVALS)
        number_arrivals(self._db, np.concatenate(self._arrivals), ARRIVALS_KEPT)

    def _count(self, column: str, journal: int, number: int) -> None:
        self._counted[column, journal] = self._counted.get((column, journal), 0) + number

    def _is_own(self, topic: str) -> bool:
        """Return whether what is set aside is this writer's to try: by its shard; what has none, by its topic's."""
        parts = topic.removeprefix(RECORDS + "/").split("/")
        return self._store.owns(parts[2] if len(parts) == 3 and topic.startswith(RECORDS) else topic)
