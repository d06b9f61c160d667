"""When something is due."""

import pytest

from firmware.schedule import BEGIN, CLOSE, GO_ON, Samples, is_power_wanted, is_turn, part_of


@pytest.mark.parametrize(
    ("rhythm", "parts"),
    [
        (None, [CLOSE] * 10),
        ((60, 60), [CLOSE] * 10),
        ((300, 300), [GO_ON] * 4 + [CLOSE] + [GO_ON] * 4 + [CLOSE]),
        ((300, 120), [GO_ON, GO_ON, BEGIN, GO_ON, CLOSE] * 2),
        ((600, 60), [GO_ON] * 8 + [BEGIN, CLOSE]),
        ((120, 60), [BEGIN, CLOSE] * 5),
    ],
    ids=["the station's", "the same", "longer", "of its last two minutes", "of its last minute", "every other"],
)
def test_what_the_end_of_a_minute_is_to_a_channel(rhythm, parts):
    assert [part_of(end, rhythm) for end in range(60, 660, 60)] == parts


def test_a_sensor_read_with_each_third_sample_has_its_turn_at_the_same_times_every_day():
    assert [now for now in range(0, 100, 10) if is_turn(now + 3, 10, 3)] == [0, 30, 60, 90]


def test_a_late_sample_belongs_to_the_time_that_has_passed():
    samples = Samples(10)
    assert [now for now in (20, 21, 29, 34, 35, 40) if samples.is_due(now)] == [20, 34, 40]


@pytest.mark.parametrize(
    ("now", "wanted"),
    [(0, False), (40, False), (49, True), (59, True), (60, False), (109, True)],
    ids=["just sampled", "too early", "in time", "last moment", "sampled again", "next time"],
)
def test_power_comes_on_ahead_of_the_sample(now, wanted):
    assert is_power_wanted(now, 60, 10) is wanted


def test_an_instrument_that_warms_up_longer_than_its_interval_keeps_its_power():
    assert all(is_power_wanted(now, 60, 59) for now in range(120))
