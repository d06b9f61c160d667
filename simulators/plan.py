"""Choose when a run begins and for which crop, so that its viewers see an alert come and go.

    source (model or file) × stations × crop thresholds -> episodes (crossing, clearing) -> those that fit -> the best

Pure: the same source and thresholds give the same plan. An episode fits a run of `span_s` when salinity is below the
set level for ten minutes or more after the start, then crosses it, holds, and is below the clear level, long enough
for the rule to say so, before 85 % of the run is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulators.errors import SimulatorError
from simulators.estuary import LOCAL_OFFSET_S, Place
from simulators.noise import Array
from station_config.thresholds import Threshold

DWELL_S = 600.0  # what the rule waits before it says "over" or "under"
HOLD_S = 900.0  # how long salinity stays over, and under, at least: the dwell and five minutes for the chain
STURDY_HOLD_S = 1800.0  # better: then a board may be without power for some of it
BEFORE_S = 600.0  # below the set level from the start on, at least
DONE_AT = 0.85  # share of the run by which the alert has come and gone
EARLY, BEST, LATE = 0.10, 0.20, 0.35  # where in the run the crossing should come
OPEN_ENDED_BEFORE_S = 4500.0  # a demo without an end shows its crossing after 75 minutes of bench time
WIDEST_HYSTERESIS_G_L = 0.2
_OPEN_ENDED_EPISODE_S = 8 * 3600.0  # so that who watches also sees the all-clear
_LONGEST_EPISODE_S = 86400.0
_LOCAL = timezone(timedelta(seconds=LOCAL_OFFSET_S))


class PlanError(SimulatorError):
    """No moment fits the run; the text names the shortest run that would do."""


class SalinitySource(Protocol):
    """Where salinity comes from: simulators.estuary.Estuary or simulators.replay.Replay."""

    def salinity(self, place: Place, times: Array) -> Array:
        """Return practical salinity, NaN where it is not known."""

    def scan_times(self, place: Place) -> Array:
        """Return evenly spaced moments to look at."""


@dataclass(frozen=True)
class Plan:
    """A run: when bench time begins, who will be alerted, when, and in words why this was chosen."""

    start_s: float
    station: str
    threshold: Threshold
    set_level: float
    clear_level: float
    crossing_s: float
    clearing_s: float
    reason: str
    dwell_s: float = DWELL_S


@dataclass(frozen=True)
class _Episode:
    """Salinity at one place crosses one threshold and comes back; moments in unix seconds."""

    place: Place
    threshold: Threshold
    below_from_s: float
    crossing_s: float
    clearing_s: float
    next_crossing_s: float
    sturdy: bool
    peak: float

    @property
    def clear_level(self) -> float:
        """Return the level below which this run's rule says "fresh again"."""
        return _clear_level(self.threshold)

    @property
    def shortest_span_s(self) -> float:
        """Return the shortest run this episode fits into."""
        return (BEFORE_S + self.clearing_s - self.crossing_s + HOLD_S) / DONE_AT

    def before_s(self, span_s: float) -> float | None:
        """Return how long before the crossing a run of this span should begin, or None when it does not fit."""
        longest = min(
            LATE * span_s,
            self.crossing_s - self.below_from_s,
            DONE_AT * span_s - HOLD_S - (self.clearing_s - self.crossing_s),
        )
        if longest < BEFORE_S:
            return None
        return math.floor(min(max(BEST * span_s, BEFORE_S), longest) / 60.0) * 60.0


def plan(
    source: SalinitySource,
    places: Sequence[Place],
    thresholds: Sequence[Threshold],
    span_s: float | None,
    preferred_crop: str = "rice",
) -> Plan:
    """Return the best plan for a run of `span_s` bench seconds (None: open-ended). Raises PlanError.

    Best: one alert only, half an hour over and half an hour under, the crossing between 10 and 35 % of the run, the
    preferred crop, the station farthest inland, the earliest moment. Open-ended: the preferred crop and the inland
    station at their highest tide.
    """
    episodes = [episode for place in places for episode in _episodes_at(source, place, thresholds)]
    if not episodes:
        levels = ", ".join(f"{threshold.level_g_l:g}" for threshold in thresholds) or "none"
        raise PlanError(f"salinity never crosses a threshold ({levels} g/L) and comes back; choose other data or crops")
    if span_s is None:
        return _open_ended_plan(episodes, preferred_crop)
    return _plan_for_span(episodes, span_s, preferred_crop)


def _plan_for_span(episodes: Sequence[_Episode], span_s: float, preferred_crop: str) -> Plan:
    fitting = [(episode, before) for episode in episodes if (before := episode.before_s(span_s)) is not None]
    if not fitting:
        shortest = min(episodes, key=lambda episode: episode.shortest_span_s)
        minutes = math.ceil(shortest.shortest_span_s / 60.0)
        raise PlanError(
            f"no alert comes and goes within {span_s / 60:.0f} minutes of bench time; "
            f"the shortest run that would do is {minutes} minutes ({minutes * 60} s: {_described(shortest)})"
        )

    def rank(candidate: tuple[_Episode, float]) -> tuple[bool, bool, bool, bool, float, float, float]:
        episode, before = candidate
        alone = episode.next_crossing_s >= episode.crossing_s - before + span_s
        early = EARLY * span_s <= before
        return not alone, not episode.sturdy, not early, *_preference(episode, preferred_crop), episode.crossing_s

    episode, before = min(fitting, key=rank)
    return _plan_of(episode, before, f"{_described(episode)}, {before / span_s:.0%} into the run")


def _open_ended_plan(episodes: Sequence[_Episode], preferred_crop: str) -> Plan:
    clear_start = [one for one in episodes if one.crossing_s - one.below_from_s >= OPEN_ENDED_BEFORE_S]
    if not clear_start:
        raise PlanError(
            f"no crossing has {OPEN_ENDED_BEFORE_S / 60:.0f} minutes of fresh water before it; give the run a length"
        )

    def rank(one: _Episode) -> tuple[bool, float, float, bool, float, float]:
        long = one.clearing_s - one.crossing_s > _OPEN_ENDED_EPISODE_S
        return *_preference(one, preferred_crop), long, -one.peak, one.crossing_s

    episode = min(clear_start, key=rank)
    reason = f"{_described(episode)}, {OPEN_ENDED_BEFORE_S / 60:.0f} minutes into the run, at its highest tide"
    return _plan_of(episode, OPEN_ENDED_BEFORE_S, reason)


def _preference(episode: _Episode, preferred_crop: str) -> tuple[bool, float, float]:
    """Order episodes by what people look at first: the crop, then the station farthest inland, then the lower level."""
    return episode.threshold.id != preferred_crop, -episode.place.river_km, episode.threshold.level_g_l


def _plan_of(episode: _Episode, before_s: float, reason: str) -> Plan:
    return Plan(
        start_s=episode.crossing_s - before_s,
        station=episode.place.station,
        threshold=episode.threshold,
        set_level=episode.threshold.level_g_l,
        clear_level=episode.clear_level,
        crossing_s=episode.crossing_s,
        clearing_s=episode.clearing_s,
        reason=reason,
    )


def _described(episode: _Episode) -> str:
    crossing = datetime.fromtimestamp(episode.crossing_s, _LOCAL)
    minutes = (episode.clearing_s - episode.crossing_s) / 60.0
    return (
        f"{episode.place.station} crosses {episode.threshold.level_g_l:g} g/L ({episode.threshold.en}) "
        f"on {crossing:%Y-%m-%d at %H:%M}, peaks at {episode.peak:.2f} and is below "
        f"{episode.clear_level:g} {minutes:.0f} minutes later"
    )


def _episodes_at(source: SalinitySource, place: Place, thresholds: Sequence[Threshold]) -> Iterator[_Episode]:
    times = source.scan_times(place)
    salinity = source.salinity(place, times)
    for threshold in thresholds:
        yield from _episodes(times, salinity, place, threshold)


def _episodes(times: Array, salinity: Array, place: Place, threshold: Threshold) -> Iterator[_Episode]:
    """Yield every crossing that holds and is cleared within a day, with no unknown moment in between.

    The margin keeps instrument noise from cutting a dwell in two.
    """
    margin = max(0.01, 0.003 * threshold.level_g_l)
    step_s = float(times[1] - times[0])
    hold = math.ceil(HOLD_S / step_s)
    known = np.isfinite(salinity)
    below = known & (salinity < threshold.level_g_l)
    over, over_lengths = _runs(known & (salinity >= threshold.level_g_l + margin), hold)
    under, under_lengths = _runs(known & (salinity <= _clear_level(threshold) - margin), hold)
    unknown_before = np.concatenate(([0], np.cumsum(~known)))
    not_above = _last_true(~(known & (salinity >= threshold.level_g_l)))
    not_below = _last_true(~below)
    for number, begin in enumerate(over):
        crossing, next_under = not_above[begin] + 1, np.searchsorted(under, begin + hold)
        if crossing == 0 or next_under == len(under) or not below[crossing - 1]:
            continue
        clearing = under[next_under]
        complete = unknown_before[clearing + hold] == unknown_before[crossing]
        first = number == 0 or over[number - 1] < crossing
        if not (complete and first) or (clearing - crossing) * step_s > _LONGEST_EPISODE_S:
            continue
        following = np.searchsorted(over, clearing)
        yield _Episode(
            place,
            threshold,
            below_from_s=float(times[not_below[crossing - 1] + 1]),
            crossing_s=float(times[crossing]),
            clearing_s=float(times[clearing]),
            next_crossing_s=math.inf if following == len(over) else float(times[over[following]]),
            sturdy=bool(min(over_lengths[number], under_lengths[next_under]) * step_s >= STURDY_HOLD_S),
            peak=float(np.max(salinity[crossing:clearing])),
        )


def _clear_level(threshold: Threshold) -> float:
    """Return the crop's clear level, but at most 0.2 g/L under its level: a run only shows what hysteresis is."""
    return max(threshold.clear_g_l, round(threshold.level_g_l - WIDEST_HYSTERESIS_G_L, 3))


def _runs(condition: NDArray[np.bool_], length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where runs of at least `length` true values begin, and how long each is."""
    edges = np.diff(np.concatenate(([False], condition, [False])).astype(np.int8))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    enough = ends - begins >= length
    return begins[enough], (ends - begins)[enough]


def _last_true(condition: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return for each index the last index up to it where the condition is true, -1 before any."""
    return np.maximum.accumulate(np.where(condition, np.arange(len(condition)), -1))
