"""The tables of the store as ordered steps, how its SQLite file is opened, what SQLite's errors mean.

Each step runs once, in one transaction with its own number: PRAGMA user_version in SQLite, table store_schema in
PostgreSQL, where the books have the same steps without the observations.

Why the hot log is clustered by time: what arrives together is written together. Clustered on (series, time) the same
inserts were nine times slower and wrote a hundred times the bytes; scans clustered by station still write four to ten
times the bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, func, select, text

from cloud_ingest.book_tables import metadata
from cloud_ingest.errors import StoreRefused, StoreUnavailable
from cloud_ingest.scans import PackScan
from cloud_ingest.sqlite_connection import WritersConnection

APPLICATION_ID = 0x5452_4D31  # "TRM1" in the file's header: this is a Trạm store
# Pages of 4 KiB in the write-ahead log before they go into the file: with 1,000, as usual, a busy ingest wrote the page
# of a moment again and again (261 bytes a record, 229 with this).
WAL_PAGES = 8000
_SCHEMA_LOCK = 1002  # beside those of database.Lock

# What may pass by itself: somebody holds a lock, the disk is full or away.
_MAY_PASS = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    )
)

_STEPS = (
    """
    -- who measures what; unknown sensors and parameters get a series like any other
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, station TEXT NOT NULL, sensor INTEGER NOT NULL, parameter INTEGER NOT NULL,
        UNIQUE (station, sensor, parameter));
    CREATE TABLE journals (
        id INTEGER PRIMARY KEY, station TEXT NOT NULL, journal INTEGER NOT NULL,
        duplicates INTEGER NOT NULL DEFAULT 0, conflicts INTEGER NOT NULL DEFAULT 0,
        set_aside INTEGER NOT NULL DEFAULT 0, UNIQUE (station, journal));
    -- kind 1: stored; kind 2: arrived but unusable, its bytes are in set_aside
    CREATE TABLE ledger (
        journal INTEGER NOT NULL, kind INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (journal, kind, first)) WITHOUT ROWID;
    -- the records as the station made them, 18 bytes each, end to end, never changed
    CREATE TABLE raw (
        id INTEGER PRIMARY KEY, journal INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
        records BLOB NOT NULL);
    CREATE UNIQUE INDEX raw_by_seq ON raw (journal, first_seq);
    -- observed rows have count (value * 10^decimals), journal and seq; derived rows have value
    CREATE TABLE log (
        time INTEGER NOT NULL, series INTEGER NOT NULL, count INTEGER, value REAL, flag INTEGER NOT NULL,
        journal INTEGER, seq INTEGER, PRIMARY KEY (time, series)) WITHOUT ROWID;
    -- a second record for the same series and time
    CREATE TABLE conflicts (
        journal INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL, series INTEGER NOT NULL,
        count INTEGER NOT NULL, flag INTEGER NOT NULL, PRIMARY KEY (journal, seq)) WITHOUT ROWID;
    CREATE TABLE events (
        journal INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL, count INTEGER NOT NULL,
        sensor INTEGER NOT NULL, parameter INTEGER NOT NULL, PRIMARY KEY (journal, seq)) WITHOUT ROWID;
    -- records (events too) whose time is seconds since boot, until the clock-set event of that boot is here
    CREATE TABLE unstamped (
        journal INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL, count INTEGER NOT NULL,
        sensor INTEGER NOT NULL, parameter INTEGER NOT NULL, flag INTEGER NOT NULL,
        PRIMARY KEY (journal, seq)) WITHOUT ROWID;
    CREATE TABLE stamps (
        journal INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, offset_s INTEGER NOT NULL,
        PRIMARY KEY (journal, first_seq)) WITHOUT ROWID;
    CREATE TABLE set_aside (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, reason TEXT NOT NULL, bytes BLOB NOT NULL,
        digest BLOB NOT NULL, received_at INTEGER NOT NULL, times INTEGER NOT NULL DEFAULT 1,
        UNIQUE (topic, digest));
    CREATE TABLE latest (series INTEGER PRIMARY KEY, time INTEGER NOT NULL, value REAL, flag INTEGER NOT NULL);
    -- what arrived in which order, one row per transaction; arrival numbers first..last
    CREATE TABLE arrivals (last INTEGER PRIMARY KEY, first INTEGER NOT NULL, rows BLOB NOT NULL);
    CREATE TABLE gateways (gateway TEXT PRIMARY KEY, status TEXT NOT NULL, received_at INTEGER NOT NULL) WITHOUT ROWID;
    """,
    """
    -- what gateways declared lost, as they said it; records of a range that are stored after all are no loss
    CREATE TABLE declared (
        journal INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, reason TEXT NOT NULL,
        gateway TEXT NOT NULL, declared_at INTEGER NOT NULL,
        PRIMARY KEY (journal, reason, gateway, first)) WITHOUT ROWID;
    """,
    """
    -- layers over an observation: which calibration made its value, the set of quality tests that objected to it
    ALTER TABLE log ADD COLUMN calibration INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE log ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE latest ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE calibrations (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
    -- spans of time, by station, whose layers have to be made again: new observations, late ones, calibrations;
    -- kind 1: soon, by what the hours around tell; kind 2: once a day, by what weeks tell
    CREATE TABLE to_review (
        kind INTEGER NOT NULL, station TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (kind, station)) WITHOUT ROWID;
    """,
    """
    -- retry 1: somebody wants these bytes tried again; journal: whose record it is, NULL for a whole message
    ALTER TABLE set_aside ADD COLUMN retry INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE set_aside ADD COLUMN journal INTEGER;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    """,
    """
    -- records that were taken out into an archive; the ledger goes on knowing them as stored
    CREATE TABLE archives (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, before INTEGER NOT NULL,
        folder TEXT NOT NULL, made_at INTEGER NOT NULL, observations INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE archived (
        archive INTEGER NOT NULL, journal INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (journal, first)) WITHOUT ROWID;
    """,
    """
    -- what an hour (level 1) and a local day (level 2) of a series come to, start < time <= end; see aggregates.py
    CREATE TABLE rollups (
        series INTEGER NOT NULL, level INTEGER NOT NULL, start INTEGER NOT NULL, n INTEGER NOT NULL,
        n_usable INTEGER NOT NULL, n_good INTEGER NOT NULL, total REAL, lowest REAL, highest REAL, first REAL,
        last REAL, rise REAL, n_vector INTEGER NOT NULL, east REAL, north REAL,
        PRIMARY KEY (series, level, start)) WITHOUT ROWID;
    -- where the log has changed since: block * 86400 < time <= (block + 1) * 86400
    CREATE TABLE rollup_marks (
        block INTEGER NOT NULL, series INTEGER NOT NULL, PRIMARY KEY (block, series)) WITHOUT ROWID;
    INSERT INTO rollup_marks SELECT DISTINCT (time - 1) / 86400, series FROM log;
    -- the time zone and the scales that the rollups were made with
    CREATE TABLE rollup_basis (basis TEXT NOT NULL);
    """,
    """
    -- the log, all that 64 neighbouring series say of one moment in one blob: scans.ROW_DTYPE, in order of series
    CREATE TABLE scans (
        time INTEGER NOT NULL, series_group INTEGER NOT NULL, rows BLOB NOT NULL,
        PRIMARY KEY (time, series_group)) WITHOUT ROWID;
    INSERT INTO scans
        SELECT time, series / 64, pack_scan(series, count, value, calibration, flag, failed, journal, seq)
        FROM log GROUP BY time, series / 64;
    DROP TABLE log;
    """,
    """
    -- the processes that take records in, where there are several: what each said of itself last
    CREATE TABLE workers (
        name TEXT PRIMARY KEY, shards TEXT NOT NULL, said_at INTEGER NOT NULL, lag_s REAL, messages INTEGER NOT NULL,
        trouble TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    -- closed observations of one series, first <= time <= last, compressed (chunks.py). Row ids: in a table that is
    -- clustered by key the same blobs take three times the room
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY, series INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        rows INTEGER NOT NULL, data BLOB NOT NULL);
    CREATE UNIQUE INDEX chunks_of_series ON chunks (series, first);
    CREATE INDEX chunks_by_last ON chunks (last, first);
    """,
    """
    -- what the cloud worked by, and since when: kind network or rules; see settings_book.py
    CREATE TABLE settings (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, version TEXT NOT NULL, in_force_from INTEGER NOT NULL,
        content TEXT NOT NULL);
    """,
    """
    -- chunks that could not be read; what raw records had of them has been made again
    CREATE TABLE damaged_chunks (
        id INTEGER PRIMARY KEY, series INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        rows INTEGER NOT NULL, data BLOB NOT NULL);
    """,
    """
    -- what a review is about to fail in a store of observations of its own, until the alerts have been told: columns'
    -- ARRIVAL_DTYPE; see to_tell.py
    CREATE TABLE to_tell (id INTEGER PRIMARY KEY, station TEXT NOT NULL, rows BLOB NOT NULL);
    """,
)
SCHEMA = len(_STEPS)

# PostgreSQL begins with the tables of book_tables.py as they are (`_make`). A database that was made before a step gets
# what that step says here; a step of SQLite's own observations says nothing. By the step's number, the first is 1.
_ON_POSTGRESQL: dict[int, tuple[str, ...]] = {
    8: (
        "CREATE TABLE workers (name TEXT PRIMARY KEY, shards TEXT NOT NULL, said_at BIGINT NOT NULL, lag_s FLOAT(53),"
        " messages BIGINT NOT NULL, trouble TEXT NOT NULL)",
    ),
    10: (
        "CREATE TABLE settings (id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, kind TEXT NOT NULL,"
        " version TEXT NOT NULL, in_force_from BIGINT NOT NULL, content TEXT NOT NULL)",
    ),
    12: (
        "CREATE TABLE to_tell (id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, station TEXT NOT NULL,"
        " rows BYTEA NOT NULL)",
    ),
}
_FIRST_ON_POSTGRESQL = 6


def prepare(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest schema. Raises StoreRefused when it is not ours or from a newer program."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    if version == 0 and application == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise StoreRefused("this SQLite file was made by another program; name another state_dir in cloud.toml")
    if application not in (0, APPLICATION_ID) or (version > 0 and application == 0):
        raise StoreRefused("this SQLite file was made by another program; name another state_dir in cloud.toml")
    if version > len(_STEPS):
        raise StoreRefused(_too_new(version))
    register_functions(connection)
    for number in range(version, len(_STEPS)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {_STEPS[number]}"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number + 1}; COMMIT;"
        )


def register_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the SQL functions that steps use."""
    connection.create_aggregate("pack_scan", 8, PackScan)  # type: ignore[arg-type]  # its step takes eight


def prepare_postgresql(connection: Connection) -> None:
    """Make the tables of the books, or bring them to the newest schema; SQLite's are when its file is opened.

    Processes that start at once do it one after the other. Raises StoreRefused.
    """
    if connection.dialect.name != "postgresql":
        return
    with connection.begin():
        connection.execute(select(func.pg_advisory_xact_lock(APPLICATION_ID, _SCHEMA_LOCK)))
        version = _postgresql_version(connection)
        if version > SCHEMA:
            raise StoreRefused(_too_new(version))
        if version == 0:
            metadata.create_all(connection, checkfirst=False)
            connection.execute(text("CREATE TABLE store_schema (version INTEGER NOT NULL)"))
            connection.execute(text("INSERT INTO store_schema VALUES (0)"))
        for number in range(version + 1, SCHEMA + 1) if version else ():
            for statement in _ON_POSTGRESQL.get(number, ()):
                connection.execute(text(statement))
        if version != SCHEMA:
            connection.execute(text("UPDATE store_schema SET version = :version"), {"version": SCHEMA})


def _postgresql_version(connection: Connection) -> int:
    if connection.scalar(text("SELECT to_regclass('store_schema')")) is None:
        return 0
    return int(connection.scalar(text("SELECT version FROM store_schema")) or 0)


def _too_new(version: int) -> str:
    return f"the store has schema {version}, this program knows {len(_STEPS)}: install the newer program"


def require_newest(connection: Connection) -> None:
    """Refuse to read what has another schema than this program's. Raises StoreRefused."""
    if connection.dialect.name == "postgresql":
        version = _postgresql_version(connection)
    else:
        version = int(connection.scalar(text("PRAGMA user_version")) or 0)
    if version != SCHEMA:
        raise StoreRefused(
            f"the store has schema {version}, this program knows {SCHEMA}: tram-cloud run brings it up to date,"
            " or install the newer program"
        )


def open_for_writing(path: Path) -> WritersConnection:
    """Return a connection whose commits are on disk when they return, to a file with the newest schema."""
    connection = sqlite3.connect(
        path, timeout=1.0, isolation_level=None, check_same_thread=False, factory=WritersConnection
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -32000")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    prepare(connection)
    return connection


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Turn SQLite's errors into ours: what may pass by itself, and what needs an operator."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite tells of damage in the damaged bytes' own words
        raise StoreRefused("the store is damaged; restore the newest backup into state_dir") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _MAY_PASS:
            raise StoreUnavailable(
                f"the store cannot be used now: {error}; free the disk or mend its rights"
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreRefused(f"the store is damaged: {error}; restore the newest backup into state_dir") from error
        raise
