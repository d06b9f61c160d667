"""Reference evapotranspiration ET0 by FAO Irrigation and Drainage Paper 56 (Penman-Monteith), daily and hourly.

    daily(...)    mm/day   from extremes of temperature, vapour pressure, wind at 2 m, radiation (FAO-56 eq. 6)
    hourly(...)   mm/h     from means of one hour (eq. 53)

Equation numbers are FAO-56's; its examples 17 to 19 are the tests. Radiation in MJ/m² over the interval, pressure in
kPa, temperature in °C, wind in m/s, latitude in degrees north. One place and interval at a time: floats.
"""

from __future__ import annotations

import math
from typing import NamedTuple

SOLAR_CONSTANT_MJ_M2_MIN = 0.0820
STEFAN_BOLTZMANN_MJ_K4_M2_DAY = 4.903e-9
ALBEDO = 0.23
DAYLIGHT_MJ_M2 = 0.02 * 60 * SOLAR_CONSTANT_MJ_M2_MIN  # in an hour above the atmosphere; below it is night
MJ_M2_PER_WATT_HOUR_M2 = 0.0036


class Site(NamedTuple):
    """Where: latitude in degrees north, height above the sea in metres, longitude in degrees east."""

    latitude: float
    height_m: float
    longitude: float = 0.0


def daily(
    site: Site,
    day_of_year: int,
    *,
    temperature_min: float,
    temperature_max: float,
    vapour_pressure_kpa: float,
    wind_2m: float,
    radiation_mj_m2: float,
    soil_heat_mj_m2: float = 0.0,
) -> float:
    """Return ET0 of one day in mm (eq. 6)."""
    mean = (temperature_min + temperature_max) / 2
    saturation = (saturation_kpa(temperature_min) + saturation_kpa(temperature_max)) / 2
    sky = extraterrestrial_daily(site, day_of_year)
    outgoing = _longwave(
        [temperature_min, temperature_max], vapour_pressure_kpa, radiation_mj_m2 / clear_sky(site, sky)
    )
    net = (1 - ALBEDO) * radiation_mj_m2 - outgoing
    return _penman_monteith(
        site, mean, saturation - vapour_pressure_kpa, wind_2m, net - soil_heat_mj_m2, numerator=900.0
    )


def hourly(
    site: Site,
    day_of_year: int,
    hour_end_utc: float,
    *,
    temperature: float,
    vapour_pressure_kpa: float,
    wind_2m: float,
    radiation_mj_m2: float,
    clearness_before_sunset: float = 0.8,
) -> float:
    """Return ET0 of the hour that ends at `hour_end_utc` (0..24) in mm (eq. 53).

    At night the sky's clearness (radiation over that of a clear sky) is that of the late afternoon before.
    """
    sky = extraterrestrial_hourly(site, day_of_year, hour_end_utc)
    by_day = sky > DAYLIGHT_MJ_M2
    clearness = radiation_mj_m2 / clear_sky(site, sky) if by_day else clearness_before_sunset
    net = (1 - ALBEDO) * radiation_mj_m2 - _longwave([temperature], vapour_pressure_kpa, clearness) / 24
    soil_heat = (0.1 if by_day else 0.5) * net
    deficit = saturation_kpa(temperature) - vapour_pressure_kpa
    return _penman_monteith(site, temperature, deficit, wind_2m, net - soil_heat, numerator=37.0)


def saturation_kpa(temperature_c: float) -> float:
    """Return the saturation vapour pressure (eq. 11)."""
    return 0.6108 * math.exp(17.27 * temperature_c / (temperature_c + 237.3))


def vapour_pressure_kpa(temperature_c: float, humidity_percent: float) -> float:
    """Return the vapour pressure of one moment or hour (eq. 54); a sensor's 102 % counts as 100."""
    return saturation_kpa(temperature_c) * min(humidity_percent, 100.0) / 100


def vapour_pressure_of_day_kpa(temperatures: tuple[float, float], humidities: tuple[float, float]) -> float:
    """Return the vapour pressure of a day by its (lowest, highest) temperature and humidity (eq. 17)."""
    coldest = vapour_pressure_kpa(temperatures[0], humidities[1])
    return (coldest + vapour_pressure_kpa(temperatures[1], humidities[0])) / 2


def wind_at_2m(wind: float, height_m: float) -> float:
    """Return the wind at 2 m from that at another height above short grass (eq. 47)."""
    return wind * 4.87 / math.log(67.8 * height_m - 5.42)


def extraterrestrial_daily(site: Site, day_of_year: int) -> float:
    """Return MJ/m² above the atmosphere in a day (eq. 21)."""
    latitude, declination = math.radians(site.latitude), _declination(day_of_year)
    sunset = _sunset_angle(latitude, declination)
    sine = sunset * math.sin(latitude) * math.sin(declination)
    cosine = math.cos(latitude) * math.cos(declination) * math.sin(sunset)
    return 24 * 60 / math.pi * SOLAR_CONSTANT_MJ_M2_MIN * _inverse_distance(day_of_year) * (sine + cosine)


def extraterrestrial_hourly(site: Site, day_of_year: int, hour_end_utc: float) -> float:
    """Return MJ/m² above the atmosphere in the hour that ends at `hour_end_utc` (eq. 28)."""
    latitude, declination = math.radians(site.latitude), _declination(day_of_year)
    sunset = _sunset_angle(latitude, declination)
    middle = math.pi / 12 * (_solar_hour(site, day_of_year, hour_end_utc - 0.5) - 12)
    first = min(max(middle - math.pi / 24, -sunset), sunset)
    last = min(max(middle + math.pi / 24, -sunset), sunset)
    sine = (last - first) * math.sin(latitude) * math.sin(declination)
    cosine = math.cos(latitude) * math.cos(declination) * (math.sin(last) - math.sin(first))
    return 12 * 60 / math.pi * SOLAR_CONSTANT_MJ_M2_MIN * _inverse_distance(day_of_year) * (sine + cosine)


def is_late_afternoon(site: Site, day_of_year: int, hour_end_utc: float) -> bool:
    """Return whether the sun sets two to three hours after this hour: its clearness of the sky serves the night."""
    later = (extraterrestrial_hourly(site, day_of_year, hour_end_utc + hours) for hours in (2, 3))
    return next(later) > 0.0 and next(later) == 0.0


def clear_sky(site: Site, extraterrestrial_mj_m2: float) -> float:
    """Return MJ/m² at the ground under a clear sky (eq. 37)."""
    return (0.75 + 2e-5 * site.height_m) * extraterrestrial_mj_m2


def _penman_monteith(
    site: Site, temperature: float, deficit_kpa: float, wind_2m: float, energy_mj_m2: float, *, numerator: float
) -> float:
    slope = 4098 * saturation_kpa(temperature) / (temperature + 237.3) ** 2
    psychrometric = 0.665e-3 * 101.3 * math.pow((293 - 0.0065 * site.height_m) / 293, 5.26)
    radiation_term = 0.408 * slope * energy_mj_m2
    wind_term = psychrometric * numerator / (temperature + 273) * wind_2m * deficit_kpa
    return (radiation_term + wind_term) / (slope + psychrometric * (1 + 0.34 * wind_2m))


def _longwave(temperatures: list[float], vapour_pressure_kpa: float, clearness: float) -> float:
    """Return MJ/m² a day that the surface sends away (eq. 39)."""
    radiated = sum((t + 273.16) ** 4 for t in temperatures) / len(temperatures) * STEFAN_BOLTZMANN_MJ_K4_M2_DAY
    clouds = 1.35 * min(1.0, max(0.25, clearness)) - 0.35
    return radiated * (0.34 - 0.14 * math.sqrt(vapour_pressure_kpa)) * clouds


def _declination(day_of_year: int) -> float:
    return 0.409 * math.sin(2 * math.pi / 365 * day_of_year - 1.39)


def _inverse_distance(day_of_year: int) -> float:
    return 1 + 0.033 * math.cos(2 * math.pi / 365 * day_of_year)


def _sunset_angle(latitude: float, declination: float) -> float:
    return math.acos(min(1.0, max(-1.0, -math.tan(latitude) * math.tan(declination))))


def _solar_hour(site: Site, day_of_year: int, hour_utc: float) -> float:
    """Return the sun's own time (eq. 31 to 33); longitudes count east here."""
    b = 2 * math.pi * (day_of_year - 81) / 364
    seasonal = 0.1645 * math.sin(2 * b) - 0.1255 * math.cos(b) - 0.025 * math.sin(b)
    return (hour_utc + site.longitude / 15 + seasonal) % 24
