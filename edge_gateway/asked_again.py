"""What of a series is to be fetched again when the cloud has lost some of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edge_gateway.slices import Progress, Range, joined, without

NO_LONGER_THERE = "asked for again, and no longer in the station's journal"


class Again(NamedTuple):
    """`wanted`: to be fetched again; `gone`: what the journal has no more; `after`: what counts as settled now."""

    wanted: list[Range]
    gone: list[Range]
    after: Progress


def ask_again(before: Progress, in_cloud: Sequence[Range], here: Sequence[Range], begins_at: int) -> Again:
    """Return what becomes of a series' progress when the cloud has only `in_cloud`.

    `here` waits in the outbox and is sent by itself; `begins_at` is the oldest record of the station's journal, as far
    as that is known (0: it is not).
    """
    settled = [(1, before.through), *before.ahead]
    have = joined([*in_cloud, *here])
    missing = [part for whole in settled for part in without(whole, have)]
    gone = [(first, min(last, begins_at - 1)) for first, last in missing if first < begins_at]
    wanted = [part for whole in missing for part in without(whole, gone)]
    left = [part for whole in settled for part in without(whole, wanted)]
    return Again(wanted, gone, Progress(0).having(*left))
