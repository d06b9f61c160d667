"""Reference evapotranspiration (FAO-56) of hours, days and months, from hourly sums of one station's weather."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cloud_ingest.columns import SeriesKey
from cloud_ingest.computed.answer import LEAST_PERCENT, Computed, Question, Value, allow, lack, refuse
from cloud_ingest.local_time import By, days_between, end_of, widened
from cloud_ingest.queries import Aggregate
from station_config import evapotranspiration as et
from station_config.evapotranspiration import Site

NAME = "reference_evapotranspiration"
HOUR_S = 3600
DIGITS = 3
_USES = {
    "air_temperature": ("mean of the hour", "lowest and highest of the day"),
    "relative_humidity": ("mean of the hour", "lowest and highest of the day"),
    "wind_speed": ("mean of the hour, brought to 2 m", "mean of the day's hours, brought to 2 m"),
    "solar_radiation": ("energy of the hour", "energy of the day's hours"),
}
_LIGHT_USES = ("energy of the hour, estimated: ", "energy of the day's hours, estimated: ")
# Michael, Johnston and Moreno (2020), doi 10.21595/jme.2020.21667: 122 ± 1 klx of sunlight outdoors are 1000 W/m².
LUX_PER_WATT_M2 = 122.0
_METHODS = {By.HOUR: "equation 53", By.DAY: "equation 6", By.MONTH: "equation 6, the sum of the month's days"}
_OF = {By.HOUR: "", By.DAY: " of the day", By.MONTH: " of all days of the month"}
Hours = Mapping[str, Mapping[int, Aggregate]]


class _Place(NamedTuple):
    site: Site
    wind_height_m: float
    is_by_light: bool  # radiation is estimated from illuminance


def reference_evapotranspiration(question: Question) -> Computed:
    """Return ET0 in mm of each hour, day or month that has any of its inputs. Raises QuestionRefused."""
    allow(question, NAME, By.HOUR, By.DAY, By.MONTH)
    keys, place = _needed(question)
    first, last = question.whole
    # The night's sky is as clear as the afternoon before.
    begin = first - 86400 if question.by is By.HOUR else first
    hours = {name: question.sums_of(key, By.HOUR, (begin, last)) for name, key in keys.items()}
    if place.is_by_light:
        hours["solar_radiation"] = {at: _by_light(one) for at, one in hours["solar_radiation"].items()}
    by_day = question.by is not By.HOUR
    return Computed(
        station=question.station.id,
        quantity=NAME,
        unit="mm",
        by=question.by,
        timezone=question.registry.zone.key,
        method=f"Penman-Monteith for a grass reference, {_METHODS[question.by]}"
        + ("; radiation is estimated from illuminance" if place.is_by_light else ""),
        source="FAO Irrigation and Drainage Paper 56 (1998)",
        demands=f"each hour{_OF[question.by]} has {LEAST_PERCENT:g} % of the rows of each input usable",
        inputs=tuple(question.input(key, _use(name, by_day, place)) for name, key in keys.items()),
        values=[one for one in _MADE[question.by](question, place, hours) if one.start >= first],
    )


def _needed(question: Question) -> tuple[dict[str, SeriesKey], _Place]:
    found = {name: question.key(name) for name in _USES}
    light = question.key("illuminance") if found["solar_radiation"] is None else None
    found["solar_radiation"] = found["solar_radiation"] or light
    needs = [f"{name}, of which this station has no series" for name, key in found.items() if key is None]
    station, wind = question.station, found["wind_speed"]
    heights = {sensor.number: sensor.wind_height_m for sensor in station.sensors}
    height = heights.get(wind.sensor) if wind else None
    if station.altitude_m is None:
        needs.append("the station's altitude_m in network.toml")
    if wind is not None and height is None:
        needs.append(f"wind_height_m of its sensor {wind.sensor} in network.toml")
    refuse(NAME, station.id, needs)
    site = Site(station.latitude, station.altitude_m or 0.0, station.longitude)
    place = _Place(site, height or 0.0, is_by_light=light is not None)
    return {name: key for name, key in found.items() if key is not None}, place


def _use(name: str, by_day: bool, place: _Place) -> str:
    """Return in words how an input goes into the value."""
    if name == "solar_radiation" and place.is_by_light:
        return f"{_LIGHT_USES[by_day]}{LUX_PER_WATT_M2:g} lx of daylight for 1 W/m²"
    return _USES[name][by_day]


def _by_light(one: Aggregate) -> Aggregate:
    """Return the mean of illuminance (lx) as radiation (W/m²)."""
    return one._replace(mean=None if one.mean is None else one.mean / LUX_PER_WATT_M2)


def _hourly(question: Question, place: _Place, hours: Hours) -> Iterator[Value]:
    clearness: tuple[int, float] | None = None
    for start in sorted(set().union(*hours.values())):
        end = start + HOUR_S
        day, utc = _day_of_year(question, start), end % 86400 / HOUR_S
        late = et.is_late_afternoon(place.site, day, utc)
        reason = _lacking(question, hours, start)
        if reason is not None:
            yield Value(start, end, reason=reason)
            continue
        means = {name: _mean(one[start]) for name, one in hours.items()}
        radiation = _energy(means["solar_radiation"])
        sky = et.extraterrestrial_hourly(place.site, day, utc)
        if late:
            clearness = start, radiation / et.clear_sky(place.site, sky)
        is_night = sky <= et.DAYLIGHT_MJ_M2
        if is_night and (clearness is None or start - clearness[0] > 20 * HOUR_S):
            yield Value(
                start, end, inputs=means, reason="solar_radiation: nothing of the late afternoon before this night"
            )
            continue
        value = et.hourly(
            place.site,
            day,
            utc,
            temperature=means["air_temperature"],
            vapour_pressure_kpa=et.vapour_pressure_kpa(means["air_temperature"], means["relative_humidity"]),
            wind_2m=et.wind_at_2m(means["wind_speed"], place.wind_height_m),
            radiation_mj_m2=radiation,
            clearness_before_sunset=clearness[1] if clearness else 0.0,
        )
        yield Value(start, end, round(value, DIGITS), inputs=means)


def _daily(question: Question, place: _Place, hours: Hours) -> Iterator[Value]:
    zone = question.registry.zone
    there = sorted(set().union(*hours.values()))
    for day in days_between(*question.whole, zone):
        end = end_of(day, By.DAY, zone)
        if not any(day <= start < end for start in there):
            continue
        reasons = [_lacking(question, hours, start) for start in range(day, end, HOUR_S)]
        absent = [one for one in reasons if one is not None]
        if absent:
            yield Value(day, end, reason=f"{len(absent)} of {len(reasons)} hours are not complete; {absent[0]}")
            continue
        inputs = _day_of_hours({name: [one[at] for at in range(day, end, HOUR_S)] for name, one in hours.items()})
        value = et.daily(
            place.site,
            _day_of_year(question, day),
            temperature_min=inputs["air_temperature_lowest"],
            temperature_max=inputs["air_temperature_highest"],
            vapour_pressure_kpa=et.vapour_pressure_of_day_kpa(
                (inputs["air_temperature_lowest"], inputs["air_temperature_highest"]),
                (inputs["relative_humidity_lowest"], inputs["relative_humidity_highest"]),
            ),
            wind_2m=et.wind_at_2m(inputs["wind_speed_mean"], place.wind_height_m),
            radiation_mj_m2=inputs["solar_radiation_mj_m2"],
        )
        yield Value(day, end, round(value, DIGITS), inputs=inputs)


def _monthly(question: Question, place: _Place, hours: Hours) -> Iterator[Value]:
    """Yield months: the sum of all their days; where days lack, no value, and what there is in parts."""
    zone = question.registry.zone
    for start, days in groupby(_daily(question, place, hours), lambda day: _month_of(day.start, zone)):
        end = end_of(start, By.MONTH, zone)
        known = list(days)
        there = [day.value for day in known if day.value is not None]
        total = round(sum(there), DIGITS)
        parts = {
            "days": float(len(there)),
            "sum_of_days": total,
            "mean_of_days": round(total / len(there), DIGITS) if there else None,
        }
        number = len(days_between(start, end, zone))
        if len(there) == number:
            yield Value(start, end, total, parts)
            continue
        why = next((f"; {day.reason}" for day in known if day.value is None), "")
        reason = "not over yet" if end > question.sums.now_s else f"{number - len(there)} of {number} days lack{why}"
        yield Value(start, end, parts=parts, reason=reason)


def _month_of(day: int, zone: ZoneInfo) -> int:
    """Return the start of the month of a day that begins then."""
    return widened(day, day, By.MONTH, zone)[0]


_MADE = {By.HOUR: _hourly, By.DAY: _daily, By.MONTH: _monthly}


def _day_of_hours(hours: Mapping[str, list[Aggregate]]) -> dict[str, float]:
    inputs = {}
    for name in ("air_temperature", "relative_humidity"):
        inputs[f"{name}_lowest"] = min(one.minimum for one in hours[name] if one.minimum is not None)
        inputs[f"{name}_highest"] = max(one.maximum for one in hours[name] if one.maximum is not None)
    winds = [_mean(one) for one in hours["wind_speed"]]
    inputs["wind_speed_mean"] = round(sum(winds) / len(winds), DIGITS)
    energy = sum(_energy(_mean(one)) for one in hours["solar_radiation"])
    return inputs | {"solar_radiation_mj_m2": round(energy, DIGITS)}


def _lacking(question: Question, hours: Hours, start: int) -> str | None:
    reasons = (lack(name, one.get(start), question.sums.now_s) for name, one in hours.items())
    return next((reason for reason in reasons if reason is not None), None)


def _day_of_year(question: Question, start: int) -> int:
    return datetime.fromtimestamp(start, question.registry.zone).timetuple().tm_yday


def _mean(one: Aggregate) -> float:
    assert one.mean is not None  # `lack` let it through
    return one.mean


def _energy(watt_m2: float) -> float:
    """Return MJ/m² of an hour; what a pyranometer shows below nothing at night is nothing."""
    return max(watt_m2, 0.0) * et.MJ_M2_PER_WATT_HOUR_M2
