"""The tests of the QARTOD manuals, as pure functions over one series.

A series is `times` (whole seconds, ascending) and `values` (floats of the same length, NaN where nothing was
measured). Each test returns one flag per observation: 1 good, 3 suspect, 4 fail, 9 missing, and 2 where it could not be
made: a crashed or impossible test never says good. Thresholds are in the parameter's unit; None leaves that level out.

Source: the U.S. IOOS QARTOD manuals for temperature and salinity, water level, dissolved oxygen; the names are theirs.
Where a manual leaves a choice, the docstring says what was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cloud_ingest.windows import Windows, trailing
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


class Span(NamedTuple):
    """What a value may be; the bounds belong to it."""

    low: float
    high: float


class Season(NamedTuple):
    """Months (1..12) and what is usual and what is possible in them."""

    months: frozenset[int]
    suspect: Span | None
    fail: Span | None


def gap_test(times: Times, max_gap_s: float) -> Flags:
    """Fail each observation that came after more than `max_gap_s` of nothing (manual: test 1).

    The first has nothing before it and is not evaluated.
    """
    return _judged(np.diff(times, prepend=times[:1]).astype(np.float64), None, max_gap_s, _all_but_first(len(times)))


def gross_range_test(values: Values, fail: Span | None, suspect: Span | None = None) -> Flags:
    """Fail what the instrument cannot report, suspect what the operator does not expect (manual: test 4)."""
    flags = np.full(len(values), GOOD if fail or suspect else NOT_EVALUATED, np.uint8)
    if suspect is not None:
        flags[_outside(values, suspect)] = SUSPECT
    if fail is not None:
        flags[_outside(values, fail)] = FAIL
    return _missing(flags, values)


def climatology_test(months: npt.NDArray[np.int64], values: Values, seasons: Sequence[Season]) -> Flags:
    """Hold values against what is usual in their month, local calendar (manual: test 5); a month of no season: 2."""
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    for season in seasons:
        inside = np.isin(months, list(season.months))
        flags[inside] = gross_range_test(values[inside], season.fail, season.suspect)
    return _missing(flags, values)


def spike_test(values: Values, suspect: float | None, fail: float | None) -> Flags:
    """Flag a value that leaves both its neighbours in the same direction by more than a threshold (manual: test 6).

    The differential form: of the two differences the smaller one counts, and only if they have opposite signs. So
    neither side of a true step is flagged, nor the neighbours of a spike. Needs the next observation: the last one,
    and one beside a missing value, is not evaluated.
    """
    height = np.full(len(values), np.nan)
    if len(values) >= 3:
        before, after = np.diff(values)[:-1], np.diff(values)[1:]
        height[1:-1] = np.where(before * after < 0, np.minimum(np.abs(before), np.abs(after)), 0.0)
        height[1:-1][np.isnan(before) | np.isnan(after)] = np.nan
    return _missing(_judged(height, suspect, fail, ~np.isnan(height)), values)


def rate_of_change_test(
    times: Times, values: Values, within_s: float, suspect: float | None, fail: float | None
) -> Flags:
    """Flag a value further from the one before it than a threshold (manual: test 7); the later one is flagged.

    A threshold is the largest believable step within `within_s` or less; over a longer time it grows in proportion.
    So the same numbers serve a station that records each minute and one that records each quarter of an hour. At
    intervals of `within_s` and more it is a rate. The first value, and one after a missing value, is not evaluated.
    """
    step = np.abs(np.diff(values, prepend=np.nan))
    longer = np.maximum(1.0, np.diff(times, prepend=times[:1]) / within_s)
    return _missing(_judged(step / longer, suspect, fail, ~np.isnan(step)), values)


def flat_line_test(
    times: Times, values: Values, tolerance: float, suspect_s: float | None, fail_s: float | None
) -> Flags:
    """Flag a value when all of the time before it has stayed within less than `tolerance` (manual: test 8).

    `tolerance` is the range (largest less smallest); choose it above the resolution, or rounding looks flat; zero never
    flags. A value without that much past (half of the usual observations at least) is not evaluated.
    """
    flags = np.full(len(values), NOT_EVALUATED, np.uint8)
    for duration_s, flag in ((suspect_s, SUSPECT), (fail_s, FAIL)):
        if duration_s is not None:
            windows = trailing(times, values, duration_s)
            flat = windows.full & (windows.range() < tolerance)
            flags[windows.full & (flags == NOT_EVALUATED)] = GOOD
            flags[flat] = flag
    return _missing(flags, values)


def attenuated_signal_test(
    times: Times,
    values: Values,
    period_s: float,
    suspect: float | None,
    fail: float | None,
    *,
    measure: str = "range",
) -> Flags:
    """Flag a value when the signal of the `period_s` before it has less life than a threshold (manual: test 10).

    `measure` is "range" or "std" (population standard deviation). For tidal waters take a period of 25 h or more.
    """
    windows = trailing(times, values, period_s)
    life = windows.range() if measure == "range" else windows.std()
    flags = np.where(windows.full, GOOD, NOT_EVALUATED).astype(np.uint8)
    for threshold, flag in ((suspect, SUSPECT), (fail, FAIL)):
        if threshold is not None:
            flags[windows.full & (life < threshold)] = flag
    return _missing(flags, values)


def _judged(measure: Values, suspect: float | None, fail: float | None, evaluated: Mask) -> Flags:
    """Return flags by how large a measure is; strictly above a threshold is flagged."""
    flags = np.where(evaluated, GOOD, NOT_EVALUATED).astype(np.uint8)
    for threshold, flag in ((suspect, SUSPECT), (fail, FAIL)):
        if threshold is not None:
            flags[evaluated & (measure > threshold)] = flag
    return flags


def _missing(flags: Flags, values: Values) -> Flags:
    flags[np.isnan(values)] = NO_VALUE
    return flags


def _outside(values: Values, span: Span) -> Mask:
    return (values < span.low) | (values > span.high)


def _all_but_first(number: int) -> Mask:
    evaluated = np.ones(number, np.bool_)
    evaluated[:1] = False
    return evaluated


__all__ = [
    "Season",
    "Span",
    "Windows",
    "attenuated_signal_test",
    "climatology_test",
    "flat_line_test",
    "gap_test",
    "gross_range_test",
    "rate_of_change_test",
    "spike_test",
]
