"""What to do with a message on the commands' topic, and with a command whose turn has come. Pure, with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge_gateway.command_table import FINISHED, WAITING, Load, Memory, StoredCommand
from station_config.command import Reason, Verdict

UNFINISHED_AT_MOST = 50
ROWS_AT_MOST = 1000
TEXT_BYTES_AT_MOST = 8 << 20

NOT_KNOWN = "issued before this gateway's memory of commands begins (new or replaced outbox); send it anew"
MAY_HAVE_RUN = "expired, and so long ago by this gateway's records that it may have been carried out already"


class Do(Enum):
    """What becomes of a message."""

    KEEP = "keep it and carry it out"
    ANSWER_AGAIN = "answer with the stored result"
    LET_GO_ON = "it is under way"
    REFUSE = "answer that it is refused"
    IGNORE = "count it, answer nothing"


@dataclass(frozen=True)
class Admission:
    """What to do, the reason as it is counted, and in words."""

    do: Do
    reason: str = ""
    detail: str = ""


def admit(
    verdict: Verdict, stored: StoredCommand | None, memory: Memory | None, load: Load, where: str | None
) -> Admission:
    """Return what to do with a message.

    `stored` is what is kept under its id; `memory` None while the clock is not set; `where` what it is for in this
    gateway, None when there is no such station or line here.
    """
    if verdict.id is None:
        return Admission(Do.IGNORE, verdict.reason or "", verdict.detail)
    if stored is not None:
        return Admission(Do.ANSWER_AGAIN if stored.state == FINISHED else Do.LET_GO_ON)
    command = verdict.command
    if verdict.reason is not None or command is None or memory is None:
        do = Do.REFUSE if verdict.is_final else Do.IGNORE
        return Admission(do, verdict.reason or Reason.NO_CLOCK, verdict.detail)
    if command.issued_at < memory.begins_at:
        return Admission(Do.REFUSE, "not known", NOT_KNOWN)
    if command.expires_at <= memory.expired_through:
        return Admission(Do.REFUSE, Reason.EXPIRED, MAY_HAVE_RUN)
    if where is None:
        return Admission(Do.REFUSE, "not here", "this gateway has no such station or line")
    if load.unfinished >= UNFINISHED_AT_MOST or load.rows >= ROWS_AT_MOST or load.text_bytes >= TEXT_BYTES_AT_MOST:
        return Admission(Do.IGNORE, "too many", f"{load.unfinished} commands wait, {load.rows} are kept")
    return Admission(Do.KEEP)


class Turn(Enum):
    """What to do with a command whose turn has come."""

    WAIT = "wait until the clock is set"
    EXPIRE = "it has expired"
    START = "start it"
    RESUME = "go on where it was cut off"


def take_turn(stored: StoredCommand, now: float | None) -> Turn:
    """Return what to do with the next command of a target; `now` is None while the clock is not set.

    What has been started is resumed even when it has expired meanwhile: the job itself knows whether it has had its
    effect already, and has none any more otherwise.
    """
    if now is None:
        return Turn.WAIT
    if stored.state != WAITING:
        return Turn.RESUME
    return Turn.EXPIRE if now >= stored.expires_at else Turn.START
