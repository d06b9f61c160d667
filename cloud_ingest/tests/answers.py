"""Everything that can be asked of a store, under names that do not depend on the order in which rows got numbers."""

from __future__ import annotations

import csv
from pathlib import Path

from cloud_ingest.audit import account_for
from cloud_ingest.local_time import By
from cloud_ingest.queries import LayerName, Points, Sums, layer, newest, series_numbers
from cloud_ingest.reading import Journal, Reader
from cloud_ingest.recompute import Recompute
from cloud_ingest.registry import Registry

DATE_IN_FUTURE = 4_000_000_000


def everything(reader: Reader, registry: Registry, span: tuple[int, int], now_s: int) -> dict[str, object]:
    """Return every answer by the name of its question."""
    found: dict[str, object] = {"audit": sorted(map(repr, map(_account, reader.journals())))}
    for journal in reader.journals():
        records, times = reader.records(journal.station, journal.journal, 0, 100_000)
        found[f"records of {journal.station} {journal.journal:x}"] = (records.tobytes(), times.tolist())
    with reader.snapshot() as moment:
        sums = Sums(moment, registry, now_s)
        numbers = series_numbers(moment)
        found["series"] = sorted(numbers)
        found["latest"] = sorted(map(repr, newest(moment)))
        found["completeness"] = sorted(map(repr, sums.completeness(span)))
        for key in numbers:
            for name in LayerName:
                found[f"{key} {name}"] = _exactly(layer(moment, registry, key, span, name))
            for by in By:
                whole = (span[0], span[0] + 2 * 3600) if by is By.MINUTE else span
                found[f"{key} by {by}"] = sums.of(key, by, whole)
                found[f"{key} by {by}, suspect too"] = sums.of(key, by, whole, suspect=True)
    return found


def _exactly(points: Points) -> tuple[object, ...]:
    """Floats to the last bit."""
    return (points.time.tolist(), points.value.tobytes(), *(column.tolist() for column in points[2:]))


def _account(journal: Journal) -> tuple[object, ...]:
    account = account_for(journal.stored, journal.unusable, journal.overwritten, journal.declared)
    return (journal.station, journal.journal, journal.conflicts, journal.set_aside, account)


def duplicates(reader: Reader) -> int:
    """Return how many records came again; this depends on what the broker delivers twice."""
    return sum(journal.duplicates for journal in reader.journals())


def as_of_today(work: Recompute, out: Path) -> list[list[str]]:
    """Return all layers as a recompute writes them."""
    work.write(out, None, DATE_IN_FUTURE)
    with out.open(encoding="utf-8", newline="") as file:
        return sorted(csv.reader(file))


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Return which questions are answered otherwise, and how; for a failing test to show."""
    names = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    return [f"{name}: {str(one.get(name))[:300]} / {str(other.get(name))[:300]}" for name in names]
