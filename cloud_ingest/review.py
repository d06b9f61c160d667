"""The review: soon after ingest, and once more when weeks have been seen, the layers are made from the counts again.

Ingest stores at once what one moment can tell. Spikes, stuck sensors, a probe in the air and a new calibration need
what came before and after. `Review.step` does one piece of that work, in the writer's thread, between two groups:

    SOON     what arrived since, within a minute; a long span goes piece by piece from its new end
    SETTLE   once a day: whole blocks of 30 days, by 35 days of past

It changes layers only: values, flags, failed tests. Counts and identities stay as they came.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cloud_ingest import topics
from cloud_ingest.columns import ARRIVAL_DTYPE, Arrivals, Counted, Layer, SeriesKey
from cloud_ingest.layers import BLOCK_S, SLOW_TESTS, make_layers
from cloud_ingest.observations import Observations
from cloud_ingest.qartod import Mask
from cloud_ingest.quality import worst
from cloud_ingest.registry import Registry
from cloud_ingest.review_spans import BESIDE_S, PAST_S, Depth, Span
from cloud_ingest.store import Store
from cloud_ingest.transaction import Latest, Transaction
from firmware.record import FAIL
from station_config.calibration import Calibration

SOON_EVERY_S = 60.0
SETTLE_EVERY_S = 86400.0
PIECE_S = 2 * 86400

Outgoing = tuple[str, bytes]


@dataclass
class Review:
    """Work to do between groups of messages. `clock_s` is monotonic."""

    store: Store
    registry: Registry
    _caught_up_s: float = field(default_factory=time.monotonic, init=False)
    _next: dict[Depth, float] = field(default_factory=lambda: {Depth.SOON: 0.0, Depth.SETTLE: 0.0}, init=False)

    def step(self, clock_s: float | None = None) -> list[Outgoing]:
        """Do one piece of what is due; return the live messages that changed. Raises StoreUnavailable."""
        now = time.monotonic() if clock_s is None else clock_s
        for depth, every_s in ((Depth.SOON, SOON_EVERY_S), (Depth.SETTLE, SETTLE_EVERY_S)):
            if now < self._next[depth]:
                continue
            with self.store.transaction() as transaction:
                spans = transaction.waiting_spans(depth)
                if spans:
                    # The newest first, of whatever station: years brought in from a file hold up no alert.
                    return self._piece(transaction, depth, max(spans, key=lambda one: one.last))
            self._next[depth] = now + every_s
            if depth is Depth.SOON:
                self._caught_up_s = now
        return []

    def is_due(self, clock_s: float | None = None) -> bool:
        """Return whether a step would look for more."""
        return (time.monotonic() if clock_s is None else clock_s) >= min(self._next.values())

    def behind_s(self, clock_s: float | None = None) -> float:
        """Return for how long more has been waiting for the soon review than it could do; 0.0 when all is done."""
        now = time.monotonic() if clock_s is None else clock_s
        return max(0.0, now - self._caught_up_s - SOON_EVERY_S)

    def finish(self) -> list[Outgoing]:
        """Do all that waits, whatever is due when."""
        messages = []
        for depth in Depth:
            while True:
                with self.store.transaction() as transaction:
                    spans = transaction.waiting_spans(depth)
                    if not spans:
                        break
                    messages += self._piece(transaction, depth, spans[0])
        return messages

    def _piece(self, transaction: Transaction, depth: Depth, span: Span) -> list[Outgoing]:
        """Review the newest piece of a span and strike it off."""
        last = transaction.log.newest_time(span.last)
        if last is None or last < span.first:
            transaction.reviewed(depth, span, span.first - 1)
            return []
        first = max(span.first, last - PIECE_S if depth is Depth.SOON else last - last % BLOCK_S)
        begin = first if depth is Depth.SOON else first - first % BLOCK_S
        messages = self._rework(transaction, depth, Span(span.station, begin, last))
        if messages is None:
            return []
        transaction.reviewed(depth, span, first - 1)
        return messages

    def _rework(self, transaction: Transaction, depth: Depth, span: Span) -> list[Outgoing] | None:
        """Return the live messages that changed; None when this has to be done once more, in another transaction."""
        made = made_layers(self.store, transaction, self.registry, span, depth, self.store.calibrations)
        compared = list(_compared(self.store, transaction, span, made, depth))
        changed = {key: _take(layer, other) for key, layer, other in compared if other.any()}
        numbers = {key: transaction.series_number(key) for key in changed}
        failed = _failed({numbers[key]: layer for key, layer in changed.items()})
        if not transaction.may_fail(span.station, failed):
            return None
        for key, layer in changed.items():
            transaction.log.put_layer(numbers[key], layer, derived=key not in made.counted)
        transaction.tell_failed(span.station, failed)  # the alerts may have acted on it
        return list(self._newest(transaction, {key: layer for key, layer, _ in compared}))

    def _newest(self, transaction: Transaction, layers: dict[SeriesKey, Layer]) -> Iterable[Outgoing]:
        """Put the newest values right. Layers that are stored as they should be say nothing of them: a store of its own
        may have had them from a transaction that failed."""
        newest = {key: self._latest_row(key, layer) for key, layer in layers.items()}
        known = transaction.latest(self.store.series[key] for key, row in newest.items() if row is not None)
        for key, row in newest.items():
            parameter = self.registry.parameter(key.parameter)
            if row is None or parameter is None or known.get(self.store.series[key]) == row:
                continue
            transaction.put_latest(self.store.series[key], *row)
            time_s, value, flag, _ = row
            shown = None if value is None else round(value, parameter.decimals)
            message = topics.live_message(shown, parameter.unit, flag, time_s, key.sensor)
            yield topics.live_topic(key.station, parameter.name), message

    def _latest_row(self, key: SeriesKey, layer: Layer) -> Latest | None:
        """Return what the layer says of the series' newest time; None when that is not in it."""
        at = np.flatnonzero(layer.time == self.store.latest_times.get(self.store.series.get(key, -1), -1))
        if not len(at):
            return None
        row = int(at[0])
        value = None if np.isnan(layer.value[row]) else float(layer.value[row])
        return int(layer.time[row]), value, int(layer.flag[row]), int(layer.failed[row])


def _failed(changed: Mapping[int, Layer]) -> Arrivals:
    """Return what fails of these series' changes, by time."""
    parts = [np.zeros(0, ARRIVAL_DTYPE)]
    for number, layer in changed.items():
        failed = layer.flag == FAIL
        rows = np.zeros(int(failed.sum()), ARRIVAL_DTYPE)
        rows["series"], rows["flag"] = number, FAIL
        rows["time"], rows["value"] = layer.time[failed], layer.value[failed]
        parts.append(rows)
    rows = np.concatenate(parts)
    return rows[np.argsort(rows["time"], kind="stable")]


@dataclass(frozen=True)
class Made:
    """The layers of a span as they follow from what records said."""

    counted: dict[SeriesKey, Counted]
    layers: dict[SeriesKey, Layer]


class Numbered(Protocol):
    """Who knows the numbers of series."""

    @property
    def series(self) -> Mapping[SeriesKey, int]:
        """Return them."""


class Logged(Protocol):
    """Who has the log."""

    @property
    def log(self) -> Observations:
        """Return it."""


def made_layers(
    store: Numbered,
    transaction: Logged,
    registry: Registry,
    span: Span,
    depth: Depth,
    calibrations: dict[SeriesKey, list[Calibration]],
) -> Made:
    """Return what a span's layers are by the counts around it."""
    keys = {number: key for key, number in store.series.items() if key.station == span.station}
    found = transaction.log.counted(keys, span.first - PAST_S[depth], span.last + BESIDE_S)
    counted = {keys[number]: one for number, one in found.items()}
    return Made(counted, make_layers(registry, calibrations, span.station, counted, depth))


def differences(
    store: Numbered, transaction: Logged, span: Span, made: Made, depth: Depth
) -> Iterable[tuple[SeriesKey, Layer]]:
    """Yield what is stored otherwise, or not at all, within the span."""
    for key, layer, other in _compared(store, transaction, span, made, depth):
        if other.any():
            yield key, _take(layer, other)


def _compared(
    store: Numbered, transaction: Logged, span: Span, made: Made, depth: Depth
) -> Iterable[tuple[SeriesKey, Layer, Mask]]:
    """Yield each layer within the span as it should be stored, and which of its rows are not."""
    numbers = {key: store.series.get(key) for key in made.layers}
    stored = transaction.log.layers(
        [number for number in numbers.values() if number is not None], span.first, span.last
    )
    for key, layer in made.layers.items():
        inside = (layer.time >= span.first) & (layer.time <= span.last)
        wanted = _take(layer, inside)
        number = numbers[key]
        now = stored.get(number) if number is not None else None
        if now is not None and depth is Depth.SOON:
            wanted = _with_slow_tests(wanted, now)
        yield key, wanted, _is_other(wanted, now, derived=key not in made.counted)


def _with_slow_tests(layer: Layer, stored: Layer) -> Layer:
    """A quick review keeps what the slow tests said before."""
    flag, failed = layer.flag.copy(), layer.failed.copy()
    at = np.searchsorted(stored.time, layer.time)
    there = at < len(stored.time)
    there[there] = stored.time[at[there]] == layer.time[there]
    slow = np.zeros(len(layer.time), np.int64)
    slow[there] = stored.failed[at[there]] & SLOW_TESTS
    keep = slow > 0
    flag[keep] = worst(flag[keep], stored.flag[at[keep]])
    return Layer(layer.time, layer.value, layer.calibration, flag, failed | slow)


def _is_other(layer: Layer, stored: Layer | None, *, derived: bool) -> Mask:
    """Return which rows differ from what is stored. A value without a calibration is its count, and not stored."""
    if stored is None or not len(stored.time):
        return np.ones(len(layer.time), np.bool_)
    at = np.minimum(np.searchsorted(stored.time, layer.time), len(stored.time) - 1)
    there = stored.time[at] == layer.time
    same_value = (layer.value == stored.value[at]) | (np.isnan(layer.value) & np.isnan(stored.value[at]))
    if not derived:
        same_value |= (layer.calibration == 0) & np.isnan(stored.value[at])
    same = there & same_value & (layer.calibration == stored.calibration[at])
    same &= (layer.flag == stored.flag[at]) & (layer.failed == stored.failed[at])
    other: Mask = ~same
    return other


def _take(layer: Layer, rows: Mask) -> Layer:
    return Layer(*(getattr(layer, name)[rows] for name in layer.__dataclass_fields__))
