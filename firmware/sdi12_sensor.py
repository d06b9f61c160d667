# One configured SDI-12 sensor: to the station an instrument like any other. Only loaded where a station has one.
#
# start() begins concurrent measurements, so that all sensors measure side by side; sample() waits and collects. A
# measurement that needs the line for itself (M) is made in sample(), one sensor after the other.
from firmware import const
from firmware import ticks as real_ticks
from firmware.errors import BusError
from firmware.sampler import to_count
from firmware.sdi12 import Measurement

_LONGEST_WAIT_MS = const(60000)  # the watch over the loops bears twice as much
_SILENT_AFTER = const(3)  # samples without an answer in a row: asked less often
_PAUSES = (1, 2, 4, 8)


class Sensor:
    # sensor: a configuration.Sensor with `measurements`; its fields' `at` is the place among the measurement's values.
    # client: a sdi12_line.Client, None when there is no line. The one that start() and sample() are given is Modbus's.
    # channels: of the station; it gets a row per field.
    wiper = None

    def __init__(self, sensor, clock, client, channels, ticks=real_ticks):
        fields = [field for measurement in sensor.measurements for field in measurement.fields]
        parameters = [field.parameter for field in fields]
        self._channels = channels
        self._first = len(channels)  # its rows
        for field in fields:
            channels.add(sensor.number, field.parameter, field.decimals, field.statistic, field.rhythm)
        self._sensor = sensor
        self._client = client
        self._clock = clock
        self._ticks = ticks
        self._measurements = [Measurement(measurement.command) for measurement in sensor.measurements]
        self._speeds = [None if field.speed is None else parameters.index(field.speed) for field in fields]
        self.turn = 0  # it is read when this is 0
        self._is_due = False
        self._warm_since_s = 0  # seconds of uptime: power comes on with the board
        self._begun = ()  # what _begin gave for the first measurement
        self._silent = 0
        self._pause = 0

    def power_came_on(self):
        self._warm_since_s = self._clock.uptime_s()

    async def start(self, _):
        self._is_due = self.turn == 0
        self.turn = (self.turn + 1) % self._sensor.every
        self._begun = ()
        if not self._is_due or self._pause or not self._can_measure() or not self._measurements[0].is_concurrent:
            return
        try:
            self._begun = await self._begin(self._measurements[0])
        except BusError:
            pass  # tried again when it is read

    async def sample(self, _):
        if not self._is_due:
            return
        counts = [None] * len(self._speeds)
        if self._pause:
            self._pause -= 1
        elif self._can_measure():
            try:
                await self._measure_all(counts)
                self._silent = 0
            except BusError:
                self._note_silence()
        for i, speed in enumerate(self._speeds):
            self._channels.sample(self._first + i, counts[i], True, 1 if speed is None else counts[speed])

    async def _measure_all(self, counts):
        # Fills in what there is; raises BusError at the first measurement that brings nothing.
        at = 0
        for measurement, wanted in zip(self._measurements, self._sensor.measurements):
            values = await self._measure(measurement)
            for field in wanted.fields:
                counts[at] = _count(field, values)
                at += 1

    async def _measure(self, measurement):
        address = self._sensor.address
        if not measurement.is_concurrent:
            return await self._client.measure(address, measurement, _LONGEST_WAIT_MS)
        number, began_ms, takes_ms = self._begun or await self._begin(measurement)
        self._begun = ()
        left_ms = takes_ms - self._ticks.ticks_diff(self._ticks.ticks_ms(), began_ms)
        if left_ms > 0:
            await self._ticks.sleep_ms(left_ms)
        return await self._client.collect(address, measurement, number)

    async def _begin(self, measurement):
        # (number of values, when it was begun, how long it takes). Raises BusError.
        seconds, number = await self._client.start(self._sensor.address, measurement)
        return number, self._ticks.ticks_ms(), min(1000 * seconds, _LONGEST_WAIT_MS)

    def _note_silence(self):
        self._silent = min(self._silent + 1, _SILENT_AFTER + len(_PAUSES) - 1)
        if self._silent >= _SILENT_AFTER:
            self._pause = _PAUSES[self._silent - _SILENT_AFTER]

    def _can_measure(self):
        # One second more than warm-up asks for: uptime is in whole seconds.
        if self._client is None:
            return False
        warmup_ms = self._sensor.warmup_ms
        return warmup_ms == 0 or (self._clock.uptime_s() - self._warm_since_s - 1) * 1000 >= warmup_ms


def _count(field, values):
    # None = the sensor gave fewer values, or one of its codes for "no value".
    if field.at >= len(values):
        return None
    value = float(values[field.at])
    if value in field.invalid:
        return None
    return to_count(value * field.scale + field.offset, field.decimals)
