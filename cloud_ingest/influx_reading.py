"""Observations in an InfluxDB, read: an Observations over plain SELECTs.

A short span of several series of one station is one question; a long one is asked series by series, so that the server
need not merge them and no answer grows large here: each piece becomes arrays before the next is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from cloud_ingest.columns import Counted, Ints, Layer, SeriesKey, Shown
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.influx_codec import (
    LAST_TIME,
    Channel,
    Table,
    flags_of,
    joined,
    nothing,
    question,
    seen_values,
    tables,
)
from cloud_ingest.influx_link import InfluxLink
from cloud_ingest.observations import NOBODY, Layered, Logged, LoggedRow, Names
from cloud_ingest.quality import Test
from firmware.record import MISSING

TOGETHER_S = 2 * 86400  # a longer span is asked series by series
NAMED_CHANNELS = 20  # more than these of a station are not listed in a question, but picked from its answer
GAP_S = 3600  # wanted times further apart than this are asked for one by one
LOOK_BACK_S = (3600, 86400, 30 * 86400)

_VALUE = ("value", "valueless", "calibration", "journal")


class InfluxReader:
    """What is in the database now; a transaction that is not committed may be among it."""

    def __init__(self, link: InfluxLink, names: Names) -> None:
        self._link = link
        self._names = names

    def at(self, series: int, times: Ints) -> list[LoggedRow]:
        """Return the rows of a series at those of `times` (ascending) it has."""
        found = []
        for first, last in clusters(times):
            rows = self.logged([series], first, last)[series]
            rows = rows.take(np.isin(rows.time, times))
            columns = (rows.time, rows.count, rows.value, rows.flag, rows.failed, rows.journal)
            for time, count, value, flag, failed, journal in zip(*(one.tolist() for one in columns), strict=True):
                counted = None if journal == NOBODY else count
                found.append((time, counted, None if value != value else value, flag, failed))
        return found

    def counted(self, series: Iterable[int], first: int, last: int) -> dict[int, Counted]:
        """Return what records said of these series; a series without a row is not there."""
        counted = {}
        for number, table in self._tables(series, ("count", "failed", "journal"), first, last):
            rows = {name: column[table["journal"] != NOBODY] for name, column in table.items()}
            if len(rows["time"]):
                counted[number] = Counted(rows["time"], rows["count"], (rows["failed"] & Test.STATION) > 0)
        return counted

    def layers(self, series: Iterable[int], first: int, last: int) -> dict[int, Layer]:
        """Return the layers of these series as they are stored; derived series too."""
        return {
            number: Layer(table["time"], seen_values(table), table["calibration"], flags_of(table), table["failed"])
            for number, table in self._tables(series, (*_VALUE, "flag", "failed"), first, last)
        }

    def shown(self, scales: Mapping[int, float], first: int, last: int) -> dict[int, Shown]:
        """Return what people see of these series; count / scale is a value."""
        found = {}
        for number, table in self._tables(scales, (*_VALUE, "count", "flag"), first, last):
            counted = np.where(table["count"] == MISSING, np.nan, table["count"] / scales[number])
            made = seen_values(table)
            found[number] = Shown(table["time"], np.where(np.isnan(made), counted, made), flags_of(table))
        return found

    def layered(self, series: Iterable[int], first: int, last: int) -> dict[int, Layered]:
        """Return counts and layers of these series."""
        return {
            number: Layered(
                *(table["time"], table["count"], seen_values(table), table["calibration"]),
                *(flags_of(table), table["failed"]),
            )
            for number, table in self._tables(series, (*_VALUE, "count", "flag", "failed"), first, last)
        }

    def logged(self, series: Iterable[int], first: int, last: int) -> dict[int, Logged]:
        """Return everything of these series."""
        fields = (*_VALUE, "count", "flag", "failed", "seq")
        return {
            number: Logged(
                table["time"],
                table["count"],
                seen_values(table),
                table["calibration"],
                flags_of(table),
                table["failed"],
                self._journal_numbers(number, table["journal"]),
                table["seq"],
            )
            for number, table in self._tables(series, fields, first, last)
        }

    def counts(self, series: Iterable[int], first: int, last: int) -> dict[int, tuple[int, int]]:
        """Return (rows, rows of flag 1 or 2 with a value or a count) by series; one without a row is not there."""
        found = {}
        for number, table in self._tables(series, (*_VALUE, "count", "flag"), first, last):
            has = ~np.isnan(seen_values(table)) | (table["count"] != MISSING)
            if len(table["time"]):
                found[number] = len(table["time"]), int((np.isin(table["flag"], (1, 2)) & has).sum())
        return found

    def blocks(self, series: Iterable[int], block_s: int, shift_s: int = 0) -> list[int]:
        """Return the beginnings of the blocks of time (multiples of block_s) that have a row of these series at
        begin + shift_s <= time < begin + shift_s + block_s."""
        found: set[int] = set()
        for station, channels in self._by_station(series).items():
            time = self._edge(station, channels, 0, LAST_TIME)
            while time is not None:
                begin = (time - shift_s) // block_s * block_s
                found.add(begin)
                time = self._edge(station, channels, begin + shift_s + block_s, LAST_TIME)
        return sorted(found)

    def newest_time(self, until: int) -> int | None:
        """Return the time of the newest row that is not after `until`, of any series; None when there is none."""
        for look_back_s in LOOK_BACK_S:  # without an end to it the server opens every series it ever had
            found = self._edge(None, {}, until - look_back_s, until, newest=True)
            if found is not None:
                return found
        return self._edge(None, {}, 0, until, newest=True)

    def oldest_time(self, since: int) -> int | None:
        """Return the time of the oldest row that is not before `since`, of any series; None when there is none."""
        return self._edge(None, {}, since, LAST_TIME)

    def newest_of_station(self, station: str) -> int | None:
        """Return the time of a station's newest row, None when it has none."""
        return self._edge(station, {}, 0, LAST_TIME, newest=True)

    def identities(self, station: str, series: Sequence[int], first: int, last: int) -> dict[int, Table]:
        """Return by series the time, journal id and seq of what records said."""
        wanted = {self._channel(number): number for number in series}
        return dict(self._of_station(station, wanted, ("journal", "seq"), first, last))

    def _tables(
        self, series: Iterable[int], fields: Sequence[str], first: int, last: int
    ) -> Iterator[tuple[int, Table]]:
        """Yield (series, columns) for every series that is asked for."""
        for station, channels in self._by_station(series).items():
            if last - first <= TOGETHER_S:
                yield from self._of_station(station, channels, fields, first, last)
            else:
                for channel, number in channels.items():
                    yield number, self._table(question(fields, station, [channel], first, last), fields)

    def _of_station(
        self, station: str, wanted: Mapping[Channel, int], fields: Sequence[str], first: int, last: int
    ) -> Iterator[tuple[int, Table]]:
        all_fields = (*fields, "sensor", "parameter")
        named = wanted if len(wanted) <= NAMED_CHANNELS else ()
        table = self._table(question(all_fields, station, named, first, last), all_fields)
        of = table["sensor"] << 8 | table["parameter"]
        for channel, number in wanted.items():
            rows = np.flatnonzero(of == (channel.sensor << 8 | channel.parameter))
            yield number, {name: table[name][rows] for name in ("time", *fields)}

    def _table(self, text: str, fields: Sequence[str]) -> Table:
        if " >= 0s AND time <= -" in text:
            return nothing(fields)
        try:
            return joined([tables(one) for one in self._link.ask(text)], fields)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise StoreUnavailable(
                f"the store of observations answers otherwise than it was asked: {error!r}"
            ) from None

    def _edge(
        self, station: str | None, channels: Iterable[Channel], first: int, last: int, *, newest: bool = False
    ) -> int | None:
        """Return the time of the first row, or of the last."""
        if first > LAST_TIME or last < 0:
            return None
        named = list(channels)
        if len(named) > NAMED_CHANNELS:
            edges = [self._edge(station, [one], first, last, newest=newest) for one in named]
            known = [one for one in edges if one is not None]
            return (max if newest else min)(known, default=None)
        text = question(("flag",), station, named, first, last, newest_first=newest, limit=1)
        times = self._table(text, ("flag",))["time"]
        return int(times[0]) if len(times) else None

    def _by_station(self, series: Iterable[int]) -> dict[str, dict[Channel, int]]:
        found: dict[str, dict[Channel, int]] = {}
        for number in sorted(series):
            key = self._names.key_of(number)
            found.setdefault(key.station, {})[Channel(key.sensor, key.parameter)] = number
        return found

    def _channel(self, number: int) -> Channel:
        key: SeriesKey = self._names.key_of(number)
        return Channel(key.sensor, key.parameter)

    def _journal_numbers(self, series: int, ids: Ints) -> Ints:
        station = self._names.key_of(series).station
        distinct, where = np.unique(ids, return_inverse=True)
        numbers = [NOBODY if one == NOBODY else self._names.journal_number(station, one) for one in distinct.tolist()]
        return np.array(numbers, np.int64)[where]


def clusters(times: Ints) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of runs of ascending times without a long gap."""
    if len(times):
        breaks = np.flatnonzero(np.diff(times) > GAP_S)
        for begin, end in zip([0, *(breaks + 1).tolist()], [*breaks.tolist(), len(times) - 1], strict=True):
            yield int(times[begin]), int(times[end])
