"""Every SDI-12 instrument we have a file of: its rows of frames by the firmware's codec, and from end to end.

file -> station.json -> the firmware's own checking, asking and decoding -> a pty -> the sensor, simulated from the same
file. What the sensor stands in must be what the channel holds.
"""

import asyncio
import time

import pytest

from firmware import sdi12
from firmware.line import Line
from firmware.record import MISSING, NO_VALUE
from firmware.sampler import Channels
from firmware.sdi12_line import Client
from firmware.sdi12_sensor import Sensor as Driver
from firmware.sdi12_sensor import _count
from firmware.tests.one_instrument import station_of
from firmware.tests.test_every_instrument import TRUTH, Hours, PtyUart, _pty, expected
from simulators.instruments import Fault
from simulators.sdi12_bus import Sdi12Bus, Sdi12Sensor
from station_config.instruments import load_instruments
from station_config.instruments.frames import FRAMES, read_frames
from station_config.parameters import load_parameters

INSTRUMENTS = {name: one for name, one in load_instruments().items() if one.protocol == "sdi12"}
ROWS = [
    pytest.param(name, frame, id=f"{name} {frame.what} {frame.values}")
    for name in INSTRUMENTS
    for frame in read_frames(FRAMES / f"{name}.csv")
]


def configured(name, frame):
    address = chr(frame.request[0])
    sensor = station_of(name, INSTRUMENTS[name], address).sensors[0]
    return sensor, sensor.measurements[int(frame.what.split()[1])]


@pytest.mark.parametrize(("name", "frame"), [row for row in ROWS if row.values[1].what.startswith("measurement")])
def test_the_firmware_begins_a_measurement_letter_for_letter(name, frame):
    sensor, wanted = configured(name, frame)
    measurement = sdi12.Measurement(wanted.command)
    assert sdi12.question(sensor.address, wanted.command) == frame.request
    line, _ = sdi12.find_line(b"\x00\x7f" + frame.request + frame.answer + b"\r\n", sensor.address)
    seconds, number = sdi12.parse_start(line, measurement)
    assert (seconds, number > max(field.at for field in wanted.fields)) == (int(frame.answer[1:4]), True)


@pytest.mark.parametrize(("name", "frame"), [row for row in ROWS if row.values[1].what.startswith("data")])
def test_the_firmware_understands_what_it_brought(name, frame):
    _, wanted = configured(name, frame)
    lines = frame.answer.split()
    values = [value for line in lines for value in sdi12.parse_values(line, sdi12.Measurement(wanted.command).with_crc)]
    by_code = load_parameters().by_code
    counts = {by_code[field.parameter].name: _count(field, values) for field in wanted.fields}
    told = {name: count for name, (count, _) in expected(frame.named).items()}
    assert {name: count for name, count in counts.items() if count is not None} == told


class RealTicks:
    """firmware.ticks in real time: a sensor sleeps after a tenth of a second of it."""

    def ticks_ms(self):
        return int(time.monotonic() * 1000)

    def ticks_diff(self, end, start):
        return end - start

    async def sleep_ms(self, duration_ms):
        await asyncio.sleep(duration_ms / 1000)


class Uart(PtyUart):
    def init(self, **_):
        pass


class Pier:
    """One SDI-12 sensor in the water and the driver that reads it."""

    def __init__(self, name, **truth):
        definition = INSTRUMENTS[name]
        self.hours = Hours()
        self.truth = {parameter: TRUTH[parameter] for parameter in definition.parameters} | truth
        self.probe = Sdi12Sensor(name, definition, "4", lambda _: self.truth, self.hours)
        self.sensor = station_of(name, definition, "4").sensors[0]

    def sample(self, rounds=1, hours_before=24):
        self.hours.time += 3600 * hours_before
        with _pty() as (ours, theirs):
            channels = asyncio.run(self._sample(ours, theirs, rounds))
        by_code = load_parameters().by_code
        rows = zip(channels.parameter, channels.live_count, channels.live_flag, strict=True)
        return {by_code[parameter].name: (count, flag) for parameter, count, flag in rows}

    async def _sample(self, ours, theirs, rounds):
        bus = Sdi12Bus(theirs, [self.probe])
        running = asyncio.create_task(bus.run())
        try:
            await bus.wait_until_serving(10)
            ticks = RealTicks()
            channels = Channels()
            client = Client(Line(Uart(ours), 1200, ticks=ticks), ticks)
            driver = Driver(self.sensor, self.hours, client, channels, ticks)
            for _ in range(rounds):
                await driver.start(None)
                await driver.sample(None)
            return channels
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_what_it_stands_in_is_what_the_station_holds(name):
    pier = Pier(name)
    assert pier.sample() == expected(pier.truth)
    assert (pier.probe.measured, pier.probe.early) == (1, 0)


NO_VALUE_CODES = [
    (name, field.parameter) for name, one in INSTRUMENTS.items() for field in one.quantities if field.invalid
]


@pytest.mark.parametrize(("name", "parameter"), NO_VALUE_CODES)
def test_a_code_for_no_value_is_no_value(name, parameter):
    pier = Pier(name, **{parameter: float("nan")})
    held = pier.sample()
    assert held.pop(parameter) == (MISSING, NO_VALUE)
    assert held == expected({n: v for n, v in pier.truth.items() if n != parameter})


def test_before_it_is_warm_nothing_is_asked():
    pier = Pier("campbell-clarivue10")
    assert set(pier.sample(hours_before=0).values()) == {(MISSING, NO_VALUE)}
    assert pier.probe.measured == 0


def test_a_silent_sensor_is_silence():
    pier = Pier("meter-hydros-21")
    pier.probe.set_fault(Fault.SILENT, True)
    assert set(pier.sample().values()) == {(MISSING, NO_VALUE)}
