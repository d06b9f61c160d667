"""The brush of an instrument: when the station orders it, that nothing is read meanwhile, and its power."""

import asyncio
import itertools

import pytest

from firmware import rtu
from firmware.configuration import Wiper as Wanted
from firmware.errors import NoAnswer, Refused
from firmware.record import FAIL, NOT_EVALUATED
from firmware.tests.station_parts import Parts
from firmware.tests.test_every_instrument import INSTRUMENTS, Pier
from firmware.tests.test_power import Powered
from firmware.tests.test_station import Instruments, of, station_of
from firmware.wiper import Wiper

ORDER = rtu.write_request(1, 0x3100, ())
WIPER = {"fc": 16, "register": 0x3100, "every_s": 600, "busy_s": 16}
WITH_WIPER = [name for name, one in INSTRUMENTS.items() if one.wiper]


class Clock:
    seconds = 0

    def uptime_s(self):
        return self.seconds


class Bus:
    """Notes when it was asked; `raises` is what becomes of it."""

    raises = None

    def __init__(self, clock):
        self.asked = []
        self._clock = clock

    async def ask(self, request, patience):
        self.asked.append(self._clock.seconds)
        if self.raises:
            raise self.raises


class Brush:
    def __init__(self, **wanted):
        self.clock = Clock()
        self.bus = Bus(self.clock)
        self.wiper = Wiper(Wanted(16, 0x3100, 0, (), 600, 16)._replace(**wanted), ORDER, self.clock)

    def look(self, at_s, good=True):
        self.clock.seconds = at_s
        if not self.wiper.is_busy():
            asyncio.run(self.wiper.look(self.bus, None, good))
        return self.bus.asked


def test_it_is_ordered_after_the_first_sample_and_then_every_so_often():
    brush = Brush()
    for at_s in range(0, 1900, 10):
        brush.look(at_s)
    assert brush.bus.asked == [0, 600, 1200, 1800]


def test_nothing_is_read_until_it_is_parked_again():
    brush = Brush()
    brush.look(100)
    busy = []
    for at_s in (100, 110, 116, 117):
        brush.clock.seconds = at_s
        busy.append(brush.wiper.is_busy())
    assert busy == [True, True, True, False]


def test_one_that_parked_in_the_light_turns_once_more_and_no_oftener():
    brush = Brush()
    brush.look(0)
    for at_s in range(10, 400, 10):
        brush.look(at_s, good=False)
    assert brush.bus.asked == [0, 20]


def test_a_bad_status_at_another_time_is_not_its_doing():
    brush = Brush()
    brush.look(0)
    brush.look(30)
    assert brush.look(40, good=False) == [0]


def test_an_order_that_was_lost_is_given_again_after_the_next_sample():
    brush = Brush()
    brush.bus.raises = NoAnswer("silence")
    brush.look(0)
    brush.bus.raises = None
    brush.look(10)
    assert brush.look(30) == [0, 10]


def test_an_order_that_is_refused_counts_as_given():
    brush = Brush()
    brush.bus.raises = Refused(1, 1)
    brush.look(0)
    assert brush.look(100) == [0]


# In a station


def test_a_station_orders_it_and_skips_the_samples_meanwhile():
    instruments = Instruments()
    base = station_of(instruments).configuration
    probe = base.sensors[0]._replace(wiper=Wanted(16, 0x3100, 0, (), 600, 16))
    parts = Brushed(instruments, base._replace(sensors=(probe, base.sensors[1])))
    parts.run_for(1300)
    orders = [at for at, question in parts.asked if question == ORDER]
    reads = [at for at, question in parts.asked if question[0] == 1 and question[1] == 3]
    assert len(orders) == 3
    assert all(600 <= second - first < 620 for first, second in itertools.pairwise(orders))
    assert not [at for order in orders for at in reads if order < at <= order + 16]
    assert {flag for _, _, flag in of(parts, 34)} == {NOT_EVALUATED}


class Brushed(Parts):
    """A station that notes when it asked what."""

    def __init__(self, instruments, configuration):
        self.asked = []

        def answer(question):
            self.asked.append((self.wall.seconds, question))
            return instruments.answer(question)

        super().__init__(configuration, answer, seconds=1_780_000_020)


def test_power_stays_on_until_the_brush_is_parked():
    parts = Powered(Instruments(), wiper=WIPER)
    parts.run_for(200)
    off = [change for change in parts.relay.changes if change[0] > 50 and change[1] == 0]
    assert off[0][0] >= 60 + 16  # it was ordered after the sample at 60
    assert off[1][0] == 120


# Every instrument that has one


@pytest.mark.parametrize("name", WITH_WIPER)
def test_every_instrument_with_a_brush_is_wiped_by_its_own_order_and_read_between(name):
    pier = Pier(name, INSTRUMENTS[name], wipe_every_s=86400)
    held = pier.sample(rounds=3)
    assert pier.instrument.wipes == 2  # nothing is warm at the first sample; the next two are a day apart
    assert {flag for _, flag in held.values()} == {NOT_EVALUATED}


def test_a_simulated_brush_in_the_light_spoils_the_reading_and_is_told_by_the_status():
    pier = Pier("yosemitech-y511", INSTRUMENTS["yosemitech-y511"], wipe_every_s=86400)
    pier.instrument.parks_wrong = 5
    held = pier.sample(rounds=3)
    assert {flag for _, flag in held.values()} == {FAIL}
    assert pier.instrument.wipes == 2
