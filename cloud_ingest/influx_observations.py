"""Observations in an InfluxDB, written: an ObservationStore.

The database keeps the last of two points with the same series and time, whoever wrote it; we keep the first. So before
a row is written something has to know that nothing is there:

    fast    its time is newer than any that may be there: the newest time is remembered, asked for once after the start
    slow    otherwise the identities of what is there are read first: another record's row stays, the same is left alone

Lines wait until somebody reads what they change, they are many, or the transaction settles; then the server has them
before the books say so. Points that were written for a transaction that failed are found by the slow way when it is
repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from cloud_ingest.columns import Counted, DerivedValues, Ints, Layer, Observed, SeriesKey, Shown
from cloud_ingest.errors import StoreRefused
from cloud_ingest.influx_codec import LAST_TIME, beginning, derived_lines, layer_lines, observed_lines, packed, question
from cloud_ingest.influx_link import Denied, InfluxLink
from cloud_ingest.influx_reading import InfluxReader, clusters
from cloud_ingest.observation_settings import ObservationSettings
from cloud_ingest.observations import NOBODY, Changed, Layered, Logged, LoggedRow, Names, each_at

FOR_EVER = ("0s", "0", "", None)
LINES_AT_ONCE = 10_000  # about 1.2 MB, less than any server's limit


class InfluxStore:
    """One database. `close` when nobody reads or writes any more."""

    is_apart = True

    def __init__(self, settings: ObservationSettings) -> None:
        self.settings = settings
        self.link = InfluxLink(settings)
        self._newest = NewestTimes()

    def close(self) -> None:
        """Close the connections."""
        self.link.close()

    def writer(self, _books: Connection, names: Names, changed: Changed) -> InfluxWriter:
        """Return the view of the one writer of these series."""
        return InfluxWriter(self.link, names, changed, self._newest)

    def reader(self, _books: Connection, names: Names) -> InfluxReader:
        """Return the view of somebody who reads."""
        return InfluxReader(self.link, names)


def faults_of(link: InfluxLink, settings: ObservationSettings) -> Iterator[str]:
    """Yield what an operator should know of the database. Raises StoreRefused, StoreUnavailable."""
    try:
        list(link.ask(question(("flag",), None, (), 0, LAST_TIME, limit=1)))
    except Denied as error:
        raise StoreRefused(str(error)) from None
    try:
        yield from _finite(link, settings)
    except Denied as error:
        yield f"whether bucket {settings.bucket} keeps everything for ever cannot be asked: {error}"


def _finite(link: InfluxLink, settings: ObservationSettings) -> Iterator[str]:
    database, wanted = settings.place
    for series in link.ask(f'SHOW RETENTION POLICIES ON "{database}"'):
        for row in series.get("values", ()):
            policy = dict(zip(series.get("columns", ()), row, strict=False))
            meant = policy.get("name") == wanted if wanted else policy.get("default") is True
            if meant and policy.get("duration") not in FOR_EVER:
                yield (
                    f"bucket {settings.bucket} forgets after {policy['duration']} (retention policy"
                    f" {policy.get('name')}), and raw values are kept for ever: make it infinite"
                )


class NewestTimes:
    """By station and series a time after which nothing can be there. One writer's; it outlives transactions."""

    def __init__(self) -> None:
        self._of_station: dict[str, int] = {}  # as the database said when it was first asked
        self._of_series: dict[SeriesKey, int] = {}  # numbers that a failed transaction gave mean something else later

    def bound(self, series: int, names: Names, reader: InfluxReader) -> int:
        """Return the newest time that a row of this series may have, -1 when it cannot have one."""
        key = names.key_of(series)
        known = self._of_series.get(key)
        if known is not None:
            return known
        station = key.station
        if station not in self._of_station:
            newest = reader.newest_of_station(station)
            self._of_station[station] = -1 if newest is None else newest
        return self._of_station[station]

    def raise_to(self, series: int, time: int, names: Names, reader: InfluxReader) -> None:
        """Note that a row of this time may be there from now on."""
        self._of_series[names.key_of(series)] = max(time, self.bound(series, names, reader))


class InfluxWriter:
    """One transaction's view: it sees what it wrote."""

    def __init__(self, link: InfluxLink, names: Names, changed: Changed, newest: NewestTimes) -> None:
        self._link = link
        self._names = names
        self._changed = changed
        self._newest = newest
        self._reader = InfluxReader(link, names)
        self._lines: list[str] = []
        self._waiting: set[int] = set()  # series of these lines

    def add(self, rows: Observed) -> npt.NDArray[np.bool_]:
        """Store observations (sorted by time, series); return which are in the store now."""
        self._changed(rows.time, rows.series)
        journal_id = {number: self._names.journal_of(number)[1] for number in np.unique(rows.journal).tolist()}
        first = _first_of_each(packed(rows.series, rows.time))
        older = self._not_newer(rows.series, rows.time)
        there, same = self._compare(rows, journal_id, older)
        same_as_first = (rows.journal == rows.journal[first]) & (rows.seq == rows.seq[first])
        wanted = rows.take(~there & (first == np.arange(len(first))))
        beginnings = {number: self._beginning(number) for number in np.unique(wanted.series).tolist()}
        for number, newest in _newest_of_each(wanted.series, wanted.time):
            self._newest.raise_to(number, newest, self._names, self._reader)
        fresh = np.ones(len(wanted.time), np.bool_)
        self._write(observed_lines(wanted, beginnings, journal_id.__getitem__, fresh), beginnings)
        return np.where(there, same, same_as_first)

    def at_each(self, series: Ints, times: Ints) -> Logged:
        """Return the row of each of these (series, time), in their order; flag 0 where there is none."""
        return each_at(self.at, series, times)

    def put_derived(self, rows: DerivedValues) -> None:
        """Store derived values; a later computation of the same moment replaces the earlier one."""
        for number in np.unique(rows.series).tolist():
            self._put_derived(number, rows.take(rows.series == number))

    def _put_derived(self, number: int, rows: DerivedValues) -> None:
        self._changed(rows.time, number)
        fresh = ~self._not_newer(rows.series, rows.time)
        self._newest.raise_to(number, int(rows.time[-1]), self._names, self._reader)
        self._write(derived_lines(rows, self._beginning(number), fresh), [number])

    def put_layer(self, series: int, layer: Layer, *, derived: bool) -> None:
        """Change the layers of one series at these times: of observed rows that are there; a derived one is made."""
        self._changed(layer.time, series)
        if not len(layer.time):
            return
        if derived:
            self._newest.raise_to(series, int(layer.time[-1]), self._names, self._reader)
        self._write(layer_lines(layer, self._beginning(series)), [series])

    def settle(self) -> None:
        """Return when the server has stored everything."""
        lines, self._lines, self._waiting = self._lines, [], set()
        for at in range(0, len(lines), LINES_AT_ONCE):
            self._link.write(lines[at : at + LINES_AT_ONCE])

    # reading: what waits goes first where it matters

    def at(self, series: int, times: Ints) -> list[LoggedRow]:
        """Return the rows of a series at those of `times` (ascending) it has."""
        older = self._not_newer(np.full(len(times), series), times)
        return self._seeing([series]).at(series, times[older]) if older.any() else []

    def counted(self, series: Iterable[int], first: int, last: int) -> dict[int, Counted]:
        """Return what records said of these series; a series without a row is not there."""
        numbers = list(series)
        return self._seeing(numbers).counted(numbers, first, last)

    def layers(self, series: Iterable[int], first: int, last: int) -> dict[int, Layer]:
        """Return the layers of these series as they are stored; derived series too."""
        numbers = list(series)
        return self._seeing(numbers).layers(numbers, first, last)

    def shown(self, scales: Mapping[int, float], first: int, last: int) -> dict[int, Shown]:
        """Return what people see of these series; count / scale is a value."""
        return self._seeing(scales).shown(scales, first, last)

    def layered(self, series: Iterable[int], first: int, last: int) -> dict[int, Layered]:
        """Return counts and layers of these series."""
        numbers = list(series)
        return self._seeing(numbers).layered(numbers, first, last)

    def logged(self, series: Iterable[int], first: int, last: int) -> dict[int, Logged]:
        """Return everything of these series."""
        numbers = list(series)
        return self._seeing(numbers).logged(numbers, first, last)

    def counts(self, series: Iterable[int], first: int, last: int) -> dict[int, tuple[int, int]]:
        """Return (rows, rows of flag 1 or 2 with a value or a count) by series; one without a row is not there."""
        numbers = list(series)
        return self._seeing(numbers).counts(numbers, first, last)

    def blocks(self, series: Iterable[int], block_s: int, shift_s: int = 0) -> list[int]:
        """Return the beginnings of the blocks of time that have a row of these series."""
        numbers = list(series)
        return self._seeing(numbers).blocks(numbers, block_s, shift_s)

    def newest_time(self, until: int) -> int | None:
        """Return the time of the newest row that is not after `until`, of any series; None when there is none."""
        return self._seeing(self._waiting).newest_time(until)

    def oldest_time(self, since: int) -> int | None:
        """Return the time of the oldest row that is not before `since`, of any series; None when there is none."""
        return self._seeing(self._waiting).oldest_time(since)

    def _seeing(self, series: Iterable[int]) -> InfluxReader:
        if not self._waiting.isdisjoint(series):
            self.settle()
        return self._reader

    def _not_newer(self, series: Ints, times: Ints) -> npt.NDArray[np.bool_]:
        """Return where something may be already."""
        distinct, where = np.unique(series, return_inverse=True)
        bounds = [self._newest.bound(number, self._names, self._reader) for number in distinct.tolist()]
        older: npt.NDArray[np.bool_] = times <= np.array(bounds, np.int64)[where]
        return older

    def _compare(
        self, rows: Observed, journal_id: Mapping[int, int], older: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return for which rows the store has one of that series and time, and for which it is the same record."""
        there, same = np.zeros(len(older), np.bool_), np.zeros(len(older), np.bool_)
        at = np.flatnonzero(older)
        known = self._identities(rows.series[at], rows.time[at]) if len(at) else {}
        for row, place in zip(at.tolist(), packed(rows.series[at], rows.time[at]).tolist(), strict=True):
            if place in known:
                there[row] = True
                same[row] = known[place] == (journal_id[int(rows.journal[row])], int(rows.seq[row]))
        return there, same

    def _identities(self, series: Ints, times: Ints) -> dict[int, tuple[int, int]]:
        """Return (journal id, seq) of what is at or around these times, by packed series and time."""
        numbers = np.unique(series).tolist()
        reader = self._seeing(numbers)
        by_station: dict[str, list[int]] = {}
        for number in numbers:
            by_station.setdefault(self._names.key_of(number).station, []).append(number)
        found: dict[int, tuple[int, int]] = {}
        for station, own in by_station.items():
            for first, last in clusters(np.unique(times[np.isin(series, own)])):
                for number, table in reader.identities(station, own, first, last).items():
                    places = packed(np.full(len(table["time"]), number), table["time"]).tolist()
                    identities = zip(table["journal"].tolist(), table["seq"].tolist(), strict=True)
                    found.update({k: one for k, one in zip(places, identities, strict=True) if one[0] != NOBODY})
        return found

    def _beginning(self, series: int) -> str:
        return beginning(self._names.key_of(series))

    def _write(self, lines: Iterable[str], series: Iterable[int]) -> None:
        self._lines += lines
        self._waiting.update(series)
        if len(self._lines) >= LINES_AT_ONCE:
            self.settle()


def _first_of_each(places: Ints) -> npt.NDArray[np.intp]:
    """Return for each row the first row of the same place."""
    _, first, where = np.unique(places, return_index=True, return_inverse=True)
    found: npt.NDArray[np.intp] = first[where]
    return found


def _newest_of_each(series: Ints, times: Ints) -> list[tuple[int, int]]:
    """Return (series, newest time); times ascend."""
    distinct, last = np.unique(series[::-1], return_index=True)
    return list(zip(distinct.tolist(), times[::-1][last].tolist(), strict=True))
