"""The statements that every transaction of ingest makes."""

from __future__ import annotations

from sqlalchemy import Connection, Executable, bindparam, delete, insert

from cloud_ingest import book_tables as tables
from cloud_ingest.database import insert_into
from cloud_ingest.statements import Prepared


def _put_range(db: Connection) -> Executable:
    insert = insert_into(db, tables.ledger)
    return insert.on_conflict_do_update(
        index_elements=["journal", "kind", "first"], set_={"last": insert.excluded.last}
    )


def _put_latest(db: Connection) -> Executable:
    insert = insert_into(db, tables.latest)
    newer = {name: insert.excluded[name] for name in ("time", "value", "flag", "failed")}
    return insert.on_conflict_do_update(index_elements=["series"], set_=newer)


def _strike_range(_db: Connection) -> Executable:
    c = tables.ledger.c
    of = (c.journal == bindparam("of_journal"), c.kind == bindparam("of_kind"), c.first == bindparam("begin"))
    return delete(tables.ledger).where(*of)


ADD_RAW = Prepared(lambda _db: insert(tables.raw), "journal", "first_seq", "last_seq", "records")
STRIKE_RANGE = Prepared(_strike_range, "of_journal", "of_kind", "begin")
PUT_RANGE = Prepared(_put_range, "journal", "kind", "first", "last")
PUT_LATEST = Prepared(_put_latest, "series", "time", "value", "flag", "failed")
