"""Records of a board whose clock was not set carry seconds since boot; the clock-set event of that boot dates them.

Pure. A wrong guess would put a reading hours or years away from where it belongs, so a record is dated only when
every sequence number up to the event has arrived and no other boot lies between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cloud_ingest.ledger import RangeSet
from firmware.record import CLOCK_UNSET_BELOW, EVENT_BOOT, EVENT_CLOCK_SET

LATEST_TIME_S = 0xFFFFFFFF  # a record's time is a u32


@dataclass(frozen=True, order=True)
class JournalEvent:
    """An event record, as far as dating needs it; in order of seq."""

    seq: int
    parameter: int
    count: int


class Stamp(NamedTuple):
    """Records first_seq..last_seq whose time is below CLOCK_UNSET_BELOW: true time = time + offset_s.

    event_seq: of the clock-set event that says so.
    """

    first_seq: int
    last_seq: int
    offset_s: int
    event_seq: int


def stamps(unstamped_seqs: Iterable[int], events: Iterable[JournalEvent], received: RangeSet) -> list[Stamp]:
    """Return how to date those of `unstamped_seqs` that can be dated now; one Stamp per clock-set event used.

    events: all boot and clock-set events of the journal, any order; received: every seq that is stored.
    """
    turning_points = sorted(event for event in events if event.parameter in (EVENT_BOOT, EVENT_CLOCK_SET))
    event_seqs = [event.seq for event in turning_points]
    found: dict[int, Stamp] = {}
    for seq in sorted(unstamped_seqs):
        at = bisect_right(event_seqs, seq)
        if at == len(turning_points):
            break
        event = turning_points[at]
        if event.parameter == EVENT_CLOCK_SET and received.covers(seq, event.seq) and _plausible(event.count):
            first = found[event.seq].first_seq if event.seq in found else seq
            found[event.seq] = Stamp(first, seq, event.count, event.seq)
    return list(found.values())


def _plausible(offset_s: int) -> bool:
    """Return whether the step leads from seconds since boot to a date."""
    return CLOCK_UNSET_BELOW <= offset_s <= LATEST_TIME_S - CLOCK_UNSET_BELOW
