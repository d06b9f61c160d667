"""Which broker is tried next, and when. Pure; what happened goes in, a new choice and its reason come out.

The first of the list is the first choice. A broker that cannot be reached, or takes batches and brings no commits, is
left for the next one; a whole round without success makes the pause longer. Away from the first choice, that one is
tried again after a time, while the connection at hand goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_gateway.uplink_policy import backoff_s

GOOD_AFTER_S = 10.0
TIMEOUTS_WITHOUT_COMMIT = 3
DOUBLINGS_AT_MOST = 5


@dataclass(frozen=True)
class BrokerChoice:
    """Where the uplink stands: `at` is the broker to try or in use, of `number`."""

    number: int
    at: int = 0
    failures: int = 0
    """Attempts in a row that came to nothing."""
    returns_failed: int = 0
    """Times the first choice was tried again from another broker, and was no better."""


def after_connection(choice: BrokerChoice, lasted_s: float, *, useless: bool = False) -> BrokerChoice:
    """Return the choice when a connection could not be made or has ended.

    `lasted_s` is 0 when it was never made. `useless`: it took batches and brought no commits.
    """
    if useless or lasted_s < GOOD_AFTER_S:
        back = choice.returns_failed + (useless and choice.at == 0)
        return replace(choice, at=(choice.at + 1) % choice.number, failures=choice.failures + 1, returns_failed=back)
    return replace(choice, at=0, failures=0)


def pause_s(choice: BrokerChoice, least_s: float, most_s: float, chance: float) -> float:
    """Return the pause before the next attempt: the shortest within a round, then longer with every round."""
    if choice.failures % choice.number:
        return backoff_s(0, least_s, most_s, chance)
    return backoff_s(choice.failures // choice.number, least_s, most_s, chance)


def is_useless(timeouts_in_a_row: int, choice: BrokerChoice) -> bool:
    """Return whether to leave a broker that brings no commits; the only one there is is never left for that."""
    return choice.number > 1 and timeouts_in_a_row >= TIMEOUTS_WITHOUT_COMMIT


def return_due_at(choice: BrokerChoice, since: float, first_choice_after_s: float) -> float:
    """Return when to try the first choice again, infinity when that is the one in use.

    `since` is when this broker was connected, or the first choice last tried. Each time it fails the wait doubles.
    """
    if choice.at == 0:
        return float("inf")
    return since + first_choice_after_s * 2.0 ** min(choice.returns_failed, DOUBLINGS_AT_MOST)


def after_return(choice: BrokerChoice, *, reached: bool) -> BrokerChoice:
    """Return the choice when the first choice was tried beside the connection in use."""
    if reached:
        return replace(choice, at=0, failures=0)
    return replace(choice, returns_failed=choice.returns_failed + 1)


def after_commit(choice: BrokerChoice) -> BrokerChoice:
    """Return the choice when commits come: what was held against the first choice is forgotten, if it is the one."""
    return replace(choice, failures=0, returns_failed=0 if choice.at == 0 else choice.returns_failed)
