"""Gross range and flag precedence as tables."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_ingest.quality import gross_range, with_record_flags, worst

NAN = np.nan


@pytest.mark.parametrize(
    ("value", "fail", "suspect", "flag"),
    [
        (5.0, (0, 100), (1, 60), 1),
        (0.0, (0, 100), (NAN, NAN), 1),  # bounds belong to the span
        (100.0, (0, 100), (NAN, NAN), 1),
        (60.0, (0, 100), (1, 60), 1),
        (60.001, (0, 100), (1, 60), 3),
        (0.5, (0, 100), (1, 60), 3),
        (-0.001, (0, 100), (1, 60), 4),
        (100.1, (0, 100), (NAN, NAN), 4),
        (NAN, (0, 100), (1, 60), 9),
        (5.0, (NAN, NAN), (NAN, NAN), 2),
        (NAN, (NAN, NAN), (NAN, NAN), 9),
    ],
)
def test_gross_range(value: float, fail: tuple[float, float], suspect: tuple[float, float], flag: int) -> None:
    columns = [np.array([one], np.float64) for one in (value, *fail, *suspect)]
    assert gross_range(*columns).tolist() == [flag]


@pytest.mark.parametrize(
    ("record", "test", "expected"), [(2, 1, 1), (2, 3, 3), (2, 4, 4), (4, 1, 4), (9, 9, 9), (4, 3, 4), (2, 2, 2)]
)
def test_what_the_station_said_stays(record: int, test: int, expected: int) -> None:
    flags = with_record_flags(np.array([record], np.uint8), np.array([test], np.uint8))
    assert flags.tolist() == [expected]


def test_worst_is_never_better_than_any_input() -> None:
    order = [1, 2, 3, 4, 9]
    one, other = (np.array(flags, np.uint8) for flags in zip(*[(a, b) for a in order for b in order], strict=True))
    assert worst(one, other).tolist() == [max(a, b, key=order.index) for a in order for b in order]
