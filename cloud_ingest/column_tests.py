"""Which tests one parameter of an instrument gets, by its configuration, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import structlog

from cloud_ingest import drift, hindsight, neighbourhood, qartod
from cloud_ingest.qartod import Flags, Span, Times, Values
from cloud_ingest.quality import Test
from cloud_ingest.visits import Visit
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT
from station_config.parameters import Parameter, load_parameters
from station_config.quality import Bounds, FlatLine, ParameterTests, Step

log = structlog.get_logger()


@dataclass(frozen=True)
class TestedColumn:
    """One parameter and what it is judged by; `said` is what its tests have said so far."""

    name: str
    times: Times
    values: Values
    tests: ParameterTests
    months: Times
    visits: list[Visit]
    said: dict[Test, Flags] = field(default_factory=dict)

    def of_believed(self, made: Callable[[Values], Flags]) -> Flags:
        """Return a test's flags over what has not failed so far: that is no measure for the rest."""
        believed = self.values.copy()
        for flags in self.said.values():
            believed[flags == FAIL] = np.nan
        flags = made(believed)
        flags[np.isnan(believed) & ~np.isnan(self.values)] = NOT_EVALUATED
        return flags

    def said_by_tests(self) -> Iterator[tuple[Test, Flags]]:
        """Yield what each configured test says; one that breaks says "not evaluated"."""
        for tests in (_tests_of_moments, _tests_of_hours, _tests_of_visits):
            for test, make in tests(self):
                try:
                    self.said[test] = make()
                except (ArithmeticError, ValueError, IndexError):
                    log.exception("a quality test failed to run", test=test.name, parameter=self.name)
                    self.said[test] = np.full(len(self.values), NOT_EVALUATED, np.uint8)
                yield test, self.said[test]


_Made = Iterator[tuple[Test, Callable[[], Flags]]]


def _tests_of_moments(column: TestedColumn) -> _Made:
    """Yield the tests of a value and its neighbours."""
    times, values, tests = column.times, column.values, column.tests
    fail, suspect = _gross_range(load_parameters().by_name.get(column.name), tests)
    yield Test.GROSS_RANGE, lambda: qartod.gross_range_test(values, fail, suspect)
    if tests.gap_s is not None:
        gap_s = tests.gap_s
        yield Test.GAP, lambda: qartod.gap_test(times, gap_s)
    if tests.climatology:
        seasons = [qartod.Season(frozenset(s.months), _span(s.suspect), _span(s.fail)) for s in tests.climatology]
        yield Test.CLIMATOLOGY, lambda: qartod.climatology_test(column.months, values, seasons)
    if tests.spike is not None or tests.wide_spike is not None:
        yield Test.SPIKE, lambda: _spike(times, values, tests)
    if (step := tests.rate_of_change) is not None:
        yield Test.RATE_OF_CHANGE, lambda: column.of_believed(lambda believed: _rate_of_change(times, believed, step))


def _tests_of_hours(column: TestedColumn) -> _Made:
    """Yield the tests of hours and days."""
    times, values, tests = column.times, column.values, column.tests
    if (flat := tests.flat_line) is not None:
        yield Test.FLAT_LINE, lambda: _flat_line(times, values, flat)
    if tests.attenuated is not None or tests.stillness is not None:
        yield Test.ATTENUATED_SIGNAL, lambda: _attenuated(times, values, tests)
    if (noise := tests.noise) is not None:
        yield Test.NOISE, lambda: neighbourhood.noise_test(times, values, noise.suspect)


def _tests_of_visits(column: TestedColumn) -> _Made:
    """Yield the tests that look back from days later."""
    times, visits, tests = column.times, column.visits, column.tests
    if (shift := tests.level_shift) is not None:
        yield (
            Test.LEVEL_SHIFT,
            lambda: column.of_believed(
                lambda believed: hindsight.level_shift_test(times, believed, shift.suspect, shift.lasting_s)
            ),
        )
    if (visit := tests.visit_step) is not None:
        yield (
            Test.VISIT_STEP,
            lambda: column.of_believed(lambda believed: hindsight.visit_step_test(times, believed, visits, visit.pair)),
        )
    if tests.visit_drift is not None or tests.visit_fouling is not None:
        yield (
            Test.VISIT_DRIFT,
            lambda: column.of_believed(lambda believed: _visit_drift(times, believed, visits, tests)),
        )


def _spike(times: Times, values: Values, tests: ParameterTests) -> Flags:
    """A value that has failed is no measure for its neighbours: beside it they would look like small spikes."""
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    if (spike := tests.spike) is not None:
        flags = qartod.spike_test(values, spike.suspect, spike.fail)
        left = np.where(flags == FAIL, np.nan, values)
        again = qartod.spike_test(left, spike.suspect, spike.fail)
        flags = np.where(flags == SUSPECT, np.where(again == NO_VALUE, flags, again), flags).astype(np.uint8)
    if (wide := tests.wide_spike) is not None:
        around = neighbourhood.wide_spike_test(times, values, wide.within_s, wide.suspect, wide.fail)
        flags = worst_of((flags, around), values)
    return flags


def _rate_of_change(times: Times, values: Values, step: Step) -> Flags:
    return qartod.rate_of_change_test(times, values, step.within_s, step.suspect, step.fail)


def _attenuated(times: Times, values: Values, tests: ParameterTests) -> Flags:
    said = []
    if (least := tests.attenuated) is not None:
        said.append(qartod.attenuated_signal_test(times, values, least.period_s, least.suspect, least.fail))
    if (still := tests.stillness) is not None:
        flags = hindsight.stillness_test(times, values, still.period_s, still.steps)
        said.append(hindsight.with_beginning(times, flags, SUSPECT, still.period_s))
    return worst_of(said, values)


def _visit_drift(times: Times, values: Values, visits: list[Visit], tests: ParameterTests) -> Flags:
    said = []
    if (off := tests.visit_drift) is not None:
        said.append(drift.visit_drift_test(times, values, visits, off.beyond, off.share, off.above))
    if (fouling := tests.visit_fouling) is not None:
        said.append(drift.visit_fouling_test(times, values, visits, fouling.least))
    return worst_of(said, values)


def _flat_line(times: Times, values: Values, flat: FlatLine) -> Flags:
    flags = qartod.flat_line_test(times, values, flat.tolerance, flat.suspect_s, flat.fail_s)
    # Half a day of slack water is only suspect at its end; what is long enough to fail is wrong from its beginning.
    if flat.fail_s is not None:
        flags = hindsight.with_beginning(times, flags, FAIL, flat.fail_s)
    elif flat.suspect_s is not None:
        flags = hindsight.with_beginning(times, flags, SUSPECT, flat.suspect_s)
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


def worst_of(said: Iterable[Flags], values: Values) -> Flags:
    """Return the worst of what tests said; "good" where one was made and none objected, 9 where there is no value."""
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    for one in said:
        flags = np.where((one == FAIL) | ((one == SUSPECT) & (flags != FAIL)), one, flags)
        flags[(flags == NOT_EVALUATED) & (one == GOOD)] = GOOD
    flags[np.isnan(values)] = NO_VALUE
    return flags.astype(np.uint8)
