"""The second half of ingest: from new records to dated, checked and derived observations, and what is newest now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import ARRIVAL_DTYPE, DerivedValues, Ints, Observed
from cloud_ingest.decode import RECORD_DTYPE, Records
from cloud_ingest.group_derivation import derive_all
from cloud_ingest.intake import NewRecords, segments
from cloud_ingest.quality import Test, Values, failed_range, gross_range, with_record_flags
from cloud_ingest.registry import is_event
from cloud_ingest.restamp import Stamp, stamps
from cloud_ingest.scans import order_of
from cloud_ingest.series_table import SeriesTable, bounds_of
from cloud_ingest.store import Store
from cloud_ingest.transaction import Latest, Transaction
from firmware.record import CLOCK_UNSET_BELOW, EVENT_BOOT, EVENT_CLOCK_SET, FAIL, MISSING
from station_config.calibration import apply

AHEAD_S = 3600  # how far a station's clock may be ahead of ours

_EVENT_FIELDS = ("seq", "time", "count", "sensor", "parameter")
_RECORD_FIELDS = (*_EVENT_FIELDS, "flag")


@dataclass(frozen=True)
class Dated:
    """Observations with their true time; `messages`: which message of the group brought each, or brought its date."""

    records: Records
    journals: Ints
    times: Ints
    messages: Ints

    @classmethod
    def of(cls, new: NewRecords) -> Dated:
        """Return records that have a date of their own."""
        return cls(new.records, new.journals, new.records["time"].astype(np.int64), new.messages)


class Observer:
    """The second half of one transaction."""

    def __init__(self, transaction: Transaction, store: Store, table: SeriesTable, now_s: int) -> None:
        self._transaction = transaction
        self._store = store
        self._table = table
        self._registry = table.registry
        self._now_s = now_s

    def observe(self, new: NewRecords) -> dict[int, Latest]:
        """Date, check, log, derive; return the newest values that changed, by series."""
        observed = self._check(self._date(new))
        there = self._transaction.add_observed(observed)
        kept = observed if there.all() else observed.take(there)
        if not len(kept.time):
            return {}
        derived = self._derive(kept)
        self._hand_on(kept, derived)
        self._ask_for_review(kept)
        return self._newest(kept, derived)

    def _date(self, new: NewRecords) -> Dated:
        """Events go to their own table, records without a date wait, and those whose date is now here join in."""
        event, unset = is_event(new.records["parameter"]), new.records["time"] < CLOCK_UNSET_BELOW
        if not (event.any() or unset.any() or self._store.waiting_for_clock):
            return Dated.of(new)
        parts = [Dated.of(new.take(np.flatnonzero(~event & ~unset)))]
        for journal, rows in segments(new.journals):
            records = new.records[rows]
            if event[rows].any():
                self._transaction.add_events(journal, _tuples(records[event[rows]], _EVENT_FIELDS))
            if unset[rows].any():
                self._transaction.add_unstamped(journal, _tuples(records[unset[rows]], _RECORD_FIELDS))
            if journal in self._store.waiting_for_clock and self._may_date(journal, records):
                parts += self._restamped(journal, records["seq"], new.messages[rows])
        return Dated(*(np.concatenate([getattr(part, name) for part in parts]) for name in Dated.__dataclass_fields__))

    def _may_date(self, journal: int, records: Records) -> bool:
        """Return whether these new records can lead to a date: an event, one without a date, one that fills a gap."""
        turning = np.isin(records["parameter"], (EVENT_BOOT, EVENT_CLOCK_SET)) | (records["time"] < CLOCK_UNSET_BELOW)
        return bool(turning.any()) or int(records["seq"].min()) < self._transaction.newest_event_seq(journal)

    def _restamped(self, journal: int, new_seqs: Ints, messages: Ints) -> Iterator[Dated]:
        """Yield what can be dated now that these new records of the journal are here."""
        seqs, events = self._transaction.unstamped(journal)
        for stamp in stamps(seqs, events, self._transaction.ledger(journal)):
            rows = self._transaction.take_unstamped(journal, stamp)
            records: Records = np.zeros(len(rows), RECORD_DTYPE)
            for name, column in zip(_RECORD_FIELDS, zip(*rows, strict=True), strict=True):
                records[name] = column
            records = records[~is_event(records["parameter"])]
            brought = _brought_dates(records["seq"], stamp, new_seqs, messages)
            yield Dated(records, np.full(len(records), journal), records["time"].astype(np.int64), brought)

    def _check(self, dated: Dated) -> Observed:
        """Return the observations sorted by time and series, with values and flags."""
        records = dated.records
        codes = (records["sensor"].astype(np.int64), records["parameter"].astype(np.int64))
        numbers = self._table.numbers(dated.journals, *codes, self._transaction)
        counts = records["count"].astype(np.int64)
        values = counts / self._registry.scale[records["parameter"]]
        values[counts == MISSING] = np.nan
        calibrations = self._calibrate(numbers, dated.times, values)
        flags = gross_range(values, *bounds_of(self._table.limits[numbers]))
        flags[(counts != MISSING) & np.isnan(values)] = 2  # a parameter nobody knows: not evaluated, not missing
        failed = failed_range(flags)
        failed[records["flag"] == FAIL] |= Test.STATION
        flags = with_record_flags(records["flag"], flags)
        seqs = records["seq"].astype(np.int64)
        observed = Observed(*(dated.times, numbers, counts, values, flags, dated.journals, seqs, calibrations, failed))
        return observed.take(_order(observed, dated.messages))

    def _calibrate(self, series: Ints, times: Ints, values: Values) -> Ints:
        """Put calibrated values in place of those that have a calibration; return which record made each, 0: none."""
        made: Ints = np.zeros(len(values), np.int64)
        for key, records in self._store.calibrations.items():
            number = self._store.series.get(key)
            rows = np.flatnonzero(series == number) if number is not None and records else ()
            if len(rows):
                applied = apply(records, times[rows], values[rows])
                values[rows], made[rows] = applied.values, applied.calibrations
        return made

    def _derive(self, kept: Observed) -> DerivedValues:
        """Return and store what follows, sorted by time and series."""
        derived = derive_all(self._table, kept, self._transaction.log, self._transaction)
        self._transaction.log.put_derived(derived)
        return derived

    def _hand_on(self, kept: Observed, derived: DerivedValues) -> None:
        """Give everything an arrival number, in the order of its time."""
        rows = np.zeros(len(kept.time) + len(derived.time), ARRIVAL_DTYPE)
        for name in ("series", "time", "value", "flag"):
            rows[name] = np.concatenate((getattr(kept, name), getattr(derived, name)))
        order = np.argsort(np.concatenate((kept.time, derived.time)), kind="stable")
        self._transaction.add_arrivals(rows.take(order))

    def _ask_for_review(self, kept: Observed) -> None:
        order = np.argsort(kept.journal, kind="stable")  # within a journal still by time
        times = kept.time[order]
        for journal, rows in segments(kept.journal[order]):
            station = self._store.stations[journal]
            self._transaction.to_review(station, int(times[rows.start]), int(times[rows.stop - 1]))

    def _newest(self, kept: Observed, derived: DerivedValues) -> dict[int, Latest]:
        """Update the newest values; return each one that moved. A value from the future is kept in
        the log only: as the newest it would hide all that follow."""
        until = self._now_s + AHEAD_S
        return self._transaction.put_newest(_lasts(kept, until)) | self._transaction.put_newest(_lasts(derived, until))


def _lasts(rows: Observed | DerivedValues, until: int) -> dict[int, Latest]:
    """Return the newest of each series in rows sorted by time, none after `until`."""
    end = int(np.searchsorted(rows.time, until, side="right"))
    place: Ints = np.full(int(rows.series[:end].max(initial=-1)) + 1, -1, np.int64)
    place[rows.series[:end]] = np.arange(end)  # of several of a series the last stays
    at = place[place >= 0]
    value = rows.value[at].astype(object)
    value[np.isnan(rows.value[at])] = None
    columns = (rows.time[at].tolist(), value.tolist(), rows.flag[at].tolist(), rows.failed[at].tolist())
    return dict(zip(rows.series[at].tolist(), zip(*columns, strict=True), strict=True))


def _order(observed: Observed, messages: Ints) -> npt.NDArray[np.intp]:
    """Return the order by time and series; of one moment by arrival, so that it is the first to arrive that stays."""
    order = order_of(observed.time, observed.series)
    time, series, arrived = observed.time[order], observed.series[order], messages[order]
    if ((time[1:] == time[:-1]) & (series[1:] == series[:-1]) & (arrived[1:] < arrived[:-1])).any():
        order = np.lexsort((messages, observed.series, observed.time))
    return order


def _brought_dates(seqs: Ints, stamp: Stamp, new_seqs: Ints, messages: Ints) -> Ints:
    """Return the message with which each of these had its date: the last of all from it to the clock-set event."""
    needed = new_seqs <= stamp.event_seq
    last = np.append(np.maximum.accumulate(messages[needed][::-1])[::-1], 0)
    brought: Ints = last[np.searchsorted(new_seqs[needed], seqs)]
    return brought


def _tuples(records: Records, fields: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    return zip(*(records[name].tolist() for name in fields), strict=True)
