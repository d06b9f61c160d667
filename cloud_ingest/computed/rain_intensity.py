"""Rain intensity from a counter's totals: the mean over hours, days, months, and the heaviest ten minutes in them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cloud_ingest.aggregates import DIGITS, USABLE, USABLE_AND_SUSPECT
from cloud_ingest.columns import Floats, Ints, SeriesKey
from cloud_ingest.computed.answer import LEAST_PERCENT, Computed, Question, Value, allow, lack, refuse
from cloud_ingest.local_time import By, ends_of, starts_of
from cloud_ingest.queries import Aggregate, LayerName, interval_of, layer, refuse_too_much
from station_config.meteorology import rain_intensity, rain_intensity_of_totals

NAME = "rain_intensity_computed"
WINDOW_S = 600
HEAVIEST = "heaviest_10_min"


def rain_intensity_computed(question: Question) -> Computed:
    """Return mm/h of each minute (over the ten that end with it), or of hours, days, months. Raises QuestionRefused."""
    allow(question, NAME, *By)
    key = question.key("rain_total")
    refuse_too_much(question.by, question.span, scans=True)
    refuse(NAME, question.station.id, ["rain_total, of which this station has no series"] if key is None else [])
    assert key is not None
    times, intensity = _intensities(question, key)
    values = _minutes(question, times, intensity)
    if question.by is not By.MINUTE:
        values = _longer(question, key, times, intensity)
    window_s = _window_s(question, key)
    tip_mm = {one.number: one.per_pulse for one in question.station.pulses}.get(key.sensor)
    return Computed(
        station=question.station.id,
        quantity=NAME,
        unit="mm/h",
        by=question.by,
        timezone=question.registry.zone.key,
        method=f"the counter's rise over at least {window_s // 60} minutes; of longer spans the sum by their length",
        source="WMO-No. 8, Guide to Instruments and Methods of Observation",
        demands=f"totals {window_s // 60} to {2 * window_s // 60} minutes apart; for {HEAVIEST} {LEAST_PERCENT:g} % of"
        " the rows. Less than one tip in that time reads as 0",
        inputs=(question.input(key, "increments of the total"),),
        values=values,
        resolution=None if tip_mm is None else round(float(rain_intensity(tip_mm, window_s)), DIGITS),
    )


def _window_s(question: Question, key: SeriesKey) -> int:
    """Return ten minutes, or the record interval where that is longer."""
    return max(WINDOW_S, interval_of(question.registry, key) or 0)


def _intensities(question: Question, key: SeriesKey) -> tuple[Ints, Floats]:
    """Return the times of the records in the span, and the intensity at each."""
    first, last = question.whole
    window_s = _window_s(question, key)
    span = (first + 1 - 2 * window_s, last)
    points = layer(question.sums.moment, question.registry, key, span, LayerName.FLAGGED)
    good = np.isin(points.flag, USABLE_AND_SUSPECT if question.suspect else USABLE)
    totals = np.where(good, points.value, np.nan)
    intensity = rain_intensity_of_totals(points.time, totals, window_s=window_s, longest_s=2 * window_s)
    inside = points.time > first
    return points.time[inside], intensity[inside]


def _minutes(question: Question, times: Ints, intensity: Floats) -> list[Value]:
    zone = question.registry.zone
    starts = starts_of(times, By.MINUTE, zone)
    newest = np.append(np.diff(starts) > 0, True)[: len(times)]  # the last record of each minute
    ends = ends_of(starts[newest], By.MINUTE, zone)
    rows = zip(starts[newest].tolist(), ends.tolist(), intensity[newest].tolist(), strict=True)
    return [
        Value(start, end, reason="no total about ten minutes before")
        if mm_h != mm_h
        else Value(start, end, round(mm_h, DIGITS))
        for start, end, mm_h in rows
    ]


def _longer(question: Question, key: SeriesKey, times: Ints, intensity: Floats) -> list[Value]:
    heaviest = _heaviest(starts_of(times, question.by, question.registry.zone), intensity)
    sums = question.sums_of(key, question.by, question.whole)
    return [_of_span(question, one, heaviest.get(one.start)) for one in sums.values()]


def _heaviest(starts: Ints, intensity: Floats) -> dict[int, float]:
    found: dict[int, float] = {}
    for start, mm_h in zip(starts.tolist(), intensity.tolist(), strict=True):
        if mm_h == mm_h:
            found[start] = max(mm_h, found.get(start, 0.0))
    return found


def _of_span(question: Question, one: Aggregate, heaviest: float | None) -> Value:
    reason = "not over yet" if one.end > question.sums.now_s else None
    if one.sum is None:
        reason = reason or "rain_total: no rise of the counter is known"
    parts: Mapping[str, float | None] = {
        HEAVIEST: None if heaviest is None or lack("", one, question.sums.now_s) else round(heaviest, DIGITS),
    }
    inputs = {} if one.sum is None else {"rain_mm": one.sum}
    if reason is not None or one.sum is None:
        return Value(one.start, one.end, parts=parts, inputs=inputs, reason=reason)
    mean = float(rain_intensity(one.sum, one.end - one.start))
    return Value(one.start, one.end, round(mean, DIGITS), parts, inputs)
