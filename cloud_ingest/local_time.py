"""Minutes, hours, days and months of a time zone, as unix seconds. Pure.

A record's time is the end of its interval, so what ends at 00:00 belongs to the day before: start < time <= end.
Hours and minutes are counted from local midnight; the day a clock is put back has 25 of them, the other one 23.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from cloud_ingest.columns import Ints

DAY_S = 86400
LAST_MOMENT = 0xFFFFFFFF  # a record's time is a u32


class By(StrEnum):
    """How long a span is."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


_SECONDS = {By.MINUTE: 60, By.HOUR: 3600}


@lru_cache(maxsize=65536)
def midnight(zone: ZoneInfo, ordinal: int) -> int:
    """Return when a local day begins; ordinal as of datetime.date."""
    day = date.fromordinal(ordinal)
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def starts_of(times: Ints, by: By, zone: ZoneInfo) -> Ints:
    """Return the start of the span that each time (sorted) belongs to."""
    if not len(times):
        return np.zeros(0, np.int64)
    borders = np.array(_borders(int(times[0]) - 1, int(times[-1]), By.MONTH if by is By.MONTH else By.DAY, zone))
    start: Ints = borders[np.searchsorted(borders, times, side="left") - 1]
    if by in _SECONDS:
        start = start + (times - 1 - start) // _SECONDS[by] * _SECONDS[by]
    return start


def ends_of(starts: Ints, by: By, zone: ZoneInfo) -> Ints:
    """Return when the spans that begin at `starts` (sorted) end."""
    if not len(starts):
        return np.zeros(0, np.int64)
    borders = np.array(_borders(int(starts[0]), int(starts[-1]), By.MONTH if by is By.MONTH else By.DAY, zone))
    following: Ints = borders[np.searchsorted(borders, starts, side="right")]
    return np.minimum(starts + _SECONDS[by], following) if by in _SECONDS else following


def end_of(start: int, by: By, zone: ZoneInfo) -> int:
    """Return when the span that begins at `start` ends."""
    return int(ends_of(np.array([start]), by, zone)[0])


def widened(first: int, last: int, by: By, zone: ZoneInfo) -> tuple[int, int]:
    """Return (start, end) of the whole spans that hold everything from the moment `first` to the moment `last`."""
    start = int(starts_of(np.array([first + 1]), by, zone)[0])
    if last <= first:
        return start, end_of(start, by, zone)
    return start, end_of(int(starts_of(np.array([last]), by, zone)[0]), by, zone)


def days_between(first: int, last: int, zone: ZoneInfo) -> list[int]:
    """Return the starts of the local days that have something of first < time <= last."""
    return [start for start in _borders(first, last, By.DAY, zone) if start < last]


def _borders(first: int, last: int, by: By, zone: ZoneInfo) -> list[int]:
    """Return the starts of all local days or months from that of the moment `first` until one after `last`."""
    day = datetime.fromtimestamp(max(first, 0), zone).date()
    if by is By.MONTH:
        day = day.replace(day=1)
    starts = [midnight(zone, day.toordinal())]
    while starts[-1] <= last:
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=1) if by is By.MONTH else day + timedelta(days=1)
        starts.append(midnight(zone, day.toordinal()))
    return starts
