"""Rollups kept in step with the log, and read together with it.

Whoever changes the log marks (block, series) in the same transaction. `Rollups.step` makes closed blocks anew, piece by
piece in the writer's thread; `RollupReader` takes stored buckets where nothing is marked and the log elsewhere, in one
reading transaction. So an answer never depends on how far the work has come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cloud_ingest.aggregates import USABLE, Buckets, combined, of_rows, wind_of
from cloud_ingest.columns import SeriesKey
from cloud_ingest.local_time import By, days_between, end_of, starts_of, widened
from cloud_ingest.observations import Observations
from cloud_ingest.pace import Pace
from cloud_ingest.registry import Registry
from cloud_ingest.rollup_marks import BLOCK_S
from cloud_ingest.store import Store
from cloud_ingest.transaction import Transaction

CLOSED_AFTER_S = 1800  # what comes later makes a block anew
SERIES_AT_ONCE = 64
LOOK_EVERY_S = 60.0
BUDGET_S = 0.2  # of one step; then the messages that wait are stored
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
    _pace: Pace = field(default_factory=lambda: Pace(BUDGET_S, LOOK_EVERY_S), init=False)
    _checked: bool = field(default=False, init=False)

    def step(self, now_s: float, *, busy: bool = False, clock_s: float | None = None) -> int:
        """Make pieces anew for a fifth of a second, or while ingest is busy one now and then; return how many.

        now_s: unix seconds; clock_s: monotonic. Raises StoreUnavailable.
        """
        closed_s = int(now_s) - CLOSED_AFTER_S
        return self._pace.turn(lambda: self._piece(closed_s), busy=busy, clock_s=clock_s)

    def is_due(self, clock_s: float | None = None) -> bool:
        """Return whether a step would look for more."""
        return self._pace.is_due(clock_s)

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
    log: Observations,
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


def in_order(parts: Sequence[Buckets]) -> Buckets:
    """Return all of them in order of start."""
    whole = np.concatenate(parts)
    return whole[np.argsort(whole["start"], kind="stable")]


def _joined(stored: Buckets, made: Buckets, kept_before: int) -> Buckets:
    """Hours whose observations are in an archive stay as they are; what the log has of others is added."""
    kept = stored[stored["start"] < kept_before]
    return in_order([kept, made[~np.isin(made["start"], kept["start"])]])
