"""What several parameters of one instrument say together (QARTOD's multi-variate test; the rules are ours).

out of water   the probe hangs in air: no water above it, or nothing conducts any more from one observation to the next
needs          a value computed with another one that failed: conductivity at 25 °C with a temperature of 50 °C
doubts         a value that another one takes a smaller part in: oxygen in mg/L by a conductivity that is suspect
instrument     a multi-parameter probe whose temperature failed is believed in nothing: the rest is suspect

Columns are of one instrument at the same times, by parameter name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cloud_ingest.qartod import Flags, Mask, Values
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT
from station_config.quality import ParameterTests

SHALLOW_M = 0.1
DRY_BELOW_MS_CM = 0.6  # a wet film still conducts a little
DRY_DROP = 0.1  # of what it was before
DRY_FROM_MS_CM = 2.0  # below that, river water after rain cannot be told from a probe in air
CONDUCTIVITIES = ("conductivity", "conductivity_25")


def out_of_water(values: Mapping[str, Values]) -> Mask | None:
    """Return where the instrument hangs in air; None when it measures nothing that tells.

    Conductivity decides where there is one: in a shallow bay good water stands a hand above the probe. Otherwise depth.
    """
    conductivities = [values[name] for name in CONDUCTIVITIES if name in values]
    depth = values.get("water_depth")
    if not conductivities:
        return None if depth is None else depth < 0.0
    dry = np.zeros(len(conductivities[0]), np.bool_)
    for conductivity in conductivities:
        dry |= _fell_dry(conductivity)
        if depth is not None:
            dry |= (depth < SHALLOW_M) & (conductivity < DRY_BELOW_MS_CM)
    return dry


def out_of_water_test(values: Values, dry: Mask | None) -> Flags:
    """Fail what is measured while the instrument hangs in air."""
    flags = np.full(len(values), NOT_EVALUATED if dry is None else GOOD, np.uint8)
    if dry is not None:
        flags[dry] = FAIL
    flags[np.isnan(values)] = NO_VALUE
    return flags


def instrument_test(values: Values, tests: ParameterTests, others: Mapping[str, Flags]) -> Flags:
    """Fail a value whose needed inputs failed; suspect it when its instrument's temperature failed, or what it doubts
    with is suspect."""
    flags = np.full(len(values), GOOD, np.uint8)
    temperature = others.get("water_temperature")
    if temperature is not None:
        flags[temperature == FAIL] = SUSPECT
    for name in tests.doubts:
        if name in others:
            flags[(others[name] == FAIL) | (others[name] == SUSPECT)] = SUSPECT
    for name in tests.needs:
        if name in others:
            flags[others[name] == FAIL] = FAIL
    flags[np.isnan(values)] = NO_VALUE
    return flags


def _fell_dry(conductivity: Values) -> Mask:
    """Return where conductivity is next to nothing since a fall from something within one observation."""
    dry = np.zeros(len(conductivity), np.bool_)
    low = conductivity < DRY_BELOW_MS_CM
    before = np.concatenate(([np.nan], conductivity[:-1]))
    falls = low & (before > DRY_FROM_MS_CM) & (conductivity < DRY_DROP * before)
    for start in np.flatnonzero(falls):
        wet = np.flatnonzero(~low[start:])
        dry[start : start + (int(wet[0]) if len(wet) else len(low))] = True
    return dry
