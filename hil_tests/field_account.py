"""What days of the field came to: trends of memory and open files, disk against a formula, what was packed. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.fleet.plan import CHANNELS

WARM = 1 / 3  # of the run: caches, SQLite's pages and Python's arenas fill
MOST_MIB_A_DAY, MOST_FILES_A_DAY = 12.0, 2.0
# The writer of a young store fills SQLite's cache of pages (schema.py) as its file grows: once, and no leak.
PAGE_CACHE_MIB = {"cloud": 32.0}
# Bytes in use, between the tables of a store of 390,000 records of 2,000 stations (docs/scaling.md: 53, 21, 24) and of
# one of 187,000 records of 8 stations, whose pages are less full (68, 25, 29).
SCAN_BYTES, RAW_BYTES, ARRIVAL_BYTES = 57, 23, 26  # of a record
SERIES_BYTES, SERIES_A_STATION, EMPTY_BYTES = 160, 18, 400_000
ROLLUP_BYTES = 1_830  # of a series and day
CHUNK_BYTES = 1.0  # of an observation of a closed day, derived ones included
# A day is packed six hours after its end (cloud_ingest.compaction). Then its rows go out of the log, whose pages are
# used again: the file stays as large as the log was at its largest, so what is predicted is what is in use.
CLOSED_AFTER_DAYS = 0.25
DISK_TOLERANCE = 0.25


@dataclass(frozen=True)
class Trend:
    """What a process took: at the beginning (after warming up) and the end, and the slope of the line through all."""

    name: str
    first_mib: float
    last_mib: float
    mib_a_day: float
    files: int
    files_a_day: float

    @property
    def faults(self) -> list[str]:
        """Return what grows."""
        found = []
        grew_mib = self.last_mib - self.first_mib
        if self.mib_a_day > MOST_MIB_A_DAY and grew_mib > PAGE_CACHE_MIB.get(self.name, 0.0):
            found.append(f"{self.name}: memory grows by {self.mib_a_day:.1f} MiB a day, {MOST_MIB_A_DAY} allowed")
        if self.files_a_day > MOST_FILES_A_DAY:
            found.append(f"{self.name}: open files grow by {self.files_a_day:.1f} a day")
        return found


def trend(name: str, samples: NDArray[np.float64]) -> Trend:
    """Return the trend of samples: rows of (day, MiB, files)."""
    late = samples[samples[:, 0] >= WARM]
    slopes = [float(np.polyfit(late[:, 0], late[:, column], 1)[0]) for column in (1, 2)]
    edge = max(1, len(late) // 10)
    first, last = (float(part[:, 1].mean()) for part in (late[:edge], late[-edge:]))
    return Trend(name, first, last, slopes[0], int(late[-1, 2]), slopes[1])


def closed_days(days: float, lived: float) -> float:
    """Return how many of the days with records are packed when a run that began at midnight UTC has lived so long."""
    return min(days, max(0, math.floor(lived - CLOSED_AFTER_DAYS)))


def predicted_bytes(records: int, stations: int, days: float, closed: float) -> int:
    """Return what will be in use of the cloud's state directory after so many days, so many of them packed."""
    series = stations * SERIES_A_STATION
    kept = records * (RAW_BYTES + ARRIVAL_BYTES + (1 - closed / days) * SCAN_BYTES)
    packed = records * closed / days * SERIES_A_STATION / len(CHANNELS) * CHUNK_BYTES
    return round(kept + packed + series * (SERIES_BYTES + days * ROLLUP_BYTES) + EMPTY_BYTES)


@dataclass(frozen=True)
class Packed:
    """Rows of closed days: in chunks, and left in the log when the run ended."""

    rows: int
    chunk_bytes: int
    left: int


@dataclass
class FieldDays:
    """What the days came to."""

    days: float
    closed: float  # days
    records: int
    seconds: float
    load: float
    trends: list[Trend]
    used_bytes: int
    free_bytes: int  # pages of the store's file that come next
    predicted_bytes: int
    outbox_bytes: int
    packed: Packed
    faults: list[str]

    @property
    def all_faults(self) -> list[str]:
        """Return everything that is wrong."""
        found = [*self.faults, *(fault for one in self.trends for fault in one.faults)]
        if abs(self.used_bytes / self.predicted_bytes - 1) > DISK_TOLERANCE:
            found.append(f"disk: {self.used_bytes:,} bytes in use, predicted {self.predicted_bytes:,}")
        wanted = round(self.records * self.closed / self.days)  # and derived ones besides
        if self.packed.rows < wanted:
            found.append(
                f"{self.packed.rows:,} rows are packed, {self.packed.left:,} left; {wanted:,} or more expected"
            )
        return found

    def __str__(self) -> str:
        rows = [
            f"| {one.name} | {one.first_mib:.1f} | {one.last_mib:.1f} | {one.mib_a_day:+.1f} | {one.files} | "
            f"{one.files_a_day:+.1f} |"
            for one in self.trends
        ]
        warm = f"after {24 * WARM * self.days:.0f} h"
        head = f"| process | MiB {warm} | MiB at the end | slope, MiB a day | open files | slope a day |\n"
        told = [
            f"{self.records:,} records of {self.days:g} days in {self.seconds:.0f} s, load {self.load:.0f}",
            f"disk of the cloud {self.used_bytes / 1e6:.1f} MB, predicted {self.predicted_bytes / 1e6:.1f} MB, and"
            f" {self.free_bytes / 1e6:.1f} MB of free pages",
            f"outbox {self.outbox_bytes / 1e6:.1f} MB",
        ]
        if self.packed.rows:
            each = self.packed.chunk_bytes / self.packed.rows
            told.append(f"{self.packed.rows:,} rows packed, {each:.2f} bytes each, {self.packed.left:,} left to pack")
        return "\n".join((f"{head}|---|---|---|---|---|---|", *rows, "", "; ".join(told)))
