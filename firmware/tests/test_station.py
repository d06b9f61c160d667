"""A station from samples to records, by scenarios of the field."""

import asyncio
import struct

import pytest

from firmware import rtu
from firmware.errors import ClockRefused, JournalError
from firmware.record import EVENT_BOOT, EVENT_CLOCK_SET, EVENT_CONFIGURATION, MISSING, SIZE, decode
from firmware.tests.flash import PowerCut
from firmware.tests.station_parts import Parts, configuration_of, content

NOW = 1_780_000_000 - 1_780_000_000 % 60


class Instruments:
    """The probe at 1 and the wind sensor at 144; faults are attributes."""

    def __init__(self):
        self.conductivity = 27.075
        self.status = 0
        self.wind = (50, 90)  # 5.0 m/s from 90 degrees
        self.silent = set()
        self.asked = []

    def answer(self, question):
        self.asked.append(question)
        address = question[0]
        if address in self.silent:
            return []
        if question[1] == 16:
            return [(5, rtu.seal(question[:6]))]
        if address == 1:
            data = struct.pack("<ffBB", 28.5, self.conductivity, self.status, 0)
        else:
            data = struct.pack(">HH", *self.wind)
        return [(5, rtu.seal(bytes([address, 3, len(data)]) + data))]


@pytest.fixture
def instruments():
    return Instruments()


def station_of(instruments, seconds=NOW, **changes):
    return Parts(configuration_of(content(**changes)), instruments.answer, seconds=seconds)


def records(parts):
    raw = parts.journal.read(0, 10_000)
    return [decode(raw, at) for at in range(0, len(raw), SIZE)]


def of(parts, parameter):
    return [(record.time, record.count, record.flag) for record in records(parts) if record.parameter == parameter]


def test_every_interval_ends_in_one_record_per_field(instruments):
    parts = station_of(instruments)
    parts.run_for(180)
    assert [(r.time - NOW, r.sensor, r.parameter) for r in records(parts)] == [
        (end, sensor, parameter) for end in (60, 120, 180) for sensor, parameter in ((1, 32), (1, 34), (3, 67), (3, 68))
    ]


def test_values_are_counts_of_the_parameters_decimals(instruments):
    parts = station_of(instruments)
    parts.run_for(60)
    assert [(r.parameter, r.count, r.flag) for r in records(parts)] == [
        (32, 2850, 2),
        (34, 27075, 2),
        (67, 500, 2),
        (68, 900, 2),
    ]


def test_a_silent_instrument_writes_that_it_has_no_value(instruments):
    instruments.silent.add(1)
    parts = station_of(instruments)
    parts.run_for(60)
    assert [(r.parameter, r.count, r.flag) for r in records(parts)][:2] == [(32, MISSING, 9), (34, MISSING, 9)]


def test_a_silent_instrument_does_not_take_the_others_samples(instruments):
    instruments.silent.add(1)
    parts = station_of(instruments)
    parts.run_for(600)
    assert [flag for _, _, flag in of(parts, 67)] == [2] * 10


def test_a_silent_instrument_is_asked_less_and_less_often(instruments):
    instruments.silent.add(1)
    parts = station_of(instruments)
    parts.run_for(1200)
    assert sum(1 for question in instruments.asked if question[0] == 1) < 30


def test_an_instrument_that_is_silent_for_a_month_costs_no_more_than_one_that_is_silent_for_an_hour(instruments):
    instruments.silent.add(1)
    parts = station_of(instruments, sample_s=60)
    parts.run_for(60 * 60)
    instrument = parts.instruments[0]
    for _ in range(5000):
        instrument._note_silence()
    assert (instrument._pause, instrument._silent) == (8, 6)


def test_an_instrument_that_comes_back_is_read_again_within_two_minutes(instruments):
    instruments.silent.add(1)
    parts = station_of(instruments)
    parts.run_for(600)
    instruments.silent.clear()
    parts.run_for(180)
    assert of(parts, 34)[-1][2] == 2


def test_what_the_instrument_calls_a_fault_is_flagged_and_kept(instruments):
    instruments.status = 0xFF
    parts = station_of(instruments)
    parts.run_for(60)
    assert of(parts, 34) == [(NOW + 60, 27075, 4)]


def test_one_good_sample_makes_a_good_interval(instruments):
    instruments.status = 0xFF
    parts = station_of(instruments)
    parts.run_for(30)
    instruments.status, instruments.conductivity = 0, 30.0
    parts.run_for(30)
    assert of(parts, 34) == [(NOW + 60, 30000, 2)]


def test_an_invalid_code_is_no_value(instruments):
    instruments.wind = (65535, 90)
    parts = station_of(instruments)
    parts.run_for(60)
    assert [flag for parameter in (67, 68) for _, _, flag in of(parts, parameter)] == [9, 9]


def test_not_a_number_is_no_value(instruments):
    instruments.conductivity = float("nan")
    parts = station_of(instruments)
    parts.run_for(60)
    assert of(parts, 34) == [(NOW + 60, MISSING, 9)]


def test_an_instrument_that_warms_up_is_not_believed_before(instruments):
    probe, wind = content()["sensors"]
    parts = station_of(instruments, seconds=0, sensors=[dict(probe, warmup_ms=70_000), wind])
    parts.run_for(240)
    assert [flag for _, _, flag in of(parts, 34)] == [9, 2, 2, 2]


def test_a_start_command_goes_out_once_before_the_first_question(instruments):
    probe, wind = content()["sensors"]
    start = {"fc": 16, "register": 0x1C00, "count": 0}
    parts = station_of(instruments, seconds=0, sensors=[dict(probe, start=start), wind])
    parts.run_for(120)
    to_probe = [question for question in instruments.asked if question[0] == 1]
    assert to_probe[0] == bytes.fromhex("01101c0000000000")[:7] + bytes.fromhex("d892")
    assert all(question[1] == 3 for question in to_probe[1:])


def test_a_late_loop_still_ends_every_interval(instruments):
    parts = station_of(instruments)
    parts.run_for(60)
    parts.wall.seconds += 239
    parts.run_for(1)
    assert [(time - NOW, flag) for time, _, flag in of(parts, 34)] == [(60, 2), (120, 2), (180, 9), (240, 9), (300, 9)]


def test_a_flash_slower_than_the_interval_dates_no_sample_early(instruments):
    parts = station_of(instruments)
    heard = []
    parts.uart._answer = lambda question: (heard.append(parts.wall.seconds), instruments.answer(question))[1]
    append = parts.journal.append

    def slow_append(entries):
        append(entries)
        parts.wall.seconds += 150

    parts.journal.append = slow_append
    parts.run_for(70)
    ends = [time for time, _, _ in of(parts, 34)]
    good = [time for time, _, flag in of(parts, 34) if flag == 2]
    assert ends == list(range(ends[0], ends[-1] + 60, 60))
    assert len(good) > 10
    assert [end for end in good if not any(end - 60 <= at <= end for at in heard)] == []


def test_before_the_clock_is_set_records_carry_seconds_since_boot(instruments):
    parts = station_of(instruments, seconds=0)
    parts.run_for(120)
    assert [time for time, _, _ in of(parts, 34)] == [60, 120]


def test_setting_the_clock_for_the_first_time_tells_how_to_restamp(instruments):
    parts = station_of(instruments, seconds=0)
    parts.run_for(90)
    parts.station.set_clock(NOW, 0, 20)
    parts.run_for(60)
    assert [(time, count) for time, count, _ in of(parts, EVENT_CLOCK_SET)] == [(NOW, NOW - 90)]
    assert [time for time, _, _ in of(parts, 34)] == [60, NOW + 60]


@pytest.mark.parametrize(
    ("at", "step", "ends"),
    [
        (90, +5, [60, 120]),
        (118, +5, [60, 120, 180]),
        (122, -5, [60, 120, 180]),
        (90, +3600, [60, 3720]),
        (150, -3600, [60, 120, -3420]),
    ],
    ids=["forward inside", "forward over an end", "back over an end", "an hour forward", "an hour back"],
)
def test_a_clock_step_doubles_no_time_without_need(instruments, at, step, ends):
    parts = station_of(instruments)
    parts.run_for(at)
    parts.station.set_clock(parts.clock.now() + step, 0, 20)
    parts.run_for(75)
    assert [time - NOW for time, _, _ in of(parts, 34)][: len(ends)] == ends


@pytest.mark.parametrize("impossible", [0, 1_262_303_999, 4_102_444_800, 0xFFFFFFFF])
def test_a_time_that_cannot_be_is_refused_and_leaves_no_event(instruments, impossible):
    parts = station_of(instruments)
    with pytest.raises(ClockRefused):
        parts.station.set_clock(impossible, 0, 20)
    assert (parts.clock.now(), records(parts)) == (NOW, [])


def test_a_clock_that_jumps_goes_on_where_it_was_and_the_jump_is_an_event(instruments):
    parts = station_of(instruments)
    parts.run_for(90)
    parts.wall.seconds += 40 * 86_400
    parts.run_for(60)
    assert [count for _, count, _ in of(parts, EVENT_CLOCK_SET)] == [-40 * 86_400 - 1]
    assert [time - NOW for time, _, _ in of(parts, 34)] == [60, 120]


def test_seq_goes_on_whatever_the_clock_does(instruments):
    parts = station_of(instruments)
    for step in (3600, -7200, 80_000, -80_000):
        parts.station.set_clock(parts.clock.now() + step, 0, 20)
        parts.run_for(60)
    assert [record.seq for record in records(parts)] == list(range(1, parts.journal.next_seq))


def test_a_leap_of_years_is_not_taken_at_once_and_told_in_the_log(instruments):
    parts = station_of(instruments)
    parts.station.set_clock(NOW + 3 * 365 * 86_400, 0, 20)
    assert (parts.clock.now(), records(parts)) == (NOW, [])
    assert any("more than a day away" in line for line in parts.shown)


def test_a_clock_with_garbage_at_the_start_is_unset_and_waits_for_the_gateway(instruments):
    parts = station_of(instruments)
    parts.run_for(60)
    again = Parts(parts.configuration, instruments.answer, flash=parts.flash, seconds=NOW + 40 * 365 * 86_400)
    again.station.note_start(1)
    assert (again.clock.is_set, again.clock.now()) == (False, 0)


def test_a_clock_event_that_cannot_be_stored_leaves_the_clock_as_it_was(instruments):
    parts = station_of(instruments)
    parts.flash.full = True
    with pytest.raises(JournalError):
        parts.station.set_clock(NOW + 500, 0, 20)
    assert parts.clock.now() == NOW


def test_a_start_is_an_event_and_a_new_configuration_another(instruments):
    parts = station_of(instruments)
    parts.station.note_start(1)
    again = Parts(parts.configuration, instruments.answer, flash=parts.flash, seconds=NOW)
    again.station.note_start(3)
    hash_ = parts.configuration.hash
    assert [(r.parameter, r.count) for r in records(again)] == [
        (EVENT_BOOT, 1),
        (EVENT_CONFIGURATION, hash_),
        (EVENT_BOOT, 2),
    ]


def test_a_configuration_whose_event_was_lost_to_a_power_cut_is_told_at_the_next_start(instruments):
    parts = station_of(instruments)
    parts.flash.power_on()
    parts.flash.cut_at = 4  # the boot is counted, the events are not stored
    with pytest.raises(PowerCut):
        parts.station.note_start(1)
    parts.flash.power_on()
    again = Parts(parts.configuration, instruments.answer, flash=parts.flash, seconds=NOW)
    again.station.note_start(1)
    assert [(r.parameter, r.count) for r in records(again)][:1] == [(EVENT_BOOT, 2)]
    assert of(again, EVENT_CONFIGURATION) == [(NOW, parts.configuration.hash, 2)]


class Enough(BaseException):
    """Ends a station that would run for ever."""


class FaultyUplink:
    def __init__(self):
        self.calls = 0

    async def serve_once(self):
        self.calls += 1
        if self.calls == 1:
            raise ValueError("a fault nobody thought of")
        raise Enough


class Watchdog:
    fed = 0

    def feed(self):
        self.fed += 1


def test_a_fault_in_a_loop_is_logged_and_the_loop_goes_on(instruments):
    parts, uplink, watchdog = station_of(instruments), FaultyUplink(), Watchdog()
    with pytest.raises(Enough):
        asyncio.run(parts.station.run(uplink, watchdog))
    assert uplink.calls == 2
    assert "uplink: ValueError: a fault nobody thought of" in parts.shown[0]
    assert watchdog.fed > 0


@pytest.mark.parametrize(("silent_ms", "healthy"), [(119_000, True), (121_000, False)])
def test_the_watchdog_is_not_fed_when_a_loop_hangs(instruments, silent_ms, healthy):
    parts = station_of(instruments)
    parts.run_for(1)
    parts.ticks.now_ms = parts.station._came_round_ms["sample"] + silent_ms
    assert parts.station._is_healthy() is healthy


def test_health_is_written_every_so_many_intervals(instruments):
    # Free heap, 18, is told by boards alone: CPython does not say.
    parts = station_of(instruments, health_every=2)
    parts.run_for(240)
    assert [(r.time - NOW, r.parameter) for r in records(parts) if r.sensor == 0] == [
        (end, parameter) for end in (120, 240) for parameter in range(19, 27)
    ]


def test_bus_health_tells_questions_silence_and_latency(instruments):
    parts = station_of(instruments, health_every=1)
    parts.run_for(30)
    instruments.silent.add(144)
    parts.run_for(30)
    health = {r.parameter: r.count for r in records(parts) if r.sensor == 0}
    assert (health[19], health[20], health[21], health[22], health[23]) == (3, 0, 0, 14, 0)
    assert health[24] <= health[25] <= health[26] <= 50


def test_no_latency_is_told_when_nothing_answered(instruments):
    instruments.silent |= {1, 144}
    parts = station_of(instruments, health_every=1)
    parts.run_for(60)
    assert {r.parameter for r in records(parts) if r.sensor == 0} == {19, 20, 21, 22, 23}


def test_one_dead_instrument_takes_no_reading_from_eleven_others(instruments):
    wind = content()["sensors"][1]
    dead = dict(wind, number=12, address=99, retries=3, timeout_ms=1000)
    others = [dict(wind, number=number, address=100 + number) for number in range(1, 12)]
    instruments.silent.add(99)
    parts = station_of(instruments, sensors=[dead, *others], health_every=0)
    parts.run_for(600)
    asked = sum(1 for question in instruments.asked if question[0] == 99)
    readings = [(r.sensor, r.flag) for r in records(parts)]
    assert {flag for sensor, flag in readings if sensor < 12} == {2}
    # Three samples with all retries (four askings of twice the timeout), then ever fewer: 6 % of these ten minutes.
    assert asked * 2 * dead["timeout_ms"] < 0.06 * 600_000


def test_records_wait_while_the_flash_takes_none(instruments):
    parts = station_of(instruments)
    parts.flash.full = True
    with pytest.raises(JournalError):
        parts.run_for(60)
    parts.flash.full = False
    parts.run_for(60)
    assert [time - NOW for time, _, _ in of(parts, 34)] == [60, 120]
