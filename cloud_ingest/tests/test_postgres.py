"""Books in PostgreSQL: several writers, a server that is killed, and tables that are what SQLite's steps make."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from sqlalchemy import URL, create_engine, event, inspect, text
from sqlalchemy.pool import NullPool

from cloud_ingest import schema
from cloud_ingest import store as store_module
from cloud_ingest import transaction as transaction_module
from cloud_ingest.book_tables import metadata, series
from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.chunked_log import LogStore
from cloud_ingest.columns import ARRIVAL_DTYPE, Arrivals, SeriesKey
from cloud_ingest.database import DATABASE, Database, changing, reading_engine, writing_engine
from cloud_ingest.errors import StoreRefused, StoreUnavailable
from cloud_ingest.influx_observations import InfluxStore
from cloud_ingest.review import Review
from cloud_ingest.review_spans import Depth
from cloud_ingest.rollups import Rollups
from cloud_ingest.set_aside import Shelf
from cloud_ingest.store import Store
from cloud_ingest.tests.field import EC25, T0, WATER_TEMPERATURE, batch, minutes, records_topic, until
from cloud_ingest.tests.influx_server import InfluxServer
from cloud_ingest.tests.place import CLUSTER, Place
from cloud_ingest.tests.test_ingest import NOW, Bench, Message
from cloud_ingest.tests.test_review import calibration
from cloud_ingest.topics import shard_of

ALL = [f"{shard:02x}" for shard in range(64)]
UPSTREAM, SEA = "xuan-hoa", "vam-kenh"  # of two shards

SUMS = (
    "SELECT station, sensor, parameter, level, start, n, n_usable, n_good, total, lowest, highest, rollups.last"
    " FROM rollups JOIN series ON series.id = rollups.series ORDER BY 1, 2, 3, 4, 5"
)

in_a_cluster = pytest.mark.parametrize("place", [CLUSTER], indirect=True)


class Server(Protocol):
    """The fixture's; see conftest.py at the top."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def url(self, database: str) -> URL: ...

    def execute(self, statement: str) -> None: ...


def administrator(url: URL, statement: str) -> list[tuple[object, ...]]:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        done = connection.execute(text(statement))
        return [tuple(row) for row in done] if done.returns_rows else []


@pytest.fixture
def database(postgres_url: URL) -> Database:
    return Database(postgres_url)


@pytest.fixture
def cluster(place: Place, tmp_path: Path) -> Iterator[Callable[[list[str] | None], Bench]]:
    """Benches of one cluster, each a process of its own with its shards."""
    with ExitStack() as stack:

        def open_one(shards: list[str] | None) -> Bench:
            folder = tmp_path / f"worker-{'all' if shards is None else len(shards)}"
            folder.mkdir(exist_ok=True)
            bench = Bench(folder, place)
            bench.store = Store(folder, place.observations, place.database, shards)
            bench.ingest._store = stack.enter_context(bench.store)
            stack.callback(bench.reader.close)
            return bench

        yield open_one


# The tables


def test_the_tables_are_those_that_the_steps_make_in_sqlite(tmp_path: Path, database: Database) -> None:
    with Store(tmp_path):
        pass
    with changing(database) as books:
        found = inspect(books)
        names = [name for name in found.get_table_names() if name != "store_schema"]
        keys_of = {name: found.get_pk_constraint(name)["constrained_columns"] for name in names}
        ours = {name: ({one["name"] for one in found.get_columns(name)}, keys_of[name]) for name in names}
    with closing(sqlite3.connect(tmp_path / DATABASE)) as file:
        for table, (columns, keys) in ours.items():
            rows = file.execute(f"PRAGMA table_info({table})").fetchall()
            assert {row[1] for row in rows} == columns, table
            assert {row[1] for row in rows if row[5]} == set(keys), table
            nullable = {row[1] for row in rows if not row[3] and not row[5]}
            assert nullable == {one.name for one in metadata.tables[table].columns if one.nullable}, table
    assert set(ours) == set(metadata.tables)


def test_processes_that_start_at_once_make_the_tables_once(database: Database) -> None:
    def prepare(_number: int) -> None:
        with changing(database):
            pass

    with ThreadPoolExecutor(6) as together:
        list(together.map(prepare, range(6)))
    assert administrator(database.url, "SELECT version FROM store_schema") == [(schema.SCHEMA,)]


def test_books_of_a_newer_program_are_refused_and_left_alone(database: Database, tmp_path: Path) -> None:
    with changing(database):
        pass
    administrator(database.url, "UPDATE store_schema SET version = 99")
    with pytest.raises(StoreRefused, match="install the newer program"), Store(tmp_path, LogStore(), database):
        pass
    assert administrator(database.url, "SELECT version FROM store_schema") == [(99,)]


def test_a_step_that_came_later_changes_books_that_are_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with changing(database):
        pass
    number = schema.SCHEMA + 1
    monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS, "ALTER TABLE gateways ADD COLUMN note TEXT;"))
    monkeypatch.setattr(schema, "SCHEMA", number)
    monkeypatch.setitem(schema._ON_POSTGRESQL, number, ("ALTER TABLE gateways ADD COLUMN note TEXT",))
    for _ in range(2):
        with changing(database) as books:
            assert "note" in {one["name"] for one in inspect(books).get_columns("gateways")}
            books.rollback()
    assert administrator(database.url, "SELECT version FROM store_schema") == [(number,)]


# Several writers


@in_a_cluster
def test_a_shard_has_one_writer(
    cluster: Callable[[list[str] | None], Bench], place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SHARDS_WITHIN_S", 0.1)
    cluster(ALL[:32])
    assert place.database is not None
    second = Store(tmp_path / "second", place.observations, place.database, ALL[31:40])
    with pytest.raises(StoreRefused, match="shards 1f are another process's"), second:
        pass
    cluster(ALL[32:])


@in_a_cluster
def test_two_writers_make_what_one_would(
    cluster: Callable[[list[str] | None], Bench], tmp_path: Path, influx_server: InfluxServer
) -> None:
    assert shard_of(UPSTREAM) != shard_of(SEA)
    first, second = cluster([shard_of(UPSTREAM)]), cluster([one for one in ALL if one != shard_of(UPSTREAM)])
    one = Bench(tmp_path)
    with one.store:
        for at in range(4):
            records = minutes(5, 1 + 10 * at, T0 + 300 * at, ec25=12.5 + at)
            for bench, station in ((first, UPSTREAM), (second, SEA)):
                bench.take(batch(records), station=station)
                one.take(batch(records), station=station)
        assert [vars(row) for row in first.reader.journals()] == [vars(row) for row in one.reader.journals()]
        assert first.reader.latest() == one.reader.latest()
        for station in (UPSTREAM, SEA):
            for code in (EC25, WATER_TEMPERATURE, 128):
                assert first.values(code, station=station) == one.values(code, station=station)
        arrived = first.reader.arrivals_after(0, 1000)
        assert [row.arrival for row in arrived] == list(range(1, len(one.reader.arrivals_after(0, 1000)) + 1))
        assert first.reader.waiting_spans(Depth.SOON) == one.reader.waiting_spans(Depth.SOON)
        for bench in (first, second, one):
            Review(bench.store, bench.registry).finish()
            Rollups(bench.store, bench.registry).finish(T0 + 10 * 86400)
        assert first.rows("SELECT * FROM to_review") == first.rows("SELECT * FROM rollup_marks") == []
        assert first.rows(SUMS) == one.rows(SUMS) != []
    one.reader.close()


@in_a_cluster
def test_two_writers_that_meet_new_series_at_once_get_the_same_numbers(
    cluster: Callable[[list[str] | None], Bench],
) -> None:
    """Keys that both make are made once, in whatever order each names them."""
    names = [SeriesKey(f"s{at:03d}", 1, code) for at in range(300) for code in (EC25, WATER_TEMPERATURE)]
    pieces = [names[at : at + 100] for at in range(0, len(names), 100)]
    together = threading.Barrier(2)

    def number(bench: Bench, step: int) -> list[dict[SeriesKey, int]]:
        found = []
        for piece in pieces:
            with bench.store.transaction():
                together.wait(60)
                of = (series.c.station, series.c.sensor, series.c.parameter)
                numbers = bench.store.numbers(series, *of, values=piece[::step])
                found.append(dict(zip(piece[::step], numbers, strict=True)))
        return found

    with ThreadPoolExecutor(2) as both:
        low, high = both.map(number, (cluster(ALL[:32]), cluster(ALL[32:])), (1, -1))
    assert low == high
    assert len({number for one in low for number in one.values()}) == len(names)


@in_a_cluster
def test_new_series_of_a_group_are_numbered_in_one_statement(cluster: Callable[[list[str] | None], Bench]) -> None:
    bench, statements = cluster(None), list[str]()
    keys = [SeriesKey(f"s{at:03d}", 1, code) for at in range(100) for code in (EC25, WATER_TEMPERATURE)]
    assert bench.store._engine is not None
    event.listen(bench.store._engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    with bench.store.transaction() as transaction:
        first, again = transaction.series_numbers(keys), transaction.series_numbers(keys[::-1])
    assert first == again[::-1]
    assert len(set(first)) == len(keys)
    assert sum("INTO series" in one for one in statements) == 1


@in_a_cluster
def test_each_writer_takes_only_its_own_reviews_and_sums(cluster: Callable[[list[str] | None], Bench]) -> None:
    first, second = cluster([shard_of(UPSTREAM)]), cluster([shard_of(SEA)])
    first.take(batch(minutes(3)))
    second.take(batch(minutes(3)), station=SEA)
    for bench, own in ((first, UPSTREAM), (second, SEA)):
        with bench.store.transaction() as transaction:
            assert [span.station for span in transaction.waiting_spans(Depth.SOON)] == [own]
            found = transaction.waiting_rollups(T0 + 10 * 86400, 100)
            assert found is not None
            assert {bench.store.keys[number].station for number in found[1]} == {own}


@in_a_cluster
def test_a_reader_passes_over_no_arrival_of_a_slower_writer(cluster: Callable[[list[str] | None], Bench]) -> None:
    slow, quick = cluster([shard_of(UPSTREAM)]), cluster([shard_of(SEA)])
    quick.take(batch(minutes(1)), station=SEA)
    seen = quick.reader.arrivals_after(0, 100)
    with ThreadPoolExecutor(1) as other:
        with slow.store.transaction() as transaction:
            transaction.log.settle()
            slow_number = transaction.series_number(SeriesKey(UPSTREAM, 1, EC25))
            rows = arrivals(slow_number, 3)
            transaction.add_arrivals(rows)
            transaction._number_arrivals()  # as finish does, just before the commit
            transaction._arrivals = []
            waits = other.submit(quick.take, batch(minutes(1, 3, T0 + 60)), station=SEA)
            until(lambda: blocked(slow) == 1, "the quick one waits for its numbers")
            assert slow.reader.last_arrival() == len(seen)
        waits.result(10)
    cursor, stations = len(seen), []
    for row in quick.reader.arrivals_after(cursor, 100):
        cursor += 1
        assert row.arrival == cursor
        stations.append(row.station)
    assert stations == [UPSTREAM] * 3 + [SEA] * 4


def arrivals(series: int, number: int) -> Arrivals:
    rows = np.zeros(number, ARRIVAL_DTYPE)
    rows["series"], rows["time"] = series, T0
    return rows


def blocked(bench: Bench) -> object:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 1001"
    return bench.rows(waiting)[0][0]


@in_a_cluster
def test_a_person_enters_a_calibration_while_a_writer_works(cluster: Callable[[list[str] | None], Bench]) -> None:
    bench = cluster(None)
    bench.take(batch(minutes(1)))
    entered = threading.Event()

    def enter() -> None:
        with CalibrationBook(bench.database) as book:
            book.enter(calibration(valid_from=T0))
        entered.set()

    with ThreadPoolExecutor(1) as office:
        with bench.store.transaction() as transaction:
            done = office.submit(enter)
            until(lambda: bench.rows("SELECT 1 FROM pg_locks WHERE objid = 1000 AND NOT granted"), "the office waits")
            transaction.waiting_spans(Depth.SOON)
            assert not entered.is_set()
        done.result(10)
    with bench.store.transaction():
        assert [len(records) for records in bench.store.calibrations.values()] == [1]


# A server in trouble


def end_of(url: URL, who: str = "tram-cloud") -> None:
    statement = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{who}'"
    administrator(url.set(database="postgres"), f"{statement} AND datname = '{url.database}'")


@in_a_cluster
def test_a_lost_connection_is_made_anew_with_its_shards(
    cluster: Callable[[list[str] | None], Bench], place: Place, tmp_path: Path
) -> None:
    bench = cluster(None)
    assert place.database is not None
    bench.take(batch(minutes(2)))
    end_of(place.database.url)
    with pytest.raises(StoreUnavailable):
        bench.take(batch(minutes(4)))
    outcome = bench.take(batch(minutes(4)))
    assert (outcome.counts.stored, outcome.counts.duplicates) == (4, 4)
    assert len(bench.values(EC25)) == 4
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid < 64"
    assert bench.rows(locks) == [(64,)]


@in_a_cluster
@pytest.mark.parametrize(
    "trouble",
    [
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false",
    ],
)
def test_what_may_pass_is_told_as_such(
    cluster: Callable[[list[str] | None], Bench], place: Place, postgres_server: Server, trouble: str
) -> None:
    bench = cluster(None)
    assert place.database is not None
    url = place.database.url
    postgres_server.execute(trouble.format(name=url.database))
    end_of(url)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            bench.take(batch(minutes(2)))
    postgres_server.execute(f"ALTER DATABASE {url.database} RESET ALL")
    postgres_server.execute(f"ALTER DATABASE {url.database} WITH ALLOW_CONNECTIONS true")
    end_of(url)
    until(lambda: _takes(bench), "the store can be written again")
    assert len(bench.values(EC25)) == 2


def _takes(bench: Bench) -> bool:
    try:
        return bench.take(batch(minutes(2))).counts.received == 4
    except StoreUnavailable:
        return False


def test_no_text_has_the_password(postgres_url: URL, tmp_path: Path) -> None:
    wrong = Database(postgres_url.set(password="hai-ba-trung"))
    with pytest.raises(StoreUnavailable) as error, Store(tmp_path, LogStore(), wrong):
        pass
    for shown in (str(error.value), str(wrong), repr(wrong), repr(writing_engine(wrong)), repr(reading_engine(wrong))):
        assert "hai-ba-trung" not in shown


def _grew(committed: list[int], beyond: int) -> bool:
    return len(committed) > beyond


def test_a_server_that_is_killed_amid_ingest_loses_and_doubles_nothing(
    own_postgres_server: Server, influx_server: InfluxServer, tmp_path: Path
) -> None:
    own_postgres_server.execute("CREATE DATABASE tram")
    observations = InfluxStore(influx_server.database())
    bench = Bench(tmp_path, Place(observations, Database(own_postgres_server.url("tram"))))
    committed: list[int] = []
    stop, failed = threading.Event(), threading.Event()

    def ingest() -> None:
        """As the worker: the same message again until it is stored, then the next one."""
        for at in range(200):
            payload = batch(minutes(3, 1 + 6 * at, T0 + 180 * at))
            while not stop.is_set():
                try:
                    bench.ingest.store_group([Message(records_topic(UPSTREAM), payload)], NOW)
                except StoreUnavailable:
                    failed.set()
                    stop.wait(0.05)
                    continue
                committed.append(at)
                break

    with bench.store, ThreadPoolExecutor(1) as worker:
        done = worker.submit(ingest)
        try:
            for _ in range(3):
                until(partial(_grew, committed, len(committed) + 5), "ingest goes on", 60)
                failed.clear()
                own_postgres_server.kill()
                until(failed.is_set, "ingest notices", 60)
                own_postgres_server.start()
            until(done.done, "all is stored", 90)
        finally:
            stop.set()
        assert list(bench.reader.journals()[0].stored) == [(1, 1200)]
        assert len(bench.values(EC25)) == len(bench.values(WATER_TEMPERATURE)) == 600
        assert bench.rows("SELECT sum(length(records)) / 18, count(*) FROM raw") == [(1200, 200)]
        assert [row.arrival for row in bench.reader.arrivals_after(0, 10_000)] == list(range(1, 2401))
    bench.reader.close()
    observations.close()


# People's commands


@in_a_cluster
def test_a_flood_of_nonsense_is_bounded_counted_and_tried_again_by_its_own_writer(
    cluster: Callable[[list[str] | None], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_module, "SET_ASIDE_KEPT", 10)
    monkeypatch.setattr(transaction_module, "SET_ASIDE_KEPT_BYTES", 500)
    first, second = cluster([shard_of(UPSTREAM)]), cluster([one for one in ALL if one != shard_of(UPSTREAM)])
    for number in range(15):
        strange = "tram/v1/records/x\0y" if number < 14 else records_topic(UPSTREAM)
        first.ingest.store_group([Message(strange, bytes([number]) * 5)], NOW)
    with Shelf(first.database) as shelf:
        assert [one.data[0] for one in shelf.all(100)] == list(range(14, 4, -1))
        assert shelf.forgotten() == 5
        assert shelf.one(shelf.all(1)[0].id).topic == records_topic(UPSTREAM)
        assert shelf.ask_for_retry(None) == 10
    with first.store.transaction() as mine, second.store.transaction() as others:
        wanted = [[message.topic for _, message in one.wanted_again(100)] for one in (mine, others)]
    assert wanted == [[records_topic(UPSTREAM)], ["tram/v1/records/x␀y"] * 9]
