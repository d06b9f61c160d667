"""How often a quantity is sampled, recorded and over how long it is averaged when nobody says so.

What WMO-No. 8, the Guide to Instruments and Methods of Observation (2021), asks of an automatic station:

    one-minute means of temperature, humidity, pressure, radiation      Volume I, annex 1.A (output averaging time)
    wind as the mean of ten minutes, its gust as the highest of 3 s     Volume I, annex 1.A and chapter 5
    samples no further apart than the sensor's time constant            Volume III, chapter 2; 20 s for a thermometer
    wind sampled four times a second for the gust                       Volume I, chapter 5; ours, over a bus, once

A record's mean is of the last `average` seconds before its time. A station that records every minute averages over the
minute; one that records every hour still gives the temperature of the last minute and the wind of the last ten.
"""

from __future__ import annotations

from collections.abc import Iterable

SAMPLE_S, RECORD_S = 10, 60
WMO_SAMPLE_S = {"wind_speed": 1, "wind_from_direction": 1}
WMO_RECORD_S = {"wind_speed": 600, "wind_from_direction": 600, "wind_speed_of_gust": 600}
# What is not named here (water, rain totals, extremes) is taken over the whole record interval.
WMO_AVERAGE_S = {
    "air_temperature": 60,
    "relative_humidity": 60,
    "dew_point": 60,
    "air_pressure": 60,
    "solar_radiation": 60,
    "wind_speed": 600,
    "wind_from_direction": 600,
}
_STEPS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600)  # they divide the records' intervals
_AVERAGED = ("mean", "direction")


def sample_interval(parameters: Iterable[str], minimum_interval_ms: int) -> int:
    """Return every how many seconds an instrument that measures these is sampled when the network says nothing.

    As often as the quickest of them wants it, and no oftener than the instrument has a new value.
    """
    wanted_s = min((WMO_SAMPLE_S.get(name, SAMPLE_S) for name in parameters), default=SAMPLE_S)
    return next((s for s in _STEPS_S if s >= wanted_s and 1000 * s >= minimum_interval_ms), _STEPS_S[-1])


def record_interval(parameter: str) -> int:
    """Return every how many seconds a parameter is recorded when the network says nothing."""
    return WMO_RECORD_S.get(parameter, RECORD_S)


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
