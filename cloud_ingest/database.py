"""Where the books lie, a SQLite file or a PostgreSQL database: how it is opened, locked, and what its errors mean.

Statements are SQLAlchemy Core and the same for both; `insert_into` and `among` are what the dialects say differently.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ARRAY,
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Table,
    any_,
    column,
    create_engine,
    event,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, QueuePool

from alerts.schema import POSTGRESQL
from cloud_ingest import schema
from cloud_ingest.errors import StoreRefused, StoreUnavailable
from cloud_ingest.schema import sqlite_errors
from cloud_ingest.sqlite_connection import WritersConnection
from cloud_ingest.topics import SHARDS

DATABASE = "store.sqlite"
READERS = 4
WAIT_S = 10.0
_BEGIN = "tram_begin"  # how a SQLite transaction begins: with the lock, or without

# SQLSTATE, its beginning. May pass: connection, resources (disk, memory, connections), operator's stop, input/output,
# serialization and deadlock, lock not available, read-only.
_MAY_PASS = ("08", "53", "57", "58", "40", "55", "25006")
_DAMAGED = ("XX001", "XX002")
_DENIED = ("28", "3D", "42501", "42P01", "3F")


_LOCKED = text(
    "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :of AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid < :shards"
)


class Lock(IntEnum):
    """The second number of our advisory locks in PostgreSQL; the first is schema.APPLICATION_ID. Shards are 0 to 63."""

    PEOPLE = 1000  # writers share it; a person's change of the books takes it alone, as SQLite's BEGIN IMMEDIATE does
    ARRIVALS = 1001  # from the numbering of arrivals to the commit
    ROLLUPS = 1003  # 1002 is schema.py's


@dataclass(frozen=True)
class Database:
    """The place of the books. `file` is the SQLite file, None in PostgreSQL."""

    url: URL

    @classmethod
    def in_file(cls, file: Path) -> Database:
        """Return the place of books in a SQLite file."""
        return cls(URL.create("sqlite", database=str(file)))

    @classmethod
    def in_folder(cls, state_dir: Path) -> Database:
        """Return the place of the books of a state directory."""
        return cls.in_file(state_dir / DATABASE)

    @property
    def file(self) -> Path | None:
        """Return the SQLite file."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    def __str__(self) -> str:
        return str(self.file or self.url.render_as_string(hide_password=True))

    def exists(self) -> bool:
        """Return whether there may be a store; a PostgreSQL database is asked when it is opened."""
        return self.file is None or self.file.exists()


def writing_engine(database: Database) -> Engine:
    """Return an engine whose commits are on disk when they return. SQLite's transactions take the lock at once.

    A SQLite file is brought to the newest schema when it is opened; of PostgreSQL see schema.prepare_postgresql.
    """
    file = database.file
    if file is None:
        return create_engine(database.url, pool_size=2, max_overflow=0, connect_args=POSTGRESQL, hide_parameters=True)
    engine = create_engine("sqlite://", creator=lambda: schema.open_for_writing(file), poolclass=NullPool)
    _begin_with(engine, "BEGIN IMMEDIATE")
    return engine


def reading_engine(database: Database) -> Engine:
    """Return an engine of up to READERS connections; a transaction sees one moment and changes nothing."""
    file = database.file
    if file is None:
        engine = create_engine(
            database.url,
            pool_size=READERS,
            max_overflow=0,
            pool_timeout=WAIT_S,
            pool_pre_ping=True,
            connect_args=POSTGRESQL,
            hide_parameters=True,
            poolclass=QueuePool,
        )
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    uri = f"{file.resolve().as_uri()}?mode=ro"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=WAIT_S, isolation_level=None, check_same_thread=False),
        poolclass=QueuePool,
        pool_size=READERS,
        max_overflow=0,
        pool_timeout=WAIT_S,
    )
    _begin_with(engine, "BEGIN")
    return engine


def _begin_with(engine: Engine, statement: str) -> None:
    def begin(connection: Connection) -> None:
        wanted = connection.get_execution_options().get(_BEGIN, statement)
        own = raw(connection)
        if isinstance(own, WritersConnection):
            own.begin(wanted)
        else:
            own.execute(wanted)

    event.listen(engine, "begin", begin)


@contextmanager
def changing(database: Database) -> Iterator[Connection]:
    """Yield a connection for what a person looks at and changes beside running writers; `person_changes` begins a
    change. Raises StoreRefused, StoreUnavailable."""
    engine = writing_engine(database)
    try:
        with store_errors(), engine.connect() as connection:
            schema.prepare_postgresql(connection)
            connection.execution_options(**{_BEGIN: "BEGIN"})
            yield connection
    finally:
        engine.dispose()


@contextmanager
def person_changes(connection: Connection) -> Iterator[None]:
    """A transaction in which no writer changes anything."""
    connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
    try:
        with connection.begin():
            lock(connection, Lock.PEOPLE)
            yield
    finally:
        connection.execution_options(**{_BEGIN: "BEGIN"})


def lock(connection: Connection, what: Lock, *, shared: bool = False) -> None:
    """Take a lock until the transaction ends. SQLite has one lock for all, taken at the beginning."""
    if connection.dialect.name == "postgresql":
        take = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
        connection.execute(select(take(schema.APPLICATION_ID, int(what))))


def own_shard(connection: Connection, shard: int) -> bool:
    """Take a shard for as long as this connection to PostgreSQL lives; return False when another has it."""
    key = {"of": schema.APPLICATION_ID, "shard": shard}
    return bool(connection.scalar(text("SELECT pg_try_advisory_lock(:of, :shard)"), key))


def owned_shards(books: Connection) -> frozenset[str]:
    """Return the shards that some process holds now; of a SQLite file there is nothing to be known."""
    if books.dialect.name != "postgresql":
        return frozenset()
    held = books.scalars(_LOCKED, {"of": schema.APPLICATION_ID, "shards": SHARDS})
    return frozenset(f"{shard:02x}" for shard in held)


def raw(connection: Connection) -> sqlite3.Connection:
    """Return SQLite's own connection, in the same transaction."""
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection), "the books are not in SQLite"
    return found


def commit_later(connection: Connection) -> None:
    """Have the transaction's commit return before it is on disk, where that can be; `settle` waits for it."""
    own = connection.connection.driver_connection
    if isinstance(own, WritersConnection):
        own.commits_later = True


def unsettled(connection: Connection) -> bool:
    """Return whether nobody knows yet what came of a commit."""
    own = connection.connection.driver_connection
    return isinstance(own, WritersConnection) and own.unsettled


def settle(connection: Connection) -> None:
    """Return when the last commit is on disk. Raises what the database says."""
    own = connection.connection.driver_connection
    if isinstance(own, WritersConnection):
        own.settle()


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that knows ON CONFLICT."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def among(connection: Connection, of: ColumnElement[int], numbers: Iterable[int]) -> ColumnElement[bool]:
    """Return `of IN numbers`, however many they are, as one parameter."""
    wanted = sorted(numbers)
    if connection.dialect.name == "postgresql":
        return of == any_(literal(wanted, ARRAY(BigInteger)))
    values = func.json_each(json.dumps(wanted)).table_valued(column("value", BigInteger))
    return of.in_(select(values.c.value))


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the databases' errors into ours: what may pass by itself, and what needs an operator."""
    try:
        with sqlite_errors():
            yield
    except PoolTimeout:
        raise StoreUnavailable("too many questions at once: ask again, or for less") from None
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            with sqlite_errors():
                raise error.orig from None
        raise _meaning(error) from error


def _meaning(error: DBAPIError) -> Exception:
    state: Any = getattr(error.orig, "sqlstate", None) or ""
    said = " ".join(str(error.orig).split())
    if state.startswith(_DAMAGED):
        return StoreRefused(f"the books' database is damaged: {said}; restore its newest backup")
    if state.startswith(_DENIED):
        return StoreRefused(f"the books' database refuses: {said}; mend its rights, or [store] in cloud.toml")
    lost = not state and isinstance(error, OperationalError | InterfaceError)
    if state.startswith(_MAY_PASS) or lost or error.connection_invalidated:
        return StoreUnavailable(f"the books' database cannot be used now: {said}")
    return error
