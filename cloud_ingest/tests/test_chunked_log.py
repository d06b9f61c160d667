"""The log and its chunks against a plain dictionary: the same answers, whatever is packed when."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cloud_ingest import chunk_table, compaction
from cloud_ingest.chunk_table import Chunk, assigned, cut, merged
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.chunks import COLUMNS
from cloud_ingest.columns import DerivedValues, Layer, Observed, SeriesKey
from cloud_ingest.compaction import CLOSED_AFTER_S, Compaction
from cloud_ingest.database import raw
from cloud_ingest.observations import NOBODY, Layered, Logged
from cloud_ingest.quality import Test as QualityTest
from cloud_ingest.store import Store
from firmware.record import MISSING

DAY0 = 20_000 * 86400
DAYS = 40
SERIES = (64, 65, 128)  # of two stations
SCALES = {64: 100.0, 65: 1000.0, 128: 1.0}
Row = dict[str, Any]  # count, value, calibration, flag, failed, journal, seq


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders of chunks and pieces within reach of a handful of rows."""
    monkeypatch.setattr(chunk_table, "ROWS", 6)
    monkeypatch.setattr(chunk_table, "MOST_ROWS", 9)
    monkeypatch.setattr(chunk_table, "MOST_S", 7 * 86400)
    for name, rows in (("READ_EFFORT", 25), ("PACK_EFFORT", 1), ("REMOVE_EFFORT", 25), ("ROWS_GATHERED", 3)):
        monkeypatch.setattr(compaction, name, rows)
    monkeypatch.setattr(compaction, "ROWS_REMEMBERED", 5)


class Model:
    """What the log has to say, kept in the plainest way."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], Row] = {}

    def add(self, rows: list[tuple[int, int, Row]]) -> list[bool]:
        kept = []
        for time, series, row in rows:
            there = self.rows.setdefault((series, time), dict(row))
            kept.append((there["journal"], there["seq"]) == (row["journal"], row["seq"]))
        return kept

    def put_derived(self, series: int, times: list[int], layer: Row) -> None:
        for time in times:
            self.rows.setdefault((series, time), nobody()).update(
                value=layer["value"], flag=layer["flag"], failed=layer["failed"]
            )

    def put_layer(self, series: int, times: list[int], layer: Row, *, derived: bool) -> None:
        for time in times:
            if derived:
                if (series, time) not in self.rows:
                    self.rows[series, time] = nobody() | {"calibration": layer["calibration"]}
                self.put_derived(series, [time], layer)
            elif (series, time) in self.rows:
                value = layer["value"] if layer["calibration"] else np.nan
                self.rows[series, time].update(layer | {"value": value})

    def of(self, series: int, first: int, last: int) -> dict[int, Row]:
        return {time: row for (one, time), row in sorted(self.rows.items()) if one == series and first <= time <= last}


def nobody() -> Row:
    row = {"count": MISSING, "value": np.nan, "calibration": 0, "flag": 0, "failed": 0}
    return row | {"journal": NOBODY, "seq": 0}


TIMES = st.lists(st.integers(0, DAYS * 4).map(lambda quarter: DAY0 + 21600 * quarter), min_size=1, max_size=12).map(
    lambda times: sorted(set(times))
)
LAYERS = st.fixed_dictionaries(
    {
        "value": st.sampled_from((np.nan, 1.5, 0.1, -3.25)),
        "calibration": st.sampled_from((0, 0, 7)),
        "flag": st.integers(1, 4),
        "failed": st.sampled_from((0, 4, int(QualityTest.STATION))),
    }
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(SERIES), TIMES, st.tuples(LAYERS, st.integers(1, 2))),
        st.tuples(st.just("derive"), st.sampled_from(SERIES), TIMES, LAYERS),
        st.tuples(st.just("layer"), st.sampled_from(SERIES), TIMES, LAYERS),
        st.tuples(st.just("derived layer"), st.sampled_from(SERIES), TIMES, LAYERS),
        st.tuples(st.just("compact"), st.integers(0, DAYS), st.integers(1, 30), st.none()),
        st.tuples(st.just("compact"), st.just(DAYS + 2), st.just(10_000), st.none()),
        st.tuples(st.just("reopen"), st.none(), st.none(), st.none()),
    ),
    min_size=2,
    max_size=16,
)


@contextmanager
def a_store(folder: Path) -> Iterator[Store]:
    with Store(folder) as store:
        with store.transaction() as transaction:
            for number in SERIES:
                key = SeriesKey("xuan-hoa" if number < 128 else "vam-kenh", 1, number)
                assert transaction.series_number(key) == number
        assert store._db is not None
        raw(store._db).execute("PRAGMA synchronous = OFF")  # what is tested here is no power cut
        yield store


def observed(series: int, times: list[int], layer: Row, journal: int) -> Observed:
    number = len(times)
    at = (np.array(times) - DAY0) // 21600
    return Observed(
        time=np.array(times),
        series=np.full(number, series),
        count=np.where(at % 11 == 3, MISSING, 1000 + at * at % 50),
        value=np.full(number, layer["value"]),
        flag=np.full(number, layer["flag"], np.uint8),
        journal=np.full(number, journal),
        seq=10 * at + series,
        calibration=np.full(number, layer["calibration"]),
        failed=np.full(number, layer["failed"]),
    )


def as_rows(rows: Observed) -> list[tuple[int, int, Row]]:
    names = ("count", "value", "calibration", "flag", "failed", "journal", "seq")
    found = []
    for at in range(len(rows.time)):
        row = {name: getattr(rows, name)[at].item() for name in names}
        row["value"] = row["value"] if row["calibration"] else np.nan
        found.append((int(rows.time[at]), int(rows.series[at]), row))
    return found


def as_layer(times: list[int], layer: Row) -> Layer:
    number = len(times)
    return Layer(
        np.array(times),
        np.full(number, layer["value"]),
        np.full(number, layer["calibration"]),
        np.full(number, layer["flag"], np.uint8),
        np.full(number, layer["failed"]),
    )


def do(store: Store, model: Model, work: Compaction, action: tuple[Any, ...]) -> None:
    kind, what, times, how = action
    if kind == "compact":
        for _ in range(times):
            if not work.step(DAY0 + what * 86400 + CLOSED_AFTER_S, busy=True, clock_s=work._pace.next_s):
                break
        return
    with store.transaction() as transaction:
        if kind == "add":
            rows = observed(what, times, *how)
            assert transaction.log.add(rows).tolist() == model.add(as_rows(rows))
        elif kind == "derive":
            layer = as_layer(times, how)
            transaction.log.put_derived(DerivedValues(what, layer.time, layer.value, layer.flag, layer.failed))
            model.put_derived(what, times, how)
        else:
            derived = kind == "derived layer"
            transaction.log.put_layer(what, as_layer(times, how), derived=derived)
            model.put_layer(what, times, how, derived=derived)


def assert_answers(store: Store, model: Model, first: int, last: int) -> None:
    with store.transaction() as transaction:
        log = transaction.log
        for series, rows in log.logged(SERIES, first, last).items():
            wanted = model.of(series, first, last)
            assert rows.time.tolist() == list(wanted)
            for name in ("count", "calibration", "flag", "failed", "journal", "seq"):
                assert getattr(rows, name).tolist() == [row[name] for row in wanted.values()], name
            values = [row["value"] for row in wanted.values()]
            assert np.array_equal(rows.value, values, equal_nan=True)
            layered = log.layered([series], first, last)[series]
            for name in Layered.__dataclass_fields__:
                assert getattr(layered, name).tobytes() == getattr(rows, name).tobytes(), name
            assert_same_of_series(log, model, series, rows)
        counts = {
            series: (len(kept), sum(row["flag"] in (1, 2) and (row["count"] != MISSING or row["value"] == row["value"])
                                    for row in kept.values()))
            for series in SERIES if (kept := model.of(series, first, last))
        }  # fmt: skip
        assert log.counts(SERIES, first, last) == counts
        times = sorted(time for _, time in model.rows)
        for moment in (first, last, *times[:1], *times[-1:]):
            assert log.newest_time(moment) == max((time for time in times if time <= moment), default=None)
            assert log.oldest_time(moment) == min((time for time in times if time >= moment), default=None)
        for block_s, shift_s in ((86400, 1), (30 * 86400, 0)):
            blocks = {(time - shift_s) // block_s * block_s for series, time in model.rows if series < 128}
            assert log.blocks((64, 65), block_s, shift_s) == sorted(blocks)


def assert_same_of_series(log: Any, model: Model, series: int, rows: Logged) -> None:
    first, last = (int(rows.time[0]), int(rows.time[-1])) if len(rows.time) else (0, 1)
    shown = log.shown({series: SCALES[series]}, first, last)[series]
    counted = np.where(rows.count == MISSING, np.nan, rows.count / SCALES[series])
    assert np.array_equal(shown.value, np.where(np.isnan(rows.value), counted, rows.value), equal_nan=True)
    layer = log.layers([series], first, last)[series]
    assert all(np.array_equal(getattr(layer, name), getattr(rows, name), equal_nan=True) for name in vars(layer))
    of_records = rows.journal != NOBODY
    found = log.counted([series], first, last)
    assert (series in found) == of_records.any()
    if series in found:
        assert found[series].count.tolist() == rows.count[of_records].tolist()
        assert found[series].station_failed.tolist() == (rows.failed[of_records] & QualityTest.STATION > 0).tolist()
    wanted = rows.time[::2]
    assert [row[0] for row in log.at(series, wanted)] == wanted.tolist()
    for time, count, value, flag, failed in log.at(series, wanted):
        row = model.rows[series, time]
        assert (count, flag, failed) == (None if row["journal"] == NOBODY else row["count"], row["flag"], row["failed"])
        assert value == (None if np.isnan(row["value"]) else row["value"])


@settings(
    suppress_health_check=list(HealthCheck),
    deadline=None,
    max_examples=40,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(ACTIONS, TIMES)
def test_whatever_is_packed_when_the_answers_are_those_of_a_dictionary(
    actions: list[tuple[Any, ...]], span: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model, left = Model(), list(actions)
        while left:
            with a_store(Path(folder)) as store:
                work = Compaction(store)
                while left and (action := left.pop(0))[0] != "reopen":
                    do(store, model, work, action)
                    assert_answers(store, model, span[0], span[-1])
                assert_answers(store, model, 0, 1 << 40)
        with a_store(Path(folder)) as store:
            Compaction(store).finish(DAY0 + (DAYS + 2) * 86400)
            assert_answers(store, model, 0, 1 << 40)
            with store.transaction() as transaction:
                assert isinstance(transaction.log, ChunkedLog)
                assert transaction.log.log.oldest_time(0) is None


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=40, unique=True).map(sorted),
    st.lists(st.integers(0, 400), min_size=1, max_size=40, unique=True).map(sorted),
)
def test_chunks_of_a_series_never_overlap_and_none_is_too_long(first: list[int], then: list[int]) -> None:
    def rows(times: list[int]) -> Logged:
        nothing: Any = np.zeros(len(times), np.int64)
        return Logged(np.array(times) * 3600, *(nothing for _ in COLUMNS[1:]))

    packed: list[Logged] = []
    for new in (rows(first), rows(then)):
        known = [Chunk(at, 1, int(one.time[0]), int(one.time[-1]), len(one.time)) for at, one in enumerate(packed)]
        target = assigned(known, new.time)
        parts = [merged(one, new.take(target == at)) if (target == at).any() else one for at, one in enumerate(packed)]
        parts += [new.take(target == at) for at in np.unique(target[target < 0])]
        packed = sorted((piece for part in parts for piece in cut(part)), key=lambda piece: int(piece.time[0]))
    times = np.concatenate([one.time for one in packed])
    assert times.tolist() == [3600 * time for time in sorted({*first, *then})]
    assert all(len(one.time) <= 9 and one.time[-1] - one.time[0] <= 7 * 86400 for one in packed)
