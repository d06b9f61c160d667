"""Calibration records: which one is in force, what it makes of a value, and what was known when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from station_config.calibration import Calibration, apply, in_order


def record(number: int, valid_from: int, *coefficients: float, **more: object) -> Calibration:
    fields: dict[str, object] = {
        "id": number,
        "station": "xuan-hoa",
        "sensor": 1,
        "parameter": "conductivity",
        "valid_from": valid_from,
        "coefficients": coefficients,
        "entered_at": valid_from,
        "entered_by": "Nguyễn Văn An",
    }
    return Calibration.model_validate({**fields, **more})


def test_each_value_is_corrected_by_the_record_of_its_time_and_says_by_which() -> None:
    records = in_order([record(2, 200, 0.5, 2.0), record(1, 100, 0.0, 1.1)])
    applied = apply(records, np.array([50, 100, 199, 200, 900]), np.full(5, 10.0))
    assert applied.values == pytest.approx([10.0, 11.0, 11.0, 20.5, 20.5])
    assert applied.calibrations.tolist() == [0, 1, 1, 2, 2]


def test_a_drift_found_at_a_visit_is_spread_over_the_time_since_the_last_good_service() -> None:
    drift = record(1, 1000, 0.0, 1.0, valid_to=2000, drift_to=(0.4, 1.0))
    applied = apply([drift], np.array([1000, 1250, 1999, 2000]), np.full(4, 5.0))
    assert applied.values == pytest.approx([5.0, 5.1, 5.3996, 5.0])
    assert applied.calibrations.tolist() == [1, 1, 1, 0]


def test_after_a_time_of_drift_the_calibration_before_it_is_in_force_again() -> None:
    records = in_order([record(1, 0, 0.0, 1.1), record(2, 1000, 0.0, 1.0, valid_to=2000, drift_to=(0.4, 1.0))])
    applied = apply(records, np.array([500, 1500, 2000]), np.full(3, 10.0))
    assert applied.values == pytest.approx([11.0, 10.2, 11.0])


def test_a_polynomial_of_two_standards_and_a_curve() -> None:
    assert apply([record(1, 0, 0.1, 0.9, 0.01)], np.array([5]), np.array([10.0])).values == pytest.approx([10.1])


def test_a_correction_entered_later_replaces_the_earlier_one_and_the_past_can_still_be_asked() -> None:
    first, second = record(1, 100, 0.0, 1.1), record(2, 100, 0.0, 1.2, entered_at=500)
    now = apply(in_order([second, first]), np.array([150]), np.array([10.0]))
    then = apply(in_order([second, first], as_of=400), np.array([150]), np.array([10.0]))
    assert (now.values[0], then.values[0]) == pytest.approx((12.0, 11.0))


def test_a_withdrawn_record_no_longer_counts_except_in_the_past() -> None:
    wrong = record(1, 100, 0.0, 1.1, withdrawn_at=700)
    assert in_order([wrong]) == []
    assert in_order([wrong], as_of=699) == [wrong]


@pytest.mark.parametrize(
    "wrong",
    [{"valid_to": 100}, {"drift_to": (0.0, 1.0)}, {"coefficients": ()}, {"coefficients": (float("nan"),)}],
)
def test_a_record_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        record(1, 100, 0.0, 1.0, **wrong)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(-1, 1), st.floats(0.5, 2)), max_size=6),
    st.lists(st.integers(0, 60), min_size=1, max_size=20),
)
def test_a_value_does_not_depend_on_which_others_are_computed_with_it(
    rows: list[tuple[int, float, float]], times: list[int]
) -> None:
    records = in_order(record(n + 1, begin, offset, gain) for n, (begin, offset, gain) in enumerate(rows))
    together = apply(records, np.array(times), np.full(len(times), 3.0))
    for at, time in enumerate(times):
        alone = apply(records, np.array([time]), np.array([3.0]))
        assert alone.values[0] == together.values[at]
        assert alone.calibrations[0] == together.calibrations[at]
