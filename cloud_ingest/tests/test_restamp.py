"""Which undated records a clock-set event dates, as a timeline of one journal."""

from __future__ import annotations

import pytest

from cloud_ingest.ledger import Range, RangeSet
from cloud_ingest.restamp import JournalEvent, stamps
from firmware.record import EVENT_BOOT, EVENT_CLOCK_SET

STEP = 1_771_000_000


def boot(seq: int) -> JournalEvent:
    return JournalEvent(seq, EVENT_BOOT, 1)


def clock_set(seq: int, step_s: int = STEP) -> JournalEvent:
    return JournalEvent(seq, EVENT_CLOCK_SET, step_s)


@pytest.mark.parametrize(
    ("why", "undated", "events", "received", "expected"),
    [
        ("the event of the boot dates all before it", [1, 2, 3], [boot(1), clock_set(4)], [(1, 4)], [(1, 3)]),
        ("no event yet", [1, 2], [boot(1)], [(1, 2)], []),
        ("a gap might hide another boot", [1, 2], [boot(1), clock_set(5)], [(1, 2), (4, 5)], []),
        ("after the gap nothing is hidden", [1, 4], [clock_set(5)], [(1, 2), (4, 5)], [(4, 4)]),
        ("the first boot never learned the time", [1, 2, 4], [boot(1), boot(3), clock_set(5)], [(1, 5)], [(4, 4)]),
        (
            "each boot by its own event",
            [1, 4],
            [boot(1), clock_set(2), boot(3), clock_set(5)],
            [(1, 5)],
            [(1, 1), (4, 4)],
        ),
        ("the boot record itself is undated too", [3, 4], [boot(3), clock_set(5)], [(1, 5)], [(3, 4)]),
        ("records after the event are of the future of no event", [6], [clock_set(5)], [(1, 6)], []),
        ("a small correction is no date", [1], [boot(1), clock_set(2, 30)], [(1, 2)], []),
        ("nothing waits", [], [boot(1), clock_set(2)], [(1, 2)], []),
    ],
)
def test_timeline(
    why: str, undated: list[int], events: list[JournalEvent], received: list[Range], expected: list[Range]
) -> None:
    found = stamps(undated, reversed(events), RangeSet(received))
    assert [(one.first_seq, one.last_seq) for one in found] == expected, why
    assert all(one.offset_s == STEP and clock_set(one.event_seq) in events for one in found)
