"""The tables of the alerts, and the ordered steps that make them in SQLite or PostgreSQL.

alert_states      what each rule remembers about each station
alert_events      what was raised and cleared; one row per (rule, station, kind, event time)
alert_deliveries  the outbox: one message per event, person and channel
alert_attempts    every try to send one, with its outcome
alert_gateway_warnings  what gateways decided by themselves, and which event here that is
alert_cursor      how far the observations have been evaluated, saved together with what came of them
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from alerts.errors import DatabaseTooNew

#: How every connection to PostgreSQL is made: a commit is on disk, nobody waits for ever.
POSTGRESQL = {
    "application_name": "tram-cloud",
    "connect_timeout": 5,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c synchronous_commit=on -c lock_timeout=10s"
    " -c tcp_keepalives_idle=20 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}
_MIGRATION_LOCK = (0x5452_4D31, 1002)  # "TRM1", as in the store's schema.py

metadata = MetaData()

migrations = Table(
    "alert_migrations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
)
states = Table(
    "alert_states",
    metadata,
    Column("rule", Text, primary_key=True),
    Column("station", Text, primary_key=True),
    Column("state", Text, nullable=False),
)
events = Table(
    "alert_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("station", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("decided", BigInteger, nullable=False),
    Column("value", Float, nullable=False),
    Column("level", Float, nullable=False),
    Column("severity", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("text_vi", Text, nullable=False),
    Column("text_en", Text, nullable=False),
    Column("via", Text),  # the gateway that decided it while the cloud was away
    Column("rules_version", Text),  # of the files it decided by
    Column("recipients_version", Text),
)
deliveries = Table(
    "alert_deliveries",
    metadata,
    Column("id", Text, primary_key=True),  # also the idempotency key the provider sees
    Column("event", Text, nullable=False),
    Column("conversation", Text, nullable=False),  # person, rule and station: messages of one go out in order
    Column("position", BigInteger, nullable=False),  # the order in it
    Column("person", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_real", Float, nullable=False),
    Column("sent_at", BigInteger),
    Column("provider_id", Text),
    Column("detail", Text),
    Column("via", Text),  # the gateway that told the person
)
gateway_warnings = Table(
    "alert_gateway_warnings",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("id", Text, primary_key=True),  # the event as the gateway decided it
    Column("event", Text, nullable=False),  # the event it is here
    Column("revision", Integer, nullable=False),
)
attempts = Table(
    "alert_attempts",
    metadata,
    Column("delivery", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("outcome", Text),  # empty: the process ended before it knew
    Column("detail", Text),
)
cursor = Table(
    "alert_cursor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", Text),
    Column("evaluations", BigInteger, nullable=False),
)


def _first_tables(connection: Connection) -> None:
    for statement in (
        "CREATE TABLE alert_states (rule TEXT NOT NULL, station TEXT NOT NULL, state TEXT NOT NULL,"
        " PRIMARY KEY (rule, station))",
        "CREATE TABLE alert_events (id TEXT NOT NULL PRIMARY KEY, rule TEXT NOT NULL, station TEXT NOT NULL,"
        " kind TEXT NOT NULL, time BIGINT NOT NULL, decided BIGINT NOT NULL, value DOUBLE PRECISION NOT NULL,"
        " level DOUBLE PRECISION NOT NULL, severity TEXT NOT NULL, reason TEXT NOT NULL, text_vi TEXT NOT NULL,"
        " text_en TEXT NOT NULL, UNIQUE (rule, station, kind, time))",
        "CREATE INDEX alert_events_by_decided ON alert_events (decided)",
        "CREATE TABLE alert_deliveries (id TEXT NOT NULL PRIMARY KEY, event TEXT NOT NULL REFERENCES alert_events (id),"
        " conversation TEXT NOT NULL, position BIGINT NOT NULL, person TEXT NOT NULL, channel TEXT NOT NULL,"
        " address TEXT NOT NULL, text TEXT NOT NULL, status TEXT NOT NULL, expires_at BIGINT NOT NULL,"
        " attempts INTEGER NOT NULL, next_attempt_real DOUBLE PRECISION NOT NULL, sent_at BIGINT, provider_id TEXT,"
        " detail TEXT, UNIQUE (event, person, channel))",
        "CREATE INDEX alert_deliveries_by_status ON alert_deliveries (status, next_attempt_real)",
        "CREATE TABLE alert_attempts (delivery TEXT NOT NULL REFERENCES alert_deliveries (id), number INTEGER NOT NULL,"
        " at BIGINT NOT NULL, outcome TEXT, detail TEXT, PRIMARY KEY (delivery, number))",
        "CREATE TABLE alert_cursor (id INTEGER NOT NULL PRIMARY KEY, value TEXT, evaluations BIGINT NOT NULL)",
        "INSERT INTO alert_cursor (id, value, evaluations) VALUES (1, NULL, 0)",
    ):
        connection.execute(text(statement))


def _warnings_of_gateways(connection: Connection) -> None:
    for statement in (
        "ALTER TABLE alert_events ADD COLUMN via TEXT",
        "ALTER TABLE alert_events ADD COLUMN rules_version TEXT",
        "ALTER TABLE alert_events ADD COLUMN recipients_version TEXT",
        "ALTER TABLE alert_deliveries ADD COLUMN via TEXT",
        "CREATE TABLE alert_gateway_warnings (gateway TEXT NOT NULL, id TEXT NOT NULL,"
        " event TEXT NOT NULL REFERENCES alert_events (id), revision INTEGER NOT NULL, PRIMARY KEY (gateway, id))",
        "CREATE INDEX alert_events_by_series ON alert_events (rule, station, time)",
    ):
        connection.execute(text(statement))


#: Append only. A step that has run somewhere is never changed.
MIGRATIONS: tuple[tuple[str, Callable[[Connection], None]], ...] = (
    ("first tables", _first_tables),
    ("warnings of gateways", _warnings_of_gateways),
)


def open_database(url: str | URL) -> Engine:
    """Return an engine for the URL; nothing is opened yet. Commits are on disk when they return."""
    if make_url(url).get_backend_name() == "postgresql":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=POSTGRESQL)
    engine = create_engine(url)
    event.listen(engine, "connect", _make_sqlite_durable)
    return engine


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def _make_sqlite_durable(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor_ = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor_.execute(f"PRAGMA {pragma}")
    cursor_.close()


def migrate(engine: Engine) -> None:
    """Bring the tables to this version, each step in a transaction with its own record.

    Raises DatabaseTooNew when the file was written by a later version.
    """
    with engine.begin() as connection:
        serialise_migrations(connection)
        connection.execute(
            text(
                "CREATE TABLE IF NOT EXISTS alert_migrations (number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL)"
            )
        )
    with engine.connect() as connection:
        done = set(connection.scalars(select(migrations.c.number)))
    if done and max(done) > len(MIGRATIONS):
        raise DatabaseTooNew(max(done), len(MIGRATIONS))
    for number, (name, apply) in enumerate(MIGRATIONS, start=1):
        if number not in done:
            _apply(engine, number, name, apply)


def serialise_migrations(connection: Connection) -> None:
    """Have processes that start at once make a table one after the other; SQLite's file is locked anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(*_MIGRATION_LOCK)))


def _apply(engine: Engine, number: int, name: str, apply: Callable[[Connection], None]) -> None:
    # The record comes first: it opens the transaction (SQLite's driver does not for CREATE TABLE alone), takes the
    # lock, and its key tells when another process was faster.
    with engine.connect() as connection:
        try:
            connection.execute(insert(migrations).values(number=number, name=name))
        except IntegrityError:
            return
        apply(connection)
        connection.commit()
