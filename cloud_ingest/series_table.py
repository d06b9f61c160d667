"""What ingest knows of each series, as numpy columns by the series' number: so a group of messages is one calculation.

Stations of one build (the same sensors with the same numbers, but for their elevations) are computed together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cloud_ingest.columns import Ints, SeriesKey
from cloud_ingest.quality import Values
from cloud_ingest.registry import Limits, Registry

NO_BUILD, NO_SERIES = -1, -1
_FIRST_ROOM = 1024


class Numbering(Protocol):
    """Who numbers series: a transaction."""

    def series_numbers(self, keys: Iterable[SeriesKey]) -> list[int]:
        """Return the numbers of series; new ones are made on first sight, all together."""


class SeriesTable:
    """Columns by series number. `keys` and `stations` are the store's; when it reads them anew, so does this."""

    def __init__(self, registry: Registry, keys: dict[int, SeriesKey], stations: dict[int, str]) -> None:
        self.registry = registry
        self.keys = keys
        self._stations = stations  # by journal number
        self._entered = 0
        self._packed: Ints = np.zeros(0, np.int64)  # journal, sensor, parameter; sorted
        self._number_of: Ints = np.zeros(0, np.int64)
        self.build = np.full(_FIRST_ROOM, NO_BUILD, np.int64)
        self.member = np.zeros(_FIRST_ROOM, np.int64)  # which station of its build
        self.role = np.zeros(_FIRST_ROOM, np.int64)  # sensor << 8 | parameter
        self.limits = np.full((_FIRST_ROOM, len(Limits._fields)), np.nan)
        self._by_role: dict[tuple[int, int], Ints] = {}
        self._limits_by_role: dict[tuple[int, int], Values] = {}

    def numbers(self, journals: Ints, sensors: Ints, parameters: Ints, numbering: Numbering) -> Ints:
        """Return the series numbers of records."""
        packed = (journals << 16) | (sensors << 8) | parameters
        at, known = self._find(packed)
        if not known.all():
            new = np.unique(packed[~known])
            keys = [SeriesKey(self._stations[one >> 16], one >> 8 & 0xFF, one & 0xFF) for one in new.tolist()]
            self._remember(new, np.array(numbering.series_numbers(keys), np.int64))
            at, known = self._find(packed)
        self._enter_new()
        found: Ints = self._number_of[at]
        return found

    def numbers_of(self, build: int, role: int, members: Ints, numbering: Numbering | None = None) -> Ints:
        """Return the numbers of one role of stations of a build; those without one get one, or NO_SERIES."""
        self._enter_new()
        known = self._roles(build, role)
        found: Ints = known[members]
        if numbering is not None and (found == NO_SERIES).any():
            stations, new = self.registry.builds[build].stations, np.unique(members[found == NO_SERIES]).tolist()
            numbering.series_numbers(SeriesKey(stations[member], role >> 8, role & 0xFF) for member in new)
            self._enter_new()
            found = self._roles(build, role)[members]
        return found

    def limits_of(self, build: int, role: int) -> Values:
        """Return the limits of one role of all stations of a build."""
        found = self._limits_by_role.get((build, role))
        if found is None:
            stations = self.registry.builds[build].stations
            limits = [self.registry.limits(SeriesKey(station, role >> 8, role & 0xFF)) for station in stations]
            found = self._limits_by_role[build, role] = np.array(limits, np.float64)
        return found

    def _roles(self, build: int, role: int) -> Ints:
        found = self._by_role.get((build, role))
        if found is None:
            stations = self.registry.builds[build].stations
            found = self._by_role[build, role] = np.full(len(stations), NO_SERIES, np.int64)
        return found

    def _find(self, packed: Ints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        if not len(self._packed):
            return np.zeros(len(packed), np.intp), np.zeros(len(packed), np.bool_)
        at = np.minimum(np.searchsorted(self._packed, packed), len(self._packed) - 1)
        return at, self._packed[at] == packed

    def _remember(self, packed: Ints, numbers: Ints) -> None:
        """Keep the numbers of new ones, which ascend."""
        at = np.searchsorted(self._packed, packed)
        self._packed = np.insert(self._packed, at, packed)
        self._number_of = np.insert(self._number_of, at, numbers)

    def _enter_new(self) -> None:
        """Take in the series that were numbered since; the store's dictionary keeps their order."""
        if len(self.keys) == self._entered:
            return
        for number, key in list(self.keys.items())[self._entered :]:
            self._make_room(number)
            self.role[number] = key.sensor << 8 | key.parameter
            self.limits[number] = self.registry.limits(key)
            build, member = self.registry.build_of.get(key.station, (NO_BUILD, 0))
            self.build[number], self.member[number] = build, member
            if build != NO_BUILD:
                self._roles(build, int(self.role[number]))[member] = number
        self._entered = len(self.keys)

    def _make_room(self, number: int) -> None:
        while number >= len(self.build):
            more = len(self.build)
            self.build = np.concatenate((self.build, np.full(more, NO_BUILD, np.int64)))
            self.member = np.concatenate((self.member, np.zeros(more, np.int64)))
            self.role = np.concatenate((self.role, np.zeros(more, np.int64)))
            self.limits = np.concatenate((self.limits, np.full((more, len(Limits._fields)), np.nan)))


def bounds_of(limits: Values) -> tuple[Values, ...]:
    """Return the columns of limits as the gross range test takes them."""
    return tuple(np.ascontiguousarray(column) for column in limits.T)
