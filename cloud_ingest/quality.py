"""Quality control in the words of the QARTOD manual: flags 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing.

Pure functions over numpy columns. A test adds a flag and never touches a value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.uint8]

# How much a flag weighs when several meet: the worst wins, and what nobody tested is not good.
_WEIGHT = np.zeros(256, np.uint8)
_WEIGHT[[GOOD, NOT_EVALUATED, SUSPECT, FAIL, NO_VALUE]] = (1, 2, 3, 4, 5)


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
