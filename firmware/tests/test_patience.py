"""What to believe and how long to wait: the policy of the board's and the gateway's client."""

import pytest

from firmware.patience import ACCEPT, HEARD, HELD, REFUSAL_IN_DOUBT, STRAY, Latencies, Patience

TIMEOUT_MS = 500
HORIZON_MS = 8 * TIMEOUT_MS
SHAPE, OTHER_SHAPE = (3, 4), (3, 2)


@pytest.fixture
def patience():
    return Patience(TIMEOUT_MS)


def test_quiet_time_is_bounded_so_that_one_instrument_cannot_hold_the_line(patience):
    patience.gave_up("a", SHAPE, [7], 0, 60_000)
    assert (patience.quiet_ms(), patience.horizon_ms()) == (4 * TIMEOUT_MS, 32 * TIMEOUT_MS)


def test_a_late_answer_teaches_how_late_one_can_be(patience):
    patience.gave_up("a", SHAPE, [7], 0, 900)
    assert patience.quiet_ms() == 1800


def test_an_old_late_answer_is_forgotten_after_many_good_ones(patience):
    patience.gave_up("a", SHAPE, [7], 0, 900)
    for number in range(500):
        patience.judge("a", SHAPE, [number], 1000 * number, 20)
    assert patience.quiet_ms() == TIMEOUT_MS


@pytest.mark.parametrize(
    ("question", "shape", "after_ms", "held"),
    [
        ("a", SHAPE, 1000, None),  # the same again: whichever answer comes is right
        ("b", SHAPE, 1000, HELD),
        ("b", OTHER_SHAPE, 1000, None),  # looks different
        ("b", SHAPE, HORIZON_MS - 1, HELD),
        ("b", SHAPE, HORIZON_MS, None),
    ],
)
def test_after_a_question_was_given_up(patience, question, shape, after_ms, held):
    patience.gave_up("a", SHAPE, [], 0, 0)
    assert patience.hold(question, shape, after_ms) is held


def test_a_late_answer_that_was_caught_ends_the_doubt(patience):
    patience.gave_up("a", SHAPE, [7], 0, 900)
    assert patience.hold("b", SHAPE, 1500) is None


@pytest.mark.parametrize("late", [[7, 7], [7, 8], [5]], ids=["twice", "two", "the one of the last question again"])
def test_what_may_be_somebody_elses_answer_does_not_end_the_doubt(patience, late):
    patience.judge("z", SHAPE, [5], 0, 20)
    patience.gave_up("a", SHAPE, late, 100, 900)
    assert patience.hold("b", SHAPE, 1500) is HELD


def test_two_questions_cannot_keep_each_other_waiting(patience):
    patience.gave_up("a", SHAPE, [], 0, 0)
    patience.hold("b", SHAPE, 100)
    assert patience.hold("a", SHAPE, 200) is HELD
    assert patience.hold("a", SHAPE, HORIZON_MS) is None


@pytest.mark.parametrize(
    ("checksums", "verdict"), [([7], ACCEPT), ([7, 7], ACCEPT), ([7, 8], STRAY), ([5], HEARD)], ids=str
)
def test_what_an_answer_is_worth(patience, checksums, verdict):
    patience.judge("z", SHAPE, [5], 0, 20)
    assert patience.judge("a", SHAPE, checksums, 100, 20) is verdict


def test_the_same_bytes_a_second_time_are_the_answer(patience):
    patience.judge("z", SHAPE, [5], 0, 20)
    patience.judge("a", SHAPE, [5], 100, 20)
    assert patience.judge("a", SHAPE, [5], 200, 20) is ACCEPT


def test_the_same_bytes_after_a_long_time_are_no_copy(patience):
    patience.judge("z", SHAPE, [5], 0, 20)
    assert patience.judge("a", SHAPE, [5], HORIZON_MS + 20, 20) is ACCEPT


def test_a_refusal_is_believed_only_without_any_doubt(patience):
    believed = [patience.judge("a", SHAPE, [7], 0, 20, is_refusal=True)]
    patience.gave_up("b", OTHER_SHAPE, [], 100, 0)
    believed.append(patience.judge("a", SHAPE, [7], 200, 20, is_refusal=True))
    assert believed == [ACCEPT, REFUSAL_IN_DOUBT]


def test_milliseconds_that_begin_again_do_not_matter(patience):
    patience.gave_up("a", SHAPE, [], (1 << 30) - 100, 0)
    assert (patience.hold("b", SHAPE, 200), patience.hold("b", SHAPE, HORIZON_MS)) == (HELD, None)


@pytest.mark.parametrize(
    ("latencies", "median", "p99", "longest"),
    [
        ([], None, None, 0),
        ([13], 13, 13, 13),
        ([10] * 98 + [300, 301], 12, 301, 301),
        ([20] * 99 + [700], 24, 24, 700),
        ([5000], 5000, 5000, 5000),
    ],
)
def test_latencies_are_told_by_classes(latencies, median, p99, longest):
    found = Latencies()
    for latency_ms in latencies:
        found.add(latency_ms)
    assert (found.percentile(50), found.percentile(99), found.longest_ms) == (median, p99, longest)
