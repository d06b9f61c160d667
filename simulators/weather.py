"""The delta's weather at any moment: two seasons, the daily march, the sea breeze, afternoon showers.

Pure functions of time, place and seed, like the estuary. The day is the local one (UTC+7). Stations some kilometres
apart share the air mass and the wind, and have showers and gusts of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simulators.estuary import DAY_S, HOUR_S, LOCAL_OFFSET_S, Place
from simulators.noise import Array, smooth, uniform

_LATITUDE_DEG = 10.3
_LONGITUDE_DEG = 106.5
_SOLAR_OFFSET_S = _LONGITUDE_DEG / 15.0 * HOUR_S
_MIDSUMMER_DAY = 172.0
_RAINY_FROM_DAY, _RAINY_TO_DAY = 125.0, 325.0  # early May to late November


@dataclass(frozen=True)
class WeatherState:
    """The air itself, before any instrument."""

    air_temperature_c: float
    relative_humidity_percent: float
    air_pressure_hpa: float
    wind_speed_m_s: float
    wind_speed_of_gust_m_s: float
    wind_from_direction_deg: float
    rain_total_mm: float  # since the first of January, local time
    illuminance_lx: float
    uv_index: float


@dataclass(frozen=True)
class _Day:
    """A moment in local time: the day's number since 1970, the day of the year (0 on 1 January) and the hour."""

    number: int
    of_year: int
    hour: float


def weather(time: float, place: Place, seed: int) -> WeatherState:
    """Return the state of the air at one moment."""
    day = _local_day(time)
    rainy = _rainy_season(day.of_year)
    shower = _shower_intensity(day, place, seed)
    cloud = _cloud(time, rainy, shower, seed)
    temperature = _temperature(time, day, shower, seed)
    speed, direction = _wind(time, day, rainy, seed)
    gustiness = 1.45 + 0.25 * float(smooth(seed, f"gust {place.station}", time, 40.0))
    sun = _sun_height(time)
    return WeatherState(
        air_temperature_c=temperature,
        relative_humidity_percent=_humidity(time, temperature, rainy, shower, seed),
        air_pressure_hpa=_pressure(time, day, seed),
        wind_speed_m_s=speed + 0.25 * shower,
        wind_speed_of_gust_m_s=speed * gustiness + 0.6 * shower,
        wind_from_direction_deg=direction,
        rain_total_mm=_rain_total(day, place, seed),
        illuminance_lx=118_000.0 * sun**1.15 * (1.0 - 0.8 * cloud),
        uv_index=13.0 * sun**1.9 * (1.0 - 0.65 * cloud),
    )


def _local_day(time: float) -> _Day:
    days = (time + LOCAL_OFFSET_S) / DAY_S
    number = math.floor(days)
    date = np.datetime64(number, "D")
    of_year = int((date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(int))
    return _Day(number, of_year, (days - number) * 24.0)


def _rainy_season(day_of_year: float) -> float:
    """Return 0 in the dry season, 1 in the rainy one, with three weeks of change at both ends."""
    begun = (day_of_year - (_RAINY_FROM_DAY - 10)) / 20
    left = (_RAINY_TO_DAY + 10 - day_of_year) / 20
    return min(1.0, max(0.0, min(begun, left)))


def _sun_height(time: float) -> float:
    """Return the sine of the sun's elevation, 0 at night."""
    solar_days = (time + _SOLAR_OFFSET_S) / DAY_S
    declination = math.radians(23.44) * math.cos(2 * math.pi * (_local_day(time).of_year - _MIDSUMMER_DAY) / 365.25)
    latitude = math.radians(_LATITUDE_DEG)
    hour_angle = 2 * math.pi * (solar_days - math.floor(solar_days) - 0.5)
    height = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(
        hour_angle
    )
    return max(0.0, height)


def _cloud(time: float, rainy: float, shower: float, seed: int) -> float:
    slow = float(smooth(seed, "cloud", time, 5 * HOUR_S))
    quick = float(smooth(seed, "cloud quick", time, 900.0))
    wanted = 0.25 + 0.25 * rainy + 0.22 * slow + 0.12 * quick + 0.1 * shower
    return min(0.95, max(0.02, wanted))


def _temperature(time: float, day: _Day, shower: float, seed: int) -> float:
    """Return air temperature: coolest before sunrise, warmest at 14 h; a shower takes up to four degrees."""
    season = (
        27.3
        - 1.6 * math.cos(2 * math.pi * (day.of_year - 10) / 365.25)
        + 0.6 * math.sin(4 * math.pi * day.of_year / 365.25)
    )
    daily = 3.3 * math.cos(2 * math.pi * (day.hour - 14) / 24) + 0.7 * math.cos(4 * math.pi * (day.hour - 14) / 24)
    return season + daily + 0.8 * float(smooth(seed, "air temperature", time, 1.5 * DAY_S)) - min(4.0, 0.7 * shower)


def _humidity(time: float, temperature_c: float, rainy: float, shower: float, seed: int) -> float:
    """Return relative humidity from a dew point that hardly changes during the day (Magnus, 17.62 and 243.12)."""
    dew_point = 21.8 + 2.4 * rainy + 0.9 * float(smooth(seed, "dew point", time, DAY_S))
    ratio = math.exp(17.62 * dew_point / (243.12 + dew_point) - 17.62 * temperature_c / (243.12 + temperature_c))
    return min(99.0, 100.0 * ratio + 3.0 * min(shower, 5.0))


def _pressure(time: float, day: _Day, seed: int) -> float:
    """Return air pressure with the tropics' two waves a day, highest near 10 h and 22 h."""
    tide = 1.5 * math.cos(2 * math.pi * (day.hour - 10) / 12) + 0.6 * math.cos(2 * math.pi * (day.hour - 6) / 24)
    season = 2.0 * math.cos(2 * math.pi * (day.of_year - 15) / 365.25)
    return 1009.8 + season + tide + 1.2 * float(smooth(seed, "air pressure", time, 3 * DAY_S))


def _wind(time: float, day: _Day, rainy: float, seed: int) -> tuple[float, float]:
    """Return speed and the direction it comes from: the monsoon plus the sea breeze, added as vectors."""
    breeze = math.cos(2 * math.pi * (day.hour - 15.5) / 24)
    breeze = 3.2 * breeze if breeze > 0 else 0.9 * breeze
    monsoon = 2.2 + 0.8 * float(smooth(seed, "monsoon", time, DAY_S))
    turn = 18.0 * float(smooth(seed, "wind direction", time, 600.0))
    parts = ((monsoon, 60.0 + 170.0 * rainy), (breeze, 110.0))
    east = sum(speed * math.sin(math.radians(direction)) for speed, direction in parts)
    north = sum(speed * math.cos(math.radians(direction)) for speed, direction in parts)
    speed = math.hypot(east, north) * (1.0 + 0.25 * float(smooth(seed, "wind speed", time, 90.0)))
    return speed, (math.degrees(math.atan2(east, north)) + turn) % 360.0


@dataclass(frozen=True)
class _Showers:
    """One shower for each of some days: begin (hour), length (hours), amount (mm, 0 on a dry day)."""

    begin: Array
    length: Array
    amount: Array


def _showers(days: Array, days_of_year: Array, place: Place, seed: int) -> _Showers:
    def draw(what: str) -> Array:
        return uniform(seed, f"shower {what} {place.station}", days)

    chance = np.array([0.03 + 0.62 * _rainy_season(float(day)) for day in days_of_year])
    length = 0.4 + 1.4 * draw("length")
    amount = np.where(draw("today") < chance, 2.0 + 28.0 * draw("amount") ** 2, 0.0)
    return _Showers(13.0 + 5.5 * draw("begin"), length, amount)


def _fallen_share(showers: _Showers, hour: float) -> Array:
    """Return which share of a day's rain has fallen by this hour; the rate is a bell (sine squared)."""
    part = np.clip((hour - showers.begin) / showers.length, 0.0, 1.0)
    return np.asarray(part - np.sin(2 * np.pi * part) / (2 * np.pi))


def _shower_intensity(day: _Day, place: Place, seed: int) -> float:
    """Return how hard it rains on a scale of 0 to about 8 (tenths of the rate in mm/h, limited)."""
    today = _showers(np.array([float(day.number)]), np.array([float(day.of_year)]), place, seed)
    part = float((day.hour - today.begin[0]) / today.length[0])
    if not 0.0 < part < 1.0:
        return 0.0
    rate_mm_h = float(today.amount[0] / today.length[0]) * (1.0 - math.cos(2 * math.pi * part))
    return min(8.0, rate_mm_h / 10.0)


def _rain_total(day: _Day, place: Place, seed: int) -> float:
    days_of_year = np.arange(day.of_year + 1, dtype=np.float64)
    showers = _showers(days_of_year + (day.number - day.of_year), days_of_year, place, seed)
    fallen = np.where(days_of_year < day.of_year, 1.0, _fallen_share(showers, day.hour))
    return round(float(np.sum(showers.amount * fallen)), 3)  # so that the last bits of a sum never count down
