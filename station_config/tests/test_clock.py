"""The clock every host program asks: the system's in the field, a shared one on the bench."""

from __future__ import annotations

import time

import pytest

from station_config.clock import BENCH_CLOCK_VARIABLE, BenchClock, SystemClock, clock_from_environment


def test_in_the_field_it_is_the_systems() -> None:
    assert clock_from_environment({}) == SystemClock()
    assert SystemClock().now() == pytest.approx(time.time(), abs=5.0)


def test_a_bench_clock_reaches_child_processes_unchanged() -> None:
    clock = BenchClock(real_origin_s=1_790_000_000.25, origin_s=1_580_000_000.5, rate=60.0)
    assert clock_from_environment(clock.as_environment()) == clock


def test_a_bench_clock_runs_at_its_rate() -> None:
    clock = BenchClock(real_origin_s=time.time() - 10.0, origin_s=1_580_000_000.0, rate=60.0)
    assert clock.now() == pytest.approx(1_580_000_600.0, abs=60.0)


@pytest.mark.parametrize("text", ["", "1,2", "1,2,x", "1,2,0", "1,2,-1"])
def test_a_wrong_clock_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=BENCH_CLOCK_VARIABLE):
        clock_from_environment({BENCH_CLOCK_VARIABLE: text})
