"""What becomes of samples at the end of an interval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import burst
from firmware.record import MISSING
from firmware.sampler import Channels, to_count


class Channel:
    """The second channel of a table."""

    def __init__(self, *what):
        self._table = Channels()
        self._table.add(9, 9, 0, "last")
        self._row = self._table.add(*what)

    def add(self, *sample):
        self._table.sample(self._row, *sample)

    def close(self):
        return self._table.close(self._row)


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


def gusts(*intervals):
    channel = Channel(3, 69, 2, "gust")
    results = []
    for samples in intervals:
        for count in samples:
            channel.add(count, True)
        results.append(channel.close())
    return results


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([[300, 300, 300]], [(300, 2)]),
        ([[300, 300, 900, 300, 300]], [(500, 2)]),
        ([[100, 800, 900, 1000, 200]], [(900, 2)]),
        ([[900, 900]], [(MISSING, 9)]),
        ([[900, 900, None, 900, 900]], [(MISSING, 9)]),
        ([[100, 900, 900], [900, 100]], [(633, 2), (900, 2)]),
        ([[100, 100, 101]], [(100, 2)]),
    ],
    ids=[
        "steady",
        "one second is no gust",
        "three seconds are",
        "too short",
        "no mean across a gap",
        "a gust at the turn of an interval counts in the one it ends in",
        "rounded",
    ],
)
def test_a_gust_is_the_highest_mean_of_three_seconds(intervals, expected):
    assert gusts(*intervals) == expected


def test_a_gust_of_good_samples_only():
    channel = Channel(3, 69, 2, "gust")
    for count, good in [(900, False), (900, False), (300, True), (300, True), (300, True)]:
        channel.add(count, good)
    assert channel.close() == (300, 2)


@given(st.lists(st.integers(0, 9000), min_size=3, max_size=60))
def test_a_gust_lies_between_mean_and_maximum(speeds):
    (gust, _), *_ = gusts(speeds)
    assert min(speeds) <= gust <= max(speeds)


@pytest.mark.parametrize(
    ("readings", "median", "mean"),
    [
        ([10, 11, 900], 11, 307),
        ([10, 11, 12, 900], 12, 233),
        ([10, None, 12], 11, 11),
        ([10, None, None], None, None),
        ([10, None], None, None),
        ([7], 7, 7),
        ([-3, -4], -3, -3),
    ],
    ids=["a spike", "even number", "one missing", "most missing", "half missing", "one reading", "below zero"],
)
def test_the_readings_of_a_burst_make_one_sample(readings, median, mean):
    assert (burst.median(readings), burst.mean(readings)) == (median, mean)


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
