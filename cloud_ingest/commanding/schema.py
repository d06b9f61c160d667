"""The tables of commands, and the ordered steps that make them in SQLite or PostgreSQL.

commands          what is to be told to a gateway, signed; its state and result
command_audit     who did what and when, and what came of it; rows are only ever added
command_rollouts  a firmware image for several stations, in waves; its commands lie in `commands`, held until their wave
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from alerts.schema import serialise_migrations
from cloud_ingest.errors import StoreRefused

DATABASE = "commands.sqlite"

metadata = MetaData()

migrations = Table(
    "command_migrations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
)
commands = Table(
    "commands",
    metadata,
    Column("id", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("station", Text),
    Column("kind", Text, nullable=False),
    Column("arguments", Text, nullable=False),  # without the files in them
    Column("envelope", Text, nullable=False),  # empty once there is a result
    Column("by_whom", Text, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("published_at", Float),
    Column("finished_at", Float),
    Column("result", Text),
    Column("rollout", Text),
    Column("position", Integer),
    Column("forgiven", Integer, nullable=False, default=0),  # its failure, by whoever resumed the rollout
)
audit = Table(
    "command_audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
)
rollouts = Table(
    "command_rollouts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("first_wave", Integer, nullable=False),
    Column("then_wave", Integer, nullable=False),
    Column("failures_allowed", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by_whom", Text, nullable=False),
    Column("started_at", Float, nullable=False),
)


def _first_tables(connection: Connection) -> None:
    for statement in (
        "CREATE TABLE commands (id TEXT NOT NULL PRIMARY KEY, gateway TEXT NOT NULL, station TEXT, kind TEXT NOT NULL,"
        " arguments TEXT NOT NULL, envelope TEXT NOT NULL, by_whom TEXT NOT NULL, issued_at BIGINT NOT NULL,"
        " expires_at BIGINT NOT NULL, state TEXT NOT NULL, published_at DOUBLE PRECISION,"
        " finished_at DOUBLE PRECISION, result TEXT, rollout TEXT, position INTEGER,"
        " forgiven INTEGER NOT NULL DEFAULT 0)",
        "CREATE INDEX commands_by_state ON commands (state)",
        "CREATE INDEX commands_by_rollout ON commands (rollout, position)",
        "CREATE TABLE command_rollouts (id TEXT NOT NULL PRIMARY KEY, version TEXT NOT NULL, sha256 TEXT NOT NULL,"
        " first_wave INTEGER NOT NULL, then_wave INTEGER NOT NULL, failures_allowed INTEGER NOT NULL,"
        " state TEXT NOT NULL, reason TEXT NOT NULL, by_whom TEXT NOT NULL, started_at DOUBLE PRECISION NOT NULL)",
    ):
        connection.execute(text(statement))
    metadata.tables["command_audit"].create(connection)
    if connection.dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            connection.execute(
                text(
                    f"CREATE TRIGGER command_audit_no_{change.lower()} BEFORE {change} ON command_audit"
                    " BEGIN SELECT RAISE(ABORT, 'the audit is only ever added to'); END"
                )
            )


def _audit_only_added_to(connection: Connection) -> None:
    """PostgreSQL too keeps the audit from being changed; SQLite does since the first step."""
    if connection.dialect.name != "postgresql":
        return
    for statement in (
        "CREATE FUNCTION command_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit is only ever added to'; END $$",
        "CREATE TRIGGER command_audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON command_audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION command_audit_refuse()",
    ):
        connection.execute(text(statement))


#: Append only. A step that has run somewhere is never changed.
MIGRATIONS: tuple[tuple[str, Callable[[Connection], None]], ...] = (
    ("first tables", _first_tables),
    ("audit only added to", _audit_only_added_to),
)


def migrate(engine: Engine) -> None:
    """Bring the tables to this version, each step in a transaction with its own record.

    Raises StoreRefused when they were made by a later version.
    """
    with engine.begin() as connection:
        serialise_migrations(connection)
        connection.execute(
            text(
                "CREATE TABLE IF NOT EXISTS command_migrations"
                " (number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL)"
            )
        )
    with engine.connect() as connection:
        done = set(connection.scalars(select(migrations.c.number)))
    if done and max(done) > len(MIGRATIONS):
        raise StoreRefused(
            f"the tables of commands are of version {max(done)}, this program knows {len(MIGRATIONS)}; "
            "install that version"
        )
    for number, (name, apply) in enumerate(MIGRATIONS, start=1):
        if number not in done:
            _apply(engine, number, name, apply)


def _apply(engine: Engine, number: int, name: str, apply: Callable[[Connection], None]) -> None:
    # The record comes first: it opens the transaction, takes the lock, and its key tells that another was faster.
    with engine.connect() as connection:
        try:
            connection.execute(insert(migrations).values(number=number, name=name))
        except IntegrityError:
            return
        apply(connection)
        connection.commit()
