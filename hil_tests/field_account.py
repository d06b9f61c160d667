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
# Bytes on disk, from the tables of a store of 390,000 records of 2,000 stations (docs/scaling.md):
SCAN_BYTES, RAW_BYTES, ARRIVAL_BYTES = 53, 21, 24  # of a record
SERIES_BYTES, SERIES_A_STATION, EMPTY_BYTES = 160, 18, 400_000
CHUNK_BYTES = 1.0  # of an observation of a closed day, derived ones included
# A day is packed six hours after its end (cloud_ingest.compaction). Then its rows go out of the log, whose pages are
# used again: the file stays as large as the log was at its largest.
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


def closed_days(days: float) -> int:
    """Return how many days of a run that begins at midnight UTC are packed at its end."""
    return max(0, math.floor(days - CLOSED_AFTER_DAYS))


def predicted_bytes(records: int, stations: int, days: float) -> int:
    """Return what the cloud's state directory will hold after so many days."""
    closed = closed_days(days)
    in_the_log = records * (min(days, 1.0 + CLOSED_AFTER_DAYS) / days if closed else 1.0)
    packed = records * closed / days * SERIES_A_STATION / len(CHANNELS)
    series = stations * SERIES_A_STATION
    kept = records * (RAW_BYTES + ARRIVAL_BYTES) + in_the_log * SCAN_BYTES
    return round(kept + packed * CHUNK_BYTES + series * SERIES_BYTES + EMPTY_BYTES)


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
    records: int
    seconds: float
    load: float
    trends: list[Trend]
    disk_bytes: int
    predicted_bytes: int
    outbox_bytes: int
    packed: Packed
    faults: list[str]

    @property
    def all_faults(self) -> list[str]:
        """Return everything that is wrong."""
        found = [*self.faults, *(fault for one in self.trends for fault in one.faults)]
        if abs(self.disk_bytes / self.predicted_bytes - 1) > DISK_TOLERANCE:
            found.append(f"disk: {self.disk_bytes:,} bytes, predicted {self.predicted_bytes:,}")
        wanted = round(self.records * closed_days(self.days) / self.days)  # and derived ones besides
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
            f"disk of the cloud {self.disk_bytes / 1e6:.1f} MB, predicted {self.predicted_bytes / 1e6:.1f} MB",
            f"outbox {self.outbox_bytes / 1e6:.1f} MB",
        ]
        if self.packed.rows:
            each = self.packed.chunk_bytes / self.packed.rows
            told.append(f"{self.packed.rows:,} rows packed, {each:.2f} bytes each, {self.packed.left:,} left to pack")
        return "\n".join((f"{head}|---|---|---|---|---|---|", *rows, "", "; ".join(told)))
