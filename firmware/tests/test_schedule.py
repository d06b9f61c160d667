"""When something is due."""

import pytest

from firmware.schedule import BEGIN, CLOSE, GO_ON, Samples, part_of


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


def test_a_late_sample_belongs_to_the_time_that_has_passed():
    samples = Samples(10)
    assert [now for now in (20, 21, 29, 34, 35, 40) if samples.is_due(now)] == [20, 34, 40]


def test_how_long_it_is_until_the_next_sample():
    samples = Samples(10)
    before = samples.left_s(7)
    samples.is_due(7)
    assert (before, [samples.left_s(now) for now in (7, 9, 10, 14)]) == (0, [3, 1, 0, 0])
