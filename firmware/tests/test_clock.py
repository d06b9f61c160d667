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


YEAR = 365 * 86_400


@pytest.mark.parametrize(
    ("shown", "is_set"),
    [
        (NOW, True),
        (NOW - 3600, True),
        (NOW + YEAR, True),
        (NOW - 2 * 86_400, False),
        (NOW + 2 * YEAR, False),
        (NOW + 40 * YEAR, False),
    ],
    ids=["right", "an hour slow", "a year in a cupboard", "before the newest record", "two years on", "garbage"],
)
def test_a_clock_with_a_battery_must_fit_the_newest_record(shown, is_set):
    wall = Wall(shown)
    clock = Clock(wall, wall)
    clock.doubt(NOW)
    assert clock.is_set is is_set


@pytest.mark.parametrize(
    ("uncertainty_ms", "off_s", "step"),
    [(20, 1, None), (20, 2, 2), (5000, 4, None), (5000, -6, -6)],
)
def test_a_clock_is_not_moved_by_less_than_the_given_time_is_certain(uncertainty_ms, off_s, step):
    wall = Wall(NOW)
    assert Clock(wall, wall).step_to(NOW + off_s, uncertainty_ms) == step


def settings_taken(said):
    # said: (real seconds after the first, how many seconds ahead of it the gateway's clock is); returns which are taken
    wall = Wall(NOW)
    clock = Clock(wall, wall)
    real, taken = 0, []
    for after, ahead in said:
        wall.seconds += after - real
        real = after
        step = clock.step_to(NOW + after + ahead)
        if step is not None and not clock.is_premature_leap(NOW + after + ahead, step):
            clock.set(NOW + after + ahead, 0, 20)
            taken.append(after)
    return taken


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ([(0, 3600)], [0]),
        ([(0, YEAR), (1, YEAR), (59, YEAR), (61, YEAR)], [61]),
        ([(0, YEAR), (70, 2 * YEAR)], []),
        ([(0, YEAR), (30, 0), (61, YEAR)], [61]),
        ([(0, YEAR), (30, 40), (61, YEAR)], [30]),
        ([(0, -2 * YEAR), (61, -2 * YEAR)], [61]),
    ],
    ids=["an hour", "said again", "said otherwise", "was right between", "set between", "back"],
)
def test_a_leap_of_more_than_a_day_must_be_said_twice_a_minute_apart(said, taken):
    assert settings_taken(said) == taken


@pytest.mark.parametrize("jump", [-3600, -2, 40 * 86_400])
def test_a_counter_that_jumps_by_itself_is_noticed_once_and_uptime_goes_on(jump):
    wall = Wall(NOW)
    clock = Clock(wall, wall)
    wall.seconds += 10
    found = [clock.jumped()]
    wall.seconds += jump
    found += [clock.jumped(), clock.jumped()]
    assert (found, clock.uptime_s()) == ([0, jump, 0], 10)


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
