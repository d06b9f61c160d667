"""What gateways declared lost: its table, within a transaction."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, insert, select

from cloud_ingest import book_tables as tables
from cloud_ingest.ledger import Range, RangeSet


def declare_lost(connection: Connection, who: dict[str, int | str], ranges: Iterable[Range], said_at_s: int) -> None:
    """Keep ranges with what the same gateway said before of the same journal for the same reason, as the fewest
    ranges; `who` names journal, reason and gateway."""
    table = tables.declared
    same = [table.c[name] == value for name, value in who.items()]
    rows = connection.execute(select(table.c.first, table.c.last).where(*same))
    known = {(first, last) for first, last in rows}
    after = set(RangeSet([*known, *ranges]))
    gone = [{"begin": first} for first, _ in known - after]
    if gone:
        connection.execute(delete(table).where(*same, table.c.first == bindparam("begin")), gone)
    new = [who | {"first": first, "last": last, "declared_at": said_at_s} for first, last in sorted(after - known)]
    if new:
        connection.execute(insert(table), new)
