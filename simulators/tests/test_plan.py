"""Plans of runs, judged minute by minute against the source they were made from."""

from __future__ import annotations

import math
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from simulators.estuary import Estuary, Place
from simulators.plan import Plan, PlanError, SalinitySource, plan
from simulators.replay import Replay, read_series
from station_config.thresholds import load_thresholds, thresholds_in_force

DATA = Path(__file__).parents[3] / "shared" / "data"
PLACES = [Place("vam-kenh", 2.0), Place("hoa-binh", 20.0, shift_s=3600.0), Place("xuan-hoa", 42.0, shift_s=7200.0)]
THRESHOLDS = thresholds_in_force(load_thresholds(), date(2026, 11, 22))
TWO_HOURS = 7200.0


@cache
def source(name: str) -> SalinitySource:
    if name.startswith("model"):
        return Estuary(int(name.split()[1]))
    path = DATA / name
    if not path.exists():
        pytest.skip(f"measured series {name} is not at {DATA}: data of others are never part of the project")
    return Replay(read_series(path))


@cache
def planned(name: str, span_s: float | None) -> Plan:
    return plan(source(name), PLACES, THRESHOLDS, span_s)


def minutes_of(made: Plan, of: SalinitySource, span_s: float) -> tuple[np.ndarray, np.ndarray]:
    times = np.arange(made.start_s, made.start_s + span_s, 60.0)
    place = next(place for place in PLACES if place.station == made.station)
    return times, of.salinity(place, times)


@pytest.mark.parametrize("span_s", [TWO_HOURS, 20000.0])
@pytest.mark.parametrize("name", ["model 1", "model 2", "gndblwq2021.csv", "apacpwq_2012_2013.csv.gz"])
def test_the_alert_comes_and_goes_in_time(name: str, span_s: float) -> None:
    made = planned(name, span_s)
    times, salinity = minutes_of(made, source(name), span_s)
    before = times < made.crossing_s
    held = (times >= made.crossing_s + 60.0) & (times < made.crossing_s + 900.0)
    after = (times >= made.clearing_s) & (times < made.clearing_s + 900.0)
    assert made.crossing_s - made.start_s >= max(600.0, 0.0999 * span_s)
    assert (salinity[before] < made.set_level).all()
    assert (salinity[held] >= made.set_level).all()
    assert (salinity[after] < made.clear_level).all()
    assert made.clearing_s + 900.0 <= made.start_s + 0.85 * span_s


@pytest.mark.parametrize("name", ["model 1", "gndblwq2021.csv"])
def test_there_is_one_alert_only(name: str) -> None:
    made = planned(name, TWO_HOURS)
    times, salinity = minutes_of(made, source(name), TWO_HOURS)
    assert (salinity[times >= made.clearing_s] < made.set_level).all()


def test_grand_bay_is_about_coconut_palms() -> None:
    assert planned("gndblwq2021.csv", TWO_HOURS).threshold.id == "coconut"


def test_a_demo_without_an_end_begins_75_minutes_before_rice_is_in_danger_at_xuan_hoa() -> None:
    made = planned("model 1", None)
    assert (made.station, made.threshold.id, made.crossing_s - made.start_s) == ("xuan-hoa", "rice", 4500.0)
    assert made.clearing_s - made.crossing_s <= 8 * 3600.0


def test_a_run_too_short_is_refused_and_the_run_it_names_would_do() -> None:
    with pytest.raises(PlanError, match="the shortest run that would do is") as refused:
        plan(Estuary(1), PLACES, THRESHOLDS, 1800.0)
    shortest_s = float(str(refused.value).split("minutes (")[1].split(" s:")[0])
    assert plan(Estuary(1), PLACES, THRESHOLDS, shortest_s).start_s > 0
    with pytest.raises(PlanError):
        plan(Estuary(1), PLACES, THRESHOLDS, shortest_s - 120.0)


def test_levels_the_water_never_reaches_are_refused() -> None:
    inland = [Place("ba-rai", 97.0)]
    with pytest.raises(PlanError, match="never crosses a threshold"):
        plan(Estuary(1), inland, THRESHOLDS, TWO_HOURS)


def test_the_same_question_gets_the_same_plan() -> None:
    assert plan(Estuary(1), PLACES, THRESHOLDS, TWO_HOURS) == planned("model 1", TWO_HOURS)


def test_hysteresis_is_the_crops_own_but_at_most_a_fifth_of_a_gram() -> None:
    for span_s in (TWO_HOURS, 20000.0, None):
        made = planned("model 1", span_s)
        assert made.threshold.clear_g_l <= made.clear_level < made.set_level
        assert made.set_level - made.clear_level <= 0.2 or math.isclose(made.set_level - made.clear_level, 0.2)
