"""exp, log and their kin for what comes: Python's for numbers, numpy's for arrays, so that formulas are written once.

numpy is not imported for numbers: a gateway and a technician's laptop do without.
"""

from __future__ import annotations

import math
import sys
from typing import Any


def functions_for(*values: Any) -> Any:
    """Return the module whose exp, log, sqrt, sin, cos and tan fit: numpy when any value is an array, else math."""
    numpy = sys.modules.get("numpy")  # where nobody has imported it there is no array
    if numpy is not None and any(isinstance(value, numpy.ndarray) for value in values):
        return numpy
    return math


def at_least(low: float, value: Any) -> Any:
    """Return the larger of the two; NaN stays NaN."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return numpy.maximum(low, value)
    return value if math.isnan(value) else max(low, value)


def between(low: float, value: Any, high: float) -> Any:
    """Return the value held within two bounds; NaN stays NaN."""
    return -at_least(-high, -at_least(low, value))
