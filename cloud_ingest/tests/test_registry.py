"""Derived values as they are stored: rounded below what an instrument can tell, and short in a chunk."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.chunks import pack, unpack
from cloud_ingest.observations import Logged
from cloud_ingest.registry import DERIVED_DIGITS, rounded
from station_config.parameters import load_parameters

VALUES = st.lists(st.floats(-4000.0, 4000.0), min_size=1, max_size=20)


@given(VALUES, st.integers(0, 7))
def test_a_rounded_value_is_the_nearest_and_stays_when_rounded_again(values: list[float], digits: int) -> None:
    given_values = np.array([*values, np.nan])
    found = rounded(given_values, digits)
    assert np.array_equal(found, rounded(found, digits), equal_nan=True)
    assert math.isnan(found[-1])
    assert (np.abs(found - given_values)[:-1] <= 0.5 * 10.0**-digits * (1 + 1e-6)).all()
    assert [float(f"{one:.{digits}f}") for one in found[:-1]] == found[:-1].tolist()
    assert not np.signbit(found[:-1][found[:-1] == 0.0]).any()


def test_rounded_values_of_every_derived_parameter_take_a_third_of_a_chunk() -> None:
    number = 5000
    for parameter in load_parameters():
        if parameter.kind == "derived":
            noise = np.random.default_rng(parameter.code).normal(0.0, 10.0**-parameter.decimals, number)
            exact = 12.0 + np.sin(np.arange(number) / 700.0) + noise
            short = chunk(rounded(exact, parameter.decimals + DERIVED_DIGITS))
            assert 3 * len(short) < len(chunk(exact)), parameter.name
            assert np.array_equal(unpack(short).value, rounded(exact, parameter.decimals + DERIVED_DIGITS))


def chunk(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    number = len(values)
    none = np.full(number, -1, np.int64)
    return pack(
        Logged(
            time=np.arange(number) * 60,
            count=none,
            value=values,
            calibration=none,
            flag=np.ones(number, np.uint8),
            failed=none,
            journal=none,
            seq=none,
        )
    )
