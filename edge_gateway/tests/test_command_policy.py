"""What becomes of a message on the commands' topic, and why."""

from __future__ import annotations

import pytest

from edge_gateway.command_policy import ROWS_AT_MOST, UNFINISHED_AT_MOST, Do, Turn, admit, take_turn
from edge_gateway.command_table import FINISHED, STARTED, WAITING, Load, Memory, StoredCommand
from station_config.command import OfStation, ReadNow, Reason, Verdict

NOW = 1_780_000_000
EMPTY = Load(0, 0, 0)
MEMORY = Memory(NOW - 1000, NOW - 5000)
COMMAND = ReadNow(
    id="0" * 32,
    gateway="gw-mytho",
    issued_at=NOW - 10,
    expires_at=NOW + 600,
    by="lan",
    arguments=OfStation(station="xuan-hoa"),
)
GOOD = Verdict(None, "", COMMAND, "text", COMMAND.id)


def stored(state: str) -> StoredCommand:
    return StoredCommand(COMMAND.id, state, "station xuan-hoa", "text", NOW, NOW - 10, NOW + 600, None, None, {}, None)


def test_a_good_command_is_kept() -> None:
    assert admit(GOOD, None, MEMORY, EMPTY, "station xuan-hoa").do is Do.KEEP


@pytest.mark.parametrize(
    ("state", "do"), [(WAITING, Do.LET_GO_ON), (STARTED, Do.LET_GO_ON), (FINISHED, Do.ANSWER_AGAIN)]
)
def test_a_repeated_command_is_answered_and_not_done_again_even_when_it_has_expired(state: str, do: Do) -> None:
    late = Verdict(Reason.EXPIRED, "", None, "text", COMMAND.id)

    assert admit(GOOD, stored(state), MEMORY, EMPTY, "station xuan-hoa").do is do
    assert admit(late, stored(state), MEMORY, EMPTY, "station xuan-hoa").do is do


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_KEY, Reason.BAD_SIGNATURE, Reason.MALFORMED, Reason.OTHER_GATEWAY])
def test_what_nobody_known_has_signed_for_this_gateway_is_not_even_answered(reason: Reason) -> None:
    assert admit(Verdict(reason, ""), None, MEMORY, EMPTY, None).do is Do.IGNORE


@pytest.mark.parametrize("reason", [Reason.EXPIRED, Reason.UNKNOWN_KIND, Reason.MALFORMED])
def test_what_the_office_has_signed_and_can_never_be_done_is_answered(reason: Reason) -> None:
    found = admit(Verdict(reason, "", id=COMMAND.id), None, MEMORY, EMPTY, None)

    assert (found.do, found.reason) == (Do.REFUSE, reason)


@pytest.mark.parametrize("reason", [Reason.NO_CLOCK, Reason.FROM_THE_FUTURE])
def test_what_may_be_done_later_waits_to_be_sent_again(reason: Reason) -> None:
    assert admit(Verdict(reason, "", id=COMMAND.id), None, None, EMPTY, None).do is Do.IGNORE


@pytest.mark.parametrize("memory", [Memory(NOW, 0), Memory(0, NOW + 600)], ids=["a new file", "rows that have gone"])
def test_a_command_that_may_have_been_done_and_forgotten_is_refused(memory: Memory) -> None:
    assert admit(GOOD, None, memory, EMPTY, "station xuan-hoa").do is Do.REFUSE


def test_a_command_for_a_station_of_another_gateway_is_refused() -> None:
    assert admit(GOOD, None, MEMORY, EMPTY, None).do is Do.REFUSE


@pytest.mark.parametrize("load", [Load(60, UNFINISHED_AT_MOST, 0), Load(ROWS_AT_MOST, 0, 0), Load(9, 9, 9 << 20)])
def test_more_than_there_is_room_for_waits_at_the_cloud(load: Load) -> None:
    assert admit(GOOD, None, MEMORY, load, "station xuan-hoa").do is Do.IGNORE


@pytest.mark.parametrize(
    ("state", "now", "turn"),
    [
        (WAITING, NOW, Turn.START),
        (WAITING, NOW + 600, Turn.EXPIRE),
        (WAITING, None, Turn.WAIT),
        (STARTED, NOW, Turn.RESUME),
        (STARTED, NOW + 600, Turn.RESUME),
        (STARTED, None, Turn.WAIT),
    ],
)
def test_nothing_starts_after_its_end_or_without_the_time(state: str, now: float | None, turn: Turn) -> None:
    assert take_turn(stored(state), now) is turn
