"""Rollups kept in step with the log, and read together with it.

Whoever changes the log marks (block, series) in the same transaction. `Rollups.step` makes closed blocks anew, piece by
piece in the writer's thread; `RollupReader` takes stored buckets where nothing is marked and the log elsewhere, in one
reading transaction. So an answer never depends on how far the work has come.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cloud_ingest.aggregates import USABLE, Buckets, combined, of_rows, usable, wind_of
from cloud_ingest.columns import SeriesKey
from cloud_ingest.local_time import By, days_between, end_of, starts_of, widened
from cloud_ingest.observation_log import ObservationLog
from cloud_ingest.registry import Registry
from cloud_ingest.rollup_marks import BLOCK_S, marked_blocks
from cloud_ingest.rollup_table import RollupTable
from cloud_ingest.store import Store, Transaction

CLOSED_AFTER_S = 1800  # what comes later makes a block anew
SERIES_AT_ONCE = 64
LOOK_EVERY_S = 60.0
BUDGET_S = 0.2  # of one step; then the messages that wait are stored
BUSY_EVERY_S = 2.0
DAYS_AT_ONCE = 10  # of a comparison
SPEED_OF = {"wind_from_direction": "wind_speed"}

Span = tuple[int, int]  # first < time <= last


class Measured(NamedTuple):
    """A series as rollups need it; `speed` is the series of the wind's speed where this is its direction."""

    number: int
    scale: float
    counter: bool = False
    speed: int | None = None
    speed_scale: float = float("nan")

    @property
    def scales(self) -> dict[int, float]:
        """Return the scale of each series it is made of."""
        return {self.number: self.scale} | ({} if self.speed is None else {self.speed: self.speed_scale})


def measured(registry: Registry, numbers: Mapping[SeriesKey, int], key: SeriesKey) -> Measured:
    """Return how a series that is in the store is read. Raises KeyError."""
    parameter = registry.parameter(key.parameter)
    name = SPEED_OF.get(parameter.name) if parameter else None
    code = registry.vocabulary.by_name[name].code if name else 0
    speed = numbers.get(SeriesKey(key.station, key.sensor, code)) if name else None
    counter = parameter is not None and parameter.kind == "counter"
    return Measured(numbers[key], float(registry.scale[key.parameter]), counter, speed, float(registry.scale[code]))


def basis(registry: Registry) -> str:
    """Return what rollups depend on besides the log: time zone, scales, and what the vocabulary says of each code."""
    said = [(one.code, one.kind, one.decimals) for one in registry.vocabulary]
    return f"{registry.zone.key} {hashlib.sha256(repr(sorted(said)).encode()).hexdigest()[:16]}"


@dataclass
class Rollups:
    """The writer's side."""

    store: Store
    registry: Registry
    _next: float = field(default=0.0, init=False)
    _checked: bool = field(default=False, init=False)

    def step(self, now_s: float, *, busy: bool = False, clock_s: float | None = None) -> int:
        """Make pieces anew for a fifth of a second, or while ingest is busy one now and then; return how many.

        now_s: unix seconds; clock_s: monotonic. Raises StoreUnavailable.
        """
        begun = time.monotonic() if clock_s is None else clock_s
        if begun < self._next:
            return 0
        pieces = 0
        while self._piece(int(now_s) - CLOSED_AFTER_S):
            pieces += 1
            if busy:
                self._next = begun + BUSY_EVERY_S
                return pieces
            if time.monotonic() - begun > BUDGET_S:
                return pieces
        self._next = begun + LOOK_EVERY_S
        return pieces

    def finish(self, now_s: float) -> int:
        """Make all closed blocks anew; return how many pieces that were."""
        pieces = 0
        while self._piece(int(now_s) - CLOSED_AFTER_S):
            pieces += 1
        return pieces

    def _piece(self, closed_s: int) -> bool:
        with self.store.transaction() as transaction:
            if not self._checked and not transaction.rollups.is_made_with(basis(self.registry)):
                transaction.rollups.begin_anew(basis(self.registry))
            found = transaction.waiting_rollups(closed_s, SERIES_AT_ONCE)
            if found is not None:
                self._make(transaction, *found)
        self._checked = True
        return found is not None

    def _make(self, transaction: Transaction, block: int, marked: list[int]) -> None:
        zone = self.registry.zone
        first, last = widened(block * BLOCK_S, (block + 1) * BLOCK_S, By.HOUR, zone)
        wanted = [measured(self.registry, self.store.series, key) for key in self._with_directions(marked)]
        made = scanned(transaction.log, wanted, (first, last), self.registry)
        kept_before = transaction.rollups.archived_before()
        days = days_between(first, last, zone)
        for number, hours in made.items():
            if first < kept_before:
                hours = _joined(transaction.rollups.read(number, By.HOUR, first, last), hours, kept_before)
            transaction.rollups.replace(number, By.HOUR, first, last, hours)
            until = end_of(days[-1], By.DAY, zone)
            whole = transaction.rollups.read(number, By.HOUR, days[0], until)
            transaction.rollups.replace(number, By.DAY, days[0], until, longer(whole, By.DAY, self.registry))
        transaction.strike_rollup_marks(block, marked)

    def _with_directions(self, marked: Iterable[int]) -> list[SeriesKey]:
        """Return the series, and those whose vector means are made of them."""
        keys = {self.store.keys[number]: None for number in marked}
        by_name = self.registry.vocabulary.by_name
        for direction, speed in SPEED_OF.items():
            for key in [one for one in keys if one.parameter == by_name[speed].code]:
                other = key._replace(parameter=by_name[direction].code)
                if other in self.store.series:
                    keys[other] = None
        return list(keys)


def scanned(
    log: ObservationLog,
    wanted: Sequence[Measured],
    span: Span,
    registry: Registry,
    by: By = By.HOUR,
    flags: tuple[int, ...] = USABLE,
) -> dict[int, Buckets]:
    """Return minutes or hours made from the log; the span has whole ones."""
    scales = {number: scale for one in wanted for number, scale in one.scales.items()}
    shown = log.shown(scales, span[0] + 1, span[1])
    made = {}
    for one in wanted:
        rows = shown[one.number]
        wind = None if one.speed is None else wind_of(rows, shown[one.speed], flags)
        starts = starts_of(rows.time, by, registry.zone)
        made[one.number] = of_rows(rows, starts, counter=one.counter, wind=wind, flags=flags)
    return made


def longer(buckets: Buckets, by: By, registry: Registry) -> Buckets:
    """Return days of hours, or months of days."""
    return combined(buckets, starts_of(buckets["start"] + 1, by, registry.zone))


@dataclass(frozen=True)
class RollupReader:
    """Buckets of one moment of the store: call it within one reading transaction."""

    connection: sqlite3.Connection
    registry: Registry

    def hours(self, one: Measured, span: Span) -> Buckets:
        """Return the hours of a span of whole hours."""
        stale = self._stale(one, span)
        stored = RollupTable(self.connection).read(one.number, By.HOUR, *span)
        parts = [stored[~_within(stored, stale)]]
        log = ObservationLog(self.connection)
        parts += [scanned(log, [one], part, self.registry)[one.number] for part in stale]
        return _in_order(parts)

    def days(self, one: Measured, span: Span) -> Buckets:
        """Return the days of a span of whole local days."""
        zone = self.registry.zone
        stale = [widened(*part, By.DAY, zone) for part in self._stale(one, span)]
        stored = RollupTable(self.connection).read(one.number, By.DAY, *span)
        parts = [stored[~_within(stored, stale)]]
        parts += [longer(self.hours(one, part), By.DAY, self.registry) for part in _merged(stale)]
        return _in_order(parts)

    def last_before(self, one: Measured, moment: int) -> float:
        """Return the last usable value not after a moment (the border of an hour), NaN when there is none."""
        stale = self._stale(one, (0, moment))
        table, log = RollupTable(self.connection), ObservationLog(self.connection)
        found = table.last_usable(one.number, moment)
        while found is not None and _is_within(found[0], stale):
            found = table.last_usable(one.number, found[0])
        for first, last in reversed(stale):
            if found is not None and last <= found[0]:
                break
            for end in range(last, first, -BLOCK_S):
                rows = log.shown({one.number: one.scale}, max(end - BLOCK_S, first) + 1, end)[one.number]
                values = rows.value[usable(rows)]
                if len(values):
                    return float(values[-1])
        return float("nan") if found is None else found[1]

    def _stale(self, one: Measured, span: Span) -> list[Span]:
        """Return the parts of a span (whole hours) that the log alone knows, in order."""
        if not RollupTable(self.connection).is_made_with(basis(self.registry)):
            return [span]
        blocks = marked_blocks(self.connection, one.scales, *span)
        whole = (widened(block * BLOCK_S, (block + 1) * BLOCK_S, By.HOUR, self.registry.zone) for block in blocks)
        return _merged([(max(first, span[0]), min(last, span[1])) for first, last in whole])


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


def _in_order(parts: Sequence[Buckets]) -> Buckets:
    whole = np.concatenate(parts)
    return whole[np.argsort(whole["start"], kind="stable")]


def _joined(stored: Buckets, made: Buckets, kept_before: int) -> Buckets:
    """Hours whose observations are in an archive stay as they are; what the log has of others is added."""
    kept = stored[stored["start"] < kept_before]
    return _in_order([kept, made[~np.isin(made["start"], kept["start"])]])


def differing(
    connection: sqlite3.Connection,
    registry: Registry,
    numbers: Mapping[SeriesKey, int],
    compared: Iterable[SeriesKey],
) -> dict[SeriesKey, int]:
    """Return by series how many stored hours and days are not what the log comes to; marked ones are left out, and
    those whose observations are in an archive."""
    found: dict[SeriesKey, int] = {}
    wanted = {key: measured(registry, numbers, key) for key in compared}
    for span in _windows(connection, registry):
        connection.execute("BEGIN")
        reader = RollupReader(connection, registry)
        made = scanned(ObservationLog(connection), list(wanted.values()), span, registry)
        for key, one in wanted.items():
            hours = made[one.number]
            rows = _unlike(hours, reader.hours(one, span))
            rows += _unlike(longer(hours, By.DAY, registry), reader.days(one, span))
            if rows:
                found[key] = found.get(key, 0) + rows
        connection.execute("COMMIT")
    return found


def _windows(connection: sqlite3.Connection, registry: Registry) -> Iterator[Span]:
    """Yield all the time there is, in whole local days."""
    ends = connection.execute(
        "SELECT min(time) - 1 AS begin, max(time) AS until FROM log UNION ALL"
        " SELECT min(start), max(start) + 3600 FROM rollups"
    ).fetchall()
    begins, untils = [one for one, _ in ends if one is not None], [one for _, one in ends if one is not None]
    archived = RollupTable(connection).archived_before()
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
