"""Time on boards that count from 1970 and from 2000, and what is due by it."""

import pytest

from firmware.clock import Clock
from firmware.log import Log
from firmware.schedule import Intervals, Samples
from firmware.tests.station_parts import Wall

NOW = 1_780_000_000


@pytest.mark.parametrize("epoch", [1970, 2000])
def test_a_set_clock_shows_unix_time_on_either_epoch(epoch):
    wall = Wall(0, epoch)
    clock = Clock(wall, wall)
    clock.set(NOW, 500, 20)
    wall.seconds += 7
    assert (clock.is_set, clock.now(), clock.uptime_s()) == (True, NOW + 7, 7)


@pytest.mark.parametrize(
    ("epoch", "seconds", "is_set"),
    [(1970, 0, False), (2000, 0, False), (1970, 1_609_459_205, False), (1970, NOW, True)],
)
def test_a_clock_is_set_when_it_shows_a_year_that_can_be(epoch, seconds, is_set):
    wall = Wall(seconds, epoch)
    assert Clock(wall, wall).is_set is is_set


def test_a_clock_that_was_set_before_a_reset_stays_set():
    wall = Wall(NOW)
    clock = Clock(wall, wall)
    assert (clock.now(), clock.uptime_s(), clock.step_to(NOW + 1)) == (NOW, 0, None)


def dues(schedule, moments):
    return [(now, end) for now in moments for end in iter(lambda now=now: schedule.due(now), None)]


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ([0, 30, 59, 60, 61], [(60, 60)]),
        ([59, 61, 119, 121], [(61, 60), (121, 120)]),
        ([59, 185], [(185, 60), (185, 120), (185, 180)]),
        ([59, 59 + 60 * 100], []),
    ],
    ids=["at the end", "just behind", "late: all of them", "far too late: starts afresh"],
)
def test_interval_ends_come_once_each(moments, expected):
    assert dues(Intervals(60), moments) == expected


def test_samples_are_aligned_and_skipped_when_late():
    samples = Samples(10)
    assert [now for now in (3, 5, 9, 10, 11, 19, 47, 48, 50) if samples.is_due(now)] == [3, 10, 47, 50]


def test_samples_go_on_when_time_jumps_back():
    samples = Samples(10)
    assert [now for now in (1000, 1009, 500, 505, 510) if samples.is_due(now)] == [1000, 500, 510]


class StillClock:
    def now(self):
        return NOW

    def uptime_s(self):
        return self.uptime

    uptime = 5


def test_the_log_is_bounded(tmp_path):
    log = Log(str(tmp_path / "log.txt"), StillClock(), limit=300, show=lambda _: None)
    for number in range(200):
        log.write("fault %d" % number)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 600


def test_the_same_fault_is_written_once_an_hour(tmp_path):
    clock = StillClock()
    log = Log(str(tmp_path / "log.txt"), clock, show=lambda _: None)
    for uptime in range(0, 7201, 60):
        clock.uptime = uptime
        log.fault("record", OSError(28))
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 3


def test_a_log_that_cannot_be_written_says_so_and_goes_on():
    shown = []
    Log("/nowhere/log.txt", StillClock(), show=shown.append).write("fault")
    assert len(shown) == 2
