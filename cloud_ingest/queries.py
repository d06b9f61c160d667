"""Questions and answers: layers of a series, sums over local time, the newest of everything, completeness.

Each function reads one moment of the store (`with reader.snapshot() as moment:`). HTTP and command line call them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from sqlalchemy import select

from cloud_ingest.aggregates import DIGITS, USABLE_AND_SUSPECT, Buckets, rain, vector_mean
from cloud_ingest.book_tables import latest, series
from cloud_ingest.columns import Bytes, Floats, Ints, SeriesKey, numbers_of, read_series
from cloud_ingest.errors import QuestionRefused
from cloud_ingest.local_time import By, ends_of, widened
from cloud_ingest.observations import Layered, Moment
from cloud_ingest.registry import Registry
from cloud_ingest.rollup_reading import RollupReader
from cloud_ingest.rollups import Measured, longer, measured, scanned
from firmware.record import MISSING

_KEY = itemgetter(0, 1, 2)
NOTHING: Ints = np.zeros(0, np.int64)
MOST_BUCKETS = 10_000
MOST_SCANNED_S = 366 * 86400
SHORTEST_S = {By.MINUTE: 60, By.HOUR: 3600, By.DAY: 23 * 3600, By.MONTH: 28 * 86400}


class LayerName(StrEnum):
    """raw: the count on its scale; calibrated: that with its calibrations, and what is derived; flagged: and tested."""

    RAW = "raw"
    CALIBRATED = "calibrated"
    FLAGGED = "flagged"


class Points(NamedTuple):
    """A series from one moment to another, both included; `calibration` 0 where the count is the value."""

    time: Ints
    value: Floats
    flag: Bytes
    failed: Ints
    calibration: Ints

    def take(self, rows: Ints) -> Points:
        """Return these rows."""
        return Points(self.time[rows], self.value[rows], self.flag[rows], self.failed[rows], self.calibration[rows])


NO_POINTS = Points(NOTHING, np.zeros(0), np.zeros(0, np.uint8), NOTHING, NOTHING)


class Aggregate(NamedTuple):
    """What start < time <= end comes to; what cannot be said is None.

    `mean` of a wind direction is that of the mean vector, and `vector_speed` its length; `sum` is rain from a counter.
    """

    start: int
    end: int
    n: int
    n_usable: int
    percent_good: float
    mean: float | None
    minimum: float | None
    maximum: float | None
    sum: float | None
    vector_speed: float | None
    expected: int | None
    completeness: float | None


class Newest(NamedTuple):
    """The newest value of a series, and the tests that objected to it."""

    key: SeriesKey
    time: int
    value: float | None
    flag: int
    failed: int


class Complete(NamedTuple):
    """How much of what a series should have had has come; expected is None for a station that no network names."""

    key: SeriesKey
    expected: int | None
    came: int
    usable: int
    percent: float | None


def series_numbers(moment: Moment, station: str | None = None) -> dict[SeriesKey, int]:
    """Return the numbers of the series that are in the store, of one station or of all."""
    return {key: number for number, key in read_series(moment.books, station).items()}


def layer(moment: Moment, registry: Registry, key: SeriesKey, span: tuple[int, int], name: LayerName) -> Points:
    """Return one layer of a series. Raises QuestionRefused."""
    return layers_of(moment, registry, [key], span, name)[0]


def layers_of(
    moment: Moment, registry: Registry, keys: Sequence[SeriesKey], span: tuple[int, int], name: LayerName
) -> list[Points]:
    """Return one layer of each of these series, in their order; one that is not there has no points. Raises
    QuestionRefused."""
    if span[1] - span[0] > MOST_SCANNED_S:
        raise QuestionRefused("more than 366 days of single values: ask year by year, or for hours or days")
    numbers = numbers_of(moment.books, keys)
    found = moment.log.layered(numbers.values(), *span)
    return [
        _points(found[numbers[key]], float(registry.scale[key.parameter]), name) if key in numbers else NO_POINTS
        for key in keys
    ]


def _points(rows: Layered, scale: float, name: LayerName) -> Points:
    seen = rows.count / scale
    absent = rows.count == MISSING
    if absent.any():
        seen[absent] = np.nan
    if name is not LayerName.RAW:
        made = ~np.isnan(rows.value)
        seen[made] = rows.value[made]
    return Points(rows.time, seen, rows.flag, rows.failed, rows.calibration)


@dataclass(frozen=True)
class Sums:
    """Sums over local time, of one moment of the store."""

    moment: Moment
    registry: Registry
    now_s: int

    def of(self, key: SeriesKey, by: By, span: tuple[int, int], *, suspect: bool = False) -> list[Aggregate]:
        """Return what a series came to in all the whole minutes … months that have something of the span, in order;
        those without a row are not there. `suspect`: flag 3 counts too (not for the total before the span). Raises
        QuestionRefused."""
        refuse_too_much(by, span, scans=suspect or by is By.MINUTE)
        numbers = series_numbers(self.moment, key.station)
        if key not in numbers:
            return []
        one = measured(self.registry, numbers, key)
        first, last = widened(*span, by, self.registry.zone)
        begin = widened(first, first, By.HOUR, self.registry.zone)[0]  # rain needs the minutes before
        buckets = self._scanned(one, by, (begin, last)) if suspect else self._buckets(one, by, (begin, last))
        fell = self._rain(one, buckets, begin)
        inside = buckets["start"] >= first
        return self._told(key, by, buckets[inside], fell[inside])

    def _rain(self, one: Measured, buckets: Buckets, begin: int) -> Floats:
        if not one.counter:
            return np.full(len(buckets), np.nan)
        return rain(buckets, RollupReader(self.moment, self.registry).last_before(one, begin))

    def _buckets(self, one: Measured, by: By, whole: tuple[int, int]) -> Buckets:
        reader = RollupReader(self.moment, self.registry)
        if by is By.MINUTE:
            return scanned(self.moment.log, [one], whole, self.registry, by)[one.number]
        if by is By.HOUR:
            return reader.hours(one, whole)
        days = reader.days(one, whole)
        return longer(days, by, self.registry) if by is By.MONTH else days

    def _scanned(self, one: Measured, by: By, whole: tuple[int, int]) -> Buckets:
        finest = By.MINUTE if by is By.MINUTE else By.HOUR
        log = self.moment.log
        buckets = scanned(log, [one], whole, self.registry, finest, USABLE_AND_SUSPECT)[one.number]
        for step in (By.DAY, By.MONTH) if by is By.MONTH else (By.DAY,) if by is By.DAY else ():
            buckets = longer(buckets, step, self.registry)
        return buckets

    def _told(self, key: SeriesKey, by: By, buckets: Buckets, fell: Floats) -> list[Aggregate]:
        parameter = self.registry.parameter(key.parameter)
        kind = parameter.kind if parameter else None
        interval_s = interval_of(self.registry, key)
        ends = ends_of(buckets["start"], by, self.registry.zone).tolist()
        answers = []
        for row, end, sum_ in zip(buckets.tolist(), ends, fell.tolist(), strict=True):
            start, n, n_usable, n_good, total, low, high, _, _, _, n_vector, east, north = row
            mean, lowest, highest, speed = None, None, None, None
            if kind == "direction":
                speed, mean = vector_mean(east, north, n_vector)
            elif kind != "counter" and n_usable:
                mean, lowest, highest = total / n_usable, low, high
            expected = _expected(interval_s, start, min(end, self.now_s))
            answers.append(
                Aggregate(
                    *(start, end, n, n_usable, round(100 * n_good / n, 2)),
                    *(_rounded(mean), _rounded(lowest), _rounded(highest), _rounded(sum_), _rounded(speed)),
                    *(expected, _percent(n, expected)),
                )
            )
        return answers

    def completeness(self, span: tuple[int, int], station: str | None = None) -> list[Complete]:
        """Return for every series how much came in the whole local days that have something of the span, until now."""
        refuse_too_much(By.DAY, span, scans=False)
        first, last = widened(*span, By.DAY, self.registry.zone)
        reader = RollupReader(self.moment, self.registry)
        numbers = series_numbers(self.moment, station)
        counted = reader.counts(numbers.values(), (first, last))
        answers = []
        for key, number in numbers.items():
            came, usable = counted.get(number, (0, 0))
            if self.registry.parameter(key.parameter) is None:
                usable = 0  # nobody knows its scale
            expected = _expected(interval_of(self.registry, key), first, min(last, self.now_s))
            answers.append(Complete(key, expected, came, usable, _percent(came, expected)))
        return answers


def newest(moment: Moment, station: str | None = None) -> list[Newest]:
    """Return the newest value of every series, of one station or of all."""
    columns = (series.c.station, series.c.sensor, series.c.parameter)
    said = (latest.c.time, latest.c.value, latest.c.flag, latest.c.failed)
    query = select(*columns, *said).join_from(latest, series, latest.c.series == series.c.id)
    if station is not None:
        query = query.where(series.c.station == station)
    rows = sorted(moment.books.execute(query).fetchall(), key=_KEY)  # here: databases sort text in ways of their own
    return [Newest(SeriesKey(*row[:3]), *row[3:]) for row in rows]


def interval_of(registry: Registry, key: SeriesKey) -> int | None:
    """Return how often a series should have a record, None for a station that the network does not name."""
    station = registry.stations.get(key.station)
    if station is None:
        return None
    own = {sensor.number: sensor.record_interval_s for sensor in station.sensors}.get(key.sensor)
    return own or station.record_interval_s


def sensor_of(numbers: Mapping[SeriesKey, int], station: str, parameter: int) -> int:
    """Return the lowest sensor of a station that has this parameter, 0 when none has."""
    return min((key.sensor for key in numbers if key.station == station and key.parameter == parameter), default=0)


def refuse_too_much(by: By, span: tuple[int, int], *, scans: bool) -> None:
    """Refuse what would take too long or answer too much. Raises QuestionRefused."""
    if span[1] < span[0]:
        raise QuestionRefused("`to` is before `from`: turn them round")
    if (span[1] - span[0]) / SHORTEST_S[by] > MOST_BUCKETS:
        raise QuestionRefused(f"more than {MOST_BUCKETS:,} spans of one {by}: ask for a shorter time or longer spans")
    if scans and span[1] - span[0] > MOST_SCANNED_S:
        raise QuestionRefused("more than 366 days at once: single values have to be read for this; ask year by year")


def _expected(interval_s: int | None, start: int, end: int) -> int | None:
    return None if interval_s is None else max(end - start, 0) // interval_s


def _percent(came: int, expected: int | None) -> float | None:
    return None if not expected else round(min(100.0, 100 * came / expected), 2)


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, DIGITS)
