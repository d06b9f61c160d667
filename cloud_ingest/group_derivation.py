"""Derivation for all stations of a group of messages at once: a recipe is computed once for all stations of a build.

The same `derive` makes the layers of one station in a review or a recompute. Here its times are moments: which station
of the build, and when.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloud_ingest.columns import DerivedValues, Ints, Observed, SeriesKey
from cloud_ingest.derivation import Column, derive, nothing
from cloud_ingest.intake import segments
from cloud_ingest.observations import ObservationsWriter
from cloud_ingest.quality import Flags, Values, failed_range, gross_range
from cloud_ingest.registry import MEMBER_SHIFT
from cloud_ingest.scans import order_of
from cloud_ingest.series_table import NO_BUILD, NO_SERIES, Numbering, SeriesTable, bounds_of
from firmware.record import MISSING


def derive_all(table: SeriesTable, kept: Observed, log: ObservationsWriter, numbering: Numbering) -> DerivedValues:
    """Return what follows from these observations and from what the log has for their moments, by time and series."""
    builds = table.build[kept.series]
    present = np.flatnonzero(np.bincount(builds - NO_BUILD)) + NO_BUILD
    parts = [
        part
        for build in present.tolist()
        if build != NO_BUILD and table.registry.builds[build].recipes
        for part in _OfBuild(table, build, int(kept.time.min()), log, numbering).derive(
            kept if len(present) == 1 else kept.take(builds == build)
        )
    ]
    if not parts:
        return _NOTHING
    names = DerivedValues.__dataclass_fields__
    together = DerivedValues(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return together.take(order_of(together.time, together.series))


@dataclass(frozen=True)
class _OfBuild:
    table: SeriesTable
    build: int
    base_s: int  # moments count from here
    log: ObservationsWriter
    numbering: Numbering

    def derive(self, kept: Observed) -> list[DerivedValues]:
        recipes = self.table.registry.builds[self.build].recipes
        derived = derive(recipes, self._columns(kept), self._stored, self._judged)
        return [self._named(role, column) for role, column in derived.items()]

    def _columns(self, kept: Observed) -> dict[SeriesKey, Column]:
        """Return the observations role by role, sorted by moment."""
        moments = (self.table.member[kept.series] << MEMBER_SHIFT) | (kept.time - self.base_s)
        order = np.argsort(moments, kind="stable")
        order = order[np.argsort(self.table.role[kept.series[order]].astype(np.uint16), kind="stable")]
        column = Column(moments[order], kept.value[order], kept.flag[order], kept.failed[order])
        return {
            SeriesKey("", role >> 8, role & 0xFF): Column(
                column.time[rows], column.value[rows], column.flag[rows], column.failed[rows]
            )
            for role, rows in segments(self.table.role[kept.series[order]])
        }

    def _stored(self, key: SeriesKey, moments: Ints) -> Column:
        """Return what the log already has of a role at these moments."""
        column = nothing(moments)
        numbers = self.table.numbers_of(self.build, _role(key), moments >> MEMBER_SHIFT)
        known = np.flatnonzero(numbers != NO_SERIES)
        if not len(known):
            return column
        rows = self.log.at_each(numbers[known], self._times(moments[known]))
        value = np.where(rows.count == MISSING, np.nan, rows.count / self.table.registry.scale[key.parameter])
        column.value[known] = np.where(np.isnan(rows.value), value, rows.value)
        column.flag[known], column.failed[known] = rows.flag, rows.failed
        return column

    def _judged(self, key: SeriesKey, values: Values, moments: Ints) -> tuple[Flags, Ints]:
        limits = self.table.limits_of(self.build, _role(key))[moments >> MEMBER_SHIFT]
        flags = gross_range(values, *bounds_of(limits))
        return flags, failed_range(flags)

    def _named(self, key: SeriesKey, column: Column) -> DerivedValues:
        numbers = self.table.numbers_of(self.build, _role(key), column.time >> MEMBER_SHIFT, self.numbering)
        return DerivedValues(numbers, self._times(column.time), column.value, column.flag, column.failed)

    def _times(self, moments: Ints) -> Ints:
        return (moments & ((1 << MEMBER_SHIFT) - 1)) + self.base_s


def _role(key: SeriesKey) -> int:
    return key.sensor << 8 | key.parameter


_NOTHING = DerivedValues(
    *(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8), np.zeros(0, np.int64))
)
