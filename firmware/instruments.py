# One configured sensor on the bus: what to ask it, when it may be trusted, and how its bytes become counts.
#
# A sample goes through all instruments twice. start(): wake it and start its measurement, if it wants that. sample():
# wait until it has measured, then read it. So instruments wake, measure and warm up side by side.
import struct

from firmware import const, rtu
from firmware import ticks as real_ticks
from firmware.bus import Patience
from firmware.errors import BusError, Refused
from firmware.sampler import Channel, to_count

_FORMATS = {"u8": "B", "u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "f32": ">f"}
_UNSIGNED = {1: "B", 2: ">H", 4: ">I"}
# Where the bytes A B C D stand on the wire, most significant first
_PLACES = {
    "A": (0,),
    "AB": (0, 1),
    "BA": (1, 0),
    "ABCD": (0, 1, 2, 3),
    "BADC": (1, 0, 3, 2),
    "CDAB": (2, 3, 0, 1),
    "DCBA": (3, 2, 1, 0),
}
_SCRATCH = bytearray(4)  # one value, most significant byte first; the fields of all instruments are decoded in turn

_SILENT_AFTER = const(3)  # samples without an answer in a row: asked less often, and started anew when it is back
_PAUSES = (1, 2, 4, 8)  # samples it is left alone after each further silence
_LONGEST_WAIT_MS = const(60000)  # whatever an instrument says of itself: the watch over the loops bears twice as much


def _put_in_order(data, at, order):
    # Puts a value's bytes into _SCRATCH, most significant first, whatever order the instrument sends; returns its size.
    places = _PLACES[order]
    for i in range(len(places)):
        _SCRATCH[i] = data[at + places[i]]
    return len(places)


def decode_field(field, data):
    # The count of a configured field in the data of an answer; None = the instrument says it has no value.
    size = _put_in_order(data, field.at, field.order)
    value = struct.unpack_from(_FORMATS[field.type], _SCRATCH)[0]
    # Invalid codes stand as the manual has them: -9999 or 0xFFFF for whole numbers, the bits or the number for floats.
    invalid = field.invalid
    if invalid and (value in invalid or struct.unpack_from(_UNSIGNED[size], _SCRATCH)[0] in invalid):
        return None
    return to_count(value * field.scale + field.offset, field.decimals)


def status_is_ok(status, data):
    if status is None:
        return True
    _put_in_order(data, status.at, status.order)
    raw = struct.unpack_from(_FORMATS[status.type], _SCRATCH)[0]
    return (raw if status.mask is None else raw & status.mask) in status.ok


def _speaks_for_all(status):
    return status is not None and status.scope == "instrument"


class Instrument:
    # sensor: a configuration.Sensor. channels: one per field, in the order of the file.
    # clock: warm-up is seconds of its uptime, so a bench that runs faster warms up faster.
    # ticks: waits between two questions are real time, because the instrument is real.
    def __init__(self, sensor, clock, ticks=real_ticks):
        fields = [field for read in sensor.reads for field in read.fields]
        parameters = [field.parameter for field in fields]
        self.channels = [
            Channel(sensor.number, field.parameter, field.decimals, field.statistic, field.rhythm) for field in fields
        ]
        self._sensor = sensor
        self._clock = clock
        self._ticks = ticks
        self._patience = Patience(sensor.timeout_ms)
        self._requests = [rtu.read_request(sensor.address, read.fc, read.register, read.count) for read in sensor.reads]
        self._start_request = None if sensor.start is None else start_request(sensor)
        self._wake_request = wake_request(sensor) if sensor.wake_ms else None
        self._verdicts = sum([1 for read in sensor.reads if _speaks_for_all(read.status)])
        # One sample, a place per channel; and where in it the speed stands that a direction is weighted with
        self._counts = [None] * len(fields)
        self._good = [True] * len(fields)
        self._speeds = [None if field.speed is None else parameters.index(field.speed) for field in fields]
        self._burst = None
        if sensor.burst is not None:
            from firmware.burst import Reader

            self._burst = Reader(sensor.burst, ticks)
        self.turn = 0  # it is read when this is 0
        self._is_due = False
        self.started = sensor.start is None
        self._start_failed = False
        self._warm_since_s = 0  # seconds of uptime: power comes on with the board
        self._measuring_ms = None  # how long it says it measures, once it was asked
        self._wait_ms = 0
        self._wait_since_ms = 0
        self._silent = 0
        self._pause = 0

    async def start(self, client):
        # Before anything is read: wake it, and start its measurement if it wants that now.
        sensor = self._sensor
        self._is_due = self.turn == 0
        self.turn = (self.turn + 1) % sensor.every
        self._start_failed = False
        if not self._is_due or self._pause:
            return
        if sensor.wake_ms:
            await self._wake(client)
        if sensor.start is not None and sensor.start.each_sample:
            self.started = False
            if not self._is_warm():
                return
        if not self.started:
            try:
                await self.begin(client)
            except BusError:
                self._start_failed = True

    async def _wake(self, client):
        # The first question is lost on one that sleeps, and answered by one that does not. A dead one is found later.
        try:
            await client.ask(self._wake_request, self._patience)
        except Refused:
            pass
        except BusError:
            self._wait(self._sensor.wake_ms)

    async def begin(self, client):
        # Raises BusError. An instrument that refuses its start measures by itself.
        start = self._sensor.start
        await self._finish_wait()
        try:
            await client.ask(self._start_request, self._patience)
        except Refused:
            pass
        self._wait(start.wait_ms if start.wait_register is None else await self._ask_wait(client, start))
        self.started = True
        if not start.each_sample:
            self._warm_since_s = self._clock.uptime_s()

    async def _ask_wait(self, client, start):
        if self._measuring_ms is None:
            question = rtu.read_request(self._sensor.address, rtu.READ_HOLDING, start.wait_register, 1)
            data = await client.ask(question, self._patience)
            self._measuring_ms = int((data[0] << 8 | data[1]) * start.wait_factor)
        return self._measuring_ms

    def _wait(self, duration_ms):
        self._wait_ms = min(duration_ms, _LONGEST_WAIT_MS)
        self._wait_since_ms = self._ticks.ticks_ms()

    async def _finish_wait(self):
        if self._wait_ms:
            left_ms = self._wait_ms - self._ticks.ticks_diff(self._ticks.ticks_ms(), self._wait_since_ms)
            self._wait_ms = 0
            if left_ms > 0:
                await self._ticks.sleep_ms(left_ms)

    def _is_warm(self):
        # One second more than warm-up asks for: uptime is in whole seconds.
        warm_s = self._clock.uptime_s() - self._warm_since_s
        warmup_ms = self._sensor.warmup_ms
        return warmup_ms == 0 or (warm_s - 1) * 1000 >= warmup_ms

    async def sample(self, client):
        # Read all fields once and give each channel its sample. An instrument that keeps silent costs the others
        # one timeout now and then, no more.
        if not self._is_due:
            return
        for i in range(len(self._counts)):
            self._counts[i], self._good[i] = None, True
        if self._pause:
            self._pause -= 1
        elif self._start_failed:
            self._note_silence()
        elif self.started and self._is_warm():
            await self._finish_wait()
            if self._burst is None:
                await self._read_all(client)
            else:
                await self._burst.read(lambda: self._read_all(client), self._counts, self._good)
        self._add()

    async def _read_all(self, client):
        # Fills in what is read; stops at the first read that brings nothing. Returns whether all were answered.
        at = verdicts = 0
        answered = True
        for read, request in zip(self._sensor.reads, self._requests):
            try:
                data = await client.ask(request, self._patience, 0 if self._silent else self._sensor.retries)
            except Refused:
                at += len(read.fields)
                continue
            except BusError:
                answered = False
                break
            good = status_is_ok(read.status, data)
            verdicts += good and _speaks_for_all(read.status)
            for field in read.fields:
                self._counts[at], self._good[at] = decode_field(field, data), good
                at += 1
        if verdicts < self._verdicts:  # a status that could not be read vouches for nothing
            for i in range(len(self._good)):
                self._good[i] = False
        if answered:
            self._silent = 0
        else:
            self._note_silence()
        return answered

    def _note_silence(self):
        self._silent = min(self._silent + 1, _SILENT_AFTER + len(_PAUSES) - 1)
        if self._silent >= _SILENT_AFTER:
            self._pause = _PAUSES[self._silent - _SILENT_AFTER]
            self.power_came_on()  # whoever brings it back may have brought another

    def power_came_on(self):
        # It begins anew. Ahead of a sample firmware.power calls begin() then, for what wants an order to start.
        self.started = self._sensor.start is None
        self._measuring_ms = None
        self._warm_since_s = self._clock.uptime_s()

    def _add(self):
        # A direction without a speed beside it counts the same in every sample.
        for i, channel in enumerate(self.channels):
            speed = self._speeds[i]
            channel.add(self._counts[i], self._good[i], 1 if speed is None else self._counts[speed])


def wake_request(sensor):
    # A question whose answer has another length than any other's: should it come late, it is not taken for theirs.
    read = sensor.reads[0]
    counts = [read.count for read in sensor.reads]
    count = 2
    while count in counts:
        count += 1
    return rtu.read_request(sensor.address, read.fc, read.register, count)


def start_request(sensor):
    start = sensor.start
    if start.fc == rtu.WRITE_SINGLE:
        return rtu.write_single_request(sensor.address, start.register, start.values[0])
    if start.fc == rtu.WRITE_MULTIPLE:
        return rtu.write_request(sensor.address, start.register, start.values)
    return rtu.read_request(sensor.address, start.fc, start.register, start.count)
