"""Statements that every transaction makes: said once in SQLAlchemy Core, then run as text with tuples.

Core's own way to a row (a dict of names, bound, processed, put in order) costs more than SQLite takes to store it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.sql.compiler import SQLCompiler

Row = tuple[object, ...]


class Prepared:
    """A statement whose parameters are `names`, made into text once for each dialect.

    Values go to the driver as they are: plain integers, floats, str, bytes, None; no column type has a say.
    """

    def __init__(self, make: Callable[[Connection], Executable], *names: str) -> None:
        self._make = make
        self._names = names
        self._texts: dict[str, tuple[str, tuple[int, ...]]] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Execute it for each row: the values of `names`, in their order."""
        if not rows:
            return
        known = self._texts.get(connection.dialect.name)
        text, order = known or self._compiled(connection)
        if order != tuple(range(len(self._names))):
            rows = [tuple(row[at] for at in order) for row in rows]
        connection.exec_driver_sql(text, list(rows))

    def _compiled(self, connection: Connection) -> tuple[str, tuple[int, ...]]:
        dialect: Any = connection.dialect
        if not dialect.positional:  # PostgreSQL's driver takes %s as well as names
            dialect = type(dialect)(paramstyle="format")
        statement: Any = self._make(connection)
        compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=list(self._names))
        found = tuple(self._names.index(name) for name in compiled.positiontup or ())
        self._texts[connection.dialect.name] = str(compiled), found
        return self._texts[connection.dialect.name]
