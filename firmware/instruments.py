# One configured sensor on the bus: what to ask it, when it may be trusted, and how its bytes become counts.
#
# A sample goes through all instruments twice. start(): wake it and start its measurement, if it wants that. sample():
# wait until it has measured, then read it. So instruments wake, measure and warm up side by side.
import struct

from firmware import const, rtu
from firmware import ticks as real_ticks
from firmware.bus import Patience
from firmware.errors import BusError, Refused
from firmware.sampler import to_count

# A value in an answer: its type's place here in the low half of a byte, the order of its bytes in the high one
_TYPES = ("u8", "u16", "i16", "u32", "i32", "f32")
_FORMATS = ("B", ">H", ">h", ">I", ">i", ">f")
_SIZES = b"\x01\x02\x02\x04\x04\x04"
_UNSIGNED = {1: "B", 2: ">H", 4: ">I"}
# The byte that belongs in place i, most significant first, stands at i ^ this
_ORDERS = {"A": 0, "AB": 0, "BA": 1, "ABCD": 0, "BADC": 1, "CDAB": 2, "DCBA": 3}
_FIELD = "<BBff"  # where, what, scale, offset
_FIELD_SIZE = const(10)
_SCRATCH = bytearray(4)  # one value, most significant byte first; the fields of all instruments are decoded in turn

_SILENT_AFTER = const(3)  # samples without an answer in a row: asked less often, and started anew when it is back
_PAUSES = (1, 2, 4, 8)  # samples it is left alone after each further silence
_LONGEST_WAIT_MS = const(60000)  # whatever an instrument says of itself: the watch over the loops bears twice as much


def _kind(type, order):
    return _TYPES.index(type) | _ORDERS[order] << 4


def _number_at(data, at, kind):
    # The number there; its bytes stay in _SCRATCH, most significant first.
    order = kind >> 4
    kind &= 15
    for i in range(_SIZES[kind]):
        _SCRATCH[i] = data[at + (i ^ order)]
    return struct.unpack_from(_FORMATS[kind], _SCRATCH)[0]


def packed(fields):
    # configuration.Fields as bytes, without what a channel knows and the invalid codes.
    return b"".join(
        [struct.pack(_FIELD, field.at, _kind(field.type, field.order), field.scale, field.offset) for field in fields]
    )


def decode_field(fields, number, data, decimals, invalid):
    # The count of a packed field in the data of an answer; None = the instrument says it has no value.
    at, kind, scale, offset = struct.unpack_from(_FIELD, fields, number * _FIELD_SIZE)
    value = _number_at(data, at, kind)
    # Invalid codes stand as the manual has them: -9999 or 0xFFFF for whole numbers, the bits or the number for floats.
    if invalid and (value in invalid or struct.unpack_from(_UNSIGNED[_SIZES[kind & 15]], _SCRATCH)[0] in invalid):
        return None
    return to_count(value * scale + offset, decimals)


def status_is_ok(status, data):
    if status is None:
        return True
    raw = _number_at(data, status.at, _kind(status.type, status.order))
    return (raw if status.mask is None else raw & status.mask) in status.ok


def _speaks_for_all(status):
    return status is not None and status.scope == "instrument"


class Instrument:
    # sensor: a configuration.Sensor. What of it is needed later is taken over, mostly in a smaller form.
    # channels: of the station; it gets a row per field, in the order of the file.
    # clock: warm-up is seconds of its uptime, so a bench that runs faster warms up faster.
    # ticks: waits between two questions are real time, because the instrument is real.

    # What only some instruments have stands here and not in each of them.
    _start = None  # a configuration.Start
    _start_request = None
    _measuring_ms = None  # how long it says it measures, once it was asked
    _wait_ms = 0
    _wait_since_ms = 0
    _wake_ms = 0
    _wake_request = None
    _burst = None
    wiper = None
    _verdicts = 0  # reads whose status speaks for all
    _invalid: dict = {}  # type: ignore[type-arg]  # field: codes for "no value"
    _speeds: dict = {}  # type: ignore[type-arg]  # field of a direction: field of the speed it is weighted with

    def __init__(self, sensor, clock, channels, ticks=real_ticks):
        fields = [field for read in sensor.reads for field in read.fields]
        self._channels = channels
        self._first = len(channels)  # its rows
        for field in fields:
            channels.add(sensor.number, field.parameter, field.decimals, field.statistic, field.rhythm)
        self._fields = packed(fields)
        self._clock = clock
        self._ticks = ticks
        self._patience = Patience(sensor.timeout_ms)
        self._reads = [
            (rtu.read_request(sensor.address, read.fc, read.register, read.count), len(read.fields), read.status)
            for read in sensor.reads
        ]
        self._retries = sensor.retries
        self._every = sensor.every
        self._warmup_ms = sensor.warmup_ms
        self.turn = 0  # it is read when this is 0
        self._is_due = False
        self.started = sensor.start is None
        self._start_failed = False
        self._warm_since_s = 0  # seconds of uptime: power comes on with the board
        self._silent = 0
        self._pause = 0
        self._take_rare(sensor, fields, ticks)

    def _take_rare(self, sensor, fields, ticks):
        if sensor.start is not None:
            self._start = sensor.start
            self._start_request = order_request(sensor.address, sensor.start)
        if sensor.wake_ms:
            self._wake_ms = sensor.wake_ms
            self._wake_request = wake_request(sensor)
        if sensor.burst is not None:
            from firmware.burst import Reader

            self._burst = Reader(sensor.burst, ticks)
        if sensor.wiper is not None:
            from firmware.wiper import Wiper

            self.wiper = Wiper(sensor.wiper, order_request(sensor.address, sensor.wiper), self._clock)
        verdicts = [read for read in sensor.reads if _speaks_for_all(read.status)]
        if verdicts:
            self._verdicts = len(verdicts)
        invalid = {i: field.invalid for i, field in enumerate(fields) if field.invalid}
        if invalid:
            self._invalid = invalid
        parameters = [field.parameter for field in fields]
        speeds = {i: parameters.index(field.speed) for i, field in enumerate(fields) if field.speed is not None}
        if speeds:
            self._speeds = speeds

    async def start(self, client):
        # Before anything is read: wake it, and start its measurement if it wants that now.
        start = self._start
        self._is_due = self.turn == 0
        self.turn = (self.turn + 1) % self._every
        self._start_failed = False
        if not self._is_due or self._pause:
            return
        if self._wake_ms:
            await self._wake(client)
        if start is not None and start.each_sample:
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
            self._wait(self._wake_ms)

    async def begin(self, client):
        # Raises BusError. An instrument that refuses its start measures by itself.
        start = self._start
        assert start is not None  # else it is started from the beginning
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
            assert self._start_request is not None
            question = rtu.read_request(self._start_request[0], rtu.READ_HOLDING, start.wait_register, 1)
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
        return self._warmup_ms == 0 or (warm_s - 1) * 1000 >= self._warmup_ms

    async def sample(self, client):
        # Read all fields once and give each channel its sample. An instrument that keeps silent costs the others
        # one timeout now and then, no more.
        if not self._is_due:
            return
        number = len(self._fields) // _FIELD_SIZE
        counts, good = [None] * number, [True] * number  # a place per field
        if self._pause:
            self._pause -= 1
        elif self._start_failed:
            self._note_silence()
        elif self.started and self._is_warm() and not (self.wiper and self.wiper.is_busy()):
            await self._finish_wait()
            if self._burst is None:
                await self._read_all(client, counts, good)
            else:
                await self._burst.read(lambda: self._read_all(client, counts, good), counts, good)
            if self.wiper and not self._silent:
                await self.wiper.look(client, self._patience, all(good))
        self._add(counts, good)

    async def _read_all(self, client, counts, good):
        # Fills in what is read; stops at the first read that brings nothing. Returns whether all were answered.
        at = verdicts = 0
        answered = True
        for request, number, status in self._reads:
            try:
                data = await client.ask(request, self._patience, 0 if self._silent else self._retries)
            except Refused:
                at += number
                continue
            except BusError:
                answered = False
                break
            is_ok = status_is_ok(status, data)
            verdicts += is_ok and _speaks_for_all(status)
            for i in range(at, at + number):
                counts[i], good[i] = self._decode(i, data), is_ok
            at += number
        if verdicts < self._verdicts:  # a status that could not be read vouches for nothing
            for i in range(len(good)):
                good[i] = False
        if answered:
            self._silent = 0
        else:
            self._note_silence()
        return answered

    def _decode(self, number, data):
        decimals = self._channels.decimals[self._first + number]
        return decode_field(self._fields, number, data, decimals, self._invalid.get(number))

    def _note_silence(self):
        self._silent = min(self._silent + 1, _SILENT_AFTER + len(_PAUSES) - 1)
        if self._silent >= _SILENT_AFTER:
            self._pause = _PAUSES[self._silent - _SILENT_AFTER]
            self.power_came_on()  # whoever brings it back may have brought another

    def power_came_on(self):
        # It begins anew. Ahead of a sample firmware.power calls begin() then, for what wants an order to start.
        self.started = self._start is None
        if not self.started:
            self._measuring_ms = None
        self._warm_since_s = self._clock.uptime_s()

    def _add(self, counts, good):
        # A direction without a speed beside it counts the same in every sample.
        for i in range(len(counts)):
            speed = self._speeds.get(i)
            self._channels.sample(self._first + i, counts[i], good[i], 1 if speed is None else counts[speed])


def wake_request(sensor):
    # A question whose answer has another length than any other's: should it come late, it is not taken for theirs.
    read = sensor.reads[0]
    counts = [read.count for read in sensor.reads]
    count = 2
    while count in counts:
        count += 1
    return rtu.read_request(sensor.address, read.fc, read.register, count)


def order_request(address, order):
    # order: a configuration.Start or Wiper
    if order.fc == rtu.WRITE_SINGLE:
        return rtu.write_single_request(address, order.register, order.values[0])
    if order.fc == rtu.WRITE_MULTIPLE:
        return rtu.write_request(address, order.register, order.values)
    return rtu.read_request(address, order.fc, order.register, order.count)
