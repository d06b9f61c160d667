"""A day of the field: nobody's memory or open files grow, the disk is as predicted, nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hil_tests.field_day import live, trend
from simulators.broker import find_mosquitto

SOAK_S = 480.0


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


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_day_of_the_field_leaves_memory_and_files_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_mosquitto() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mosquitto is not installed")
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    day = live(SOAK_S, tmp_path, Console(stderr=True))
    with capsys.disabled():
        Console().print(f"\n{day}", markup=False)
    assert day.all_faults == []
