"""The QARTOD tests: the manual's meaning in small series, and agreement with ioos_qc where it means the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.qartod import (
    Season,
    Span,
    attenuated_signal_test,
    climatology_test,
    flat_line_test,
    gap_test,
    gross_range_test,
    rate_of_change_test,
    spike_test,
)
from cloud_ingest.windows import trailing

NAN = float("nan")
Series = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


def every(interval_s: int, *values: float) -> Series:
    return np.arange(len(values), dtype=np.int64) * interval_s, np.array(values, np.float64)


def test_a_value_the_instrument_cannot_report_fails_and_bounds_belong_to_the_range() -> None:
    _, values = every(60, -0.1, 0.0, 5.0, 42.0, 42.1, 36.0, NAN)
    assert gross_range_test(values, Span(0, 42), Span(0, 35)).tolist() == [4, 1, 1, 3, 4, 3, 9]


def test_without_a_range_nothing_is_called_good() -> None:
    assert gross_range_test(np.array([1.0, NAN]), None).tolist() == [2, 9]


def test_a_spike_is_flagged_and_neither_its_neighbours_nor_a_step() -> None:
    _, values = every(60, 1, 1, 11, 1, 1, 9, 9, 9)
    assert spike_test(values, 2, 20).tolist() == [2, 1, 3, 1, 1, 1, 1, 2]


def test_a_spike_beside_a_missing_value_cannot_be_told() -> None:
    _, values = every(60, 1, 11, NAN, 1, 1, 1)
    assert spike_test(values, 2, 5).tolist() == [2, 2, 9, 2, 1, 2]


def test_the_later_value_of_a_step_is_flagged_whatever_the_interval() -> None:
    for interval_s in (60, 900):
        times, values = every(interval_s, 1, 1, 5, 5)
        assert rate_of_change_test(times, values, 900, 3.0, 10.0).tolist() == [2, 1, 3, 1], interval_s


def test_over_a_pause_more_change_is_believable() -> None:
    times, values = np.array([0, 900, 4500]), np.array([1.0, 1.0, 5.0])
    assert rate_of_change_test(times, values, 900, 3.0, None).tolist() == [2, 1, 1]


def test_a_stuck_sensor_is_found_after_its_time_and_its_past_is_not_judged_without_one() -> None:
    times, values = every(600, *[7.0, 7.2, *[7.1] * 8])
    assert flat_line_test(times, values, 0.05, 1800, 3600).tolist() == [2, 2, 2, 1, 1, 3, 3, 3, 4, 4]


def test_noise_larger_than_the_tolerance_is_not_flat() -> None:
    times, values = every(600, *[7.0, 7.1] * 10)
    assert 3 not in flat_line_test(times, values, 0.05, 1800, None)


def test_a_fouling_probe_loses_its_tide() -> None:
    hours = np.arange(0, 96)
    values = 10 + 5 * np.sin(hours * 2 * np.pi / 12.42) * np.where(hours < 48, 1.0, 0.05)
    flags = attenuated_signal_test(hours * 3600, values, 25 * 3600, 2.0, 1.0)
    assert set(flags[:25]) == {2}
    assert set(flags[25:48]) == {1}
    assert set(flags[75:]) == {4}


def test_the_first_value_after_a_long_silence_is_said() -> None:
    assert gap_test(np.array([0, 60, 7320, 7380]), 7200).tolist() == [2, 1, 4, 1]


def test_a_dry_season_value_in_the_rains_is_suspect_and_a_month_of_no_season_is_not_judged() -> None:
    months, values = np.array([3, 9, 6, 9]), np.array([20.0, 20.0, 20.0, 5.0])
    seasons = [
        Season(frozenset({12, 1, 2, 3, 4, 5}), Span(0, 32), Span(0, 42)),
        Season(frozenset({8, 9}), Span(0, 8), None),
    ]
    assert climatology_test(months, values, seasons).tolist() == [1, 3, 2, 1]


@pytest.mark.parametrize("values", [[], [1.0], [NAN], [1.0, NAN]], ids=["none", "one", "missing", "two"])
def test_short_series_are_judged_without_a_fault(values: list[float]) -> None:
    times, column = every(60, *values)
    for flags in (
        gross_range_test(column, Span(0, 2)),
        spike_test(column, 1, 2),
        rate_of_change_test(times, column, 60, 1, 2),
        flat_line_test(times, column, 0.1, 60, 120),
        attenuated_signal_test(times, column, 60, 1, 0.5),
        gap_test(times, 60),
    ):
        assert len(flags) == len(values)


SERIES = st.lists(
    st.tuples(st.integers(1, 4000), st.one_of(st.just(NAN), st.floats(-50, 50, width=32))), min_size=0, max_size=120
)


@given(SERIES, st.integers(1, 20_000))
def test_windows_say_what_a_plain_loop_over_the_observations_says(
    series: list[tuple[int, float]], duration_s: int
) -> None:
    times = np.cumsum(np.array([step for step, _ in series], np.int64))
    values = np.array([value for _, value in series], np.float64)
    windows = trailing(times, values, duration_s)
    for index, end in enumerate(times):
        inside = values[(times >= end - duration_s) & (times <= end)]
        inside = inside[~np.isnan(inside)]
        assert windows.number[index] == len(inside)
        if len(inside):
            assert windows.range()[index] == inside.max() - inside.min()
            assert windows.mean()[index] == pytest.approx(inside.mean(), abs=1e-6)
            assert windows.std()[index] == pytest.approx(inside.std(), abs=1e-3)


@given(SERIES)
def test_every_test_gives_a_flag_of_its_own_for_each_value_and_9_exactly_where_none_was_measured(
    series: list[tuple[int, float]],
) -> None:
    times = np.cumsum(np.array([step for step, _ in series], np.int64))
    values = np.array([value for _, value in series], np.float64)
    for flags in (
        gross_range_test(values, Span(-40, 40), Span(-10, 10)),
        spike_test(values, 1, 5),
        rate_of_change_test(times, values, 900, 1, 5),
        flat_line_test(times, values, 0.5, 3600, 7200),
        attenuated_signal_test(times, values, 3600, 1, 0.5, measure="std"),
    ):
        assert set(flags.tolist()) <= {1, 2, 3, 4, 9}
        assert ((flags == 9) == np.isnan(values)).all()


def a_noisy_series() -> Series:
    random = np.random.default_rng(4)
    values = np.round(np.cumsum(random.normal(size=400)), 2).astype(np.float64)
    values[50:90] = 3.25
    values[120] += 9
    values[random.random(400) < 0.03] = NAN
    return np.arange(400, dtype=np.int64) * 600, values


def test_ioos_qc_says_the_same_of_ranges() -> None:
    _, values = a_noisy_series()
    theirs = peer("gross_range_test")(inp=values, fail_span=(-12, 12), suspect_span=(-6, 6))
    assert gross_range_test(values, Span(-12, 12), Span(-6, 6)).tolist() == theirs.tolist()


def test_ioos_qc_says_the_same_of_spikes() -> None:
    _, values = a_noisy_series()
    theirs = peer("spike_test")(inp=values, suspect_threshold=1.0, fail_threshold=3.0, method="differential")
    ours = spike_test(values, 1.0, 3.0)
    evaluated = (ours != 2) & (ours != 9)
    assert evaluated.sum() > 300
    assert ours[evaluated].tolist() == theirs[evaluated].tolist()


def test_ioos_qc_says_the_same_of_rates_where_there_is_a_value_before() -> None:
    times, values = a_noisy_series()
    theirs = peer("rate_of_change_test")(inp=values, tinp=times, threshold=1.5 / 600)
    ours = rate_of_change_test(times, values, 600, 1.5, None)
    evaluated = (ours != 2) & (ours != 9)  # ioos_qc calls the others good
    assert (ours == 3).any()
    assert ours[evaluated].tolist() == theirs[evaluated].tolist()


def test_ioos_qc_says_the_same_of_flat_lines_where_the_past_is_there() -> None:
    times, values = a_noisy_series()
    theirs = peer("flat_line_test")(
        inp=values, tinp=times, suspect_threshold=6000, fail_threshold=12000, tolerance=0.01
    )
    ours = flat_line_test(times, values, 0.01, 6000, 12000)
    evaluated = (ours != 2) & (ours != 9)
    assert {3, 4} <= set(ours.tolist())
    assert ours[evaluated].tolist() == theirs[evaluated].tolist()


def peer(name: str) -> Callable[..., npt.NDArray[np.uint8]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ioos_qc import qartod as theirs
    test: Callable[..., npt.NDArray[np.uint8]] = getattr(theirs, name)
    return test
