# One configured sensor on the bus: what to ask it, when it may be trusted, and how its bytes become counts.
import struct

from firmware import rtu
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

_SILENT_AFTER = 3  # samples without an answer in a row: asked less often, and started anew when it is back
_PAUSES = (1, 2, 4, 8)  # samples it is left alone after each further silence


def raw_bytes(data, at, order):
    # The value's bytes, most significant first, whatever order the instrument sends.
    return bytes([data[at + place] for place in _PLACES[order]])


def decode_field(field, data):
    # The count of a configured field in the data of an answer; None = the instrument says it has no value.
    raw = raw_bytes(data, field.at, field.order)
    if field.invalid and _is_invalid(raw, field):
        return None
    value = struct.unpack(_FORMATS[field.type], raw)[0]
    return to_count(value * field.scale + field.offset, field.decimals)


def _is_invalid(raw, field):
    # Invalid codes stand as the manual has them: -9999 or 0xFFFF for whole numbers, the bits or the number for floats.
    return (
        struct.unpack(_UNSIGNED[len(raw)], raw)[0] in field.invalid
        or struct.unpack(_FORMATS[field.type], raw)[0] in field.invalid
    )


def status_is_ok(status, data):
    if status is None:
        return True
    raw = raw_bytes(data, status.at, status.order)
    return struct.unpack(_FORMATS[status.type], raw)[0] in status.ok


class Instrument:
    # sensor: a configuration.Sensor. channels: one per field, in the order of the file.
    # clock: warm-up is seconds of its uptime, so a bench that runs faster warms up faster.
    def __init__(self, sensor, clock):
        self.channels = [
            Channel(sensor.number, field.parameter, field.decimals, field.statistic)
            for read in sensor.reads
            for field in read.fields
        ]
        self._sensor = sensor
        self._clock = clock
        self._patience = Patience(sensor.timeout_ms)
        self._requests = [rtu.read_request(sensor.address, read.fc, read.register, read.count) for read in sensor.reads]
        self._started = sensor.start is None
        self._warm_since_s = 0  # seconds of uptime: power comes on with the board
        self._silent = 0
        self._pause = 0

    async def start(self, client):
        # Send the start command, if it has one and has not had it. Instruments warm up side by side: all are
        # started before the first is read.
        if self._started or self._pause:
            return
        try:
            await client.ask(_start_request(self._sensor), self._patience)
        except Refused:
            pass  # it measures by itself
        except BusError:
            return
        self._started = True
        self._warm_since_s = self._clock.uptime_s()

    def is_ready(self):
        # One second more than warm-up asks for: uptime is in whole seconds.
        warm_s = self._clock.uptime_s() - self._warm_since_s
        warmup_ms = self._sensor.warmup_ms
        return self._started and (warmup_ms == 0 or (warm_s - 1) * 1000 >= warmup_ms)

    async def sample(self, client):
        # Read all fields once and give each channel its sample. An instrument that keeps silent costs the others
        # one timeout now and then, no more.
        if self._pause:
            self._pause -= 1
            self._add([])
        elif not self.is_ready():
            if not self._started:
                self._note_silence()
            self._add([])
        else:
            self._add(await self._read_all(client))

    async def _read_all(self, client):
        # [(count or None, good)] for the fields read; stops at the first read that brings nothing.
        values = []
        for read, request in zip(self._sensor.reads, self._requests):
            try:
                data = await client.ask(request, self._patience, 0 if self._silent else self._sensor.retries)
            except Refused:
                values += [(None, True)] * len(read.fields)
                continue
            except BusError:
                self._note_silence()
                return values
            good = status_is_ok(read.status, data)
            values += [(decode_field(field, data), good) for field in read.fields]
        self._silent = 0
        return values

    def _note_silence(self):
        self._silent = min(self._silent + 1, _SILENT_AFTER + len(_PAUSES) - 1)
        if self._silent >= _SILENT_AFTER:
            self._pause = _PAUSES[self._silent - _SILENT_AFTER]
            self._started = self._sensor.start is None
            self._warm_since_s = self._clock.uptime_s()  # whoever brings it back may have brought another

    def _add(self, values):
        speeds = {channel.parameter: value[0] for channel, value in zip(self.channels, values)}
        fields = [field for read in self._sensor.reads for field in read.fields]
        for i, channel in enumerate(self.channels):
            count, good = values[i] if i < len(values) else (None, True)
            channel.add(count, good, speeds.get(fields[i].speed))


def _start_request(sensor):
    start = sensor.start
    if start.fc == rtu.WRITE_MULTIPLE:
        return rtu.write_request(sensor.address, start.register, (0,) * start.count)
    return rtu.read_request(sensor.address, start.fc, start.register, start.count)
