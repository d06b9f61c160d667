"""What becomes of samples at the end of an interval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.record import MISSING
from firmware.sampler import Channel, to_count

counts = st.lists(st.integers(-3_999_999, 3_999_999), min_size=1, max_size=500)


def closed(statistic, samples, decimals=0):
    channel = Channel(1, 34, decimals, statistic)
    for sample in samples:
        channel.add(*sample)
    return channel.close()


@given(counts)
def test_a_mean_is_exact_to_half_a_count(values):
    count, flag = closed("mean", [(value, True) for value in values])
    assert flag == 2
    assert abs(2 * (count * len(values) - sum(values))) <= len(values)


@given(counts)
def test_extremes_and_the_last(values):
    samples = [(value, True) for value in values]
    results = [closed(statistic, samples)[0] for statistic in ("max", "min", "last")]
    assert results == [max(values), min(values), values[-1]]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], (MISSING, 9)),
        ([(None, True)], (MISSING, 9)),
        ([(5, False)], (5, 4)),
        ([(5, False), (None, True)], (5, 4)),
        ([(5, False), (7, True)], (7, 2)),
        ([(7, True), (5, False)], (7, 2)),
        ([(7, True), (None, True)], (7, 2)),
    ],
)
def test_the_best_samples_of_an_interval_make_its_value_and_flag(samples, expected):
    assert closed("mean", samples) == expected


@pytest.mark.parametrize(
    ("samples", "degrees"),
    [
        ([(3500, 5), (100, 5)], 0),
        ([(0, 3), (900, 4)], 531),
        ([(900, 1), (900, 9)], 900),
        ([(3590, 1), (3590, 1)], 3590),
        ([(900, 2), (2700, 2)], MISSING),
        ([(900, 0), (900, 0)], 900),
    ],
    ids=["over north", "weighted by speed", "one direction", "just west of north", "opposite: none", "calm"],
)
def test_directions_add_as_vectors(samples, degrees):
    count, _ = closed("direction", [(direction, True, speed) for direction, speed in samples], decimals=1)
    assert count == degrees


def test_a_direction_without_its_speed_is_missing():
    assert closed("direction", [(900, True, None)], decimals=1) == (MISSING, 9)


def test_an_interval_starts_empty():
    channel = Channel(1, 34, 3, "mean")
    channel.add(5, True)
    channel.close()
    assert channel.close() == (MISSING, 9)


@pytest.mark.parametrize(
    ("value", "decimals", "count"),
    [
        (27.075, 3, 27075),
        (-0.04, 2, -4),
        (float("nan"), 2, None),
        (float("inf"), 2, None),
        (-float("inf"), 2, None),
        (3_999_999.0, 0, 3_999_999),
        (4_000_000.0, 0, None),
        (4000.0, 3, None),
    ],
)
def test_a_value_becomes_a_count_or_is_missing(value, decimals, count):
    assert to_count(value, decimals) == count
