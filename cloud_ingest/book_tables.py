"""The tables of the books as SQLAlchemy Core sees them, in SQLite and PostgreSQL alike.

In SQLite the steps of schema.py make them; in PostgreSQL this does (`schema.prepare_postgresql`), and a test holds the
two against each other. What each column means is said where the step makes it. The observations (`log`) are no book.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData()


class AnyText(TypeDecorator[str]):
    """Text that somebody else wrote: PostgreSQL keeps every character but NUL, which is shown as ␀ instead."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return value.replace("\0", "␀") if value is not None and dialect.name == "postgresql" else value


def _whole(name: str, *, key: bool = False, null: bool = False, default: str | None = None) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, nullable=null, autoincrement=False, server_default=default)


def _small(name: str, *, key: bool = False, default: str | None = None) -> Column[int]:
    return Column(name, Integer, primary_key=key, nullable=False, autoincrement=False, server_default=default)


def _number() -> Column[int]:
    """Return a column that numbers the rows by itself."""
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True)


def _real(name: str) -> Column[float]:
    return Column(name, Float(53))


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, AnyText, primary_key=key, nullable=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


series = Table(
    "series",
    metadata,
    *(_number(), _text("station"), _small("sensor"), _small("parameter")),
    UniqueConstraint("station", "sensor", "parameter"),
)
journals = Table(
    "journals",
    metadata,
    *(_number(), _text("station"), _whole("journal")),
    *(_whole("duplicates", default="0"), _whole("conflicts", default="0"), _whole("set_aside", default="0")),
    UniqueConstraint("station", "journal"),
)
ledger = Table(
    "ledger",
    metadata,
    *(_whole("journal", key=True), _small("kind", key=True), _whole("first", key=True), _whole("last")),
)
raw = Table(
    "raw",
    metadata,
    *(_number(), _whole("journal"), _whole("first_seq"), _whole("last_seq"), _bytes("records")),
    Index("raw_by_seq", "journal", "first_seq", unique=True),
)
conflicts = Table(
    "conflicts",
    metadata,
    *(_whole("journal", key=True), _whole("seq", key=True), _whole("time"), _whole("series")),
    *(_whole("count"), _small("flag")),
)
events = Table(
    "events",
    metadata,
    *(_whole("journal", key=True), _whole("seq", key=True), _whole("time"), _whole("count")),
    *(_small("sensor"), _small("parameter")),
)
unstamped = Table(
    "unstamped",
    metadata,
    *(_whole("journal", key=True), _whole("seq", key=True), _whole("time"), _whole("count")),
    *(_small("sensor"), _small("parameter"), _small("flag")),
)
stamps = Table(
    "stamps",
    metadata,
    *(_whole("journal", key=True), _whole("first_seq", key=True), _whole("last_seq"), _whole("offset_s")),
)
set_aside = Table(
    "set_aside",
    metadata,
    *(_number(), _text("topic"), _text("reason"), _bytes("bytes"), _bytes("digest"), _whole("received_at")),
    *(_whole("times", default="1"), _small("retry", default="0"), _whole("journal", null=True)),
    UniqueConstraint("topic", "digest"),
)
latest = Table(
    "latest",
    metadata,
    *(_whole("series", key=True), _whole("time"), _real("value"), _small("flag"), _whole("failed", default="0")),
)
arrivals = Table("arrivals", metadata, _whole("last", key=True), _whole("first"), _bytes("rows"))
gateways = Table("gateways", metadata, _text("gateway", key=True), _text("status"), _whole("received_at"))
declared = Table(
    "declared",
    metadata,
    *(_whole("journal", key=True), _whole("first", key=True), _whole("last"), _text("reason", key=True)),
    *(_text("gateway", key=True), _whole("declared_at")),
)
calibrations = Table("calibrations", metadata, _whole("id", key=True), _text("record"))
to_review = Table(
    "to_review", metadata, _small("kind", key=True), _text("station", key=True), _whole("first"), _whole("last")
)
to_tell = Table("to_tell", metadata, _number(), _text("station"), _bytes("rows"))
counters = Table("counters", metadata, _text("name", key=True), _whole("value"))
archives = Table(
    "archives",
    metadata,
    *(_number(), Column("digest", Text, nullable=False, unique=True), _whole("before"), _text("folder")),
    *(_whole("made_at"), _whole("observations", default="0")),
)
archived = Table(
    "archived",
    metadata,
    *(_whole("archive"), _whole("journal", key=True), _whole("first", key=True), _whole("last")),
)
rollups = Table(
    "rollups",
    metadata,
    *(_whole("series", key=True), _small("level", key=True), _whole("start", key=True)),
    *(_whole("n"), _whole("n_usable"), _whole("n_good")),
    *(_real(name) for name in ("total", "lowest", "highest", "first", "last", "rise")),
    *(_whole("n_vector"), _real("east"), _real("north")),
)
rollup_marks = Table("rollup_marks", metadata, _whole("block", key=True), _whole("series", key=True))
settings = Table(
    "settings", metadata, *(_number(), _text("kind"), _text("version"), _whole("in_force_from"), _text("content"))
)
rollup_basis = Table("rollup_basis", metadata, _text("basis"))
workers = Table(
    "workers",
    metadata,
    *(_text("name", key=True), _text("shards"), _whole("said_at"), _real("lag_s"), _whole("messages")),
    _text("trouble"),
)
