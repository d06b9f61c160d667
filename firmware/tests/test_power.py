"""Switched power: on ahead of the sample, off after it, and bursts of readings."""

import asyncio
import itertools

import pytest

from firmware.burst import Reader
from firmware.configuration import Burst
from firmware.power import Supplies
from firmware.record import MISSING, NO_VALUE, NOT_EVALUATED
from firmware.tests.station_parts import Parts, configuration_of, content
from firmware.tests.test_station import NOW, Instruments, of, records
from firmware.tests.wire import Ticks


class Relay:
    """A pin that feeds the instruments: without power they are silent."""

    def __init__(self, parts, instruments, addresses):
        self.changes = []
        self._parts, self._instruments, self._addresses = parts, instruments, addresses

    def value(self, level):
        self.changes.append((self._parts.wall.seconds - NOW, level))
        (self._instruments.silent.difference_update if level else self._instruments.silent.update)(self._addresses)


class Powered(Parts):
    """A station whose probe (address 1) is fed by pin 32."""

    def __init__(self, instruments, **probe):
        rows = content()["sensors"]
        rows[0] |= {"power": 32, "warmup_ms": 5000} | probe
        super().__init__(configuration_of(content(sample_s=60, sensors=rows)), instruments.answer, seconds=NOW)
        self.relay = Relay(self, instruments, {1})
        fed = Supplies(self.configuration, self.instruments, {32: self.relay}.get, self.ticks)
        self.station = self.make_station(fed)

    async def _run_for(self, seconds):
        for _ in range(seconds):
            self.wall.seconds += 1
            for _ in range(6):
                await self.station._power_once()
                await self.station._sample_once()
                await self.station._record_once()


START = {"fc": 16, "register": 7168, "count": 0}


def test_power_comes_on_ahead_of_each_sample_and_goes_after_it():
    parts = Powered(Instruments())
    parts.run_for(200)
    after_first = [change for change in parts.relay.changes if change[0] > 1]
    assert after_first == [(53, 1), (60, 0), (113, 1), (120, 0), (173, 1), (180, 0)]


@pytest.mark.parametrize("probe", [{}, {"start": START}], ids=["measures by itself", "wants an order after power on"])
def test_an_instrument_is_warm_when_its_sample_is_due(probe):
    parts = Powered(Instruments(), **probe)
    parts.run_for(310)
    assert [(count, flag) for _, count, flag in of(parts, 34)[1:]] == [(27075, NOT_EVALUATED)] * 4


def test_an_instrument_that_warms_up_longer_than_its_interval_keeps_its_power():
    parts = Powered(Instruments(), warmup_ms=58_000)
    parts.run_for(300)
    assert parts.relay.changes == [(0, 0), (1, 1)]


def test_power_is_only_spent_on_samples_of_its_own():
    parts = Powered(Instruments(), every=3)
    parts.run_for(400)
    assert [change for change in parts.relay.changes if change[0] > 1] == [(173, 1), (180, 0), (353, 1), (360, 0)]


def test_a_dead_instrument_is_asked_to_start_a_few_times_only():
    instruments = Instruments()
    parts = Powered(instruments, start=START)
    parts.relay._addresses = ()
    instruments.silent.add(1)
    parts.run_for(1200)
    assert sum(1 for question in instruments.asked if question[0] == 1) < 100


def test_a_pin_the_board_does_not_have_leaves_its_sensors_without_power():
    parts = Powered(Instruments())
    fed = Supplies(parts.configuration, parts.instruments, lambda number: None, parts.ticks)
    asyncio.run(fed.look(0, parts.client))
    assert parts.relay.changes == [(0, 0)]


# Bursts


class Readings:
    """One reading after the other of a single channel; None: silence."""

    def __init__(self, *readings):
        self._readings = list(readings)
        self.counts, self.good = [None], [True]
        self.ticks = Ticks()

    async def once(self):
        reading = self._readings.pop(0)
        if reading is None:
            return False
        self.counts[0], self.good[0] = reading
        return True

    def read(self, statistic="median", number=5, pause_ms=200):
        reader = Reader(Burst(number, statistic, pause_ms), self.ticks)
        asyncio.run(reader.read(self.once, self.counts, self.good))
        return self.counts[0], self.good[0]


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([(10, True), (900, True), (11, True), (12, True), (9, True)], (11, True)),
        ([(10, True), (11, False), (11, True), (12, False), (9, True)], (10, True)),
        ([(10, False), (11, False), (11, False), (12, False), (9, True)], (11, False)),
        ([(10, True), (11, True), (12, True), None], (11, True)),
        ([(10, True), (11, True), None], (None, True)),
        ([None], (None, True)),
        ([(None, True), (10, True), (11, True), (None, True), (12, True)], (11, True)),
    ],
    ids=[
        "a spike",
        "good readings alone",
        "most not vouched for",
        "breaks off late",
        "breaks off early",
        "silent",
        "some without a value",
    ],
)
def test_a_burst_is_one_sample(readings, expected):
    assert Readings(*readings).read() == expected


def test_readings_of_a_burst_are_apart():
    readings = Readings(*[(10, True)] * 5)
    readings.read(pause_ms=200)
    assert readings.ticks.now_ms == 800


def test_a_station_reads_a_burst_per_sample():
    rows = content()["sensors"]
    rows[0]["burst"] = {"readings": 3}
    instruments = Instruments()
    values = itertools.cycle([27.0, 99.0, 27.1])
    answer = instruments.answer

    def spiky(question):
        instruments.conductivity = next(values) if question[0] == 1 else 0.0
        return answer(question)

    parts = Parts(configuration_of(content(sensors=rows)), spiky, seconds=NOW)
    parts.run_for(60)
    assert of(parts, 34) == [(NOW + 60, 27100, NOT_EVALUATED)]


def test_an_instrument_silent_in_its_burst_is_silent():
    rows = content()["sensors"]
    rows[0]["burst"] = {"readings": 50}
    instruments = Instruments()
    instruments.silent.add(1)
    parts = Parts(configuration_of(content(sensors=rows)), instruments.answer, seconds=NOW)
    parts.run_for(60)
    asked = sum(1 for question in instruments.asked if question[0] == 1)
    assert (of(parts, 34), asked < 12) == ([(NOW + 60, MISSING, NO_VALUE)], True)


# Rhythms


def with_field(**changes):
    rows = content()["sensors"]
    rows[0]["reads"][0]["fields"][1] |= changes
    return configuration_of(content(sensors=rows))


def test_a_channel_may_be_recorded_less_often_than_others():
    parts = Parts(with_field(record_s=180), Instruments().answer, seconds=NOW - NOW % 180)
    parts.run_for(361)
    assert ([r[0] % 180 for r in of(parts, 34)], len(of(parts, 32))) == ([0, 0], 6)


def test_a_channel_may_be_averaged_over_the_last_of_its_interval():
    instruments = Instruments()
    parts = Parts(with_field(record_s=180, average_s=60), instruments.answer, seconds=NOW - NOW % 180)
    instruments.conductivity = 5.0
    parts.run_for(120)
    instruments.conductivity = 27.0
    parts.run_for(60)
    assert [count for _, count, _ in of(parts, 34)] == [27000]


def test_extremes_are_recorded_beside_the_mean():
    rows = content()["sensors"]
    fields = rows[0]["reads"][0]["fields"]
    fields += [dict(fields[1], parameter=84, statistic="min"), dict(fields[1], parameter=85, statistic="max")]
    instruments = Instruments()
    parts = Parts(configuration_of(content(sensors=rows)), instruments.answer, seconds=NOW)
    parts.run_for(30)
    instruments.conductivity = 20.075
    parts.run_for(30)
    values = {r.parameter: r.count for r in records(parts) if r.sensor == 1}
    assert (values[84], values[85], values[84] < values[34] < values[85]) == (20075, 27075, True)
