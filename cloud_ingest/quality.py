"""Quality control in the words of the QARTOD manual: flags 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing.

Pure functions over numpy columns. A test adds a flag and never touches a value.
"""

from __future__ import annotations

from enum import IntFlag

import numpy as np
import numpy.typing as npt

from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.uint8]

# How much a flag weighs when several meet: the worst wins, and what nobody tested is not good.
_WEIGHT = np.zeros(256, np.uint8)
_WEIGHT[[GOOD, NOT_EVALUATED, SUSPECT, FAIL, NO_VALUE]] = (1, 2, 3, 4, 5)


class Test(IntFlag):
    """The tests, by the manual's names; a set of them is stored beside a flag. Bits are never reused."""

    __test__ = False  # not one of pytest's

    GAP = 1
    SYNTAX = 2
    GROSS_RANGE = 4
    CLIMATOLOGY = 8
    SPIKE = 16
    RATE_OF_CHANGE = 32
    FLAT_LINE = 64
    MULTI_VARIATE = 128
    ATTENUATED_SIGNAL = 256
    STATION = 512  # the station itself said fail (4): the instrument's own status
    LEVEL_SHIFT = 1024
    VISIT_STEP = 2048
    NEEDED_INPUT = 4096
    NOISE = 8192
    VISIT_DRIFT = 16384

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the tests in the set, in lower case."""
        return tuple(test.name.lower() for test in Test if test in self and test.name)


def gross_range(values: Values, fail_min: Values, fail_max: Values, suspect_min: Values, suspect_max: Values) -> Flags:
    """Return the flags of the gross range test, one per value.

    The fail span is what the instrument can report, the suspect span what the operator expects of the station; bounds
    belong to the span. A missing value (NaN) is 9, a value without a fail span (NaN bounds) is 2; a NaN suspect bound
    is not tested.
    """
    flags = np.full(len(values), GOOD, np.uint8)
    flags[(values < suspect_min) | (values > suspect_max)] = SUSPECT
    flags[(values < fail_min) | (values > fail_max)] = FAIL
    flags[np.isnan(fail_min) | np.isnan(fail_max)] = NOT_EVALUATED
    flags[np.isnan(values)] = NO_VALUE
    return flags


def failed_range(flags: Flags) -> npt.NDArray[np.int64]:
    """Return the set of failed tests where the gross range test was the only one."""
    return np.where((flags == SUSPECT) | (flags == FAIL), int(Test.GROSS_RANGE), 0).astype(np.int64)


def with_record_flags(record_flags: Flags, test_flags: Flags) -> Flags:
    """Return the tests' flags, except where the station itself already said fail (4) or missing (9)."""
    station_said = (record_flags == FAIL) | (record_flags == NO_VALUE)
    result: Flags = np.where(station_said, record_flags, test_flags)
    return result


def worst(*flags: Flags) -> Flags:
    """Return the worst flag per row: missing before fail, suspect, not evaluated, good."""
    result = flags[0]
    for other in flags[1:]:
        result = np.where(_WEIGHT[other] > _WEIGHT[result], other, result)
    return result
