"""Dissolved oxygen: what water can hold, how full it is, and back. Benson and Krause (1980, 1984), as the USGS does.

    solubility = f(temperature, salinity, air pressure at the station, not at sea level)      mg/L
    saturation = 100 * concentration / solubility                                              %

Floats or numpy arrays (broadcast together); NaN travels through. At 25 °C fresh water holds 8.263 mg/L.
"""

from __future__ import annotations

from typing import Any

from station_config.elementary import functions_for

STANDARD_PRESSURE_HPA = 1013.25
_HPA_PER_ATM = 1013.25

# ln C* = sum of these times T^-n (T in kelvin): mg/L in fresh water under one atmosphere of moist air
_LN_SOLUBILITY = (-139.34411, 1.575701e5, -6.642308e7, 1.243800e10, -8.621949e11)


def oxygen_solubility(temperature_c: Any, salinity: Any = 0.0, pressure_hpa: Any = STANDARD_PRESSURE_HPA) -> Any:
    """Return mg/L of oxygen in water in equilibrium with moist air; 0..40 °C, salinity 0..40, air pressure in hPa."""
    f = functions_for(temperature_c, salinity, pressure_hpa)
    kelvin = temperature_c + 273.15
    inverse = 1.0 / kelvin
    logarithm = 0.0
    for coefficient in reversed(_LN_SOLUBILITY):
        logarithm = logarithm * inverse + coefficient
    salting_out = salinity * (0.017674 - 10.754 * inverse + 2140.7 * inverse * inverse)
    return f.exp(logarithm - salting_out) * _pressure_factor(f, temperature_c, pressure_hpa / _HPA_PER_ATM)


def oxygen_saturation(
    oxygen_mg_l: Any, temperature_c: Any, salinity: Any = 0.0, pressure_hpa: Any = STANDARD_PRESSURE_HPA
) -> Any:
    """Return per cent of what the water would hold in equilibrium with the air above it."""
    return 100.0 * oxygen_mg_l / oxygen_solubility(temperature_c, salinity, pressure_hpa)


def oxygen_concentration(
    saturation_percent: Any, temperature_c: Any, salinity: Any = 0.0, pressure_hpa: Any = STANDARD_PRESSURE_HPA
) -> Any:
    """Return mg/L from per cent of saturation (a fraction a probe gives times 100)."""
    return saturation_percent / 100.0 * oxygen_solubility(temperature_c, salinity, pressure_hpa)


def _pressure_factor(f: Any, temperature_c: Any, pressure_atm: Any) -> Any:
    """Return solubility at a pressure relative to that at one atmosphere: the air is moist, oxygen not quite ideal."""
    kelvin = temperature_c + 273.15
    vapour_atm = f.exp(11.8571 - 3840.70 / kelvin - 216961.0 / (kelvin * kelvin))
    theta = 0.000975 - temperature_c * (1.426e-5 - 6.436e-8 * temperature_c)
    there = (1.0 - vapour_atm / pressure_atm) * (1.0 - theta * pressure_atm)
    return pressure_atm * there / ((1.0 - vapour_atm) * (1.0 - theta))
