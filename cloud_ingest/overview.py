"""The overview of all stations: newest values, whether a station can be reached, thresholds, active alerts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alerts.engine import ActiveAlert
from alerts.rules import Rule
from cloud_ingest import models
from cloud_ingest.reading import Newest
from cloud_ingest.registry import Registry
from station_config.network import Station

# A station counts as reachable for this many record intervals after its last sign of life, at least for FEW_MINUTES_S.
INTERVALS = 5
FEW_MINUTES_S = 300

SEVERITIES = ("notice", "warning", "severe")
ANY_CROP = {"vi": "cây trồng", "en": "crops"}


def overview(
    registry: Registry,
    latest: Sequence[Newest],
    gateways: Mapping[str, Mapping[str, Any]],
    rules: Sequence[Rule],
    active: Sequence[ActiveAlert],
    now_s: float,
) -> models.Overview:
    """Return what /api/v1/overview says."""
    by_station: dict[str, list[Newest]] = {}
    for newest in latest:
        by_station.setdefault(newest.key.station, []).append(newest)
    return models.Overview(
        now=int(now_s),
        timezone=registry.network.timezone,
        name=registry.network.name,
        stations=[
            _station(registry, station, by_station.get(station.id, []), gateways, rules, active, now_s)
            for station in registry.network.stations
        ],
    )


def _station(
    registry: Registry,
    station: Station,
    latest: list[Newest],
    gateways: Mapping[str, Mapping[str, Any]],
    rules: Sequence[Rule],
    active: Sequence[ActiveAlert],
    now_s: float,
) -> models.StationOverview:
    last_time = max((newest.time for newest in latest), default=None)
    return models.StationOverview(
        id=station.id,
        name=models.Label(vi=station.name_vi, en=station.name_en),
        latitude=station.latitude,
        longitude=station.longitude,
        river=station.river,
        river_km=station.river_km,
        last_time=last_time,
        online=is_online(station, gateways.get(station.gateway), last_time, now_s),
        latest=list(_latest(registry, latest)),
        thresholds=list(_thresholds(station.id, rules)),
        alert=_worst([alert for alert in active if alert.station == station.id]),
    )


def is_online(station: Station, status: Mapping[str, Any] | None, last_time: int | None, now_s: float) -> bool:
    """Return whether the station can be reached, as its gateway says; without a word from it, by its newest record."""
    patience_s = max(INTERVALS * station.record_interval_s, FEW_MINUTES_S)
    recent = last_time is not None and now_s - last_time <= patience_s
    if status is None:
        return recent
    if status.get("online") is not True:
        return False
    stations = status.get("stations")
    about = stations.get(station.id) if isinstance(stations, dict) else None
    contact, said = about.get("last_contact") if isinstance(about, dict) else None, status.get("time")
    reached = isinstance(contact, int | float) and isinstance(said, int | float) and said - contact <= patience_s
    return reached or recent


def _latest(registry: Registry, latest: Iterable[Newest]) -> Iterable[models.LatestValue]:
    for newest in latest:
        parameter = registry.parameter(newest.key.parameter)
        if parameter is not None:
            yield models.LatestValue(
                sensor=newest.key.sensor,
                parameter=parameter.name,
                value=None if newest.value is None else round(newest.value, parameter.decimals),
                unit=parameter.unit,
                flag=newest.flag,
                time=newest.time,
                decimals=parameter.decimals,
                label=models.Label(vi=parameter.vi, en=parameter.en),
            )


def _thresholds(station: str, rules: Sequence[Rule]) -> Iterable[models.StationThreshold]:
    """Yield the salinity rules of a station; one without a crop's threshold is for crops in general."""
    for rule in rules:
        if station in rule.stations and rule.parameter == "salinity":
            yield models.StationThreshold(
                id=rule.threshold or rule.id,
                crop=models.Label.model_validate(dict(rule.crop) or ANY_CROP),
                set=rule.set_level,
                clear=rule.clear_level,
            )


def _worst(active: list[ActiveAlert]) -> models.ActiveAlert | None:
    """Return the severest alert, of several the one that has lasted longest."""
    if not active:
        return None
    worst = max(active, key=lambda alert: (SEVERITIES.index(alert.severity), -alert.since))
    return models.ActiveAlert(rule=worst.rule, since=worst.since, value=worst.value, severity=worst.severity)
