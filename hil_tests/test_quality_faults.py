"""Quality control on made-up probes in the model estuary: no threshold may hang on the record interval or the tide."""

from __future__ import annotations

import math

import pytest

from hil_tests.quality_faults import FAULTS, INTERVALS_S, RIVER_KM, Sonde, scores, sweep

SEED = 3
KM = 20.0
EVERYDAY_S = (300, 3600)
# What is not found, and why: conductivity stands still in fresh water without a fault; noise at hourly records is told
# by a day of it, so its beginning and end are not; growth counts from where it is more than USGS publishes.
LEAST_RECALL = {
    "spikes": dict.fromkeys(
        ("water_temperature", "conductivity_25", "water_depth", "ph", "dissolved_oxygen", "turbidity"), 0.95
    ),
    "stuck": {"conductivity_25": 0.6}
    | dict.fromkeys(("water_temperature", "water_depth", "ph", "dissolved_oxygen", "turbidity"), 0.9),
    "noise": {"water_temperature": 0.7, "ph": 0.6, "conductivity_25": 0.5}
    | dict.fromkeys(("water_depth", "dissolved_oxygen", "turbidity"), 0.4),
    "in_air": dict.fromkeys(("water_temperature", "conductivity_25", "water_depth", "ph", "dissolved_oxygen"), 0.95),
    "fouling": {"conductivity_25": 0.25, "dissolved_oxygen": 0.25, "turbidity": 0.6},
    "moved": dict.fromkeys(("water_depth", "conductivity_25", "ph"), 0.9),
}
MOST_FALSE = {"stuck": 0.01, "moved": 0.015}  # the hours beside a level that was off for days


@pytest.mark.parametrize("fault", [None, *FAULTS])
@pytest.mark.parametrize("interval_s", EVERYDAY_S)
def test_faults_are_found_and_good_values_left_alone(fault: str | None, interval_s: int) -> None:
    _judge(fault, interval_s, (KM,), (SEED,))


@pytest.mark.soak
@pytest.mark.parametrize("fault", [None, *FAULTS])
@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_faults_at_every_interval_place_and_seed(fault: str | None, interval_s: int) -> None:
    _judge(fault, interval_s, RIVER_KM, range(1, 6))


def _judge(fault: str | None, interval_s: int, places_km: tuple[float, ...], seeds: range | tuple[int, ...]) -> None:
    for _, _, name, score in sweep([fault], [interval_s], places_km, seeds):
        assert score.false_alarms <= MOST_FALSE.get(fault or "", 0.005), (name, score)
        assert score.recall >= LEAST_RECALL.get(fault or "", {}).get(name, 0.0) or math.isnan(score.recall), (
            name,
            score,
        )


def test_an_hourly_series_with_gaps_at_a_spring_tide_was_not_at_another_depth() -> None:
    # The tide goes on while nobody measures; two values an hour apart cannot tell it from a step of the probe.
    found = scores(Sonde(5.0, 3600, 1), "gaps")
    assert found["water_depth"].false == 0


def test_the_tide_beside_a_spike_is_no_spike() -> None:
    assert scores(Sonde(5.0, 3600, 1), "spikes")["water_depth"].false == 0


def test_a_spike_in_fresh_water_is_no_probe_that_comes_out_of_it() -> None:
    found = scores(Sonde(42.0, 3600, 1), "spikes")
    assert [score.false for score in found.values()] == [0] * len(found)
