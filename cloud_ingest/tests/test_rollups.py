"""Rollups against a scan of the log: the same to the last bit, whatever has arrived, in whatever order."""

from __future__ import annotations

import math
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_ingest import schema
from cloud_ingest.aggregates import Buckets, usable
from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.columns import SeriesKey
from cloud_ingest.database import DATABASE, Database, raw
from cloud_ingest.local_time import By, widened
from cloud_ingest.observations import Moment
from cloud_ingest.registry import Registry
from cloud_ingest.review import Review
from cloud_ingest.rollup_reading import RollupReader
from cloud_ingest.rollups import Measured, Rollups, longer, measured, scanned
from cloud_ingest.store import Store
from cloud_ingest.tests.field import EC25, NETWORK, T0, batch
from cloud_ingest.tests.test_ingest import SALINITY, Bench
from cloud_ingest.tests.test_review import calibration
from firmware.record import Record
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

WIND_SPEED, WIND_FROM, RAIN = 67, 68, 70
STATION = "xuan-hoa"
DAYS = 4
EVER = (T0 - 5 * 86400, T0 + (DAYS + 5) * 86400)
LATER = T0 + 30 * 86400


@contextmanager
def a_bench(folder: Path) -> Iterator[Bench]:
    one = Bench(folder)
    with one.store:
        yield one
    one.reader.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as one:
        yield one


def roll(bench: Bench, now_s: float = LATER) -> int:
    return Rollups(bench.store, bench.registry).finish(now_s)


def series_of(bench: Bench) -> list[tuple[SeriesKey, Measured]]:
    return [(key, measured(bench.registry, bench.store.series, key)) for key in bench.store.series]


def answers(bench: Bench) -> dict[tuple[SeriesKey, By], Buckets]:
    with bench.store.transaction() as transaction:
        reader = RollupReader(Moment(transaction._db, transaction.log), bench.registry)
        found = {}
        for key, one in series_of(bench):
            found[key, By.HOUR] = reader.hours(one, widened(*EVER, By.HOUR, bench.registry.zone))
            found[key, By.DAY] = reader.days(one, widened(*EVER, By.DAY, bench.registry.zone))
    return found


def scan(bench: Bench) -> dict[tuple[SeriesKey, By], Buckets]:
    with bench.store.transaction() as transaction:
        found = {}
        for key, one in series_of(bench):
            hours = scanned(transaction.log, [one], EVER, bench.registry)[one.number]
            found[key, By.HOUR], found[key, By.DAY] = hours, longer(hours, By.DAY, bench.registry)
    return found


def assert_counts_and_totals_agree(bench: Bench, moment: int) -> None:
    """Completeness, and the last usable value before a moment, against the rows themselves."""
    days = widened(*EVER, By.DAY, bench.registry.zone)
    hour = widened(moment, moment, By.HOUR, bench.registry.zone)[0]
    with bench.reader.snapshot() as seen:
        reader = RollupReader(seen, bench.registry)
        counts = reader.counts(bench.store.keys, days)
        last = {one.number: reader.last_before(one, hour) for _, one in series_of(bench)}
    for _, one in series_of(bench):
        with bench.store.transaction() as transaction:
            rows = transaction.log.shown({one.number: one.scale}, 0, 0xFFFFFFFF)[one.number]
        good = usable(rows)
        assert counts.get(one.number, (0, 0)) == (len(rows.time), int(good.sum()))
        before = rows.value[good & (rows.time <= hour)]
        found = last[one.number]
        assert math.isnan(found) if not len(before) else found == before[-1]


def assert_same(one: dict[tuple[SeriesKey, By], Buckets], other: dict[tuple[SeriesKey, By], Buckets]) -> None:
    assert one.keys() == other.keys()
    for key, buckets in one.items():
        assert np.array_equal(buckets["start"], other[key]["start"]), key
        for name in buckets.dtype.names or ():
            assert np.array_equal(buckets[name], other[key][name], equal_nan=True), (key, name)


SHOTS = st.lists(
    st.tuples(
        st.sampled_from((EC25, 32, WIND_SPEED, WIND_FROM, RAIN)),
        st.integers(0, DAYS * 24 * 2).map(lambda half: T0 + 1800 * half),
        st.integers(0, 3000),
        st.sampled_from((2, 2, 2, 4)),
    ),
    min_size=1,
    max_size=40,
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), SHOTS),
        st.tuples(st.just("roll"), st.integers(0, (DAYS + 1) * 24).map(lambda hour: T0 + 3600 * hour)),
        st.just(("review", 0)),
        st.tuples(st.just("calibrate"), st.integers(0, DAYS * 24).map(lambda hour: T0 + 3600 * hour)),
    ),
    min_size=2,
    max_size=9,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(ACTIONS, st.integers(0, (DAYS + 1) * 24).map(lambda hour: T0 + 3600 * hour))
def test_whatever_happens_in_whatever_order_rollups_say_what_the_log_says(
    actions: list[tuple[str, object]], moment: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, a_bench(Path(folder)) as bench:
        seq = 1
        for kind, what in actions:
            if kind == "arrive":
                assert isinstance(what, list)
                records = [
                    Record(seq + at, time_s, count, 1, parameter, flag)
                    for at, (parameter, time_s, count, flag) in enumerate(what)
                ]
                seq += len(records)
                bench.take(batch(records))
            elif kind == "roll":
                assert isinstance(what, int)
                roll(bench, what)
            elif kind == "review":
                Review(bench.store, bench.registry).finish()
            elif bench.store.series:
                assert isinstance(what, int)
                with CalibrationBook(Database.in_folder(bench.folder)) as book:
                    book.enter(calibration(valid_from=what))
            assert_same(answers(bench), scan(bench))
            assert_counts_and_totals_agree(bench, moment)
        roll(bench)
        assert_counts_and_totals_agree(bench, moment)
        assert bench.rows("SELECT * FROM rollup_marks") == [], "all is settled"
        assert_same(answers(bench), scan(bench))


def minutes_of(parameter: int, counts: list[int], first_seq: int = 1, begin: int = T0) -> list[Record]:
    return [Record(first_seq + at, begin + 60 * at, count, 1, parameter, 2) for at, count in enumerate(counts)]


def test_the_day_that_runs_is_answered_from_the_log_and_closed_ones_from_rollups(bench: Bench) -> None:
    bench.take(batch(minutes_of(EC25, [12000] * 200)), batch(minutes_of(EC25, [13000] * 9, 201, T0 + 2 * 86400)))
    roll(bench, T0 + 2 * 86400 + 600)
    assert bench.rows("SELECT count(*) FROM rollups WHERE level = 1") == [(4,)]
    assert len(bench.rows("SELECT * FROM rollup_marks")) == 1
    assert_same(answers(bench), scan(bench))


def test_late_data_corrects_the_hour_and_its_day(bench: Bench) -> None:
    bench.take(batch(minutes_of(EC25, [12000] * 30)))
    roll(bench)
    bench.take(batch([Record(31, T0 + 1800, 15000, 1, EC25, 2)]))
    key = SeriesKey(STATION, 1, EC25)
    assert answers(bench)[key, By.DAY]["highest"].tolist() == [15.0], "before the rollup is made again"
    roll(bench)
    assert answers(bench)[key, By.DAY]["highest"].tolist() == [15.0]
    assert_same(answers(bench), scan(bench))


def test_a_calibration_of_the_past_is_in_the_days_of_what_is_derived_too(bench: Bench) -> None:
    records = [record for at in range(60) for record in (
        Record(1 + 2 * at, T0 + 60 * at, 12000, 1, EC25, 2), Record(2 + 2 * at, T0 + 60 * at, 2700, 1, 32, 2)
    )]  # fmt: skip
    bench.take(batch(records))
    Review(bench.store, bench.registry).finish()
    roll(bench)
    before = answers(bench)[SeriesKey(STATION, 1, SALINITY), By.DAY]["total"].tolist()
    with CalibrationBook(Database.in_folder(bench.folder)) as book:
        book.enter(calibration(valid_from=T0 - 60))
    Review(bench.store, bench.registry).finish()
    roll(bench)
    after = answers(bench)[SeriesKey(STATION, 1, SALINITY), By.DAY]["total"].tolist()
    assert after[0] > before[0] * 1.1
    assert_same(answers(bench), scan(bench))


def test_a_late_speed_corrects_the_mean_direction_of_its_hour(bench: Bench) -> None:
    bench.take(batch(minutes_of(WIND_FROM, [900] * 5)))
    roll(bench)
    direction = SeriesKey(STATION, 1, WIND_FROM)
    assert answers(bench)[direction, By.HOUR]["n_vector"].tolist() == [0]
    bench.take(batch(minutes_of(WIND_SPEED, [250] * 3, first_seq=6)))
    assert answers(bench)[direction, By.HOUR]["n_vector"].tolist() == [3]
    roll(bench)
    assert answers(bench)[direction, By.HOUR]["n_vector"].tolist() == [3]
    assert_same(answers(bench), scan(bench))


def test_the_total_before_a_span_is_found_however_long_ago_and_whether_rolled_up_or_not(bench: Bench) -> None:
    bench.take(batch(minutes_of(RAIN, [100, 150])), batch(minutes_of(RAIN, [170], 3, T0 + 3 * 86400)))
    one = measured(bench.registry, bench.store.series, SeriesKey(STATION, 1, RAIN))
    for settled_until in (T0 - 86400, T0 + 2 * 86400, LATER):
        roll(bench, settled_until)
        hour = 3600
        scale = bench.registry.scale[RAIN]
        with bench.reader.snapshot() as moment:
            reader = RollupReader(moment, bench.registry)
            assert math.isnan(reader.last_before(one, T0 - hour - T0 % hour))
            assert reader.last_before(one, T0 - T0 % hour + 2 * hour) == 150 / scale
            assert reader.last_before(one, T0 - T0 % hour + 5 * 86400) == 170 / scale


def test_another_time_zone_makes_all_of_it_anew(bench: Bench, tmp_path: Path) -> None:
    bench.take(batch(minutes_of(EC25, [12000] * 3000)))
    roll(bench)
    changed = tmp_path / "changed.toml"
    changed.write_text(f'timezone = "Asia/Kathmandu"\n{NETWORK}')
    bench.registry = Registry(load_network(changed), load_instruments(), load_parameters())
    assert_same(answers(bench), scan(bench))
    roll(bench)
    assert bench.rows("SELECT * FROM rollup_marks") == []
    assert bench.rows("SELECT DISTINCT start % 3600 FROM rollups") == [(900,)]
    assert_same(answers(bench), scan(bench))


def test_archived_hours_stay_when_something_late_comes_for_their_day(bench: Bench) -> None:
    bench.take(batch(minutes_of(EC25, [12000] * 30)))
    roll(bench)
    hour = bench.rows("SELECT * FROM rollups WHERE level = 1 ORDER BY start")[0]
    with bench.store.transaction():
        bench.file.execute("DELETE FROM scans")
        bench.file.execute(
            "INSERT INTO archives (digest, before, folder, made_at) VALUES ('x', ?, 'y', 0)", (T0 + 86400,)
        )
    bench.take(batch([Record(31, T0 + 120, 99000, 1, EC25, 2), Record(32, T0 + 7200, 20000, 1, EC25, 2)]))
    roll(bench)
    stored = bench.rows("SELECT * FROM rollups WHERE level = 1 ORDER BY start")
    assert stored[0] == hour
    assert len(stored) == 2
    assert bench.rows("SELECT sum(n) FROM rollups WHERE level = 2") == [(31,)]


def test_a_transaction_that_failed_has_set_no_mark_that_the_next_one_would_miss(bench: Bench) -> None:
    late = batch(minutes_of(EC25, [12000] * 3))
    with suppress(RuntimeError), bench.store.transaction() as transaction:
        bench.store.marks.set(transaction._db, np.array([T0, T0 + 60]), 1)
        raise RuntimeError
    bench.take(late)
    assert len(bench.rows("SELECT * FROM rollup_marks")) == 1
    roll(bench)
    assert bench.rows("SELECT * FROM rollup_marks") == []
    bench.take(batch(minutes_of(EC25, [12000], 4, T0 + 200)))
    assert len(bench.rows("SELECT * FROM rollup_marks")) == 1, "struck off, and set again"


def test_a_step_does_what_is_due_and_then_waits(bench: Bench) -> None:
    bench.take(batch(minutes_of(EC25, [12000] * 30)))
    work = Rollups(bench.store, bench.registry)
    assert (work.step(LATER, clock_s=0.0), work.step(LATER, clock_s=1.0)) == (1, 0)
    bench.take(batch(minutes_of(EC25, [12000] * 2, 31, T0 + 1800)), batch(minutes_of(EC25, [12000], 33, T0 + 86400)))
    assert work.step(LATER, clock_s=30.0) == 0
    assert [work.step(LATER, busy=True, clock_s=clock_s) for clock_s in (90.0, 91.0, 93.0, 96.0)] == [1, 0, 1, 0]


def test_a_store_from_before_there_were_rollups_is_marked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = next(number for number, step in enumerate(schema._STEPS) if "CREATE TABLE rollups" in step)
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        connection.executescript("".join(schema._STEPS[:at]))
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute("INSERT INTO log (time, series, count, flag, journal, seq) VALUES (86400, 1, 5, 2, 1, 1)")
        connection.execute("INSERT INTO log (time, series, count, flag, journal, seq) VALUES (86401, 1, 5, 2, 1, 2)")
        connection.execute(f"PRAGMA user_version = {at}")
    monkeypatch.setattr(schema, "_STEPS", schema._STEPS[: at + 1])
    with Store(tmp_path) as store, store.transaction() as transaction:
        found = raw(transaction._db).execute("SELECT block, series FROM rollup_marks ORDER BY block").fetchall()
    assert found == [(0, 1), (1, 1)]
