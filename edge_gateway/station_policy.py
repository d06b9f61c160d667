"""What to ask a station next, what to make of its answer, when to try a silent one again. Pure, with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge_gateway.slices import EARLIEST_BELIEVABLE_S, Progress, Range
from edge_gateway.station_protocol import RECORDS_PER_FETCH, Fetched, StationStatus

SAME_ANSWER_BELIEVED_AFTER = 3
FAILURES_FORGIVEN = 2
SHARE_OF_LINE_FOR_SILENT = 0.2
PAUSE_AT_MOST_S = 30.0
LIVE_RECORDS = 5 * RECORDS_PER_FETCH  # the newest so many go before a backlog; a station has 64 channels at most
AHEAD_AT_MOST = 8  # ranges stored beyond the cursor; with more of them it is the backlog's turn alone

OVERWRITTEN = "overwritten at the station before it was read"
HOLE = "hole in the station's journal"
UNREADABLE = "unreadable at the station"


class Ask(Enum):
    """The questions of a turn."""

    IDENTIFY = "identify"
    STATUS = "status"
    SET_CLOCK = "set clock"
    DECLARE_LOST = "declare lost"
    FETCH = "fetch"
    ACKNOWLEDGE = "acknowledge"
    REST = "rest"


@dataclass(frozen=True)
class ClockReading:
    """The station's clock against ours: station minus host, and how far the transport leaves that open."""

    offset_s: float
    uncertainty_s: float


@dataclass(frozen=True)
class Known:
    """What this turn knows of the station: `progress` is what has come of its records, and need not be asked again;
    up to `stored_through` they are on disk. `fetches` counts the questions for records."""

    identified: bool
    status: StationStatus | None = None
    clock: ClockReading | None = None
    clock_tried: bool = False
    host_clock_doubt: str | None = None
    progress: Progress | None = None
    stored_through: int | None = None
    fetches: int = 0
    nothing_came: bool = False
    time_used_up: bool = False


@dataclass(frozen=True)
class Question:
    """What to ask next: `number` records from `from_seq`; `lost` for DECLARE_LOST; `more` when work is left over.

    `alarm` when a person should know the reason.
    """

    ask: Ask
    reason: str
    from_seq: int = 0
    number: int = 0
    lost: Range | None = None
    more: bool = False
    alarm: bool = False


@dataclass(frozen=True)
class Judgement:
    """What to do with a fetch's answer: store it, declare a range lost, or neither and ask again."""

    reason: str
    store: bool = False
    lost: Range | None = None


def next_question(known: Known, host_now_s: float, clock_tolerance_s: float) -> Question:
    """Return the next question of a station's turn."""
    if not known.identified:
        return Question(Ask.IDENTIFY, "first contact, or first after silence")
    if known.status is None:
        return Question(Ask.STATUS, "each turn begins with it")
    if (why := _clock_is_wrong(known, host_now_s, clock_tolerance_s)) is not None:
        return Question(Ask.SET_CLOCK, why)
    return _next_records(known, known.status)


def judge(asked_seq: int, fetched: Fetched, same_answers: int) -> Judgement:
    """Return what to do with an answer to "records from asked_seq on" that has come `same_answers` times in a row."""
    if fetched.first_seq == asked_seq:
        return Judgement("as asked", store=True)
    believed = same_answers >= SAME_ANSWER_BELIEVED_AFTER
    if fetched.first_seq is not None:
        return Judgement(HOLE, lost=(asked_seq, fetched.first_seq - 1) if believed else None)
    if fetched.fault is not None:
        return Judgement(f"{UNREADABLE}: {fetched.fault}", lost=(asked_seq, asked_seq) if believed else None)
    return Judgement("the station has no more records than this")


def pause_s(failures: int, cost_s: float, silent_stations: int, poll_interval_s: float) -> float:
    """Return how long to leave a station alone that failed `failures` times in a row, the last time for `cost_s`.

    All silent stations of a line together take at most SHARE_OF_LINE_FOR_SILENT of its time.
    """
    if failures <= FAILURES_FORGIVEN:
        return poll_interval_s
    fair_s = cost_s * silent_stations * (1 / SHARE_OF_LINE_FOR_SILENT - 1)
    return max(poll_interval_s, fair_s, min(PAUSE_AT_MOST_S, poll_interval_s * 2.0 ** (failures - FAILURES_FORGIVEN)))


def read_clock(station_s: int, asked_at_s: float, answered_at_s: float) -> ClockReading:
    """Compare a station's whole-second clock with the host's, from the host's time before and after the question."""
    middle_s = (asked_at_s + answered_at_s) / 2
    return ClockReading(station_s + 0.5 - middle_s, (answered_at_s - asked_at_s) / 2 + 0.5)


def _clock_is_wrong(known: Known, host_now_s: float, tolerance_s: float) -> str | None:
    if known.status is None or known.clock_tried or known.host_clock_doubt or host_now_s < EARLIEST_BELIEVABLE_S:
        return None
    if not known.status.clock_is_set:
        return "the station's clock is not set"
    if known.clock is not None and abs(known.clock.offset_s) > tolerance_s + known.clock.uncertainty_s:
        return f"the station's clock is {known.clock.offset_s:+.1f} s off"
    return None


def _next_records(known: Known, status: StationStatus) -> Question:
    progress = known.progress or Progress(status.first_seq - 1)
    stored_to = progress.ahead[-1][1] if progress.ahead else progress.through
    if stored_to >= status.next_seq:
        return Question(Ask.REST, f"its journal ends at {status.next_seq - 1}, {stored_to} are stored here", alarm=True)
    if overwritten := progress.missing(0, status.first_seq - 1):
        return Question(Ask.DECLARE_LOST, OVERWRITTEN, lost=overwritten[0])
    missing = progress.missing(status.first_seq, status.next_seq - 1)
    behind = sum(last - first + 1 for first, last in missing)
    if behind and known.time_used_up:
        return Question(Ask.REST, f"{behind} records behind, but the others' turn has come", more=True)
    if behind and not known.nothing_came:
        return _fetch(missing, behind, status.next_seq - 1, len(progress.ahead), known.fetches)
    if known.stored_through is not None and status.stored_through < known.stored_through and not known.nothing_came:
        return Question(Ask.ACKNOWLEDGE, "the station may forget what is stored here", progress.through + 1, 1)
    return Question(Ask.REST, "nothing new")


def _fetch(missing: list[Range], behind: int, last_seq: int, ranges_ahead: int, fetches: int) -> Question:
    """Ask for the newest records, then in turn for the oldest: people wait for those, and the ring overwrites these.

    In turn, because a line that hardly keeps up with what its stations make would never come to the backlog.
    """
    (first, last), reason = missing[0], f"{behind} records behind"
    if behind > LIVE_RECORDS and missing[-1][1] == last_seq and fetches % 2 == 0:
        live = max(missing[-1][0], last_seq - LIVE_RECORDS + 1)
        if live == missing[-1][0] or ranges_ahead < AHEAD_AT_MOST:
            first, last, reason = live, last_seq, f"live, before {behind} records of backlog"
    return Question(Ask.FETCH, reason, first, min(last - first + 1, RECORDS_PER_FETCH))
