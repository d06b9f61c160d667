# station.json, checked on the board before anything uses it. Whoever wrote it gets every fault at once, with its place.
# A station whose file is refused runs on DEFAULT: no sensors, reachable at address 247.
import hashlib
import json
from collections import namedtuple

from firmware.errors import ConfigurationError
from firmware.sampler import STATISTICS

VERSION = 1
DEFAULT_ADDRESS = 247
MAX_SENSORS = 32
MAX_FIELDS = 64
MAX_WAIT_MS = 60000  # an instrument may be waited for this long; the watch over the loops bears twice as much

SIZES = {"u8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "f32": 4}
ORDERS = {1: ("A", None), 2: ("AB", "BA"), 4: ("ABCD", "BADC", "CDAB", "DCBA")}

_PORT_KEYS = ("uart", "baud", "bits", "parity", "stop", "tx", "rx", "de")
_FIELD_KEYS = ("parameter", "at", "type", "order", "scale", "offset", "decimals", "statistic", "speed", "invalid")

_STATION_KEYS = ("station", "address", "sample_s", "record_s", "health_every", "bus", "uplink", "journal", "sensors")

Configuration = namedtuple("Configuration", _STATION_KEYS + ("hash",))
Port = namedtuple("Port", _PORT_KEYS)
JournalSize = namedtuple("JournalSize", ("segment_records", "max_bytes"))
_SENSOR_KEYS = ("number", "address", "timeout_ms", "retries", "warmup_ms", "every", "wake_ms", "start", "reads")
_START_KEYS = ("fc", "register", "count", "values", "each_sample", "wait_ms", "wait_register", "wait_factor")
_STATUS_KEYS = ("at", "type", "order", "ok", "mask", "scope")
Sensor = namedtuple("Sensor", _SENSOR_KEYS)
Start = namedtuple("Start", _START_KEYS)
Read = namedtuple("Read", ("fc", "register", "count", "fields", "status"))
Field = namedtuple("Field", _FIELD_KEYS)
Status = namedtuple("Status", _STATUS_KEYS)

DEFAULT = Configuration(
    station="unconfigured",
    address=DEFAULT_ADDRESS,
    sample_s=10,
    record_s=60,
    health_every=10,
    bus=Port(1, 9600, 8, None, 1, 17, 16, 4),
    uplink=Port(2, 9600, 8, None, 1, 26, 25, 27),
    journal=JournalSize(512, 524288),
    sensors=(),
    hash=0,
)


def short_hash(raw):
    # The first 31 bits of the SHA-256 of the file as it lies on flash; it fits a record's count.
    digest = hashlib.sha256(raw).digest()
    return (digest[0] << 24 | digest[1] << 16 | digest[2] << 8 | digest[3]) >> 1


def parse(raw):
    # bytes of station.json -> Configuration; raises ConfigurationError that lists every fault.
    try:
        content = json.loads(raw)
    except ValueError:
        raise ConfigurationError("station.json is not JSON: flash the station again")
    check = _Check()
    configuration = _station(check, content, short_hash(raw))
    if check.faults:
        raise ConfigurationError("station.json: " + "; ".join(check.faults))
    return configuration


class _Check:
    # Takes values out of the content and collects what is wrong with them.
    def __init__(self):
        self.faults = []

    def fault(self, where, text):
        if len(self.faults) < 20:
            self.faults.append("%s: %s" % (where, text))

    def table(self, value, where, keys):
        # value as a dict without unknown keys; {} when it is something else
        if not isinstance(value, dict):
            self.fault(where, "must be a table")
            return {}
        for key in value:
            if key not in keys:
                self.fault("%s.%s" % (where, key), "is not known")
        return value

    def rows(self, value, where, most):
        if not isinstance(value, list) or len(value) > most:
            self.fault(where, "must be a list of at most %d" % most)
            return ()
        return value

    def integer(self, table, key, where, low, high, default=None):
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fault("%s.%s" % (where, key), "must be a whole number %d..%d, not %r" % (low, high, value))
            return low
        return value

    def integer_or_none(self, table, key, where, low, high):
        return None if table.get(key) is None else self.integer(table, key, where, low, high)

    def number(self, table, key, where, default):
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            self.fault("%s.%s" % (where, key), "must be a number, not %r" % (value,))
            return default
        return value

    def choice(self, table, key, where, choices, default=None):
        value = table.get(key, default)
        if value not in choices:
            self.fault("%s.%s" % (where, key), "must be one of %s, not %r" % (list(choices), value))
            return choices[0]
        return value

    def integers(self, table, key, where):
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, int) for entry in value):
            self.fault("%s.%s" % (where, key), "must be a list of whole numbers")
            return ()
        return tuple(value)


def _station(check, content, short):
    keys = (
        "version",
        "station",
        "address",
        "sample_s",
        "record_s",
        "health_every",
        "bus",
        "uplink",
        "journal",
        "sensors",
    )
    table = check.table(content, "station", keys)
    check.choice(table, "version", "station", (VERSION,))
    sample_s = check.integer(table, "sample_s", "station", 1, 3600)
    record_s = check.integer(table, "record_s", "station", 1, 86400)
    if record_s % sample_s:
        check.fault("station.record_s", "must be a multiple of sample_s")
    rows = check.rows(table.get("sensors"), "sensors", MAX_SENSORS)
    sensors = tuple([_sensor(check, row, "sensors[%d]" % i) for i, row in enumerate(rows)])
    _check_together(check, sensors)
    return Configuration(
        _name(check, table.get("station")),
        check.integer(table, "address", "station", 1, 247),
        sample_s,
        record_s,
        check.integer(table, "health_every", "station", 0, 10000, DEFAULT.health_every),
        _port(check, table.get("bus"), "bus"),
        _port(check, table.get("uplink"), "uplink"),
        _journal(check, table.get("journal")),
        sensors,
        short,
    )


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
        check.integer(table, "segment_records", "journal", 16, 4096, 512),
        check.integer(table, "max_bytes", "journal", 4096, 64 * 1024 * 1024, 524288),
    )


def _sensor(check, content, where):
    # every: read it with each n-th sample. wake_ms: its first message only wakes it, ask again after this.
    table = check.table(content, where, _SENSOR_KEYS)
    rows = check.rows(table.get("reads"), where + ".reads", 16)
    return Sensor(
        check.integer(table, "number", where, 1, 255),
        check.integer(table, "address", where, 1, 255),
        check.integer(table, "timeout_ms", where, 10, 10000, 500),
        check.integer(table, "retries", where, 0, 5, 1),
        check.integer(table, "warmup_ms", where, 0, 3600000, 0),
        check.integer(table, "every", where, 1, 86400, 1),
        check.integer(table, "wake_ms", where, 0, MAX_WAIT_MS, 0),
        _start(check, table.get("start"), where + ".start"),
        tuple([_read(check, row, "%s.reads[%d]" % (where, i)) for i, row in enumerate(rows)]),
    )


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
        check.integer(table, "wait_ms", where, 0, MAX_WAIT_MS, 0),
        check.integer_or_none(table, "wait_register", where, 0, 65535),
        check.number(table, "wait_factor", where, 1),
    )
    if len(start.values) > 16 or not all(0 <= value <= 65535 for value in start.values):
        check.fault(where + ".values", "must be at most 16 numbers 0..65535")
    if start.fc == 6 and len(start.values) != 1:
        check.fault(where + ".values", "function 6 writes exactly one")
    if not 1 <= start.wait_factor <= 10:
        check.fault(where + ".wait_factor", "must be 1..10")
    return start


def _read(check, content, where):
    table = check.table(content, where, ("fc", "register", "count", "fields", "status"))
    count = check.integer(table, "count", where, 1, 125)
    rows = check.rows(table.get("fields"), where + ".fields", MAX_FIELDS)
    return Read(
        check.choice(table, "fc", where, (3, 4)),
        check.integer(table, "register", where, 0, 65535),
        count,
        tuple([_field(check, row, "%s.fields[%d]" % (where, i), 2 * count) for i, row in enumerate(rows)]),
        _status(check, table.get("status"), where + ".status", 2 * count),
    )


def _place(check, table, where, size):
    # (at, type, order) of a value that lies within `size` bytes of data
    kind = check.choice(table, "type", where, tuple(SIZES))
    orders = ORDERS[SIZES[kind]]
    order = check.choice(table, "order", where, orders, orders[0])
    return check.integer(table, "at", where, 0, size - SIZES[kind]), kind, order


def _field(check, content, where, size):
    table = check.table(content, where, _FIELD_KEYS)
    at, kind, order = _place(check, table, where, size)
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
    )


def _status(check, content, where, size):
    if content is None:
        return None
    table = check.table(content, where, _STATUS_KEYS)
    at, kind, order = _place(check, table, where, size)
    if kind not in ("u8", "u16", "u32"):
        check.fault(where + ".type", "must be unsigned, not %r" % (kind,))
    return Status(
        at,
        kind,
        order,
        check.integers(table, "ok", where),
        check.integer_or_none(table, "mask", where, 0, 0xFFFFFFFF),
        check.choice(table, "scope", where, ("read", "instrument"), "read"),
    )


def _check_together(check, sensors):
    # What no row can see alone.
    numbers = [sensor.number for sensor in sensors]
    if len(set(numbers)) != len(numbers):
        check.fault("sensors", "two sensors have the same number")
    fields = 0
    for sensor in sensors:
        parameters = [field.parameter for read in sensor.reads for field in read.fields]
        fields += len(parameters)
        if len(set(parameters)) != len(parameters):
            check.fault("sensor %d" % sensor.number, "two fields have the same parameter")
        for read in sensor.reads:
            for field in read.fields:
                if field.speed is not None and field.speed not in parameters:
                    check.fault("sensor %d" % sensor.number, "no field has the speed's parameter %d" % field.speed)
    if fields > MAX_FIELDS:
        check.fault("sensors", "%d fields, the station has room for %d" % (fields, MAX_FIELDS))
