"""The layers over a station's counts: calibrated values, derived values, flags and the tests that objected. Pure.

    made = make_layers(registry, calibrations, station, counted, depth)

Whoever makes a layer calls this: the review that follows ingest, and a recompute. So the same counts, calibrations and
configuration give the same layers. What ingest stores first (range, the station's own flag) is the beginning of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from cloud_ingest.columns import Counted, Ints, Layer, SeriesKey
from cloud_ingest.derivation import Column, derive, nothing
from cloud_ingest.quality import Flags, Test, Values, failed_range, gross_range, worst
from cloud_ingest.quality_control import check
from cloud_ingest.registry import Registry
from cloud_ingest.review_spans import PAST_S, Depth
from firmware.record import FAIL, MISSING, NO_VALUE
from station_config.calibration import Calibration, apply
from station_config.quality import NO_TESTS, FlatLine, ParameterTests, configured_tests

BLOCK_S = 30 * 86400  # settled layers are made for whole blocks, so that who makes them and when does not matter
SLOW_TESTS = (
    Test.LEVEL_SHIFT | Test.VISIT_STEP | Test.VISIT_DRIFT | Test.FLAT_LINE | Test.ATTENUATED_SIGNAL | Test.NOISE
)
_NOT_SOON = ("level_shift", "visit_step", "visit_drift", "visit_fouling", "noise", "stillness")


def make_layers(
    registry: Registry,
    calibrations: Mapping[SeriesKey, list[Calibration]],
    station: str,
    counted: Mapping[SeriesKey, Counted],
    depth: Depth,
) -> dict[SeriesKey, Layer]:
    """Return the layers of all observed and derived series of one station."""
    columns, made_by = {}, {}
    for key, one in counted.items():
        columns[key], made_by[key] = _observed(registry, calibrations.get(key, []), key, one)
    columns.update(
        derive(
            registry.recipes(station),
            columns,
            lambda _, times: nothing(times),
            lambda key, values, _: _range(registry, key, values),
        )
    )
    layers = {}
    for sensor in sorted({key.sensor for key in columns}):
        members = {key: column for key, column in columns.items() if key.sensor == sensor}
        for key, column in _judged(registry, station, members, depth).items():
            calibration = made_by.get(key, np.zeros(len(column.time), np.int64))
            layers[key] = Layer(column.time, column.value, calibration, column.flag, column.failed)
    return layers


def _observed(registry: Registry, records: list[Calibration], key: SeriesKey, counted: Counted) -> tuple[Column, Ints]:
    values = np.where(counted.count == MISSING, np.nan, counted.count / registry.scale[key.parameter])
    applied = apply(records, counted.time, values)
    flags, failed = _range(registry, key, applied.values)
    flags[(counted.count != MISSING) & np.isnan(applied.values)] = 2
    flags[counted.station_failed] = FAIL
    flags[counted.count == MISSING] = NO_VALUE
    failed[counted.station_failed] |= Test.STATION
    return Column(counted.time, applied.values, flags, failed), applied.calibrations


def _range(registry: Registry, key: SeriesKey, values: Values) -> tuple[Flags, Ints]:
    bounds = (np.full(len(values), bound) for bound in registry.limits(key))
    flags = gross_range(values, *bounds)
    return flags, failed_range(flags)


def _judged(
    registry: Registry, station: str, members: dict[SeriesKey, Column], depth: Depth
) -> dict[SeriesKey, Column]:
    """Return one instrument's columns after quality control."""
    names = {key: parameter.name for key in members if (parameter := registry.parameter(key.parameter)) is not None}
    grid = np.unique(np.concatenate([members[key].time for key in names])) if names else np.zeros(0, np.int64)
    own = registry.own_tests(station)
    at = {key: np.searchsorted(grid, members[key].time) for key in names}
    values, present = {}, {}
    for key, name in names.items():
        values[name], present[name] = np.full(len(grid), np.nan), np.zeros(len(grid), np.bool_)
        values[name][at[key]], present[name][at[key]] = members[key].value, True
    checked = check(grid, values, lambda name: _tests(name, own, depth), local_months(grid, registry.zone), present)
    judged = dict(members)
    for key, name in names.items():
        column, verdict = members[key], checked[name]
        flag = worst(column.flag, verdict.flag[at[key]])
        flag[column.flag == NO_VALUE] = NO_VALUE
        judged[key] = Column(column.time, column.value, flag, column.failed | verdict.failed[at[key]])
    return judged


def _tests(name: str, own: Mapping[str, ParameterTests], depth: Depth) -> ParameterTests:
    tests = configured_tests(name, own)
    if depth is Depth.SETTLE or tests is NO_TESTS:
        return tests
    flat = tests.flat_line
    return tests.model_copy(
        update={**dict.fromkeys(_NOT_SOON), "flat_line": flat if flat and _is_quick(flat) else None}
    )


def _is_quick(flat: FlatLine) -> bool:
    return max(flat.suspect_s or 0.0, flat.fail_s or 0.0) < PAST_S[Depth.SOON]


def local_months(times: Ints, zone: ZoneInfo) -> Ints:
    """Return 1..12 of each time in local months, computed once for each day."""
    days, index = np.unique(times // 86400, return_inverse=True)
    months = [datetime.fromtimestamp(int(day) * 86400 + 43200, zone).month for day in days]
    return np.array(months, np.int64)[index] if len(days) else np.zeros(0, np.int64)
