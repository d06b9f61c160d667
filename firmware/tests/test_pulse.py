"""A tipping bucket on a pin: what counts as a tip, and totals that outlive the power."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.configuration import Pulse
from firmware.journal import Journal
from firmware.pulse import Contact, PulseInput, count_of, last_count, pulses_of
from firmware.record import MISSING, NO_VALUE
from firmware.sampler import Channels
from firmware.tests.flash import Flash, PowerCut
from firmware.tests.wire import Ticks

RAIN = Pulse(number=5, pin=14, parameter=70, decimals=1, per_pulse=2000, debounce_ms=80, wrap=1_000_000, rhythm=None)


class Pin:
    """A pin with a contact to ground: 1 open, 0 closed."""

    IRQ_FALLING = 4
    IRQ_RISING = 8

    def __init__(self, level=1):
        self.level = level
        self.trigger = 0

    def value(self):
        return self.level

    def irq(self, handler, trigger):
        self.handler, self.trigger = handler, trigger

    def set(self, level):
        self.level = level
        self.handler(self)


def pulses(edges, level=1, begin_ms=0):
    """How many pulses (ms, level) edges make."""
    ticks, pin = Ticks(), Pin(level)
    contact = Contact(80, ticks)
    contact.attach(pin)
    for at_ms, new in edges:
        ticks.now_ms = begin_ms + at_ms
        pin.set(new)
    return contact.pulses


def bouncing(at_ms, level):
    return [(at_ms, level), (at_ms + 1, 1 - level), (at_ms + 3, level), (at_ms + 6, 1 - level), (at_ms + 7, level)]


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([(1000, 0), (1020, 1)], 1),
        ([(1000, 0), (1135, 1)], 1),
        (bouncing(1000, 0) + bouncing(1020, 1), 1),
        (bouncing(1000, 0) + bouncing(1135, 1), 1),
        ([(1000, 0), (1135, 1), (2000, 0), (2135, 1)], 2),
        ([(1000, 0), (90_000, 1), (95_000, 0)], 2),
        (bouncing(1000, 0) + bouncing(1135, 1) + bouncing(1400, 0) + bouncing(1535, 1), 2),
        ([], 0),
    ],
    ids=[
        "a short pulse",
        "one longer than the debounce time",
        "bounces at both ends of a short one",
        "and of a long one",
        "two tips",
        "a bucket that stopped halfway",
        "a downpour: 400 ms apart",
        "dry",
    ],
)
def test_what_counts_as_a_tip(edges, expected):
    assert pulses(edges) == expected


def test_a_handler_that_comes_after_the_pulse_has_ended_counts_it():
    assert pulses([(1000, 1), (1000, 1), (3000, 1)]) == 2


def test_a_contact_that_is_closed_at_the_start_does_not_count_its_opening():
    assert pulses([(1000, 1), (5000, 0)], level=0) == 1


def test_the_first_tip_after_a_dry_week_counts_although_milliseconds_began_again():
    class Wrapping(Ticks):
        def ticks_diff(self, end, start):
            return (end - start + (1 << 29)) % (1 << 30) - (1 << 29)

    ticks, pin = Wrapping(), Pin()
    contact = Contact(80, ticks)
    contact.attach(pin)
    for day in (0, 3, 10, 20):
        ticks.now_ms = day * 86_400_000
        pin.set(0)
        ticks.now_ms += 100
        pin.set(1)
    assert contact.pulses == 4


@given(st.integers(0, 100_000), st.integers(1000, 60_000))
def test_a_total_is_exact_there_and_back(tips, per_pulse):
    assert pulses_of(count_of(tips, per_pulse), per_pulse) == tips


# The power goes and comes


class Station:
    """A pulse input and the journal it is recorded in, on a flash that outlives them."""

    def __init__(self, flash):
        self.journal = Journal("/journal", 64, 64 * 18 * 8, lambda n: b"\x78\x56\x34\x12", flash, flash.open)
        self.journal.open()
        self.pin, self.ticks = Pin(), Ticks()
        contact = Contact(80, self.ticks)
        contact.attach(self.pin)
        self.channels = Channels()
        self.rain = PulseInput(RAIN, contact, self.channels)
        self.recovered = self.rain.recover(self.journal)

    def tip(self, times=1):
        for _ in range(times):
            self.ticks.now_ms += 1000
            self.pin.set(0)
            self.ticks.now_ms += 100
            self.pin.set(1)

    def record(self, others=0):
        asyncio.run(self.rain.sample(None))
        count, flag = self.channels.close(0)
        self.journal.append([(60, count, 5, 70, flag)] + [(60, 7, 1, 34, 2)] * others)
        return count


@pytest.fixture
def flash():
    return Flash()


def test_the_total_grows_by_the_buckets_size(flash):
    station = Station(flash)
    station.tip(3)
    assert station.record() == 6


def test_the_total_goes_on_after_a_power_cut(flash):
    before = Station(flash)
    before.tip(3)
    before.record(others=70)
    after = Station(flash)
    after.tip(2)
    assert after.record() == 10


def test_what_tipped_after_the_last_record_is_lost_and_the_total_does_not_go_back(flash):
    before = Station(flash)
    before.tip(3)
    before.record()
    before.tip(1)
    assert Station(flash).record() == 6


def test_a_power_cut_while_the_record_is_written_leaves_the_one_before(flash):
    before = Station(flash)
    before.tip(3)
    before.record()
    before.tip(1)
    flash.cut_at = flash.operations + 1
    with pytest.raises(PowerCut):
        before.record()
    flash.power_on()
    assert Station(flash).recovered == 6


def test_a_station_without_a_record_of_rain_begins_at_nothing(flash):
    assert (Station(flash).recovered, Station(flash).record()) == (None, 0)


def test_a_record_without_a_value_is_passed_over(flash):
    station = Station(flash)
    station.journal.append([(60, 8, 5, 70, 2), (120, MISSING, 5, 70, NO_VALUE)])
    assert last_count(station.journal, 5, 70) == 8


def test_other_sensors_totals_are_not_mistaken_for_ours(flash):
    station = Station(flash)
    station.journal.append([(60, 8, 5, 70, 2), (60, 99, 3, 70, 2)])
    assert last_count(station.journal, 5, 70) == 8


def test_a_total_is_found_in_a_ring_that_has_turned_over(flash):
    station = Station(flash)
    station.tip(4)
    for _ in range(20):
        station.record(others=50)
    assert Station(flash).recovered == 8


def test_the_total_begins_again_like_a_meter(flash):
    station = Station(flash)
    station.journal.append([(60, 999_998, 5, 70, 2)])
    again = Station(flash)
    again.tip(2)
    assert again.record() == 2
