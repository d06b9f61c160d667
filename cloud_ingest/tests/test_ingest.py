"""The pipeline on a real store, without a broker: what becomes of everything that can arrive."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_ingest.columns import SeriesKey, read_series
from cloud_ingest.database import DATABASE, Database, raw
from cloud_ingest.errors import StoreRefused, StoreUnavailable
from cloud_ingest.ingest import Ingest, Outcome
from cloud_ingest.ledger import RangeSet
from cloud_ingest.reading import Reader, thin
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from cloud_ingest.tests.field import (
    EC25,
    JOURNAL,
    NETWORK,
    PRESSURE,
    T0,
    WATER_TEMPERATURE,
    batch,
    damaged,
    minute,
    minutes,
    records_topic,
)
from cloud_ingest.tests.place import Place, in_a_file
from cloud_ingest.tests.test_decode import RECORDS
from cloud_ingest.tests.test_ledger import members
from firmware.record import EVENT_BOOT, EVENT_CLOCK_SET, MISSING, Record
from station_config.derive import water_density
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters
from station_config.salinity import conductivity_from_25, practical_salinity

NOW = T0 + 86400
SALINITY, WATER_LEVEL, SPECIFIC_CONDUCTANCE = 128, 130, 131


class Message(NamedTuple):
    topic: str
    payload: bytes


class Bench:
    """A store, the pipeline over it, and a reader."""

    NETWORK = NETWORK

    def __init__(self, folder: Path, place: Place | None = None) -> None:
        self.place = place or Place()
        (folder / "network.toml").write_text(self.NETWORK)
        network = load_network(folder / "network.toml")
        self.registry = Registry(network, load_instruments(), load_parameters())
        self.store = Store(folder, self.place.observations, self.place.database)
        self.ingest = Ingest(self.store, self.registry)
        self.reader = Reader(folder, self.registry.scale, self.place.observations, self.place.database)
        self.folder = folder

    def take(self, *payloads: bytes, station: str = "xuan-hoa", now_s: float = NOW) -> Outcome:
        return self.ingest.store_group([Message(records_topic(station), one) for one in payloads], now_s)

    def values(self, parameter: int, sensor: int = 1, station: str = "xuan-hoa") -> dict[int, tuple[float, int]]:
        times, values, flags = self.reader.series(SeriesKey(station, sensor, parameter), 0, 0xFFFFFFFF)
        return {
            time: (value, flag)
            for time, value, flag in zip(times.tolist(), values.tolist(), flags.tolist(), strict=True)
        }

    @property
    def file(self) -> sqlite3.Connection:
        """The writer's own connection to its file."""
        assert self.store._db is not None
        return raw(self.store._db)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Ask the books in SQL."""
        return self.place.rows(self.folder, query)

    @property
    def database(self) -> Database:
        return self.place.database or Database.in_folder(self.folder)

    def committed(self, outcome: Outcome) -> list[list[int]]:
        return [one for _, message in outcome.commits for one in json.loads(message)["ranges"]]


@pytest.fixture
def bench(tmp_path: Path, place: Place) -> Iterator[Bench]:
    one = Bench(tmp_path, place)
    with one.store:
        yield one
    one.reader.close()


def test_every_record_of_a_batch_is_named_in_the_commit(bench: Bench) -> None:
    outcome = bench.take(batch(minutes(5)))
    assert [(topic, json.loads(message)) for topic, message in outcome.commits] == [
        ("tram/v1/commits/gw-mytho", {"station": "xuan-hoa", "journal": JOURNAL, "ranges": [[1, 10]]})
    ]


def test_a_batch_sent_again_is_committed_again_and_stored_once(bench: Bench) -> None:
    bench.take(batch(minutes(5)))
    outcome = bench.take(batch(minutes(7)), batch(minutes(5)))
    assert bench.committed(outcome) == [[1, 14]]
    assert (outcome.counts.stored, outcome.counts.duplicates) == (4, 20)
    assert [len(bench.values(code)) for code in (WATER_TEMPERATURE, EC25)] == [7, 7]


def test_salinity_is_station_configs_own(bench: Bench) -> None:
    bench.take(batch(minute(1, T0, ec25=12.345, temperature=29.31)))
    expected = practical_salinity(conductivity_from_25(12.345, 29.31, 0.0191), 29.31)
    value, flag = bench.values(SALINITY)[T0]
    assert value == round(expected, 4)  # a decimal more than the parameter has
    assert flag == 1


def test_salinity_is_computed_when_its_second_half_arrives(bench: Bench) -> None:
    temperature, conductivity = minute(1, T0)
    bench.take(batch([conductivity]))
    before = bench.values(SALINITY)
    bench.take(batch([temperature]))
    assert (before, list(bench.values(SALINITY))) == ({}, [T0])


def test_level_uses_fresh_water_until_the_salinity_of_the_moment_arrives(bench: Bench) -> None:
    level = [
        Record(1, T0, 30000, 2, PRESSURE, 2),
        Record(2, T0, 2800, 2, WATER_TEMPERATURE, 2),
    ]
    bench.take(batch(level))
    fresh = bench.values(WATER_LEVEL, sensor=2)[T0][0]
    bench.take(batch(minute(3, T0, ec25=40.0, temperature=28.0)))
    salty = bench.values(WATER_LEVEL, sensor=2)[T0][0]
    salinity = bench.values(SALINITY)[T0][0]
    assert fresh == round(-3.0 + 30000.0 / (water_density(0.0, 28.0) * 9.80665), 4)
    assert salty == round(-3.0 + 30000.0 / (water_density(salinity, 28.0) * 9.80665), 4)


@pytest.mark.parametrize(
    ("count", "record_flag", "flag", "salinity_flag"),
    [
        (12500, 2, 1, 1),
        (12500, 4, 4, 4),
        (MISSING, 9, 9, 9),
        (61000, 2, 3, 3),  # beyond the station's own limits
        (100001, 2, 4, 4),  # beyond what is possible
        (20, 2, 3, 3),
    ],
)
def test_flags_of_an_observation_reach_what_is_derived(
    bench: Bench, count: int, record_flag: int, flag: int, salinity_flag: int
) -> None:
    bench.take(batch([Record(1, T0, 2750, 1, WATER_TEMPERATURE, 2), Record(2, T0, count, 1, EC25, record_flag)]))
    assert (bench.values(EC25)[T0][1], bench.values(SALINITY)[T0][1]) == (flag, salinity_flag)


def test_a_damaged_record_is_set_aside_and_the_rest_goes_on(bench: Bench) -> None:
    outcome = bench.take(damaged(batch(minutes(3)), 3))
    journal = bench.reader.journals()[0]
    assert bench.committed(outcome) == [[1, 6]]
    assert (list(journal.stored), list(journal.unusable), journal.set_aside) == ([(1, 3), (5, 6)], [(4, 4)], 1)


def test_a_damaged_record_that_arrives_whole_later_is_stored(bench: Bench) -> None:
    bench.take(damaged(batch(minutes(3)), 3))
    bench.take(damaged(batch(minutes(3)), 3), batch(minutes(3)))
    journal = bench.reader.journals()[0]
    assert (list(journal.stored), journal.set_aside) == ([(1, 6)], 1)


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (records_topic("xuan-hoa"), b"no batch", "8 bytes, a batch header has 10"),
        ("tram/v1/records/00/gw/xuan-hoa", batch(minutes(1)), "shard 00, but station xuan-hoa belongs to shard"),
        ("tram/v1/records/strange", batch(minutes(1)), "expected tram/v1/records"),
        ("tram/v1/status/gw-mytho", b"[1]", "a status is a JSON object"),
    ],
)
def test_strange_messages_are_set_aside_and_the_next_one_stored(
    bench: Bench, topic: str, payload: bytes, reason: str
) -> None:
    outcome = bench.ingest.store_group(
        [Message(topic, payload), Message(records_topic("xuan-hoa"), batch(minutes(1)))], NOW
    )
    kept = bench.rows("SELECT topic, bytes, reason FROM set_aside")
    assert outcome.counts.stored == 2
    assert [(row[0], row[1]) for row in kept] == [(topic, payload)]
    assert str(kept[0][2]).startswith(reason)


def test_the_same_strange_message_again_only_counts(bench: Bench) -> None:
    bench.take(b"no batch", b"no batch")
    bench.take(b"no batch")
    assert bench.rows("SELECT times FROM set_aside") == [(3,)]


def test_a_second_record_for_the_same_moment_is_kept_aside_and_never_wins(bench: Bench) -> None:
    bench.take(batch(minute(1, T0, ec25=12.0)))
    outcome = bench.take(batch(minute(3, T0, ec25=33.0)), batch(minute(1, T0, ec25=44.0), journal=5))
    assert bench.values(EC25)[T0] == (12.0, 1)
    assert bench.committed(outcome) == [[3, 4], [1, 2]]
    assert bench.rows("SELECT count FROM conflicts WHERE count > 10000 ORDER BY count") == [(33000,), (44000,)]
    assert [journal.conflicts for journal in bench.reader.journals()] == [2, 2]


def undated() -> list[Record]:
    """Two boots without a clock; the second one learns the time at its 130th second."""
    return [
        Record(1, 2, 1, 0, EVENT_BOOT, 2),
        *minute(2, 60),
        Record(4, 3, 2, 0, EVENT_BOOT, 2),
        *minute(5, 60),
        *minute(7, 120),
        Record(9, T0, T0 - 130, 0, EVENT_CLOCK_SET, 2),
        *minute(10, T0 + 50),
    ]


def test_records_of_the_boot_that_learned_the_time_are_dated_the_others_kept(bench: Bench) -> None:
    bench.take(batch(undated()))
    records, true_times = bench.reader.records("xuan-hoa", JOURNAL, 0, 100)
    assert list(bench.values(EC25)) == [T0 - 70, T0 - 10, T0 + 50]
    assert true_times.tolist() == [-1, -1, -1, T0 - 127, T0 - 70, T0 - 70, T0 - 10, T0 - 10, T0, T0 + 50, T0 + 50]
    assert bench.rows("SELECT seq FROM unstamped") == [(1,), (2,), (3,)]
    assert len(records) == 11


ORDERS = st.permutations(range(11)), st.lists(st.integers(1, 5), min_size=1, max_size=11)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(*ORDERS)
def test_order_of_arrival_does_not_change_the_database(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], sizes: list[int]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("store"))
    records = undated()
    with bench.store:
        waiting = [records[at] for at in order]
        for size in sizes:
            if waiting[:size]:
                bench.take(batch(waiting[:size]), batch(waiting[:1]))
            waiting = waiting[size:]
        if waiting:
            bench.take(batch(waiting))
        expected = practical_salinity(conductivity_from_25(12.5, 27.5, 0.0191), 27.5)
        assert list(bench.reader.journals()[0].stored) == [(1, 11)]
        assert list(bench.values(SALINITY)) == [T0 - 70, T0 - 10, T0 + 50]
        assert [value for value, _ in bench.values(SALINITY).values()] == [round(expected, 4)] * 3
        _, true_times = bench.reader.records("xuan-hoa", JOURNAL, 0, 100)
        assert true_times.tolist()[:4] == [-1, -1, -1, T0 - 127]
        assert bench.rows("SELECT seq FROM unstamped") == [(1,), (2,), (3,)]
    bench.reader.close()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(RECORDS, min_size=1, max_size=6), min_size=1, max_size=4))
def test_whatever_a_station_records_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Record]]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("store"))
    with bench.store:
        outcome = bench.take(*map(batch, batches))
        journal = bench.reader.journals()[0]
        seqs = {one.seq for records in batches for one in records}
        arrived = RangeSet([*journal.stored, *journal.unusable])
        assert members([(first, last) for first, last in bench.committed(outcome)]) == seqs
        assert members(list(arrived)) == seqs
        assert bench.rows("SELECT total(length(records)) / 18 FROM raw") == [(journal.stored.count,)]
    bench.reader.close()


def test_unknown_stations_sensors_and_parameters_are_kept(bench: Bench) -> None:
    bench.take(batch([Record(1, T0, 77, 9, 120, 2), Record(2, T0, 12500, 9, EC25, 2)]), station="nobody-knows")
    assert bench.values(EC25, sensor=9, station="nobody-knows") == {T0: (12.5, 1)}
    with bench.reader.snapshot() as moment:
        (unknown,) = (number for number, key in read_series(moment.books).items() if key.parameter == 120)
        logged = moment.log.logged([unknown], 0, 0xFFFFFFFF)[unknown]
    assert (logged.count.tolist(), logged.flag.tolist()) == ([77], [2])


def test_a_station_may_not_record_what_the_cloud_derives(bench: Bench) -> None:
    outcome = bench.take(batch([*minute(1, T0), Record(3, T0, 99000, 1, SALINITY, 2)]))
    assert bench.values(SALINITY)[T0][0] < 20
    assert bench.committed(outcome) == [[1, 3]]
    assert bench.rows("SELECT reason FROM set_aside") == [("parameter 128: not a code a station may record",)]


def test_newest_values_move_forward_only(bench: Bench) -> None:
    first = bench.take(batch(minute(3, T0 + 60, ec25=2.0)))
    late = bench.take(batch(minute(1, T0, ec25=1.0)))
    newest = {one.key.parameter: one.value for one in bench.reader.latest()}
    live = dict(bench.ingest.live(first.newest))["tram/v1/live/xuan-hoa/conductivity_25"]
    assert newest[EC25] == 2.0
    assert json.loads(live) == {"value": 2.0, "unit": "mS/cm", "flag": 1, "time": T0 + 60, "sensor": 1}
    assert late.newest == {}


def test_a_value_from_the_future_does_not_hide_the_present(bench: Bench) -> None:
    bench.take(batch(minute(1, NOW + 30 * 86400, ec25=9.0)))
    bench.take(batch(minute(3, NOW, ec25=1.0)))
    assert {one.key.parameter: one.value for one in bench.reader.latest()}[EC25] == 1.0


def test_arrivals_are_handed_on_once_and_in_order(bench: Bench) -> None:
    bench.take(batch(minute(3, T0 + 60)))
    bench.take(batch(minute(1, T0)), batch(minute(1, T0)))
    arrivals = bench.store.arrivals_after(0)
    resumed = bench.store.arrivals_after(arrivals[2].arrival, limit=2)
    assert [one.arrival for one in arrivals] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [one.time for one in arrivals] == [T0 + 60] * 4 + [T0] * 4
    assert {one.parameter for one in arrivals[:4]} == {WATER_TEMPERATURE, EC25, SALINITY, SPECIFIC_CONDUCTANCE}
    assert resumed == arrivals[3:5]
    assert bench.reader.arrivals_after(0, 100) == arrivals


@in_a_file
def test_a_transaction_that_fails_leaves_nothing_behind(bench: Bench) -> None:
    bench.take(batch(minutes(2)))
    blocker = sqlite3.connect(bench.folder / DATABASE, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    bench.file.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(StoreUnavailable, match="locked"):
        bench.take(batch(minutes(4)))
    blocker.execute("ROLLBACK")
    blocker.close()
    outcome = bench.take(batch(minutes(4)))
    assert (outcome.counts.stored, outcome.counts.duplicates) == (4, 4)


@in_a_file
@pytest.mark.parametrize("extra", [0, 50, 100])  # full at the raw records, at the log, later in it
def test_a_full_disk_leaves_nothing_behind(bench: Bench, extra: int) -> None:
    bench.take(batch(minutes(2)))
    pages = bench.file.execute("PRAGMA page_count").fetchone()[0]
    bench.file.execute(f"PRAGMA max_page_count = {pages + extra}")
    with pytest.raises(StoreUnavailable, match="full"):
        bench.take(batch(minutes(4000)))
    bench.file.execute("PRAGMA max_page_count = 1000000")
    assert bench.take(batch(minutes(4000))).counts.stored == 7996


@in_a_file
def test_two_writers_are_refused(bench: Bench) -> None:
    with pytest.raises(StoreRefused, match="another tram-cloud"), Store(bench.folder):
        pass


@pytest.mark.parametrize("preparation", ["CREATE TABLE x (y)", "PRAGMA application_id = 7", "PRAGMA user_version = 9"])
def test_files_of_other_programs_are_refused(tmp_path: Path, preparation: str) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute(preparation)
    connection.close()
    with pytest.raises(StoreRefused), Store(tmp_path):
        pass


def test_records_come_back_as_the_station_made_them(bench: Bench) -> None:
    bench.take(batch(minutes(10, first_seq=21)), batch(minutes(5)))
    pages = [bench.reader.records("xuan-hoa", JOURNAL, after, 4)[0]["seq"].tolist() for after in (0, 4, 9, 22, 40)]
    assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [10, 21, 22, 23], [23, 24, 25, 26], []]


@given(st.lists(st.one_of(st.floats(-100, 100), st.just(float("nan"))), min_size=1, max_size=300), st.integers(2, 50))
def test_thinning_keeps_the_extremes(values: list[float], limit: int) -> None:
    times, column = np.arange(len(values)), np.array(values)
    kept_times, kept, flags = thin(times, column, np.ones(len(values), np.uint8), limit)
    assert len(kept) <= limit
    assert (np.diff(kept_times) > 0).all()
    assert len(flags) == len(kept)
    if not np.isnan(column).all():
        assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(column), np.nanmax(column))
