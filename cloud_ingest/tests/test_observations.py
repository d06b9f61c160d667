"""What every store of observations must do, in one suite: SQLite, and a real InfluxDB behind a real proxy."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_ingest.chunked_log import LogStore
from cloud_ingest.columns import DerivedValues, Layer, Observed, SeriesKey
from cloud_ingest.influx_observations import InfluxStore
from cloud_ingest.observations import NOBODY, Layered, Logged, Observations, ObservationStore
from cloud_ingest.quality import Test
from cloud_ingest.reading import Reader
from cloud_ingest.store import Store
from cloud_ingest.tests.influx_server import other_server
from cloud_ingest.transaction import Transaction
from firmware.record import MISSING

T0 = 1_771_000_020
EVER = (0, 0xFFFFFFFF)
KINDS = ("sqlite", "influx")
A, B = 0x1234ABCD, 0xFFFFFFFE  # journals
EC, SALINITY = 34, 128


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[ObservationStore]:
    """Where observations are kept: an empty one of the test's own, or a shared server's."""
    if request.param == "sqlite":
        yield LogStore()
        return
    settings = other_server() or request.getfixturevalue("influx_server").database()
    store = InfluxStore(settings)
    yield store
    store.close()


both = pytest.mark.parametrize("place", KINDS, indirect=True)


class _PowerCut(Exception):
    """Between the observations and the books."""


@dataclass
class Kept:
    """A store with its books, as one writer has it. Names of stations are not met again on a shared server."""

    folder: Path
    place: ObservationStore
    stack: ExitStack = field(default_factory=ExitStack)
    station: str = field(default_factory=lambda: f"s{uuid.uuid4().hex[:10]}")

    def __post_init__(self) -> None:
        self.store = self.stack.enter_context(Store(self.folder, self.place))

    def again(self) -> None:
        """Stop and start: what is only remembered is gone."""
        self.stack.close()
        if isinstance(self.place, InfluxStore):
            self.place = InfluxStore(self.place.settings)
            self.stack.callback(self.place.close)
        self.store = self.stack.enter_context(Store(self.folder, self.place))

    def number(self, transaction: Transaction, parameter: int = EC, sensor: int = 1, station: str = "") -> int:
        return transaction.series_number(SeriesKey(station or self.station, sensor, parameter))

    def rows(self, transaction: Transaction, *rows: tuple[int, int, int, int], **same: float) -> Observed:
        """Rows of (time, count, journal's id, seq) as ingest makes them; sorted by time."""
        series = self.number(transaction, int(same.get("parameter", EC)), int(same.get("sensor", 1)))
        journals = [transaction.journal_number(self.station, row[2]) for row in rows]
        count = np.array([row[1] for row in rows], np.int64)
        calibration = int(same.get("calibration", 0))
        value = np.where(count == MISSING, np.nan, count / 1000.0)
        return Observed(
            np.array([row[0] for row in rows], np.int64),
            np.full(len(rows), series),
            count,
            np.full(len(rows), same["value"]) if "value" in same else value,
            np.full(len(rows), int(same.get("flag", 1)), np.uint8),
            np.array(journals, np.int64),
            np.array([row[3] for row in rows], np.int64),
            np.full(len(rows), calibration),
            np.full(len(rows), int(same.get("failed", 0))),
        )

    def add(self, *rows: tuple[int, int, int, int], **same: float) -> list[bool]:
        with self.store.transaction() as transaction:
            kept: list[bool] = transaction.log.add(self.rows(transaction, *rows, **same)).tolist()
        return kept

    def fail(self, *rows: tuple[int, int, int, int], **same: float) -> None:
        """A transaction that gets as far as the commit of the books, and no further."""
        with suppress(_PowerCut), self.store.transaction() as transaction:
            transaction.log.add(self.rows(transaction, *rows, **same))
            transaction.log.settle()
            raise _PowerCut

    def derive(self, times: list[int], values: list[float], flag: int = 1) -> None:
        with self.store.transaction() as transaction:
            number = self.number(transaction, SALINITY)
            transaction.log.put_derived(
                DerivedValues(
                    np.full(len(times), number, np.int64),
                    np.array(times, np.int64),
                    np.array(values, np.float64),
                    np.full(len(times), flag, np.uint8),
                    np.zeros(len(times), np.int64),
                )
            )

    def put(self, times: list[int], value: float, parameter: int = EC, **layer: int) -> None:
        with self.store.transaction() as transaction:
            transaction.log.put_layer(
                self.number(transaction, parameter),
                Layer(
                    np.array(times, np.int64),
                    np.full(len(times), value),
                    np.full(len(times), layer.get("calibration", 0)),
                    np.full(len(times), layer.get("flag", 1), np.uint8),
                    np.full(len(times), layer.get("failed", 0)),
                ),
                derived=parameter >= SALINITY,
            )

    def seen(self, ask: Callable[[Observations, int], object], parameter: int = EC, sensor: int = 1) -> object:
        """Ask a reader, and a writer too: both have to say the same."""
        with self.store.transaction() as transaction:
            number = self.number(transaction, parameter, sensor)
            by_writer = ask(transaction.log, number)
        reader = Reader(self.folder, np.full(256, 1000.0), self.place)
        with reader.snapshot() as moment:
            by_reader = ask(moment.log, number)
        reader.close()
        assert repr(by_reader) == repr(by_writer)
        return by_reader

    def logged(self, parameter: int = EC, span: tuple[int, int] = EVER) -> list[tuple[object, ...]]:
        """Everything of a series: (time, count, value, calibration, flag, failed, journal's id, seq)."""
        found = self.seen(lambda log, number: _rows(log.logged([number], *span)[number]), parameter)
        assert isinstance(found, list)
        layered = self.seen(lambda log, number: _rows(log.layered([number], *span)[number]), parameter)
        assert layered == [row[:6] for row in found]
        ids = {number: one for (_, one), number in self.store.journals.items()} | {NOBODY: NOBODY}
        return [(*row[:6], ids[row[6]], row[7]) for row in found]


def _rows(rows: Logged | Layered) -> list[tuple[object, ...]]:
    columns = [getattr(rows, name).tolist() for name in rows.__dataclass_fields__]
    return [tuple(None if one != one else one for one in row) for row in zip(*columns, strict=True)]


@pytest.fixture
def kept(tmp_path: Path, place: ObservationStore) -> Iterator[Kept]:
    one = Kept(tmp_path / "state", place)
    with one.stack:
        yield one


@both
def test_what_a_record_said_comes_back_to_the_last_bit(kept: Kept) -> None:
    assert kept.add((T0, 12_345, A, 7), (T0 + 60, -3_999_999, A, 0xFFFFFFFF)) == [True, True]
    assert kept.logged() == [
        (T0, 12_345, None, 0, 1, 0, A, 7),
        (T0 + 60, -3_999_999, None, 0, 1, 0, A, 0xFFFFFFFF),
    ]


@both
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, 1.7976931348623157e308, -2.5e-7, 12.0])
def test_a_calibrated_value_comes_back_to_the_last_bit(kept: Kept, value: float) -> None:
    kept.add((T0, 5, A, 1), value=value, calibration=3, flag=3, failed=1 << 31)
    assert kept.logged() == [(T0, 5, value, 3, 3, 1 << 31, A, 1)]


@both
def test_a_record_without_a_value_is_still_a_record(kept: Kept) -> None:
    kept.add((T0, MISSING, A, 1), flag=9)
    assert kept.logged() == [(T0, MISSING, None, 0, 9, 0, A, 1)]
    assert kept.seen(lambda log, one: log.counts([one], *EVER)[one]) == (1, 0)
    assert kept.seen(lambda log, one: log.at(one, np.array([T0]))) == [(T0, MISSING, None, 9, 0)]


@both
def test_the_same_records_again_change_nothing(kept: Kept) -> None:
    rows = [(T0 + 60 * at, at, A, at) for at in range(5)]
    kept.add(*rows)
    kept.put([T0], 9.5, calibration=2, flag=4, failed=8)
    before = kept.logged()
    assert kept.add(*rows) == [True] * 5
    kept.again()
    assert kept.add(*rows[2:]) == [True] * 3
    assert kept.logged() == before


@both
def test_of_two_records_of_one_moment_the_first_stays(kept: Kept) -> None:
    kept.add((T0, 1, A, 1), (T0 + 60, 2, A, 2))
    assert kept.add((T0, 77, B, 1), (T0 + 60, 2, A, 2), (T0 + 120, 3, B, 3)) == [False, True, True]
    kept.again()
    assert kept.add((T0 + 60, 78, A, 9), (T0 + 120, 79, B, 4)) == [False, False]
    assert [row[1] for row in kept.logged()] == [1, 2, 3]


@both
def test_of_two_records_that_come_together_the_first_stays(kept: Kept) -> None:
    assert kept.add((T0, 1, A, 1), (T0, 2, B, 1), (T0, 1, A, 1), (T0 + 1, 3, B, 2)) == [True, False, True, True]
    assert [row[1] for row in kept.logged()] == [1, 3]


@both
def test_two_writes_of_one_transaction_know_of_each_other(kept: Kept) -> None:
    with kept.store.transaction() as transaction:
        log = transaction.log
        assert log.add(kept.rows(transaction, (T0, 1, A, 1))).tolist() == [True]
        assert log.add(kept.rows(transaction, (T0, 2, B, 1), (T0 + 60, 3, B, 2))).tolist() == [False, True]
        number = kept.number(transaction)
        assert [row[1] for row in log.at(number, np.array([T0, T0 + 60]))] == [1, 3]
    assert [row[1] for row in kept.logged()] == [1, 3]


@both
def test_late_records_find_their_places(kept: Kept) -> None:
    kept.add((T0 + 86400, 9, A, 90))
    kept.again()
    assert kept.add((T0, 1, A, 1), (T0 + 7200, 2, A, 2), (T0 + 86399, 3, A, 3)) == [True] * 3
    assert kept.add((T0 + 60, 4, A, 4), (T0 + 7200, 5, B, 1)) == [True, False]
    assert [row[1] for row in kept.logged()] == [1, 4, 2, 3, 9]


@both
def test_a_record_from_the_future_does_not_hide_those_of_today(kept: Kept) -> None:
    kept.add((0xFFFFFFFF, 9, A, 1))
    kept.again()
    assert kept.add((T0, 1, A, 2)) == [True]
    assert kept.add((T0, 2, B, 1)) == [False]
    assert [row[0] for row in kept.logged()] == [T0, 0xFFFFFFFF]


@both
def test_what_a_failed_transaction_wrote_is_written_again_and_stays_the_same(kept: Kept) -> None:
    for _ in range(2):
        kept.fail((T0, 1, A, 1), (T0 + 60, 2, A, 2))
        kept.again()
    assert kept.add((T0, 1, A, 1), (T0 + 60, 2, A, 2), (T0 + 120, 3, A, 3)) == [True] * 3
    assert kept.add((T0, 7, B, 1)) == [False]
    assert [row[1] for row in kept.logged()] == [1, 2, 3]


@both
def test_numbers_that_a_failed_transaction_gave_mean_something_else_later(kept: Kept) -> None:
    """The number of sensor 3 becomes that of sensor 2, of which more is there already."""
    kept.add((T0 + 600, 5, A, 1), sensor=2)
    kept.again()
    kept.fail((T0, 1, A, 2), sensor=3)
    with kept.store.transaction() as transaction:
        kept.number(transaction, EC, 9)
    assert kept.add((T0 + 600, 6, B, 1), sensor=2) == [False]


@both
def test_a_derived_value_is_replaced_by_a_later_one(kept: Kept) -> None:
    kept.derive([T0, T0 + 60], [1.5, 2.5])
    kept.derive([T0 + 60, T0 + 120], [3.5, float("nan")], flag=9)
    kept.derive([T0], [float("nan")], flag=4)
    told = [row[:6] for row in kept.logged(SALINITY)]
    expected = [(T0, None, 4), (T0 + 60, 3.5, 9), (T0 + 120, None, 9)]
    assert told == [(time, MISSING, value, 0, flag, 0) for time, value, flag in expected]
    kept.derive([T0], [8.5])
    assert kept.seen(lambda log, one: log.at(one, np.array([T0])), SALINITY) == [(T0, None, 8.5, 1, 0)]
    assert kept.seen(lambda log, one: log.counted([one], *EVER), SALINITY) == {}


@both
def test_layers_change_and_counts_do_not(kept: Kept) -> None:
    kept.add((T0, 1000, A, 1), (T0 + 60, 2000, A, 2))
    kept.put([T0], 1.25, calibration=4, flag=3, failed=int(Test.STATION))
    assert kept.logged()[0] == (T0, 1000, 1.25, 4, 3, int(Test.STATION), A, 1)
    assert kept.logged()[1] == (T0 + 60, 2000, None, 0, 1, 0, A, 2)
    kept.put([T0, T0 + 60], float("nan"), calibration=5, flag=2)
    assert kept.logged()[1] == (T0 + 60, 2000, None, 5, 2, 0, A, 2)
    kept.put([T0, T0 + 60], 1.0, flag=1)  # the calibration was withdrawn: the count is the value again
    assert [row[:4] for row in kept.logged()] == [(T0, 1000, None, 0), (T0 + 60, 2000, None, 0)]


@both
def test_a_review_makes_the_derived_rows_that_are_not_there(kept: Kept) -> None:
    kept.put([T0, T0 + 60], 2.5, SALINITY, flag=3, failed=1)
    assert [row[:6] for row in kept.logged(SALINITY)] == [
        (T0, MISSING, 2.5, 0, 3, 1),
        (T0 + 60, MISSING, 2.5, 0, 3, 1),
    ]


@both
def test_people_see_the_count_or_what_was_made_of_it(kept: Kept) -> None:
    kept.add((T0, 1000, A, 1), (T0 + 60, MISSING, A, 2), (T0 + 120, 3000, A, 3))
    kept.put([T0 + 120], 3.5, calibration=1)
    shown = kept.seen(lambda log, one: [column.tolist() for column in log.shown({one: 1000.0}, *EVER)[one]])
    assert isinstance(shown, list)
    assert shown[0] == [T0, T0 + 60, T0 + 120]
    assert (shown[1][0], shown[1][2]) == (1.0, 3.5)
    assert np.isnan(shown[1][1])
    without_scale = kept.seen(lambda log, one: log.shown({one: float("nan")}, *EVER)[one].value.tolist())
    assert isinstance(without_scale, list)
    assert np.isnan(without_scale[:2]).all()


@both
def test_what_records_said_and_where_the_station_itself_said_fail(kept: Kept) -> None:
    kept.add((T0, 1, A, 1), (T0 + 60, 2, A, 2), failed=int(Test.STATION))
    found = kept.seen(lambda log, one: log.counted([one], T0, T0 + 59)[one])
    assert repr(found) == repr(
        type(found)(np.array([T0]), np.array([1]), np.array([True]))  # type: ignore[call-arg]
    )
    assert kept.seen(lambda log, one: log.counted([one], T0 + 61, T0 + 99)) == {}


@both
def test_every_series_that_is_asked_for_is_answered_and_no_other(kept: Kept) -> None:
    for sensor in (1, 2, 3):
        kept.add((T0, sensor, A, sensor), sensor=sensor)

    def ask(log: Observations, number: int) -> object:
        return sorted((one, rows.count.tolist()) for one, rows in log.logged([number, number + 1], *EVER).items())

    first = kept.store.series[SeriesKey(kept.station, 1, EC)]
    assert kept.seen(ask) == [(first, [1]), (first + 1, [2])]


@both
def test_blocks_and_edges_of_time(kept: Kept) -> None:
    kept.add(*((T0 // 86400 * 86400 + at, 1, A, at) for at in (0, 1, 86400, 5 * 86400 + 7)))
    day = T0 // 86400 * 86400
    assert kept.seen(lambda log, one: log.blocks([one], 86400)) == [day, day + 86400, day + 5 * 86400]
    assert kept.seen(lambda log, one: log.blocks([one], 86400, 1)) == [day - 86400, day, day + 5 * 86400]
    if other_server() is not None and isinstance(kept.place, InfluxStore):
        return  # others write there too
    assert kept.seen(lambda log, _: log.newest_time(day + 5 * 86400)) == day + 86400
    assert kept.seen(lambda log, _: log.newest_time(day - 1)) is None
    assert kept.seen(lambda log, _: log.newest_time(0xFFFFFFFF)) == day + 5 * 86400 + 7
    assert kept.seen(lambda log, _: (log.oldest_time(0), log.oldest_time(day + 2))) == (day, day + 86400)
    assert kept.seen(lambda log, _: log.oldest_time(day + 6 * 86400)) is None


@both
def test_a_span_with_nothing_in_it(kept: Kept) -> None:
    assert kept.logged() == []
    assert kept.seen(lambda log, one: (log.counts([one], *EVER), log.blocks([one], 60))) == ({}, [])
    assert kept.seen(lambda log, one: log.layers([one], T0, T0 - 1)[one].time.tolist()) == []
    assert kept.seen(lambda log, _: log.logged([], *EVER)) == {}


@both
def test_a_long_answer_of_several_series(kept: Kept) -> None:
    """More than one piece of an answer, and more than one question."""
    times = [T0 + 60 * at for at in range(12_000)]
    for sensor in (1, 2):
        kept.add(*((time, sensor, A, at) for at, time in enumerate(times)), sensor=sensor)
    other = kept.store.series[SeriesKey(kept.station, 2, EC)]
    found = kept.seen(lambda log, one: [log.logged([one, other], *EVER)[x].time.tolist() for x in (one, other)])
    assert found == [times, times]


Row = tuple[int, int, int, int, int]  # minute, sensor, count, seq, journal


class Model:
    """The same in plain Python."""

    def __init__(self) -> None:
        self.observed: dict[
            tuple[int, int], list[object]
        ] = {}  # (time, sensor): count, value, calibration, flag, id, seq

    def add(self, time: int, sensor: int, count: int, seq: int, journal: int) -> bool:
        known = self.observed.setdefault((time, sensor), [count, None, 0, 1, journal, seq])
        return known[4:] == [journal, seq]

    def put(self, time: int, sensor: int, calibration: int) -> None:
        if (time, sensor) in self.observed:
            self.observed[time, sensor][1:4] = [None if calibration == 0 else 2.5 * calibration, calibration, 3]


@both
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("add", "add", "add", "put", "again", "fail")),
            st.lists(
                st.tuples(
                    st.integers(0, 5), st.integers(1, 2), st.integers(0, 3), st.integers(1, 6), st.sampled_from((A, B))
                ),
                min_size=1,
                max_size=4,
            ),
        ),
        max_size=8,
    )
)
def test_any_order_of_writes_restarts_and_failures(
    place: ObservationStore, doings: list[tuple[str, list[Row]]]
) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as folder, (one := Kept(Path(folder) / "state", place)).stack:
        for what, rows in doings:
            if what == "again":
                one.again()
            elif what == "put":
                time, sensor, calibration, _, _ = rows[0]
                _put(one, model, time, sensor, calibration)
            else:
                _add(one, model, rows, fails=what == "fail")
        for sensor in (1, 2):
            expected = [(T0 + 60 * time, *row) for (time, of), row in sorted(model.observed.items()) if of == sensor]
            found = one.seen(lambda log, number: _rows(log.logged([number], *EVER)[number]), EC, sensor)
            assert isinstance(found, list)
            ids = {number: journal for (_, journal), number in one.store.journals.items()}
            told = [
                (time, count, value, cal, flag, ids[journal], seq)
                for time, count, value, cal, flag, _, journal, seq in found
            ]
            assert told == expected


def _put(one: Kept, model: Model, time: int, sensor: int, calibration: int) -> None:
    if (time, sensor) in model.observed:
        model.put(time, sensor, calibration)
        layer = Layer(
            *(np.array([T0 + 60 * time]), np.array([2.5 * calibration]), np.array([calibration])),
            *(np.array([3], np.uint8), np.array([0])),
        )
        with one.store.transaction() as transaction:
            transaction.log.put_layer(one.number(transaction, EC, sensor), layer, derived=False)


def _add(one: Kept, model: Model, rows: list[Row], *, fails: bool) -> None:
    """A transaction that fails leaves in an InfluxDB what it wrote; nobody asks for that before it is repeated."""
    if fails:
        with suppress(_PowerCut), one.store.transaction() as transaction:
            for row in sorted(rows, key=_place):
                _add_one(one, transaction, row)
            transaction.log.settle()
            raise _PowerCut
    with one.store.transaction() as transaction:
        for time, sensor, count, seq, journal in sorted(rows, key=_place):
            kept = _add_one(one, transaction, (time, sensor, count, seq, journal))
            assert kept == [model.add(time, sensor, count, seq, journal)]


def _add_one(one: Kept, transaction: Transaction, row: Row) -> list[bool]:
    time, sensor, count, seq, journal = row
    kept: list[bool] = transaction.log.add(
        one.rows(transaction, (T0 + 60 * time, count, journal, seq), sensor=sensor)
    ).tolist()
    return kept


def _place(row: Row) -> tuple[int, int]:
    return row[:2]
