"""Made-up observations, always the same: a year of minutes of some of a thousand series, of the others the last day.

A daily wave with noise; one row in 500 is suspect. The first series are the water temperature of as many stations, so
the ten that are asked together are one parameter of ten stations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.load.records import CHANNELS, station_ids
from cloud_ingest.columns import SeriesKey

SERIES = 1000
STATIONS = -(-SERIES // len(CHANNELS))
DAYS = 365
EVERY_S = 60
BEGIN = 1_735_664_400  # 2025-01-01 00:00 in Vietnam
END = BEGIN + DAYS * 86400
ASKED = 10  # series that are asked together, or one after the other
NOISE = 20.0  # of the counts, standard deviation
SUSPECT, RATE_OF_CHANGE = 3, 32
_DAY_ROWS = 86400 // EVERY_S


class Rows(NamedTuple):
    """A series: times of records, counts and flags."""

    time: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    flag: npt.NDArray[np.uint8]


class Plan(NamedTuple):
    """How much there is: `whole` of the series have all days."""

    whole: int

    @classmethod
    def of(cls, rows: int) -> Plan:
        """Return the plan that is nearest to so many rows."""
        whole = round((rows - SERIES * _DAY_ROWS) / ((DAYS - 1) * _DAY_ROWS))
        return cls(min(max(whole, 1), SERIES))

    @property
    def rows(self) -> int:
        """Return how many rows that is."""
        return _DAY_ROWS * (self.whole * DAYS + SERIES - self.whole)

    @property
    def asked(self) -> int:
        """Return how many series the questions about a year take in turn."""
        return min(self.whole, ASKED)

    def days(self, number: int) -> int:
        """Return how many days a series has."""
        return DAYS if number < self.whole else 1


def keys() -> list[SeriesKey]:
    """Return the series, by number."""
    ids = station_ids(STATIONS)
    each = (SeriesKey(name, *CHANNELS[at, :2].tolist()) for at in range(len(CHANNELS)) for name in ids)
    return list(each)[:SERIES]


def rows_of(number: int, days: int, noise: float = NOISE) -> Rows:
    """Return the last days of a series."""
    random = np.random.default_rng(number)
    rows = days * _DAY_ROWS
    time_s = END - days * 86400 + EVERY_S * np.arange(1, rows + 1)
    wave = 2000 + 500 * np.sin(2 * np.pi * time_s / 86400 + number) + random.normal(0, noise, rows)
    flag = np.where(random.random(rows) < 0.002, SUSPECT, 1).astype(np.uint8)
    return Rows(time_s, np.rint(wave).astype(np.int64), flag)


def weeks(plan: Plan) -> Iterator[tuple[int, Rows]]:
    """Yield (number, rows) week after week, as stores like it that keep time in pieces."""
    whole = [rows_of(number, plan.days(number)) for number in range(SERIES)]
    for begin in range(BEGIN, END, 7 * 86400):
        for number, rows in enumerate(whole):
            first, last = np.searchsorted(rows.time, (begin, begin + 7 * 86400), side="right")
            if last > first:
                yield number, Rows(rows.time[first:last], rows.counts[first:last], rows.flag[first:last])
