"""Tests that look at hours around, days before and the visit after: each with the weather that is not to be flagged."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.drift import visit_drift_test, visit_fouling_test
from cloud_ingest.hindsight import level_shift_test, stillness_test, with_beginning
from cloud_ingest.neighbourhood import noise_test, wide_spike_test
from cloud_ingest.visits import Visit, visits_in

QUARTER_S = 900
DAY = 96  # quarter-hours
NAN = np.nan
Floats = npt.NDArray[np.float64]


def times(number: int) -> npt.NDArray[np.int64]:
    return np.arange(number, dtype=np.int64) * QUARTER_S


def a_tide(days: int) -> Floats:
    return np.asarray(np.sin(times(days * DAY) / 3600 * 2 * np.pi / 12.42), np.float64)


def visited(number: int, *rows: int) -> tuple[npt.NDArray[np.bool_], list[Visit]]:
    """Return which rows are there when a probe is away for two quarter-hours before each of `rows`, and the visits."""
    there = np.ones(number, np.bool_)
    for row in rows:
        there[row - 2 : row] = False
    return there, visits_in(times(number)[there])


def test_a_pause_of_minutes_to_hours_is_a_visit_and_a_day_is_not() -> None:
    at = np.delete(times(500), [*range(100, 102), *range(300, 396)])
    assert visits_in(at) == [Visit(99 * QUARTER_S, 102 * QUARTER_S)]
    assert visits_in(at[:1]) == visits_in(at[:0]) == []


def test_a_spike_of_three_observations_is_found_and_a_slope_and_a_step_are_left_alone() -> None:
    values = np.full(60, 10.0)
    values[20:23] = 300.0, 900.0, 90.0
    values[40:] += 500.0
    flags = wide_spike_test(times(60), values, 3600, 60.0, 200.0)
    assert flags[20:23].tolist() == [4, 4, 3]
    assert set(np.delete(flags, [20, 21, 22])[2:-2]) == {1}
    slope = np.cumsum(np.full(60, 40.0))
    assert set(wide_spike_test(times(60), slope, 3600, 60.0, 200.0)[2:-2]) == {1}


def test_with_too_few_around_a_spike_cannot_be_told() -> None:
    hourly = times(20) * 4
    values = np.where(np.arange(20) == 10, 900.0, 10.0)
    assert set(wide_spike_test(hourly, values, 3600, 60.0, None)) == {2}
    assert wide_spike_test(times(0), values[:0], 3600, 60.0, None).tolist() == []


def test_hours_in_which_a_value_says_nothing_of_the_next_are_noise_and_a_steep_tide_is_not() -> None:
    values = 10 + 8 * a_tide(10)
    values[400:500] = np.random.default_rng(1).normal(10, 5, 100)
    flags = noise_test(times(len(values)), values, 2.0)
    assert set(flags[412:488]) == {3}
    assert set(flags[:394]) == set(flags[506:]) == {1}


def test_single_spikes_and_a_quiet_jitter_are_no_noise() -> None:
    values = np.random.default_rng(1).normal(10, 0.1, 960)
    values[::9] += 300.0
    assert 3 not in noise_test(times(960), values, 2.0)


def test_a_probe_read_to_a_hundredth_that_stands_still_is_suspect_and_one_read_to_a_tenth_may_rest() -> None:
    for resolution, suspected in ((0.01, True), (0.1, False)):
        values = np.round((7.5 + 0.2 * a_tide(30)) / resolution) * resolution
        values[2000:2400] = values[2000]
        flags = with_beginning(times(len(values)), stillness_test(times(len(values)), values, 90000, 10), 3, 90000)
        assert set(flags[2000:2400]) == ({3} if suspected else {2})
        assert 3 not in np.delete(flags, slice(1990, 2401))


def test_without_a_week_of_past_stillness_is_not_evaluated() -> None:
    values = np.round(7.5 + 0.2 * a_tide(6), 2)
    values[300:] = 7.5
    assert set(stillness_test(times(len(values)), values, 90000, 10)) == {2}
    assert set(stillness_test(times(500), np.full(500, 7.5), 90000, 10)) == {2}


def test_the_time_before_a_flag_gets_it_and_what_is_worse_or_missing_keeps_its_own() -> None:
    flags = np.array([1, 4, 9, 1, 2, 3, 1], np.uint8)
    assert with_beginning(times(7), flags, 3, 5 * QUARTER_S).tolist() == [3, 4, 9, 3, 3, 3, 1]


def test_a_step_to_another_level_begins_and_ends_when_it_does() -> None:
    depth = 2.0 + a_tide(60)
    depth[4000:4768] += 0.7
    flags = level_shift_test(times(len(depth)), depth, 0.4, 259200)
    suspected = np.flatnonzero(flags == 3)
    assert suspected.min() == pytest.approx(4000, abs=12)
    assert suspected.max() == pytest.approx(4767, abs=12)


@pytest.mark.parametrize(
    ("right", "wrong_share", "beyond", "share", "from_day"),
    [(8.0, 0.5, 2.0, None, 10.0), (40.0, 0.5, None, 0.3, 12.0), (8.0, 0.2, 2.0, None, None)],
    ids=["oxygen half gone", "conductance half gone", "a fifth gone"],
)
def test_growth_until_a_visit_counts_from_where_its_prorated_share_is_too_much(
    right: float, wrong_share: float, beyond: float | None, share: float | None, from_day: float | None
) -> None:
    values = right * (1 + 0.05 * a_tide(40))
    begin, end = 10 * DAY, 30 * DAY
    values[begin:end] *= 1 - wrong_share * np.linspace(0, 1, end - begin)
    there, visits = visited(len(values), begin, end)
    values[~there] = NAN
    flags = visit_drift_test(times(len(values)), values, visits, beyond, share)
    suspected = np.flatnonzero(flags == 3)
    if from_day is None:
        assert not len(suspected)
    else:
        assert (suspected.min() - begin) / DAY == pytest.approx(from_day, abs=0.7)
        assert suspected.max() == end - 3
    assert set(flags[:begin][there[:begin]]) == set(flags[end:]) == {2}, "no visit before, none after"


def test_what_changed_in_the_tidal_day_but_not_over_the_visit_was_the_water() -> None:
    oxygen = 8.0 + 0.2 * a_tide(40)
    there, visits = visited(len(oxygen), 10 * DAY, 30 * DAY)
    oxygen[29 * DAY : 30 * DAY - 8] -= 5.0
    oxygen[~there] = NAN
    assert 3 not in visit_drift_test(times(len(oxygen)), oxygen, visits, 2.0, None)


def test_in_fresh_water_a_share_of_next_to_nothing_is_no_measure() -> None:
    conductance = 0.2 * (1 + 0.05 * a_tide(40))
    conductance[10 * DAY : 30 * DAY] *= 0.4
    there, visits = visited(len(conductance), 10 * DAY, 30 * DAY)
    conductance[~there] = NAN
    assert 3 not in visit_drift_test(times(len(conductance)), conductance, visits, None, 0.3, 1.0)


def test_a_window_that_was_overgrown_when_somebody_came_is_suspect_since_its_floor_had_risen() -> None:
    chance = np.random.default_rng(4)
    turbidity = 10 + 5 * np.abs(chance.normal(size=40 * DAY))
    turbidity[1500:1520] += 200.0  # a squall
    turbidity[27 * DAY : 30 * DAY] += np.linspace(0, 40, 3 * DAY)
    there, visits = visited(len(turbidity), 30 * DAY)
    turbidity[~there] = NAN
    flags = visit_fouling_test(times(len(turbidity)), turbidity, visits, 15.0)
    suspected = np.flatnonzero(flags == 3)
    assert 27.5 < suspected.min() / DAY < 29
    assert suspected.max() == 30 * DAY - 3


def test_a_rough_day_that_goes_on_after_the_visit_is_not_fouling() -> None:
    turbidity = np.full(40 * DAY, 10.0)
    turbidity[29 * DAY : 31 * DAY] = 60.0
    there, visits = visited(len(turbidity), 30 * DAY)
    turbidity[~there] = NAN
    assert 3 not in visit_fouling_test(times(len(turbidity)), turbidity, visits, 15.0)


@given(st.lists(st.one_of(st.just(NAN), st.floats(-50, 50)), max_size=80), st.sets(st.integers(1, 79)))
def test_whatever_comes_every_value_gets_a_flag_and_what_is_missing_is_missing(
    some: list[float], away: set[int]
) -> None:
    values = np.array(some, np.float64)
    at = np.delete(times(80 + len(away)), sorted(away))[: len(values)]
    visits = visits_in(at[~np.isnan(values)])
    for flags in (
        wide_spike_test(at, values, 3600, 5.0, 9.0),
        noise_test(at, values, 2.0),
        stillness_test(at, values, 7200, 5),
        level_shift_test(at, values, 0.4, 3600),
        visit_drift_test(at, values, visits, 2.0, 0.3),
        visit_fouling_test(at, values, visits, 5.0),
    ):
        assert len(flags) == len(values)
        assert set(flags.tolist()) <= {1, 2, 3, 4, 9}
        assert ((flags == 9) == np.isnan(values)).all()
