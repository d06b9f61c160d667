"""Events of journals, records that wait for a date, and how they were dated: their tables, within a transaction."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Table, case, delete, func, select

from cloud_ingest import book_tables as tables
from cloud_ingest.database import insert_into
from cloud_ingest.restamp import JournalEvent, Stamp


def add_new(connection: Connection, table: Table, journal: int, rows: Iterable[tuple[int, ...]]) -> None:
    """Store rows of a journal: the table's columns after `journal`, in their order; those that are there stay."""
    names = [column.name for column in table.columns]
    found = [dict(zip(names, (journal, *row), strict=True)) for row in rows]
    if found:
        connection.execute(insert_into(connection, table).on_conflict_do_nothing(), found)


def unstamped(connection: Connection, journal: int) -> tuple[list[int], list[JournalEvent]]:
    """Return the seqs still without a date, and the events that may date them."""
    waiting, events = tables.unstamped.c, tables.events.c
    seqs = connection.scalars(select(waiting.seq).where(waiting.journal == journal).order_by(waiting.seq))
    query = select(events.seq, events.parameter, events.count).where(events.journal == journal)
    return list(seqs), [JournalEvent(*row) for row in connection.execute(query.order_by(events.seq))]


def newest_event_seq(connection: Connection, journal: int) -> int:
    """Return the seq of the journal's last event that is here, 0 when none is."""
    events = tables.events.c
    return connection.scalar(select(func.max(events.seq)).where(events.journal == journal)) or 0


def take_unstamped(connection: Connection, journal: int, stamp: Stamp) -> tuple[list[tuple[int, ...]], bool]:
    """Remember how a range is dated; return its records (seq, true time, count, sensor, parameter, flag) and whether
    others of the journal still wait."""
    _remember(connection, journal, stamp)
    c = tables.unstamped.c
    gone = delete(tables.unstamped).where(c.journal == journal, c.seq.between(stamp.first_seq, stamp.last_seq))
    rows = connection.execute(gone.returning(c.seq, c.time, c.count, c.sensor, c.parameter, c.flag)).all()
    left = connection.scalar(select(c.seq).where(c.journal == journal).limit(1)) is not None
    return sorted((row[0], row[1] + stamp.offset_s, *row[2:]) for row in rows), left


def _remember(connection: Connection, journal: int, stamp: Stamp) -> None:
    insert = insert_into(connection, tables.stamps).values(
        journal=journal, first_seq=stamp.first_seq, last_seq=stamp.last_seq, offset_s=stamp.offset_s
    )
    known, new = tables.stamps.c.last_seq, insert.excluded.last_seq
    longer = {"last_seq": case((new > known, new), else_=known)}
    connection.execute(insert.on_conflict_do_update(index_elements=["journal", "first_seq"], set_=longer))
