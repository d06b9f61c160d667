"""Files of every earlier version, made by the steps themselves and filled, opened by today's program."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from alerts import schema as alert_schema
from alerts.engine import AlertEngine
from alerts.rules import Observation
from alerts.schema import open_database, sqlite_url
from alerts.tests.conftest import FARMERS, RULE, START, WORDING, HandClock
from cloud_ingest import schema
from cloud_ingest.audit import account_for
from cloud_ingest.commanding import schema as command_schema
from cloud_ingest.commanding.book import CommandBook
from cloud_ingest.database import DATABASE
from cloud_ingest.review import Review
from cloud_ingest.tests.field import EC25, JOURNAL, PRESSURE, T0, Broker, Cloud, batch, damaged, minutes
from cloud_ingest.tests.log_as_table import with_log
from cloud_ingest.tests.test_commanding import Wall, signed
from cloud_ingest.tests.test_ingest import NOW, SALINITY, Bench
from firmware.record import EVENT_BOOT, EVENT_OVERWRITTEN, Record
from station_config.free_ports import free_port

Migrations = Sequence[tuple[str, Callable[[Connection], None]]]

STORE_VERSIONS = range(1, schema.SCHEMA + 1)
ALERT_VERSIONS = range(1, len(alert_schema.MIGRATIONS) + 1)
COMMAND_VERSIONS = range(1, len(command_schema.MIGRATIONS) + 1)


def columns(connection: sqlite3.Connection, database: str) -> dict[str, list[str]]:
    """The columns of each table."""
    tables = connection.execute(
        f"SELECT name FROM {database}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return {name: [row[1] for row in connection.execute(f"PRAGMA {database}.table_info({name})")] for (name,) in tables}


def fill(older: Path, today: Path) -> None:
    """Put everything of today's file into an older one that it has a table and a column for."""
    with closing(sqlite3.connect(older, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS today", (str(today),))
        known = columns(connection, "today")
        for table, own in columns(connection, "main").items():
            if not table.endswith("_migrations"):
                names = ", ".join(name for name in own if name in known[table])
                connection.execute(f"INSERT OR REPLACE INTO main.{table} ({names}) SELECT {names} FROM today.{table}")


def older_store(folder: Path, today: Path, version: int) -> Path:
    folder.mkdir()
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        schema.register_functions(connection)
        connection.executescript("".join(schema._STEPS[:version]))
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
    with closing(sqlite3.connect(today / DATABASE)) as newest, closing(sqlite3.connect(folder / "today")) as copy:
        newest.backup(copy)
        with_log(copy, kind="").commit()
    fill(folder / DATABASE, folder / "today")
    return folder


def older_tables(file: Path, today: Path, name: str, migrations: Migrations, version: int) -> None:
    engine = create_engine(sqlite_url(file))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {name} (number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL)"))
        for number, (label, apply) in enumerate(migrations[:version], start=1):
            apply(connection)
            connection.execute(text(f"INSERT INTO {name} VALUES (:number, :label)"), {"number": number, "label": label})
    engine.dispose()
    fill(file, today)


def told_by(bench: Bench) -> dict[str, Any]:
    """All that a store can be asked."""
    journals = bench.reader.journals()
    return {
        "audit": [account_for(one.stored, one.unusable, one.overwritten, one.declared) for one in journals],
        "journals": [(one.station, one.journal, one.duplicates, one.conflicts, one.set_aside) for one in journals],
        "latest": bench.reader.latest(),
        "values": [bench.values(code) for code in (EC25, SALINITY)],
        "records": bench.reader.records("xuan-hoa", JOURNAL, 0, 1000)[0].tolist(),
        "dates": bench.reader.records("xuan-hoa", JOURNAL, 0, 1000)[1].tolist(),
        "set_aside": bench.reader.set_aside(),
        "gateways": bench.reader.gateways(),
        "arrivals": bench.reader.arrivals_after(0, 1000),
        "undated": bench.rows("SELECT journal, seq, time FROM unstamped"),
    }


@pytest.fixture(scope="module")
def todays_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("today")
    bench = Bench(folder)
    with bench.store as store:
        bench.take(batch(minutes(20)), damaged(batch(minutes(4, first_seq=41, first_time_s=T0 + 1200)), 5))
        bench.take(batch(minutes(2)), b"no batch")
        bench.take(batch([Record(60, T0 + 2000, 6, 0, EVENT_OVERWRITTEN, 2)]))
        bench.take(batch(minutes(1, first_time_s=T0), journal=9))
        bench.take(batch([Record(1, 5, 1, 0, EVENT_BOOT, 2), Record(2, 60, 900, 2, PRESSURE, 2)], journal=77))
        with store.transaction() as transaction:
            number = transaction.journal_number("xuan-hoa", JOURNAL)
            transaction.declare_lost(number, "gw-mytho", "the outbox was full", [(49, 50)], NOW)
            transaction.put_gateway_status("gw-mytho", json.dumps({"online": True}), NOW)
    bench.reader.close()
    return folder


@pytest.mark.parametrize("version", STORE_VERSIONS)
def test_a_store_of_an_earlier_version_says_what_it_said(version: int, todays_store: Path, tmp_path: Path) -> None:
    now = Bench(todays_store)
    expected = told_by(now)
    now.reader.close()
    if version == 1:  # it could not keep what gateways declare lost
        declared = [account.declared for account in expected["audit"]]
        assert sum(map(len, declared)) == 1
    bench = Bench(older_store(tmp_path / "old", todays_store, version))
    with bench.store:
        found = told_by(bench)
        again = bench.take(batch(minutes(20)))
        more = bench.take(batch(minutes(3, first_seq=101, first_time_s=T0 + 6000)))
        Review(bench.store, bench.registry).finish()
    bench.reader.close()

    if version == 1:
        expected.pop("audit"), found.pop("audit")
    assert found == expected
    assert (again.counts.stored, again.counts.duplicates, more.counts.stored) == (0, 40, 6)
    assert bench.rows("PRAGMA user_version") == [(schema.SCHEMA,)]
    assert bench.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("version", STORE_VERSIONS)
def test_an_upgraded_store_has_the_schema_of_a_new_one(version: int, todays_store: Path, tmp_path: Path) -> None:
    bench = Bench(older_store(tmp_path / "old", todays_store, version))
    with bench.store:
        pass
    bench.reader.close()
    with closing(sqlite3.connect(todays_store / DATABASE)) as connection:
        connection.execute("ATTACH ? AS upgraded", (str(tmp_path / "old" / DATABASE),))
        assert columns(connection, "upgraded") == columns(connection, "main")


@pytest.mark.parametrize("version", ALERT_VERSIONS)
def test_alerts_of_an_earlier_version_are_remembered(version: int, tmp_path: Path) -> None:
    def engine_of(file: Path) -> tuple[AlertEngine, Any]:
        database = open_database(sqlite_url(file))
        engine = AlertEngine(database, (RULE,), FARMERS, WORDING, HandClock(START + 3600))
        engine.prepare()
        return engine, database

    engine, database = engine_of(tmp_path / "today.sqlite")
    engine.evaluate([Observation("xuan-hoa", "salinity", START + 60 * at, 3.0, 1, 1) for at in range(20)], cursor="20")
    expected = engine.active(), engine.recent(), engine.cursor(), engine.undelivered()
    database.dispose()
    older_tables(
        tmp_path / "old.sqlite", tmp_path / "today.sqlite", "alert_migrations", alert_schema.MIGRATIONS, version
    )
    engine, database = engine_of(tmp_path / "old.sqlite")
    found = engine.active(), engine.recent(), engine.cursor(), engine.undelivered()
    cleared = engine.evaluate(
        [Observation("xuan-hoa", "salinity", START + 1200 + 60 * at, 1.0, 1, 1) for at in range(20)], cursor="40"
    )
    database.dispose()
    assert found == expected
    assert (len(expected[0]), expected[3], len(cleared)) == (1, 2, 1)


@pytest.mark.parametrize("version", COMMAND_VERSIONS)
def test_commands_of_an_earlier_version_go_on(version: int, tmp_path: Path) -> None:
    def book_of(file: Path) -> tuple[CommandBook, Any]:
        database = open_database(sqlite_url(file))
        book = CommandBook(database, Wall())
        book.prepare()
        return book, database

    book, database = book_of(tmp_path / "today.sqlite")
    order = book.order(signed(), "lan")
    expected = book.newest(10), book.history(10), book.envelope(order.id), book.to_publish()
    database.dispose()
    older_tables(
        tmp_path / "old.sqlite", tmp_path / "today.sqlite", "command_migrations", command_schema.MIGRATIONS, version
    )
    book, database = book_of(tmp_path / "old.sqlite")
    found = book.newest(10), book.history(10), book.envelope(order.id), book.to_publish()
    book.cancel(order.id, "lan")
    database.dispose()
    assert found == expected
    assert len(expected[0]) == 1


@pytest.mark.parametrize(
    ("file", "newer", "says"),
    [
        (DATABASE, "PRAGMA user_version = 9999", "the store has schema 9999, this program knows"),
        ("alerts.sqlite", "INSERT INTO alert_migrations VALUES (9999, 'later')", "at step 9999"),
        ("commands.sqlite", "INSERT INTO command_migrations VALUES (9999, 'later')", "version 9999"),
    ],
)
def test_a_file_of_a_newer_program_is_refused_in_words_and_not_touched(
    file: str, newer: str, says: str, broker: Broker, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text('[[rule]]\nid = "rice"\nparameter = "salinity"\nthreshold = "rice"\n')
    cloud = Cloud(tmp_path, broker.port, '[alerts]\nrules = "rules.toml"\n', port=free_port())
    try:
        cloud.start()
        assert cloud.stop() == 0
    finally:
        cloud.kill()
    with closing(sqlite3.connect(tmp_path / "state" / file, isolation_level=None)) as database:
        database.execute(newer)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (tmp_path / "state" / file).read_bytes()
    code, output = cloud.run_once()
    assert (code, says in output, "Traceback" in output) == (1, True, False), output
    assert (tmp_path / "state" / file).read_bytes() == before
