# station.json, checked on the board before anything uses it. Whoever wrote it gets every fault at once, with its place.
# A station whose file is refused runs on DEFAULT: no sensors, reachable at address 247.
import hashlib
import json
from collections import namedtuple

from firmware import const, lazy
from firmware.errors import ConfigurationError
from firmware.sampler import COUNT_LIMIT, STATISTICS

VERSION = 1
_DEFAULT_ADDRESS = const(247)
_MAX_SENSORS = const(32)
_MAX_FIELDS = const(64)
_MAX_PULSES = const(4)
_PIECE = const(256)
_MAX_WAIT_MS = const(60000)  # an instrument may be waited for this long; the watch over the loops bears twice as much

_SIZES = {"u8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "f32": 4}
_ORDERS = {1: ("A", None), 2: ("AB", "BA"), 4: ("ABCD", "BADC", "CDAB", "DCBA")}

_PORT_KEYS = ("uart", "baud", "bits", "parity", "stop", "tx", "rx", "de")
_FIELD_KEYS = ("parameter", "at", "type", "order", "scale", "offset", "decimals", "statistic", "speed", "invalid")
_RHYTHM_KEYS = ("record_s", "average_s")

_STATION_KEYS = (
    "station",
    "address",
    "sample_s",
    "record_s",
    "health_every",
    "bus",
    "uplink",
    "journal",
    "sensors",
    "pulses",
    "sdi12",
)

Configuration = namedtuple("Configuration", _STATION_KEYS + ("hash",))
Port = namedtuple("Port", _PORT_KEYS)
JournalSize = namedtuple("JournalSize", ("segment_records", "max_bytes"))
_SENSOR_KEYS = (
    "number",
    "address",
    "timeout_ms",
    "retries",
    "warmup_ms",
    "every",
    "wake_ms",
    "start",
    "reads",
    "power",
    "burst",
    "measurements",
    "wiper",
)
_START_KEYS = ("fc", "register", "count", "values", "each_sample", "wait_ms", "wait_register", "wait_factor")
_STATUS_KEYS = ("at", "type", "order", "ok", "mask", "scope")
Sensor = namedtuple("Sensor", _SENSOR_KEYS)
Start = namedtuple("Start", _START_KEYS)
Read = namedtuple("Read", ("fc", "register", "count", "fields", "status"))
Field = namedtuple("Field", _FIELD_KEYS + ("rhythm",))
Burst = namedtuple("Burst", ("readings", "statistic", "pause_ms"))
Measurement = namedtuple("Measurement", ("command", "fields"))
_WIPER_KEYS = ("fc", "register", "count", "values", "every_s", "busy_s")
Wiper = namedtuple("Wiper", _WIPER_KEYS)
_PULSE_KEYS = ("number", "pin", "parameter", "decimals", "per_pulse", "debounce_ms", "wrap")
Pulse = namedtuple("Pulse", _PULSE_KEYS + ("rhythm",))
Status = namedtuple("Status", _STATUS_KEYS)

DEFAULT = Configuration(
    station="unconfigured",
    address=_DEFAULT_ADDRESS,
    sample_s=10,
    record_s=60,
    health_every=10,
    bus=Port(1, 9600, 8, None, 1, 17, 16, 4),
    uplink=Port(2, 9600, 8, None, 1, 26, 25, 27),
    journal=JournalSize(672, 524288),
    sensors=[],
    pulses=(),
    sdi12=None,
    hash=0,
)


def short_hash(file):
    # The first 31 bits of the SHA-256 of the file as it lies on flash; it fits a record's count.
    sha = hashlib.sha256()
    piece = file.read(_PIECE)
    while piece:
        sha.update(piece)
        piece = file.read(_PIECE)
    digest = sha.digest()
    return (digest[0] << 24 | digest[1] << 16 | digest[2] << 8 | digest[3]) >> 1


def parse(file):
    # station.json, open for reading bytes -> Configuration; raises ConfigurationError that lists every fault. The text
    # is never in memory as a whole.
    short = short_hash(file)
    file.seek(0)
    try:
        content = json.load(file)
    except ValueError:
        raise ConfigurationError("station.json is not JSON: flash the station again")
    checking = lazy.borrow("check")
    check = checking.Check()
    configuration = _station(check, content, short)
    checking.check_together(check, configuration, _MAX_FIELDS)
    if check.faults:
        raise ConfigurationError("station.json: " + "; ".join(check.faults))
    return configuration


def _station(check, content, short):
    keys = ("version",) + _STATION_KEYS
    table = check.table(content, "station", keys)
    check.choice(table, "version", "station", (VERSION,))
    sample_s = check.integer(table, "sample_s", "station", 1, 3600)
    record_s = check.integer(table, "record_s", "station", 1, 86400)
    if record_s % sample_s:
        check.fault("station.record_s", "must be a multiple of sample_s")
    rows = check.rows(table.get("sensors"), "sensors", _MAX_SENSORS)
    sensors: list[Sensor] = []
    while rows:  # each goes when it is done: there is no room for all of them twice
        sensors.append(_sensor(check, rows.pop(0), "sensors[%d]" % len(sensors), record_s))
    rows = check.rows(table.get("pulses", []), "pulses", _MAX_PULSES)
    pulses = tuple([_pulse(check, row, "pulses[%d]" % i, record_s) for i, row in enumerate(rows)])
    bus, uplink = _port(check, table.get("bus"), "bus"), _port(check, table.get("uplink"), "uplink")
    # The SDI-12 line; with the UART of the bus, both have it in turn, each on its own pins.
    sdi12 = None if table.get("sdi12") is None else _port(check, table["sdi12"], "sdi12")
    return Configuration(
        _name(check, table.get("station")),
        check.integer(table, "address", "station", 1, 247),
        sample_s,
        record_s,
        check.integer(table, "health_every", "station", 0, 10000, DEFAULT.health_every),
        bus,
        uplink,
        _journal(check, table.get("journal")),
        sensors,
        pulses,
        sdi12,
        short,
    )


def _in(where, key):  # and not where + ".key": short strings stay in the heap for ever, and these are there already
    return where + "." + key


def _name(check, value):
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
    if not isinstance(value, str) or not 1 <= len(value) <= 32 or not all(letter in allowed for letter in value):
        check.fault("station.station", "must be 1..32 of a-z, 0-9 and -, not %r" % (value,))
        return DEFAULT.station
    return value


def _port(check, content, where):
    table = check.table(content, where, _PORT_KEYS)
    return Port(
        check.integer(table, "uart", where, 0, 7),
        check.integer(table, "baud", where, 300, 1000000),
        check.integer(table, "bits", where, 7, 8, 8),
        check.choice(table, "parity", where, (None, 0, 1)),
        check.integer(table, "stop", where, 1, 2, 1),
        check.integer_or_none(table, "tx", where, 0, 63),
        check.integer_or_none(table, "rx", where, 0, 63),
        check.integer_or_none(table, "de", where, 0, 63),
    )


def _journal(check, content):
    table = check.table(content, "journal", ("segment_records", "max_bytes"))
    return JournalSize(
        check.integer(table, "segment_records", "journal", 16, 4096, 672),
        check.integer(table, "max_bytes", "journal", 4096, 64 * 1024 * 1024, 524288),
    )


def _sensor(check, content, where, record_s):
    # every: read it with each n-th sample. wake_ms: its first message only wakes it, ask again after this.
    # reads: of Modbus registers; measurements: of SDI-12. power: the pin that switches its supply.
    table = check.table(content, where, _SENSOR_KEYS)
    rows = check.rows(table.get("reads", []), _in(where, "reads"), 16)
    measurements = check.rows(table.get("measurements", []), _in(where, "measurements"), 8)
    if not rows and not measurements:
        check.fault(where, "must have reads or measurements")
    if rows and measurements:
        check.fault(where, "has reads (Modbus) and measurements (SDI-12)")
    return Sensor(
        check.integer(table, "number", where, 1, 255),
        check.integer(table, "address", where, 1, 255),
        check.integer(table, "timeout_ms", where, 10, 10000, 500),
        check.integer(table, "retries", where, 0, 5, 1),
        check.integer(table, "warmup_ms", where, 0, 3600000, 0),
        check.integer(table, "every", where, 1, 86400, 1),
        check.integer(table, "wake_ms", where, 0, _MAX_WAIT_MS, 0),
        _start(check, table.get("start"), _in(where, "start")),
        tuple([_read(check, row, "%s.reads[%d]" % (where, i), record_s) for i, row in enumerate(rows)]),
        check.integer_or_none(table, "power", where, 0, 63),
        _burst(check, table.get("burst"), _in(where, "burst")),
        tuple(
            [
                _measurement(check, row, "%s.measurements[%d]" % (where, i), record_s)
                for i, row in enumerate(measurements)
            ]
        ),
        _wiper(check, table.get("wiper"), _in(where, "wiper")),
    )


def _wiper(check, content, where):
    # An order like `start`, every so often; for busy_s after it nothing is read.
    if content is None:
        return None
    table = check.table(content, where, _WIPER_KEYS)
    every_s = check.integer(table, "every_s", where, 60, 86400)
    wiper = Wiper(
        check.choice(table, "fc", where, (3, 6, 16)),
        check.integer(table, "register", where, 0, 65535),
        check.integer(table, "count", where, 0, 125, 0),
        check.integers(table, "values", where),
        every_s,
        check.integer(table, "busy_s", where, 1, every_s - 1),
    )
    if wiper.fc == 6 and len(wiper.values) != 1:
        check.fault(_in(where, "values"), "function 6 writes exactly one")
    return wiper


def _burst(check, content, where):
    if content is None:
        return None
    table = check.table(content, where, ("readings", "statistic", "pause_ms"))
    burst = Burst(
        check.integer(table, "readings", where, 2, 50),
        check.choice(table, "statistic", where, ("median", "mean"), "median"),
        check.integer(table, "pause_ms", where, 0, 5000, 0),
    )
    if burst.readings * burst.pause_ms > _MAX_WAIT_MS:
        check.fault(where, "takes longer than %d ms" % _MAX_WAIT_MS)
    return burst


def _measurement(check, content, where, record_s):
    table = check.table(content, where, ("command", "fields"))
    command = table.get("command")
    if not isinstance(command, str) or not lazy.borrow("sdi12").is_command(command):
        check.fault(_in(where, "command"), "must be M, C or R with what SDI-12 allows behind it, not %r" % (command,))
        command = "M"
    rows = check.rows(table.get("fields"), _in(where, "fields"), _MAX_FIELDS)
    fields = [_value(check, row, "%s.fields[%d]" % (where, i), record_s) for i, row in enumerate(rows)]
    return Measurement(command, tuple(fields))


def _value(check, content, where, record_s):
    # at: which of the measurement's values, from 0
    table = check.table(content, where, _FIELD_KEYS + _RHYTHM_KEYS)
    return _field_at(check, table, where, check.integer(table, "at", where, 0, 98), None, None, record_s)


def _pulse(check, content, where, record_s):
    # per_pulse: thousandths of a count. wrap: the total begins again at so many counts.
    table = check.table(content, where, _PULSE_KEYS + _RHYTHM_KEYS)
    return Pulse(
        check.integer(table, "number", where, 1, 255),
        check.integer(table, "pin", where, 0, 63),
        check.integer(table, "parameter", where, 16, 127),
        check.integer(table, "decimals", where, 0, 6),
        check.integer(table, "per_pulse", where, 1000, 1000000),
        check.integer(table, "debounce_ms", where, 1, 1000, 80),
        check.integer(table, "wrap", where, 1000, COUNT_LIMIT, COUNT_LIMIT),
        _rhythm(check, table, where, record_s),
    )


def _rhythm(check, table, where, record_s):
    # (record_s, average_s) of a channel, None when they are the station's
    own_s = check.integer(table, "record_s", where, 1, 86400, record_s)
    average_s = check.integer(table, "average_s", where, 1, 86400, own_s)
    if own_s % record_s or average_s % record_s or average_s > own_s:
        check.fault(
            where, "record_s and average_s must be multiples of the station's record_s, and average_s the smaller"
        )
    return None if own_s == average_s == record_s else (own_s, average_s)


def _start(check, content, where):
    if content is None:
        return None
    table = check.table(content, where, _START_KEYS)
    start = Start(
        check.choice(table, "fc", where, (3, 4, 6, 16)),
        check.integer(table, "register", where, 0, 65535),
        check.integer(table, "count", where, 0, 125, 0),
        check.integers(table, "values", where),
        check.choice(table, "each_sample", where, (False, True), False),
        check.integer(table, "wait_ms", where, 0, _MAX_WAIT_MS, 0),
        check.integer_or_none(table, "wait_register", where, 0, 65535),
        check.number(table, "wait_factor", where, 1),
    )
    if len(start.values) > 16 or not all(0 <= value <= 65535 for value in start.values):
        check.fault(_in(where, "values"), "must be at most 16 numbers 0..65535")
    if start.fc == 6 and len(start.values) != 1:
        check.fault(_in(where, "values"), "function 6 writes exactly one")
    if not 1 <= start.wait_factor <= 10:
        check.fault(_in(where, "wait_factor"), "must be 1..10")
    return start


def _read(check, content, where, record_s):
    table = check.table(content, where, ("fc", "register", "count", "fields", "status"))
    count = check.integer(table, "count", where, 1, 125)
    rows = check.rows(table.get("fields"), _in(where, "fields"), _MAX_FIELDS)
    return Read(
        check.choice(table, "fc", where, (3, 4)),
        check.integer(table, "register", where, 0, 65535),
        count,
        tuple([_field(check, row, "%s.fields[%d]" % (where, i), 2 * count, record_s) for i, row in enumerate(rows)]),
        _status(check, table.get("status"), _in(where, "status"), 2 * count),
    )


def _place(check, table, where, size):
    # (at, type, order) of a value that lies within `size` bytes of data
    kind = check.choice(table, "type", where, tuple(_SIZES))
    orders = _ORDERS[_SIZES[kind]]
    order = check.choice(table, "order", where, orders, orders[0])
    return check.integer(table, "at", where, 0, size - _SIZES[kind]), kind, order


def _field(check, content, where, size, record_s):
    table = check.table(content, where, _FIELD_KEYS + _RHYTHM_KEYS)
    at, kind, order = _place(check, table, where, size)
    return _field_at(check, table, where, at, kind, order, record_s)


def _field_at(check, table, where, at, kind, order, record_s):
    return Field(
        check.integer(table, "parameter", where, 16, 127),
        at,
        kind,
        order,
        check.number(table, "scale", where, 1),
        check.number(table, "offset", where, 0),
        check.integer(table, "decimals", where, 0, 6),
        check.choice(table, "statistic", where, STATISTICS, "mean"),
        check.integer_or_none(table, "speed", where, 16, 127),
        check.integers(table, "invalid", where),
        _rhythm(check, table, where, record_s),
    )


def _status(check, content, where, size):
    if content is None:
        return None
    table = check.table(content, where, _STATUS_KEYS)
    at, kind, order = _place(check, table, where, size)
    if kind not in ("u8", "u16", "u32"):
        check.fault(_in(where, "type"), "must be unsigned, not %r" % (kind,))
    return Status(
        at,
        kind,
        order,
        check.integers(table, "ok", where),
        check.integer_or_none(table, "mask", where, 0, 0xFFFFFFFF),
        check.choice(table, "scope", where, ("read", "instrument"), "read"),
    )
