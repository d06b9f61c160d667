"""Which broker next: in order, with growing pauses, and back to the first choice."""

from __future__ import annotations

import pytest

from edge_gateway import broker_choice as policy
from edge_gateway.broker_choice import BrokerChoice

TWO = BrokerChoice(2)


def after_failures(choice: BrokerChoice, number: int) -> BrokerChoice:
    for _ in range(number):
        choice = policy.after_connection(choice, 0.0)
    return choice


def test_brokers_are_tried_in_order_and_the_pause_grows_with_each_round() -> None:
    tried = [(after_failures(BrokerChoice(3), number).at, number) for number in range(7)]
    pauses = [policy.pause_s(after_failures(BrokerChoice(3), number), 0.5, 60, 1.0) for number in range(1, 10)]

    assert [at for at, _ in tried] == [0, 1, 2, 0, 1, 2, 0]
    assert pauses == [0.5, 0.5, 1.0, 0.5, 0.5, 2.0, 0.5, 0.5, 4.0]


def test_the_only_broker_is_tried_again_more_and_more_slowly() -> None:
    pauses = [policy.pause_s(after_failures(BrokerChoice(1), number), 0.5, 60, 1.0) for number in (1, 2, 3, 10, 50)]

    assert pauses == [1.0, 2.0, 4.0, 60.0, 60.0]


def test_after_a_good_connection_the_first_choice_is_tried_first() -> None:
    away = after_failures(TWO, 1)

    assert policy.after_connection(away, lasted_s=3600.0) == TWO


def test_a_connection_that_ends_at_once_counts_as_a_failure() -> None:
    assert policy.after_connection(TWO, lasted_s=2.0).at == 1


@pytest.mark.parametrize(
    ("number", "timeouts", "useless"), [(2, 2, False), (2, 3, True), (1, 400, False)], ids=["early", "late", "only one"]
)
def test_a_broker_that_brings_no_commits_is_left_if_there_is_another(number: int, timeouts: int, useless: bool) -> None:
    assert policy.is_useless(timeouts, BrokerChoice(number)) is useless


def test_the_first_choice_is_tried_again_after_a_time_then_more_rarely() -> None:
    choice, waits = after_failures(TWO, 1), []
    for _ in range(7):
        waits.append(policy.return_due_at(choice, 0.0, 900.0))
        choice = policy.after_return(choice, reached=False)

    assert waits == [900, 1800, 3600, 7200, 14400, 28800, 28800]


def test_a_first_choice_that_takes_batches_and_brings_nothing_is_held_against_it() -> None:
    returned = policy.after_return(after_failures(TWO, 1), reached=True)

    left = policy.after_connection(returned, 120.0, useless=True)

    assert (returned.at, left.at, left.returns_failed) == (0, 1, 1)
    assert policy.return_due_at(left, 0.0, 900.0) == 1800


def test_commits_of_the_first_choice_clear_its_name() -> None:
    blamed = BrokerChoice(2, at=0, failures=3, returns_failed=4)

    assert policy.after_commit(blamed) == TWO


def test_on_the_first_choice_nothing_is_due() -> None:
    assert policy.return_due_at(TWO, 0.0, 900.0) == float("inf")
