"""All tests of one instrument's columns: what each says, the flag that follows, and which tests it failed.

    checked = check(times, {"water_temperature": …, "salinity": …}, configured_tests, months)
    checked["salinity"].flag     1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing
    checked["salinity"].failed   the set of tests that said suspect or fail, as bits (Test)

A flag is the worst that any test said; 1 needs at least one test that could be made, the gross range among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_ingest.column_tests import TestedColumn, worst_of
from cloud_ingest.multivariate import instrument_test, out_of_water, out_of_water_test
from cloud_ingest.qartod import Flags, Mask, Times, Values
from cloud_ingest.quality import Test
from cloud_ingest.visits import visits_in
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT
from station_config.quality import ParameterTests


@dataclass(frozen=True)
class Checked:
    """The verdict on one column."""

    flag: Flags
    failed: npt.NDArray[np.int32]
    by_test: Mapping[Test, Flags]


Configured = Callable[[str], ParameterTests]


def check(
    times: Times,
    columns: Mapping[str, Values],
    configured: Configured,
    months: Times,
    present: Mapping[str, Mask] | None = None,
) -> dict[str, Checked]:
    """Return the verdict on each column of one instrument.

    `times` ascending, all columns of the same length; `months` is 1..12 of each time in the local calendar. `present`
    says where a column has an observation at all (with or without a value), if not everywhere: what is recorded each
    ten minutes is not missing in between.
    """
    rows = present or {name: np.ones(len(times), np.bool_) for name in columns}
    visits = visits_in(times[np.logical_or.reduce([~np.isnan(values) for values in columns.values()])])
    alone = {}
    for name, values in columns.items():
        here, tests = rows[name], configured(name)
        column = TestedColumn(name, times[here], values[here], tests, months[here], visits)
        alone[name] = {test: _spread(flags, here) for test, flags in column.said_by_tests()}
    # A spike in fresh water falls back to next to nothing, and is no probe that comes out of the water.
    dry = out_of_water({name: _without_spikes(values, alone[name]) for name, values in columns.items()})
    flags = {name: worst_of(by_test.values(), columns[name]) for name, by_test in alone.items()}
    checked = {}
    for name, values in columns.items():
        tests, by_test = configured(name), alone[name]
        if tests.in_water:
            by_test[Test.MULTI_VARIATE] = out_of_water_test(values, dry)
        others = {other: flag for other, flag in flags.items() if other != name}
        by_test[Test.NEEDED_INPUT] = instrument_test(values, tests, others)
        checked[name] = _verdict(by_test, values)
    return _with_moved(checked, columns)


def _without_spikes(values: Values, by_test: Mapping[Test, Flags]) -> Values:
    spikes = by_test.get(Test.SPIKE)
    return values if spikes is None else np.where(spikes == FAIL, np.nan, values)


def _spread(flags: Flags, rows: Mask) -> Flags:
    """Return the flags of some rows as a column of all; the others are not evaluated."""
    column = np.full(len(rows), NOT_EVALUATED, np.uint8)
    column[rows] = flags
    return column


def _with_moved(checked: dict[str, Checked], columns: Mapping[str, Values]) -> dict[str, Checked]:
    """A probe at another depth measures other water: all its parameters are suspect then."""
    moved = np.zeros(len(next(iter(columns.values()), ())), np.bool_)
    for one in checked.values():
        for test in (Test.LEVEL_SHIFT, Test.VISIT_STEP):
            pair = one.by_test.get(test)
            if pair is not None:
                moved |= (pair == FAIL) | (pair == SUSPECT)
    if not moved.any():
        return checked
    return {
        name: _verdict({**one.by_test, Test.LEVEL_SHIFT: _moved_flags(one, moved, columns[name])}, columns[name])
        for name, one in checked.items()
    }


def _moved_flags(one: Checked, moved: Mask, values: Values) -> Flags:
    before = one.by_test.get(Test.LEVEL_SHIFT)
    flags = np.full(len(values), GOOD, np.uint8) if before is None else before.copy()
    flags[moved & (flags != FAIL)] = SUSPECT
    flags[np.isnan(values)] = NO_VALUE
    return flags


def _verdict(by_test: Mapping[Test, Flags], values: Values) -> Checked:
    failed = np.zeros(len(values), np.int32)
    for test, flags in by_test.items():
        failed[(flags == SUSPECT) | (flags == FAIL)] |= test
    return Checked(worst_of(by_test.values(), values), failed, by_test)
