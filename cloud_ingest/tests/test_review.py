"""Layers made again: what the next value tells of the last one, what a calibration changes, what comes late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.database import Database
from cloud_ingest.quality import Test
from cloud_ingest.review import Review
from cloud_ingest.review_spans import Depth
from cloud_ingest.tests.field import EC25, T0, WATER_TEMPERATURE, batch
from cloud_ingest.tests.test_ingest import SALINITY, Bench
from firmware.record import Record
from station_config.calibration import Calibration
from station_config.salinity import conductivity_from_25, practical_salinity

HOUR_S = 3600


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    with one.store:
        yield one
    one.reader.close()


def records(ec25: list[float], temperature: list[float], first_seq: int = 1, begin: int = T0) -> list[Record]:
    made = []
    for at, (conductivity, celsius) in enumerate(zip(ec25, temperature, strict=True)):
        time_s = begin + 60 * at
        made.append(Record(first_seq + 2 * at, time_s, round(conductivity * 1000), 1, EC25, 2))
        made.append(Record(first_seq + 2 * at + 1, time_s, round(celsius * 100), 1, WATER_TEMPERATURE, 2))
    return made


def review(bench: Bench) -> None:
    Review(bench.store, bench.registry).finish()


def failed(bench: Bench, parameter: int) -> list[Test]:
    rows = bench.rows(
        f"SELECT failed FROM log JOIN series ON series.id = log.series WHERE parameter = {parameter} ORDER BY time"
    )
    return [Test(int(str(row[0]))) for row in rows]


def test_a_spike_is_known_for_one_as_soon_as_the_next_value_is_here(bench: Bench) -> None:
    bench.take(batch(records([12.0, 12.1, 70.0], [28.0] * 3)))
    review(bench)
    assert [flag for _, flag in bench.values(EC25).values()] == [1, 1, 3], "the last one stepped, more is not known"
    bench.take(batch(records([12.1, 12.0], [28.0] * 2, first_seq=7, begin=T0 + 180)))
    review(bench)
    assert bench.values(EC25)[T0 + 120] == (70.0, 4)
    assert Test.SPIKE in failed(bench, EC25)[2]
    assert bench.values(SALINITY)[T0 + 120][1] == 4, "salinity is made of it"


def test_a_spike_that_arrives_late_is_found_too_and_its_neighbours_stay_good(bench: Bench) -> None:
    all_of_it = records([12.0, 12.1, 70.0, 12.1, 12.0], [28.0] * 5)
    bench.take(batch(all_of_it[:4]), batch(all_of_it[6:]))
    review(bench)
    assert {flag for _, flag in bench.values(EC25).values()} == {1}
    bench.take(batch(all_of_it[4:6]))
    review(bench)
    assert [flag for _, flag in bench.values(EC25).values()] == [1, 1, 4, 1, 1]


def test_what_the_station_said_of_a_value_stays_said(bench: Bench) -> None:
    bad = Record(1, T0, 12000, 1, EC25, 4)
    bench.take(batch([bad]))
    review(bench)
    assert bench.values(EC25)[T0] == (12.0, 4)
    assert failed(bench, EC25) == [Test.STATION]


def calibration(**fields: object) -> Calibration:
    whole: dict[str, object] = {
        "id": 1,
        "station": "xuan-hoa",
        "sensor": 1,
        "parameter": "conductivity_25",
        "valid_from": T0,
        "coefficients": (0.5, 1.1),
        "entered_at": T0,
        "entered_by": "Trần Thị Bình",
        **fields,
    }
    return Calibration.model_validate(whole)


def test_a_calibration_entered_while_ingest_runs_counts_from_the_next_batch_and_changes_the_past(bench: Bench) -> None:
    bench.take(batch(records([10.0] * 3, [28.0] * 3)))
    with CalibrationBook(Database.in_folder(bench.folder)) as book:
        book.enter(calibration(valid_from=T0 + 60))
    bench.take(batch(records([10.0], [28.0], first_seq=7, begin=T0 + 180)))
    assert bench.values(EC25)[T0 + 180] == (11.5, 1), "at ingest"
    assert bench.values(EC25)[T0 + 60] == (10.0, 1), "not yet"
    review(bench)
    assert [value for value, _ in bench.values(EC25).values()] == [10.0, 11.5, 11.5, 11.5]
    salinity = practical_salinity(conductivity_from_25(11.5, 28.0, 0.0191), 28.0)
    assert bench.values(SALINITY)[T0 + 60][0] == pytest.approx(salinity, abs=0.02)
    counts = bench.rows(f"SELECT DISTINCT count FROM log JOIN series ON series.id = series WHERE parameter = {EC25}")
    assert counts == [(10000,)], "what the instrument said never changes"


def test_a_withdrawn_calibration_leaves_no_trace_in_the_values(bench: Bench) -> None:
    bench.take(batch(records([10.0] * 3, [28.0] * 3)))
    review(bench)
    before = bench.rows("SELECT * FROM log ORDER BY time, series")
    with CalibrationBook(Database.in_folder(bench.folder)) as book:
        entered = book.enter(calibration())
        review(bench)
        assert bench.values(EC25)[T0] == (11.5, 1)
        book.withdraw(entered.id, T0 + 9)
    review(bench)
    assert bench.rows("SELECT * FROM log ORDER BY time, series") == before


def test_a_review_of_what_has_not_changed_changes_nothing(bench: Bench) -> None:
    random = np.random.default_rng(3)
    bench.take(batch(records((12 + random.normal(size=300)).tolist(), (28 + random.normal(size=300) / 50).tolist())))
    review(bench)
    before = bench.rows("SELECT * FROM log ORDER BY time, series")
    with bench.store.transaction() as transaction:
        transaction.to_review("xuan-hoa", T0, T0 + 300 * 60)
    review(bench)
    assert bench.rows("SELECT * FROM log ORDER BY time, series") == before


def test_layers_do_not_depend_on_how_the_records_came(bench: Bench, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    ec25 = 12 + np.cumsum(random.normal(size=240)) / 5
    ec25[50], ec25[120:140] = 60.0, ec25[120]
    temperature = 28 + random.normal(size=240) / 50
    temperature[200:210] = 44.9
    all_of_it = records(ec25.tolist(), temperature.tolist())
    bench.take(batch(all_of_it))
    review(bench)
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other")
    with other.store:
        pieces = [all_of_it[at : at + 30] for at in range(0, len(all_of_it), 30)]
        for at in random.permutation(len(pieces)).tolist():
            other.take(batch(pieces[at]))
            if at % 3 == 0:
                review(other)
        review(other)
        layers = "SELECT station, sensor, parameter, time, count, value, flag, failed, calibration"
        query = f"{layers} FROM log JOIN series ON series.id = log.series ORDER BY 1, 2, 3, 4"
        assert other.rows(query) == bench.rows(query)
    other.reader.close()


def test_the_newest_value_and_its_live_topic_follow_the_review(bench: Bench) -> None:
    bench.take(batch(records([12.0, 12.1, 12.0], [28.0] * 3)))
    review(bench)
    with CalibrationBook(Database.in_folder(bench.folder)) as book:
        book.enter(calibration())
    messages = dict(Review(bench.store, bench.registry).finish())
    assert b'"value":13.7,' in messages["tram/v1/live/xuan-hoa/conductivity_25"]
    newest = {one.key.parameter: one.value for one in bench.reader.latest()}
    assert newest[EC25] == pytest.approx(13.7)


def test_a_piece_at_a_time_is_done_when_it_is_due(bench: Bench) -> None:
    bench.take(batch(records([12.0, 70.0, 12.0], [28.0] * 3)))
    work = Review(bench.store, bench.registry)
    for clock_s in (0.0, 0.1, 0.2, 0.3):
        work.step(clock_s)
    with bench.store.transaction() as transaction:
        assert transaction.waiting_spans(Depth.SOON) == transaction.waiting_spans(Depth.SETTLE) == []
    assert bench.values(EC25)[T0 + 60][1] == 4
    bench.take(batch(records([12.0, 70.0, 12.0], [28.0] * 3, first_seq=7, begin=T0 + 180)))
    work.step(30.0)
    assert bench.values(EC25)[T0 + 240][1] != 4, "not due yet"
    work.step(90.0)
    assert bench.values(EC25)[T0 + 240][1] == 4
