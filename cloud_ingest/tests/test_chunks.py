"""Chunks: whatever rows there are come back bit for bit, and a damaged chunk never comes back at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cloud_ingest.chunks import COLUMNS, pack, unpack, unpack_columns
from cloud_ingest.errors import ChunkDamaged
from cloud_ingest.observations import NOBODY, Logged
from firmware.record import MISSING

MINUTES = 10_080
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from((0, 1, MISSING, -(2**63), 2**63 - 1)), st.integers(-300, 300)
)


def assert_same(one: Logged, other: Logged) -> None:
    for name in COLUMNS:
        before, after = getattr(one, name), getattr(other, name)
        assert before.dtype == after.dtype, name
        assert before.tobytes() == after.tobytes(), name


@st.composite
def any_rows(draw: st.DrawFn) -> Logged:
    number = draw(st.integers(1, 60))

    def column() -> Any:
        kind = draw(st.sampled_from(("same", "rising", "any")))
        if kind == "any":
            return np.array(draw(st.lists(NUMBERS, min_size=number, max_size=number)), np.int64)
        first, step = draw(NUMBERS), draw(st.integers(-100, 100)) if kind == "rising" else 0
        with np.errstate(over="ignore"):
            return np.array(first) + np.array(step) * np.arange(number)

    count = column()
    values = draw(
        st.one_of(
            st.just(np.full(number, np.nan)),
            arrays.arrays(np.float64, number, elements=st.floats(width=64)),
            arrays.arrays(np.uint64, number).map(lambda bits: bits.view(np.float64)),
            st.just(0.02 + 1.013 * (count / 1000.0)),
            st.integers(0, 12).map(lambda digits: np.round(count / 7e15, digits)),
        )
    )
    flag = draw(arrays.arrays(np.uint8, number))
    return Logged(column(), count, values, column(), flag, column(), column(), column())


@settings(max_examples=300, deadline=None)
@given(any_rows())
def test_any_rows_come_back_bit_for_bit(rows: Logged) -> None:
    assert_same(unpack(pack(rows)), rows)


@settings(max_examples=100, deadline=None)
@given(any_rows(), st.sets(st.sampled_from(COLUMNS), min_size=1))
def test_some_columns_are_those_of_all(rows: Logged, names: set[str]) -> None:
    columns = unpack_columns(pack(rows), names)
    assert columns.keys() == names
    assert all(columns[name].tobytes() == getattr(rows, name).tobytes() for name in names)


@settings(max_examples=200, deadline=None)
@given(any_rows(), st.data())
def test_a_damaged_chunk_is_refused(rows: Logged, data: st.DataObject) -> None:
    chunk = bytearray(pack(rows))
    if data.draw(st.booleans()):
        chunk[data.draw(st.integers(0, len(chunk) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del chunk[data.draw(st.integers(0, len(chunk) - 1)) :]
    with pytest.raises(ChunkDamaged):
        unpack(bytes(chunk))


def a_week(**columns: Any) -> Logged:
    """Minutes of a probe in a tidal river, with a little noise; every 500th value is suspect."""
    random = np.random.default_rng(7)
    time = 1_771_000_020 + 60 * np.arange(MINUTES)
    count = np.rint(2000 + 500 * np.sin(2 * np.pi * time / 44_700) + random.normal(0, 20, MINUTES)).astype(np.int64)
    suspect = np.arange(MINUTES) % 500 == 3
    whole = np.zeros(MINUTES, np.int64)
    rows = {
        "time": time,
        "count": count,
        "value": np.full(MINUTES, np.nan),
        "calibration": whole,
        "flag": np.where(suspect, 3, 1).astype(np.uint8),
        "failed": np.where(suspect, 8, 0),
        "journal": whole + 4,
        "seq": 17 + 20 * np.arange(MINUTES),
    }
    return Logged(**(rows | columns))


def test_what_follows_costs_next_to_nothing() -> None:
    rows = a_week()
    count = len(pack(a_week(flag=np.ones(MINUTES, np.uint8), failed=rows.calibration)))
    assert count / MINUTES < 0.95, "the noise itself"
    assert (len(pack(rows)) - count) / MINUTES < 0.03, "flags and tests"


@pytest.mark.parametrize(
    ("name", "polynomial", "most"),
    [("gain", (0.02, 1.013), 1.2), ("cubic", (0.5, -1.2, 0.03, 1e-4), 1.5)],
)
def test_calibrated_values_follow_from_the_counts(name: str, polynomial: tuple[float, ...], most: float) -> None:
    counted = a_week()
    value = np.polynomial.Polynomial(polynomial)(counted.count / 100)
    rows = a_week(value=value, calibration=np.full(MINUTES, 7))
    chunk = pack(rows)
    assert_same(unpack(chunk), rows)
    assert len(chunk) / MINUTES < most, name


def test_two_calibrations_and_a_drift_between_two_visits() -> None:
    counted = a_week(count=np.where(np.arange(MINUTES) % 97 == 5, MISSING, a_week().count))
    calibration = np.where(np.arange(MINUTES) < 4000, 7, 9)
    gain = np.where(calibration == 7, 1.013, 1.0 + 2e-8 * (counted.time - counted.time[0]))
    value = np.where(counted.count == MISSING, np.nan, gain * (counted.count / 100))
    rows = Logged(**(vars(counted) | {"value": value, "calibration": calibration}))
    chunk = pack(rows)
    assert_same(unpack(chunk), rows)
    assert len(chunk) / MINUTES < 1.6


def test_values_with_few_decimals_are_whole_numbers() -> None:
    nothing = np.zeros(MINUTES, np.int64)
    value = np.round(np.exp(a_week().count / 1000) / 3, 4)
    value[::100] = np.nan
    rows = a_week(value=value, count=nothing + MISSING, journal=nothing + NOBODY, seq=nothing)
    assert_same(unpack(pack(rows)), rows)
    assert len(pack(rows)) / MINUTES < 2.2
