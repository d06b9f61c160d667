"""A day of the field: nobody's memory or open files grow, the disk is as predicted, nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hil_tests.field_account import FieldDays, Packed, closed_days, predicted_bytes, trend
from hil_tests.field_day import live
from simulators.broker import find_mosquitto


def test_a_leak_is_told_from_noise_and_warming_up() -> None:
    days = np.linspace(0.01, 1.0, 100)
    noise = np.random.default_rng(1).normal(0.0, 3.0, 100)
    warming = np.minimum(days * 300.0, 90.0)
    files = np.full(100, 20.0)
    steady = trend("gateway", np.column_stack((days, warming + noise, files)))
    leaking = trend("gateway", np.column_stack((days, warming + noise + 25.0 * days, files + np.floor(days * 10))))
    assert steady.faults == []
    assert len(leaking.faults) == 2
    assert leaking.mib_a_day == pytest.approx(25.0, abs=6.0)


def test_a_page_cache_that_fills_is_no_leak_and_hides_none() -> None:
    days, files = np.linspace(0.01, 1.0, 100), np.full(100, 20.0)
    filling, leaking = (trend("cloud", np.column_stack((days, 100.0 + more * days, files))) for more in (40.0, 70.0))
    assert (len(filling.faults), len(leaking.faults)) == (0, 1)


def test_days_are_packed_six_hours_after_their_end_and_the_log_is_no_larger_for_more_of_them() -> None:
    assert [closed_days(2.0, lived) for lived in (1.0, 1.3, 2.0, 2.3, 9.0)] == [0, 1, 1, 2, 2]
    a_day = 1_000_000
    two, three, four = (predicted_bytes(days * a_day, 50, days, days - 1) for days in (2, 3, 4))
    assert four - three == pytest.approx(three - two, rel=1e-6)
    assert three - two < a_day * 53


def test_a_closed_day_that_was_not_packed_is_told() -> None:
    predicted = predicted_bytes(2_000_000, 50, 2, 1)
    packed = Packed(rows=1_400_000, chunk_bytes=1_400_000, left=0)
    came_to = FieldDays(2, 1, 2_000_000, 1.0, 1.0, [], predicted, 0, predicted, 0, packed, [])
    assert came_to.all_faults == []
    came_to.packed = Packed(0, 0, 1_400_000)
    assert ["1,400,000 left" in fault for fault in came_to.all_faults] == [True]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("days", "minutes", "stations"), [(1, 8, 50), (3, 12, 20)])
def test_days_of_the_field_leave_memory_and_files_as_they_were(
    days: int, minutes: int, stations: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_mosquitto() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mosquitto is not installed")
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    came_to = live(days, 60 * minutes, stations, tmp_path, Console(stderr=True))
    with capsys.disabled():
        Console().print(f"\n{came_to}", markup=False)
    assert came_to.all_faults == []
