"""All tests of one instrument's columns: what each says, the flag that follows, and which tests it failed.

    checked = check(times, {"water_temperature": …, "salinity": …}, configured_tests, months)
    checked["salinity"].flag     1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing
    checked["salinity"].failed   the set of tests that said suspect or fail, as bits (Test)

A flag is the worst that any test said; 1 needs at least one test that could be made, the gross range among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import structlog

from cloud_ingest import qartod
from cloud_ingest.hindsight import level_shift_test, visit_step_test
from cloud_ingest.multivariate import instrument_test, out_of_water, out_of_water_test
from cloud_ingest.qartod import Flags, Mask, Span, Times, Values
from cloud_ingest.quality import Test
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT
from station_config.parameters import Parameter, load_parameters
from station_config.quality import Bounds, FlatLine, ParameterTests, Step, Thresholds

log = structlog.get_logger()


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
    alone = {
        name: {
            test: _spread(flags, rows[name])
            for test, flags in _alone(name, times[rows[name]], values[rows[name]], configured(name), months[rows[name]])
        }
        for name, values in columns.items()
    }
    # A spike in fresh water falls back to next to nothing, and is no probe that comes out of the water.
    dry = out_of_water({name: _without_spikes(values, alone[name]) for name, values in columns.items()})
    flags = {name: _worst(by_test.values(), columns[name]) for name, by_test in alone.items()}
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
            # A step that went and came back, or a shifted mean, is the probe's; a drift is one sensor's own.
            if pair is not None:
                moved |= (pair == FAIL) | ((pair == SUSPECT) & (test is Test.LEVEL_SHIFT))
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


def _alone(
    name: str, times: Times, values: Values, tests: ParameterTests, months: Times
) -> Iterator[tuple[Test, Flags]]:
    """Yield what each configured test of one column says; one that breaks says "not evaluated"."""
    said: dict[Test, Flags] = {}
    for test, make in _configured_tests(name, times, values, tests, months, said):
        try:
            said[test] = make()
        except (ArithmeticError, ValueError, IndexError):
            log.exception("a quality test failed to run", test=test.name, parameter=name)
            said[test] = np.full(len(values), NOT_EVALUATED, np.uint8)
        yield test, said[test]


def _configured_tests(
    name: str, times: Times, values: Values, tests: ParameterTests, months: Times, said: Mapping[Test, Flags]
) -> Iterator[tuple[Test, Callable[[], Flags]]]:
    parameter = load_parameters().by_name.get(name)
    fail, suspect = _gross_range(parameter, tests)
    yield Test.GROSS_RANGE, lambda: qartod.gross_range_test(values, fail, suspect)
    if tests.gap_s is not None:
        gap_s = tests.gap_s
        yield Test.GAP, lambda: qartod.gap_test(times, gap_s)
    if tests.climatology:
        seasons = [qartod.Season(frozenset(s.months), _span(s.suspect), _span(s.fail)) for s in tests.climatology]
        yield Test.CLIMATOLOGY, lambda: qartod.climatology_test(months, values, seasons)
    if (spike := tests.spike) is not None:
        yield Test.SPIKE, lambda: _spike(values, spike)
    if (step := tests.rate_of_change) is not None:
        yield (
            Test.RATE_OF_CHANGE,
            lambda: _rate_of_change(
                times, values, step, [said[t] for t in (Test.GROSS_RANGE, Test.SPIKE) if t in said]
            ),
        )
    if (flat := tests.flat_line) is not None:
        yield Test.FLAT_LINE, lambda: _flat_line(times, values, flat)
    if (attenuated := tests.attenuated) is not None:
        yield (
            Test.ATTENUATED_SIGNAL,
            lambda: qartod.attenuated_signal_test(
                times, values, attenuated.period_s, attenuated.suspect, attenuated.fail
            ),
        )
    if (shift := tests.level_shift) is not None:
        yield Test.LEVEL_SHIFT, lambda: level_shift_test(times, values, shift.suspect, shift.lasting_s)
    if (visit := tests.visit_step) is not None:
        yield Test.VISIT_STEP, lambda: visit_step_test(times, values, visit.pair, visit.drift)


def _spike(values: Values, spike: Thresholds) -> Flags:
    """A value that has failed is no measure for its neighbours: beside it they would look like small spikes."""
    flags = qartod.spike_test(values, spike.suspect, spike.fail)
    left = np.where(flags == FAIL, np.nan, values)
    again = qartod.spike_test(left, spike.suspect, spike.fail)
    return np.where(flags == SUSPECT, np.where(again == NO_VALUE, flags, again), flags).astype(np.uint8)


def _rate_of_change(times: Times, values: Values, step: Step, said: list[Flags]) -> Flags:
    """A value that has failed is no measure for the next one, which would fail for being right again."""
    believed = values.copy()
    for flags in said:
        believed[flags == FAIL] = np.nan
    flags = qartod.rate_of_change_test(times, believed, step.within_s, step.suspect, step.fail)
    flags[np.isnan(believed) & ~np.isnan(values)] = NOT_EVALUATED
    return flags


def _flat_line(times: Times, values: Values, flat: FlatLine) -> Flags:
    flags = qartod.flat_line_test(times, values, flat.tolerance, flat.suspect_s, flat.fail_s)
    outside = np.zeros(len(values), np.bool_)
    if flat.above is not None:
        outside |= values <= flat.above
    if flat.below is not None:
        outside |= values >= flat.below
    flags[outside & (flags != NO_VALUE)] = NOT_EVALUATED
    return flags


def _gross_range(parameter: Parameter | None, tests: ParameterTests) -> tuple[Span | None, Span | None]:
    own = tests.gross_range
    fail = _span(own.fail) if own is not None else None
    if fail is None and parameter is not None and parameter.valid_min is not None and parameter.valid_max is not None:
        fail = Span(parameter.valid_min, parameter.valid_max)
    return fail, _span(own.suspect) if own is not None else None


def _span(bounds: Bounds | None) -> Span | None:
    return None if bounds is None else Span(*bounds)


def _verdict(by_test: Mapping[Test, Flags], values: Values) -> Checked:
    failed = np.zeros(len(values), np.int32)
    for test, flags in by_test.items():
        failed[(flags == SUSPECT) | (flags == FAIL)] |= test
    return Checked(_worst(by_test.values(), values), failed, by_test)


def _worst(said: object, values: Values) -> Flags:
    """Return the worst of what the tests said; "good" where one was made and none objected."""
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    for one in said:  # type: ignore[attr-defined]
        flags = np.where((one == FAIL) | ((one == SUSPECT) & (flags != FAIL)), one, flags)
        flags[(flags == NOT_EVALUATED) & (one == GOOD)] = GOOD
    flags[np.isnan(values)] = NO_VALUE
    return flags.astype(np.uint8)
