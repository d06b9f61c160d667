"""When this machine's clock may set a station's: a Raspberry Pi without a clock, saved time, jumps, long silence."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_gateway import host_clock as module
from edge_gateway.host_clock import RELEASED_S, ClockFacts, HostClock, judge, newest_time_written
from edge_gateway.outbox import open_outbox
from edge_gateway.tests.test_outbox import ROOMY, HandClock, piece
from station_config.clock import BenchClock, SystemClock

NOW = RELEASED_S + 100 * 86_400.0
KEPT_RIGHT = ClockFacts(NOW, synchronised_ago_s=0.0, newest_s=NOW - 60)


@pytest.mark.parametrize(
    ("facts", "trusted", "says"),
    [
        pytest.param(KEPT_RIGHT, True, "synchronised", id="a time service runs"),
        pytest.param(replace(KEPT_RIGHT, now_s=120.0), False, "before 2010", id="a Pi just started, in 1970"),
        pytest.param(
            replace(KEPT_RIGHT, synchronised_ago_s=None, now_s=NOW - 86_400),
            False,
            "24.0 h behind the newest time written down",
            id="a Pi started with the time it had saved",
        ),
        pytest.param(
            replace(KEPT_RIGHT, synchronised_ago_s=None),
            False,
            "no time service has set it",
            id="looks right",
        ),
        pytest.param(replace(KEPT_RIGHT, synchronised_ago_s=80_000), True, "today", id="the service is gone for hours"),
        pytest.param(replace(KEPT_RIGHT, synchronised_ago_s=90_000), False, "for a day", id="and for more than a day"),
        pytest.param(
            replace(KEPT_RIGHT, synchronised_ago_s=None, source="host"), True, "clock_source", id="a clock with battery"
        ),
        pytest.param(
            replace(KEPT_RIGHT, synchronised_ago_s=None, source="host", now_s=NOW - 86_400),
            False,
            "behind the newest",
            id="a clock with an empty battery",
        ),
        pytest.param(
            replace(KEPT_RIGHT, newest_s=NOW + 86_400),
            True,
            "synchronised",
            id="a station is ahead",
        ),
        pytest.param(
            replace(KEPT_RIGHT, jump_s=-3600.0, jump_ago_s=5.0), False, "moved by -3600 s", id="it has just jumped"
        ),
        pytest.param(replace(KEPT_RIGHT, jump_s=-3600.0, jump_ago_s=40.0), True, "synchronised", id="and stayed there"),
        pytest.param(replace(KEPT_RIGHT, now_s=RELEASED_S - 1.0), False, "before its release", id="too old"),
        pytest.param(replace(KEPT_RIGHT, now_s=5e9), False, "after 2100", id="a far future"),
        pytest.param(ClockFacts(1.5e9, bench=True), True, "bench", id="a replay of 2017"),
        pytest.param(ClockFacts(60.0, bench=True), False, "before 2010", id="a bench that plays a Pi"),
    ],
)
def test_whether_the_clock_is_trusted_and_why(facts: ClockFacts, trusted: bool, says: str) -> None:
    verdict = judge(facts)

    assert verdict.trusted is trusted
    assert says in verdict.reason


def test_the_release_is_not_in_the_future() -> None:
    assert time.time() > RELEASED_S


def test_a_clock_that_moves_is_noticed() -> None:
    hand = HandClock(NOW)
    clock = HostClock(hand)
    before = clock.look()
    hand.time_s += 3600
    after = clock.look()

    assert before.trusted
    assert not after.trusted
    assert "moved by +3600 s" in str(clock.doubt())


def test_a_bench_that_runs_fast_does_not_jump() -> None:
    clock = HostClock(BenchClock(time.time(), NOW, 60.0))

    assert [clock.look().trusted for _ in range(50)] == [True] * 50


@pytest.mark.parametrize("synchronised", [True, False])
def test_the_kernels_word_decides(monkeypatch: pytest.MonkeyPatch, synchronised: bool) -> None:
    monkeypatch.setattr(module, "is_synchronised", lambda: synchronised)

    assert HostClock(SystemClock()).verdict.trusted is synchronised


def test_the_kernel_can_be_asked() -> None:
    assert module.is_synchronised() in (True, False)


def test_the_newest_time_is_that_of_records_and_contacts(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.sqlite", ROOMY, HandClock())
    reader = outbox.reader()
    nothing = newest_time_written(reader)
    outbox.append(piece(1, 13))
    of_records = newest_time_written(reader)
    outbox.write(lambda store: store.note_contact("my-tho", '{"station": "my-tho", "last_contact": 1999999999}'))
    of_contacts = newest_time_written(reader)
    reader.close()
    outbox.close()

    assert nothing is None
    assert of_records is not None
    assert of_contacts == 1999999999
