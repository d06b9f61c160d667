"""How long a value is averaged when nobody says so: one table, and what follows from it for a station.

A record's mean is of the last `average` seconds before its time. A station that records every minute averages over the
minute; one that records every hour still gives the temperature of the last minute and the wind of the last ten.
"""

from __future__ import annotations

# Seconds. WMO-No. 8 (Guide to Instruments and Methods of Observation), Part I: one-minute means of temperature,
# humidity, pressure and radiation; wind as the mean of ten minutes. What is not named here (water, rain totals,
# extremes) is taken over the whole record interval.
WMO_AVERAGE_S = {
    "air_temperature": 60,
    "relative_humidity": 60,
    "dew_point": 60,
    "air_pressure": 60,
    "solar_radiation": 60,
    "wind_speed": 600,
    "wind_from_direction": 600,
}
_AVERAGED = ("mean", "direction")


def average_interval(parameter: str, statistic: str, sample_s: int, record_s: int) -> int:
    """Return over how many seconds, of the record_s that end with a record, a channel is taken.

    The table's time where it is shorter than the interval and holds whole samples, else the whole interval.
    """
    wanted = WMO_AVERAGE_S.get(parameter, record_s) if statistic in _AVERAGED else record_s
    return wanted if wanted < record_s and wanted % sample_s == 0 else record_s


def extra_parameter(parameter: str, statistic: str) -> str:
    """Return the parameter that a further statistic of this one is recorded as."""
    if (parameter, statistic) == ("wind_speed", "gust"):
        return "wind_speed_of_gust"
    return f"{parameter}_{statistic}"
