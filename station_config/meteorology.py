"""Weather computed from weather: dew point, pressure at sea level, rain from a counter, wind over time.

Floats or numpy arrays; NaN travels through. Formulas: WMO-No. 8 (2021), Magnus with 17.62 and 243.12 over water.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from station_config.elementary import functions_for

if TYPE_CHECKING:
    import numpy as np

_MAGNUS_B, _MAGNUS_C_CEL, _MAGNUS_HPA = 17.62, 243.12, 6.112
_LAPSE_K_PER_M = 0.0065
CALM_M_S = 1e-9  # below, opposite winds have cancelled and there is no direction


def saturation_vapour_pressure(temperature_c: Any) -> Any:
    """Return hPa over water."""
    f = functions_for(temperature_c)
    return _MAGNUS_HPA * f.exp(_MAGNUS_B * temperature_c / (_MAGNUS_C_CEL + temperature_c))


def dew_point(temperature_c: Any, relative_humidity: Any) -> Any:
    """Return °C. Humidity in per cent, NaN where it is not above 0; above 100 the dew point is above the air's."""
    f = functions_for(temperature_c, relative_humidity)
    if f is math:
        if not relative_humidity > 0.0:
            return math.nan
        gamma = math.log(relative_humidity / 100.0)
    else:
        gamma = f.log(f.where(relative_humidity > 0.0, relative_humidity, f.nan) / 100.0)
    gamma = gamma + _MAGNUS_B * temperature_c / (_MAGNUS_C_CEL + temperature_c)
    return _MAGNUS_C_CEL * gamma / (_MAGNUS_B - gamma)


def pressure_at_sea_level(pressure_hpa: Any, height_m: float, temperature_c: Any) -> Any:
    """Return hPa reduced from a barometer `height_m` above the sea, standard lapse rate."""
    lift = _LAPSE_K_PER_M * height_m
    return pressure_hpa * (1.0 - lift / (temperature_c + lift + 273.15)) ** -5.257


class MeanWind(NamedTuple):
    """Scalar mean of the speed, length of the mean vector, direction of the mean vector (None: none)."""

    speed: float
    vector_speed: float
    from_direction: float | None


def mean_wind(observations: Iterable[tuple[float, float]]) -> MeanWind | None:
    """Return the mean of (speed, direction it comes from in degrees); None of nothing.

    East and north parts are averaged, so that 350° and 10° make 0°. Where they cancel there is no direction.
    """
    number, total, east, north = 0, 0.0, 0.0, 0.0
    for speed, direction in observations:
        number += 1
        total += speed
        east -= speed * math.sin(math.radians(direction))
        north -= speed * math.cos(math.radians(direction))
    if not number:
        return None
    length = math.hypot(east, north) / number
    # A tiny angle below north is 360.0 after the first remainder, so there is a second one.
    if length <= CALM_M_S:
        return MeanWind(total / number, 0.0, None)
    return MeanWind(total / number, length, math.degrees(math.atan2(-east, -north)) % 360.0 % 360.0)


def rain_increments(totals_mm: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the rain between each total and the last one before it; NaN where either is missing, and for the first.

    A total that is smaller than the one before means that the counter began anew (a new instrument, a reset): what
    it shows has fallen since, and what fell before it began anew is not known. It is never negative rain.
    """
    import numpy as np

    increments = np.full(len(totals_mm), np.nan)
    present = np.flatnonzero(~np.isnan(totals_mm))
    values = totals_mm[present]
    step = np.diff(values)
    increments[present[1:]] = np.where(step < 0, values[1:], step)
    return increments


def rain_intensity_of_totals(
    times_s: np.ndarray[Any, np.dtype[np.int64]],
    totals_mm: np.ndarray[Any, np.dtype[np.float64]],
    *,
    window_s: int,
    longest_s: int,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return mm/h at each time (sorted): what fell since the last total at least `window_s` before, over that time.

    NaN where there is no total, or none between `window_s` and `longest_s` before: when it rained is not known then.
    """
    import numpy as np

    intensity = np.full(len(times_s), np.nan)
    present = np.flatnonzero(~np.isnan(totals_mm))
    if len(present):
        times, values = times_s[present], totals_mm[present]
        fallen = np.concatenate(([0.0], np.cumsum(rain_increments(values)[1:])))
        before = np.searchsorted(times, times - window_s, side="right") - 1
        since_s = times - times[np.maximum(before, 0)]
        known = (before >= 0) & (since_s <= longest_s)
        rain = fallen - fallen[np.maximum(before, 0)]
        intensity[present[known]] = rain_intensity(rain[known], since_s[known])
    return intensity


def rain_intensity(rain_mm: Any, interval_s: Any) -> Any:
    """Return mm/h. Over less than five minutes one tip of a bucket looks like a downpour: choose longer intervals."""
    return rain_mm * 3600.0 / interval_s
