"""The second half of ingest: from new records to dated, checked and derived observations, and what is newest now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_ingest import topics
from cloud_ingest.columns import ARRIVAL_DTYPE, Ints, Observed, SeriesKey
from cloud_ingest.decode import RECORD_DTYPE, Records
from cloud_ingest.derivation import Column, as_rows, derive, nothing
from cloud_ingest.intake import NewRecords, segments
from cloud_ingest.quality import Flags, Test, Values, failed_range, gross_range, with_record_flags
from cloud_ingest.registry import Limits, Registry, is_event
from cloud_ingest.restamp import stamps
from cloud_ingest.store import Store, Transaction
from firmware.record import CLOCK_UNSET_BELOW, EVENT_BOOT, EVENT_CLOCK_SET, FAIL, MISSING
from station_config.calibration import apply

AHEAD_S = 3600  # how far a station's clock may be ahead of ours

_EVENT_FIELDS = ("seq", "time", "count", "sensor", "parameter")
_RECORD_FIELDS = (*_EVENT_FIELDS, "flag")


@dataclass(frozen=True)
class Dated:
    """Observations with their true time."""

    records: Records
    journals: Ints
    times: Ints


class Observer:
    """The second half of one transaction."""

    def __init__(self, transaction: Transaction, store: Store, registry: Registry, now_s: int) -> None:
        self._transaction = transaction
        self._store = store
        self._registry = registry
        self._now_s = now_s

    def observe(self, new: NewRecords) -> list[tuple[str, bytes]]:
        """Date, check, log, derive; return the messages of live topics that changed."""
        observed = self._check(self._date(new))
        kept = observed.take(self._transaction.add_observed(observed))
        columns = self._columns(kept)
        derived = self._derive(columns)
        self._hand_on(kept, derived)
        self._ask_for_review(columns)
        return list(self._newest({**columns, **derived}))

    def _date(self, new: NewRecords) -> Dated:
        """Events go to their own table, records without a date wait, and those whose date is now here join in."""
        event, unset = is_event(new.records["parameter"]), new.records["time"] < CLOCK_UNSET_BELOW
        ready = ~event & ~unset
        parts = [Dated(new.records[ready], new.journals[ready], new.records["time"][ready].astype(np.int64))]
        for journal, rows in segments(new.journals):
            records = new.records[rows]
            if event[rows].any():
                self._transaction.add_events(journal, _tuples(records[event[rows]], _EVENT_FIELDS))
            if unset[rows].any():
                self._transaction.add_unstamped(journal, _tuples(records[unset[rows]], _RECORD_FIELDS))
            if journal in self._store.waiting_for_clock and self._may_date(journal, records):
                parts += self._restamped(journal)
        return Dated(
            np.concatenate([part.records for part in parts]),
            np.concatenate([part.journals for part in parts]),
            np.concatenate([part.times for part in parts]),
        )

    def _may_date(self, journal: int, records: Records) -> bool:
        """Return whether these new records can lead to a date: an event, one without a date, one that fills a gap."""
        turning = np.isin(records["parameter"], (EVENT_BOOT, EVENT_CLOCK_SET)) | (records["time"] < CLOCK_UNSET_BELOW)
        return bool(turning.any()) or int(records["seq"].min()) < self._transaction.newest_event_seq(journal)

    def _restamped(self, journal: int) -> Iterator[Dated]:
        seqs, events = self._transaction.unstamped(journal)
        for stamp in stamps(seqs, events, self._transaction.ledger(journal)):
            rows = self._transaction.take_unstamped(journal, stamp)
            records: Records = np.zeros(len(rows), RECORD_DTYPE)
            for name, column in zip(_RECORD_FIELDS, zip(*rows, strict=True), strict=True):
                records[name] = column
            records = records[~is_event(records["parameter"])]
            yield Dated(records, np.full(len(records), journal), records["time"].astype(np.int64))

    def _check(self, dated: Dated) -> Observed:
        """Return the observations sorted by time and series, with values and flags."""
        records = dated.records
        keys, which = self._series_of(records, dated.journals)
        numbers = np.array([self._transaction.series_number(key) for key in keys], np.int64)
        limits = np.array([self._registry.limits(key) for key in keys], np.float64).reshape(-1, len(Limits._fields))
        counts = records["count"].astype(np.int64)
        values = np.where(counts == MISSING, np.nan, counts / self._registry.scale[records["parameter"]])
        calibrations = self._calibrate(keys, which, dated.times, values)
        flags = gross_range(values, *limits[which].T)
        flags[(counts != MISSING) & np.isnan(values)] = 2  # a parameter nobody knows: not evaluated, not missing
        failed = failed_range(flags)
        failed[records["flag"] == FAIL] |= Test.STATION
        flags = with_record_flags(records["flag"], flags)
        seqs = records["seq"].astype(np.int64)
        observed = Observed(
            *(dated.times, numbers[which], counts, values, flags, dated.journals, seqs, calibrations, failed)
        )
        return observed.take(np.lexsort((observed.series, observed.time)))

    def _calibrate(self, keys: list[SeriesKey], which: npt.NDArray[np.intp], times: Ints, values: Values) -> Ints:
        """Put calibrated values in place of those that have a calibration; return which record made each, 0: none."""
        made: Ints = np.zeros(len(values), np.int64)
        for at, key in enumerate(keys):
            if records := self._store.calibrations_of(key):
                rows = np.flatnonzero(which == at)
                applied = apply(records, times[rows], values[rows])
                values[rows], made[rows] = applied.values, applied.calibrations
        return made

    def _series_of(self, records: Records, journals: Ints) -> tuple[list[SeriesKey], npt.NDArray[np.intp]]:
        """Return the distinct series, and for each record which of them it belongs to."""
        packed = (journals << 16) | (records["sensor"].astype(np.int64) << 8) | records["parameter"]
        distinct, which = np.unique(packed, return_inverse=True)
        keys = [
            SeriesKey(self._store.stations[number >> 16], number >> 8 & 0xFF, number & 0xFF)
            for number in distinct.tolist()
        ]
        return keys, which

    def _columns(self, kept: Observed) -> dict[SeriesKey, Column]:
        """Return the observations series by series, sorted by time."""
        by_series = kept.take(np.lexsort((kept.time, kept.series)))
        return {
            self._store.keys[number]: Column(
                by_series.time[rows], by_series.value[rows], by_series.flag[rows], by_series.failed[rows]
            )
            for number, rows in segments(by_series.series)
        }

    def _derive(self, columns: dict[SeriesKey, Column]) -> dict[SeriesKey, Column]:
        derived = {}
        for station in dict.fromkeys(key.station for key in columns):
            recipes = self._registry.recipes(station)
            for output, column in derive(recipes, columns, self._stored, self._flags_of).items():
                number = self._transaction.series_number(output)
                self._transaction.log.put_derived(as_rows(number, column))
                derived[output] = column
        return derived

    def _flags_of(self, key: SeriesKey, values: Values) -> tuple[Flags, Ints]:
        bounds = (np.full(len(values), bound) for bound in self._registry.limits(key))
        flags = gross_range(values, *bounds)
        return flags, failed_range(flags)

    def _stored(self, key: SeriesKey, times: Ints) -> Column:
        """Return what the log already has of a series at these times."""
        column = nothing(times)
        number = self._store.series.get(key)
        scale = self._registry.scale[key.parameter]
        for time, count, value, flag, failed in self._transaction.log.at(number, times) if number is not None else ():
            at = int(np.searchsorted(times, time))
            column.flag[at], column.failed[at] = flag, failed
            if value is not None:
                column.value[at] = value
            elif count is not None and count != MISSING:
                column.value[at] = count / scale
        return column

    def _hand_on(self, kept: Observed, derived: dict[SeriesKey, Column]) -> None:
        """Give everything an arrival number, in the order of its time."""
        parts = [(kept.series, kept.time, kept.value, kept.flag)]
        for key, column in derived.items():
            series = np.full(len(column.time), self._store.series[key])
            parts.append((series, column.time, column.value, column.flag))
        rows = np.zeros(sum(len(part[0]) for part in parts), ARRIVAL_DTYPE)
        for at, name in enumerate(("series", "time", "value", "flag")):
            rows[name] = np.concatenate([part[at] for part in parts])
        self._transaction.add_arrivals(rows[np.argsort(rows["time"], kind="stable")])

    def _ask_for_review(self, columns: dict[SeriesKey, Column]) -> None:
        spans: dict[str, tuple[int, int]] = {}
        for key, column in columns.items():
            first, last = spans.get(key.station, (int(column.time[0]), 0))
            spans[key.station] = (min(first, int(column.time[0])), max(last, int(column.time[-1])))
        for station, (first, last) in spans.items():
            self._transaction.to_review(station, first, last)

    def _newest(self, columns: dict[SeriesKey, Column]) -> Iterator[tuple[str, bytes]]:
        """Update the newest values; yield the live message of each one that moved. A value from the future is kept in
        the log only: as the newest it would hide all that follow."""
        for key, column in columns.items():
            at = int(np.searchsorted(column.time, self._now_s + AHEAD_S, side="right")) - 1
            if at < 0:
                continue
            value = None if np.isnan(column.value[at]) else float(column.value[at])
            time_s, flag = int(column.time[at]), int(column.flag[at])
            number = self._store.series[key]
            parameter = self._registry.parameter(key.parameter)
            failed = int(column.failed[at])
            if self._transaction.put_latest(number, time_s, value, flag, failed) and parameter is not None:
                shown = None if value is None else round(value, parameter.decimals)
                yield (
                    topics.live_topic(key.station, parameter.name),
                    topics.live_message(shown, parameter.unit, flag, time_s, key.sensor),
                )


def _tuples(records: Records, fields: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    return zip(*(records[name].tolist() for name in fields), strict=True)
