"""Rollups and the log as one: stored buckets where nothing is marked, the log elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select

from cloud_ingest.aggregates import Buckets, usable
from cloud_ingest.book_tables import rollups
from cloud_ingest.columns import SeriesKey
from cloud_ingest.database import among
from cloud_ingest.local_time import LAST_MOMENT, By, days_between, end_of, widened
from cloud_ingest.observations import Moment
from cloud_ingest.registry import Registry
from cloud_ingest.rollup_marks import BLOCK_S, marked, marked_blocks
from cloud_ingest.rollup_table import RollupTable
from cloud_ingest.rollups import Measured, Span, basis, in_order, longer, measured, scanned

DAYS_AT_ONCE = 10  # of a comparison


@dataclass(frozen=True)
class RollupReader:
    """Buckets of one moment of the store: call it within one reading transaction."""

    moment: Moment
    registry: Registry

    def hours(self, one: Measured, span: Span) -> Buckets:
        """Return the hours of a span of whole hours."""
        stale = self._stale(one, span)
        stored = RollupTable(self.moment.books).read(one.number, By.HOUR, *span)
        parts = [stored[~_within(stored, stale)]]
        log = self.moment.log
        parts += [scanned(log, [one], part, self.registry)[one.number] for part in stale]
        return in_order(parts)

    def days(self, one: Measured, span: Span) -> Buckets:
        """Return the days of a span of whole local days."""
        zone = self.registry.zone
        stale = [widened(*part, By.DAY, zone) for part in self._stale(one, span)]
        stored = RollupTable(self.moment.books).read(one.number, By.DAY, *span)
        parts = [stored[~_within(stored, stale)]]
        parts += [longer(self.hours(one, part), By.DAY, self.registry) for part in _merged(stale)]
        return in_order(parts)

    def last_before(self, one: Measured, moment: int) -> float:
        """Return the last usable value not after a moment (the border of an hour), NaN when there is none."""
        stale = self._stale(one, (0, moment))
        table, log = RollupTable(self.moment.books), self.moment.log
        found = table.last_usable(one.number, moment)
        while found is not None and _is_within(found[0], stale):
            found = table.last_usable(one.number, found[0])
        for first, last in reversed(stale):
            if found is not None and last <= found[0]:
                break
            while (end := log.newest_time(last)) is not None and end > first:
                last = max(end - BLOCK_S, first)
                rows = log.shown({one.number: one.scale}, last + 1, end)[one.number]
                values = rows.value[usable(rows)]
                if len(values):
                    return float(values[-1])
        return float("nan") if found is None else found[1]

    def counts(self, numbers: Iterable[int], span: Span) -> dict[int, tuple[int, int]]:
        """Return (rows, usable rows) by series in a span of whole local days; a series without any is not there."""
        wanted = sorted(numbers)
        stale = self._stale_days(wanted, span)
        counted: dict[int, tuple[int, int]] = {}
        for day, series in stale.items():
            until = end_of(day, By.DAY, self.registry.zone)
            for number, (n, n_usable) in self.moment.log.counts(series, day + 1, until).items():
                _add(counted, number, n, n_usable)
        days = select(rollups.c.series, rollups.c.n, rollups.c.n_usable, rollups.c.start).where(
            rollups.c.level == 2,
            (rollups.c.start >= span[0]) & (rollups.c.start < span[1]),
            among(self.moment.books, rollups.c.series, wanted),
        )
        for number, n, n_usable, start in self.moment.books.execute(days):
            if number not in stale.get(start, ()):
                _add(counted, number, n, n_usable)
        return counted

    def _stale_days(self, wanted: Sequence[int], span: Span) -> dict[int, set[int]]:
        """Return the series that only the log knows, by the start of a local day."""
        zone = self.registry.zone
        if not RollupTable(self.moment.books).is_made_with(basis(self.registry)):
            return {day: set(wanted) for day in days_between(*span, zone)}
        marks: dict[int, set[int]] = {}
        for block, number in marked(self.moment.books, wanted, *span):
            marks.setdefault(block, set()).add(number)
        stale: dict[int, set[int]] = {}
        for block, numbers in marks.items():
            hours = widened(block * BLOCK_S, (block + 1) * BLOCK_S, By.HOUR, zone)
            for day in days_between(max(hours[0], span[0]), min(hours[1], span[1]), zone):
                stale.setdefault(day, set()).update(numbers)
        return stale

    def _stale(self, one: Measured, span: Span) -> list[Span]:
        """Return the parts of a span (whole hours) that the log alone knows, in order."""
        if not RollupTable(self.moment.books).is_made_with(basis(self.registry)):
            return [span]
        blocks = marked_blocks(self.moment.books, one.scales, *span)
        whole = (widened(block * BLOCK_S, (block + 1) * BLOCK_S, By.HOUR, self.registry.zone) for block in blocks)
        return _merged([(max(first, span[0]), min(last, span[1])) for first, last in whole])


def _add(counted: dict[int, tuple[int, int]], number: int, n: int, n_usable: int) -> None:
    before = counted.get(number, (0, 0))
    counted[number] = (before[0] + n, before[1] + n_usable)


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for first, last in spans:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _within(buckets: Buckets, spans: Sequence[Span]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    inside = np.zeros(len(buckets), np.bool_)
    for first, last in spans:
        inside |= (buckets["start"] >= first) & (buckets["start"] < last)
    return inside


def _is_within(start: int, spans: Sequence[Span]) -> bool:
    return any(first <= start < last for first, last in spans)


def differing(
    snapshot: Callable[[], AbstractContextManager[Moment]],
    registry: Registry,
    numbers: Mapping[SeriesKey, int],
    compared: Iterable[SeriesKey],
) -> dict[SeriesKey, int]:
    """Return by series how many stored hours and days are not what the log comes to; marked ones are left out, and
    those whose observations are in an archive."""
    found: dict[SeriesKey, int] = {}
    wanted = {key: measured(registry, numbers, key) for key in compared}
    with snapshot() as moment:
        windows = list(_windows(moment, registry))
    for span in windows:
        with snapshot() as moment:
            for key, rows in _differing_within(moment, registry, wanted, span):
                found[key] = found.get(key, 0) + rows
    return found


def _differing_within(
    moment: Moment, registry: Registry, wanted: Mapping[SeriesKey, Measured], span: Span
) -> Iterator[tuple[SeriesKey, int]]:
    reader = RollupReader(moment, registry)
    made = scanned(moment.log, list(wanted.values()), span, registry)
    for key, one in wanted.items():
        hours = made[one.number]
        rows = _unlike(hours, reader.hours(one, span))
        rows += _unlike(longer(hours, By.DAY, registry), reader.days(one, span))
        if rows:
            yield key, rows


def _windows(moment: Moment, registry: Registry) -> Iterator[Span]:
    """Yield all the time there is, in whole local days."""
    oldest, newest = moment.log.oldest_time(0), moment.log.newest_time(LAST_MOMENT)
    logged = (None if oldest is None else oldest - 1, newest)
    summed = select(func.min(rollups.c.start), func.max(rollups.c.start) + 3600)
    ends = [logged, *(tuple(row) for row in moment.books.execute(summed))]
    begins, untils = [one for one, _ in ends if one is not None], [one for _, one in ends if one is not None]
    archived = RollupTable(moment.books).archived_before()
    if not begins or max(untils) <= archived:
        return
    begin = widened(archived - 1, archived, By.DAY, registry.zone)[1] if min(begins) < archived else min(begins)
    days = days_between(begin, max(untils), registry.zone)
    for at in range(0, len(days), DAYS_AT_ONCE):
        part = days[at : at + DAYS_AT_ONCE]
        yield part[0], end_of(part[-1], By.DAY, registry.zone)


def _unlike(one: Buckets, other: Buckets) -> int:
    """Return how many buckets are in only one of them, or not the same to the last bit."""
    bits = [{int(row["start"]): row.tobytes() for row in buckets} for buckets in (one, other)]
    return sum(bits[0].get(start) != bits[1].get(start) for start in bits[0].keys() | bits[1].keys())
