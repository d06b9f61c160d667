"""Practical salinity from conductivity: PSS-78 (UNESCO technical paper 44), below 2 extended after Hill et al. 1986.

Every function takes floats or numpy arrays (broadcast together) and gives back the same kind. NaN in gives NaN out,
and no number makes one raise. Temperatures are ITS-90 as instruments give them; the equations of 1978 want IPTS-68, so
they are converted inside. numpy is loaded only when an array comes: a gateway or a technician's laptop does without.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

Values = TypeVar("Values", float, "Array")

CONDUCTIVITY_35_15_0_MS_CM = 42.9140  # of standard seawater: S = 35, 15 °C (IPTS-68), no pressure

# Outside of these nothing is in water, and the polynomials no longer mean anything: the answer is NaN.
TEMPERATURE_RANGE_C = (-10.0, 60.0)
PRESSURE_RANGE_DBAR = (-20.0, 12000.0)

_T68_PER_T90 = 1.00024
_A = (0.0080, -0.1692, 25.3851, 14.0941, -7.0261, 2.7081)
_B = (0.0005, -0.0056, -0.0066, -0.0375, 0.0636, -0.0144)
_C = (0.6766097, 2.00564e-2, 1.104259e-4, -6.9698e-7, 1.0031e-9)
_D = (3.426e-2, 4.464e-4, 4.215e-1, -3.107e-3)
_E = (2.070e-5, -6.370e-10, 3.989e-15)
_K = 0.0162
_HILL_BELOW = 2.0

# Factors of natural waters to 25 °C after ISO 7888 ("nLF") at 0, 1, 2 ... 35 °C; linear between, unknown beyond.
_NLF_TO_25 = (
    *(1.918, 1.857, 1.800, 1.745, 1.693, 1.643, 1.596, 1.551, 1.508, 1.467, 1.428, 1.390),
    *(1.354, 1.320, 1.287, 1.256, 1.225, 1.196, 1.168, 1.141, 1.116, 1.091, 1.067, 1.044),
    *(1.021, 1.000, 0.979, 0.959, 0.940, 0.921, 0.903, 0.886, 0.869, 0.853, 0.837, 0.822),
)


def practical_salinity(
    conductivity_ms_cm: Values, temperature_c: Values, pressure_dbar: Values | float = 0.0
) -> Values:
    """Return practical salinity (PSS-78, Hill 1986 below 2) of water with this conductivity in situ.

    conductivity_ms_cm is the uncompensated one; undo an instrument's compensation first (`conductivity_from_25`).
    No conductivity (a dry probe) or less is 0. Valid for 0..42 and -2..35 °C, smooth a little beyond.
    """
    plain = _are_numbers(conductivity_ms_cm, temperature_c, pressure_dbar)
    compute: Any = _salinity_of_numbers if plain else _salinity_of_arrays
    salinity: Values = compute(conductivity_ms_cm, temperature_c, pressure_dbar)
    return salinity


def conductivity_from_25(conductivity_25_ms_cm: Values, temperature_c: Values, alpha: float) -> Values:
    """Undo a linear compensation to 25 °C: C = C25 (1 + alpha (t - 25)), alpha in 1/K (0.0191 for many probes)."""
    return conductivity_25_ms_cm * (1.0 + alpha * (temperature_c - 25.0))


def conductivity_from_25_nlf(conductivity_25_ms_cm: Values, temperature_c: Values) -> Values:
    """Undo the non-linear compensation "nLF" of ISO 7888 to 25 °C; NaN outside its table, 0..35 °C."""
    factor: Any = _nlf_of_number if _are_numbers(temperature_c) else _nlf_of_array
    conductivity: Values = conductivity_25_ms_cm / factor(temperature_c)
    return conductivity


def specific_conductance(conductivity_ms_cm: Values, temperature_c: Values) -> Values:
    """Return mS/cm that this water would have at 25 °C, by PSS-78: exact for diluted sea water, whatever its salinity.

    A probe's own compensation takes one coefficient for all water; from 28 °C the two differ by up to 1 %.
    """
    salinity = practical_salinity(conductivity_ms_cm, temperature_c)
    reference: Any = 25.0 if _are_numbers(conductivity_ms_cm, temperature_c) else temperature_c * 0.0 + 25.0
    # Newton's method from a linear guess; salinity rises almost in proportion to conductivity: four steps are plenty.
    guess: Any = conductivity_ms_cm / (1.0 + 0.02 * (temperature_c - 25.0))
    for _ in range(4):
        here: Any = practical_salinity(guess, reference)
        slope: Any = (practical_salinity(guess * 1.001 + 1e-6, reference) - here) / (guess * 0.001 + 1e-6)
        guess = guess + (salinity - here) / _away_from_zero(slope)
    result: Values = guess
    return result


def _away_from_zero(slope: Any) -> Any:
    """Below 0.01 mS/cm salinity is cut off at zero and has no slope: the guess stays as it is."""
    if isinstance(slope, float):
        return slope if slope > 1e-3 else math.inf
    import numpy as np

    return np.where(slope > 1e-3, slope, np.inf)


def _are_numbers(*values: object) -> bool:
    return all(isinstance(value, float | int) for value in values)


def _nlf_of_array(temperature_c: Array) -> Array:
    import numpy as np

    factor: Array = np.interp(temperature_c, np.arange(len(_NLF_TO_25)), _NLF_TO_25, left=np.nan, right=np.nan)
    return factor


def _nlf_of_number(temperature_c: float) -> float:
    last = len(_NLF_TO_25) - 1
    if not 0.0 <= temperature_c <= last:
        return math.nan
    below = min(int(temperature_c), last - 1)
    return _NLF_TO_25[below] + (temperature_c - below) * (_NLF_TO_25[below + 1] - _NLF_TO_25[below])


def _salinity_of_numbers(conductivity_ms_cm: float, temperature_c: float, pressure_dbar: float) -> float:
    in_water = (
        TEMPERATURE_RANGE_C[0] <= temperature_c <= TEMPERATURE_RANGE_C[1]
        and PRESSURE_RANGE_DBAR[0] <= pressure_dbar <= PRESSURE_RANGE_DBAR[1]
    )
    if not in_water or math.isnan(conductivity_ms_cm):
        return math.nan
    if conductivity_ms_cm <= 0.0:
        return 0.0
    t68 = temperature_c * _T68_PER_T90
    root = math.sqrt(_ratio(float(conductivity_ms_cm), t68, float(pressure_dbar)))
    salinity = _pss78(root, t68)
    if salinity < _HILL_BELOW:
        salinity = _hill(salinity, root, t68)
    return max(salinity, 0.0)  # in this order a NaN stays one


def _salinity_of_arrays(conductivity: object, temperature: object, pressure: object) -> Array:
    import numpy as np

    c, t90, p = (np.asarray(values, dtype=np.float64) for values in (conductivity, temperature, pressure))
    with np.errstate(all="ignore"):
        t68 = t90 * _T68_PER_T90
        root = np.sqrt(_ratio(np.where(c > 0.0, c, 0.0), t68, p))
        salinity = _pss78(root, t68)
        salinity = np.where(salinity < _HILL_BELOW, _hill(salinity, root, t68), salinity)
        salinity = np.where((c > 0.0) & ~(salinity < 0.0), salinity, 0.0)
    in_water = (t90 >= TEMPERATURE_RANGE_C[0]) & (t90 <= TEMPERATURE_RANGE_C[1])
    in_water &= (p >= PRESSURE_RANGE_DBAR[0]) & (p <= PRESSURE_RANGE_DBAR[1])
    return np.where(in_water & ~np.isnan(c), salinity, np.nan)


def _ratio(conductivity_ms_cm: Values, t68: Values, pressure_dbar: Values) -> Values:
    """Return Rt: the conductivity ratio to standard seawater of the same temperature, without pressure."""
    r = conductivity_ms_cm / CONDUCTIVITY_35_15_0_MS_CM
    rt35 = _polynomial(_C, t68)
    rp = 1.0 + pressure_dbar * _polynomial(_E, pressure_dbar) / (
        1.0 + t68 * (_D[0] + t68 * _D[1]) + (_D[2] + t68 * _D[3]) * r
    )
    return r / (rp * rt35)


def _pss78(root: Values, t68: Values) -> Values:
    """Return PSS-78 salinity; root is the square root of Rt."""
    return _polynomial(_A, root) + _temperature_term(t68) * _polynomial(_B, root)


def _hill(salinity: Values, root: Values, t68: Values) -> Values:
    """Extend PSS-78 below 2. The factor makes it meet PSS-78 at 2 exactly (as TEOS-10 does); 0.9998 to 1.0002."""
    root_at_2 = 0.26413 + 0.0002 * t68  # within 0.5 % over 0..40 °C: good for 1e-6 in the factor
    at_2 = _HILL_BELOW - _hill_terms(root_at_2, t68)
    return (salinity - _hill_terms(root, t68)) * _HILL_BELOW / at_2


def _hill_terms(root: Values, t68: Values) -> Values:
    x = 400.0 * root * root
    y = 10.0 * root
    return _A[0] / (1.0 + x * (1.5 + x)) + _B[0] * _temperature_term(t68) / (1.0 + y * (1.0 + y * (1.0 + y)))


def _temperature_term(t68: Values) -> Values:
    return (t68 - 15.0) / (1.0 + _K * (t68 - 15.0))


def _polynomial(coefficients: tuple[float, ...], x: Values) -> Values:
    """Return c0 + c1 x + c2 x² ... (Horner)."""
    total = coefficients[-1] + 0.0 * x
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total
