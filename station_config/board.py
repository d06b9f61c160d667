"""What a station's firmware is told: station.json, made from the network and the instruments.

The firmware knows nothing of units and names. It reads, scales and counts by this table; so everything it cannot do
is refused here, in words, before a board is flashed.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from station_config.errors import ConfigurationError
from station_config.instruments import (
    Field,
    Instrument,
    Measurement,
    Quantity,
    Read,
    SerialSettings,
    Start,
    Status,
    Wait,
    Wiper,
    load_instruments,
)
from station_config.instruments.model import SIZES
from station_config.network import Network, Pulse, Sensor, Station
from station_config.parameters import load_parameters
from station_config.sampling import average_interval, extra_parameter, record_interval, sample_interval

VERSION = 1
JOURNAL = {"segment_records": 672, "max_bytes": 524_288}  # 672 records fill three blocks of littlefs

# The boards we wire: UART number and the pins TX, RX, driver enable of the two RS-485 transceivers, and of the SDI-12
# line, which has the bus's UART in turn with it.
_WIRING = {
    "esp32": {
        "bus": {"uart": 1, "tx": 17, "rx": 16, "de": 4},
        "uplink": {"uart": 2, "tx": 26, "rx": 25, "de": 27},
        "sdi12": {"uart": 1, "tx": 18, "rx": 19, "de": 23},
    },
    "rp2040": {
        "bus": {"uart": 0, "tx": 0, "rx": 1, "de": 2},
        "uplink": {"uart": 1, "tx": 4, "rx": 5, "de": 3},
        "sdi12": {"uart": 0, "tx": 12, "rx": 13, "de": 14},
    },
}
_NO_PINS: dict[str, int | None] = {"uart": 0, "tx": None, "rx": None, "de": None}
_WITHOUT_BOARD: dict[str, dict[str, int | None]] = {
    "bus": _NO_PINS,
    "uplink": _NO_PINS,
}  # the gateway has lines of its own
_SDI12 = SerialSettings(baud=1200, bits=7, parity="E")
_MOST_SENSORS, _MOST_FIELDS = 32, 64  # a station's memory has room for
_HIGH_BYTE_FIRST = {1: "AB", 2: "AB", 4: "ABCD"}  # the effective order of what has none given
_PARITY = {"N": None, "E": 0, "O": 1}  # as machine.UART wants it


class _Rhythm(NamedTuple):
    """How often a sensor is sampled and its channels are recorded, in seconds; None: by parameter, as WMO has it."""

    sample_s: int
    record_s: int | None
    gusts: bool  # of a wind that has none of its own, because nobody says how it is to be sampled


def board_configuration(
    network: Network, station_id: str, instruments: Mapping[str, Instrument] | None = None
) -> dict[str, Any]:
    """Return station.json of a station as plain data. Raises ConfigurationError when the firmware cannot do it."""
    known = instruments or load_instruments()
    station = network.station(station_id)
    faults = list(_beyond_the_board(station, known))
    if faults:
        raise ConfigurationError("\n".join(f"station {station.id}: {text}" for text in faults))
    wiring: Mapping[str, Mapping[str, int | None]] = (
        {"bus": _NO_PINS, "uplink": _NO_PINS} if station.hardware == "gateway" else _WIRING[station.hardware]
    )
    base_s = _base_sample_s(station, known)
    sensors = [_sensor(sensor, known[sensor.instrument], station, base_s) for sensor in station.sensors]
    return {
        "version": VERSION,
        "station": station.id,
        "address": station.address,
        "sample_s": base_s,
        "record_s": _common_rhythm(sensors, station.record_interval_s),
        "bus": _line(wiring["bus"], _bus_settings(station, known)),
        "uplink": _line(wiring["uplink"], network.gateway(station.gateway).serial),
        **_unless(None, sdi12=_line(wiring["sdi12"], _SDI12) if _has_sdi12(station, known) else None),
        "journal": dict(JOURNAL),
        "sensors": sensors,
        **_unless([], pulses=[_pulse(pulse, station) for pulse in station.pulses]),
    }


def encode(configuration: Mapping[str, Any]) -> bytes:
    """Return the bytes of station.json: compact, keys in order, no number a single float would make infinite."""
    _refuse_big_floats(configuration)
    return json.dumps(configuration, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _bus_settings(station: Station, instruments: Mapping[str, Instrument]) -> SerialSettings:
    on_bus = [sensor for sensor in station.sensors if instruments[sensor.instrument].protocol == "modbus"]
    settings = (sensor.serial or instruments[sensor.instrument].serial for sensor in on_bus)
    return next(settings, SerialSettings())  # the network's check made sure that all are the same


def _has_sdi12(station: Station, instruments: Mapping[str, Instrument]) -> bool:
    return any(instruments[sensor.instrument].protocol == "sdi12" for sensor in station.sensors)


def _line(wiring: Mapping[str, int | None], settings: SerialSettings) -> dict[str, int | None]:
    return {
        "uart": wiring["uart"],
        "baud": settings.baud,
        "bits": settings.bits,
        "parity": _PARITY[settings.parity],
        "stop": settings.stop,
        "tx": wiring["tx"],
        "rx": wiring["rx"],
        "de": wiring["de"],
    }


def _common_rhythm(sensors: list[dict[str, Any]], record_s: int) -> int:
    """Return the interval all channels' ends and beginnings fall on; channels that have just that need not say so."""
    parts = [part for sensor in sensors for key in ("reads", "measurements") for part in sensor.get(key, ())]
    fields = [field for part in parts for field in part["fields"]]
    common = math.gcd(record_s, *(field[key] for field in fields for key in ("record_s", "average_s")))
    for field in fields:
        if field["average_s"] == field["record_s"]:
            del field["average_s"]
            if field["record_s"] == common:
                del field["record_s"]
    return common


def _pulse(pulse: Pulse, station: Station) -> dict[str, Any]:
    parameter = load_parameters().by_name[pulse.parameter]
    return {
        "number": pulse.number,
        "pin": pulse.pin,
        "parameter": parameter.code,
        "decimals": parameter.decimals,
        "per_pulse": round(pulse.per_pulse * 10**parameter.decimals * 1000),
        "debounce_ms": pulse.debounce_ms,
        "wrap": round((parameter.valid_max or 0) * 10**parameter.decimals),
        "record_s": station.record_interval_s,
    }


def _base_sample_s(station: Station, known: Mapping[str, Instrument]) -> int:
    """Return the interval all samples of a station fall on: its own, else what its sensors have in common."""
    if "sample_interval_s" in station.model_fields_set or not station.sensors:
        return station.sample_interval_s
    return math.gcd(*(_sample_s(sensor, known[sensor.instrument], station) for sensor in station.sensors))


def _sample_s(sensor: Sensor, instrument: Instrument, station: Station) -> int:
    """Return every how many seconds a sensor is sampled: as it says, else as its station does, else as WMO has it."""
    minimum_ms = instrument.timing.minimum_interval_ms
    if sensor.sample_interval_s is None and "sample_interval_s" not in station.model_fields_set:
        return sample_interval(instrument.parameters, minimum_ms)
    base_s = station.sample_interval_s
    return max(base_s * math.ceil(minimum_ms / (1000 * base_s)), sensor.sample_interval_s or base_s)


def _rhythm(sensor: Sensor, instrument: Instrument, station: Station) -> _Rhythm:
    said = "sample_interval_s" in station.model_fields_set or sensor.sample_interval_s is not None
    sample_s = _sample_s(sensor, instrument, station)
    has_gusts = "wind_speed_of_gust" in instrument.parameters
    return _Rhythm(
        sample_s,
        sensor.record_interval_s
        or (station.record_interval_s if "record_interval_s" in station.model_fields_set else None),
        gusts=not said and sample_s == 1 and sensor.burst is None and not has_gusts,
    )


def _further(sensor: Sensor, parameter: str, rhythm: _Rhythm) -> tuple[str, ...]:
    """Return what is recorded of a parameter besides: as the sensor says, else of wind the gust where it can be had."""
    return sensor.statistics.get(parameter, ("gust",) if rhythm.gusts and parameter == "wind_speed" else ())


def _sensor(sensor: Sensor, instrument: Instrument, station: Station, base_s: int) -> dict[str, Any]:
    rhythm = _rhythm(sensor, instrument, station)
    return {
        "number": sensor.number,
        "address": ord(sensor.address) if isinstance(sensor.address, str) else sensor.address,
        "warmup_ms": instrument.timing.warmup_ms,
        **_unless(1, every=rhythm.sample_s // base_s),
        **(_sdi12(sensor, instrument, rhythm) if instrument.measurements else _modbus(sensor, instrument, rhythm)),
        **_unless(None, power=sensor.power),
    }


def _sdi12(sensor: Sensor, instrument: Instrument, rhythm: _Rhythm) -> dict[str, Any]:
    return {"measurements": [_measurement(one, sensor, rhythm) for one in instrument.measurements]}


def _modbus(sensor: Sensor, instrument: Instrument, rhythm: _Rhythm) -> dict[str, Any]:
    timing = instrument.timing
    return {
        "timeout_ms": timing.timeout_ms,
        "retries": timing.retries,
        **_unless(0, wake_ms=timing.wake_ms or 0),
        **_unless(None, start=_start(instrument.start)),
        "reads": [_read(read, sensor, rhythm) for read in instrument.reads],
        **_unless(None, burst=None if sensor.burst is None else sensor.burst.model_dump()),
        **_unless(None, wiper=_wiper(instrument.wiper, sensor.wipe_every_s)),
    }


def _wiper(wiper: Wiper | None, every_s: int | None) -> dict[str, Any] | None:
    if wiper is None or every_s is None:
        return None
    return {
        "fc": wiper.fc,
        "register": wiper.first_register,
        **_unless(0, count=wiper.count),
        **_unless([], values=list(wiper.values)),
        "every_s": every_s,
        "busy_s": math.ceil(wiper.busy_ms / 1000) + 1,  # the board's uptime is in whole seconds
    }


def _start(start: Start | None) -> dict[str, Any] | None:
    if start is None:
        return None
    wait = start.wait or Wait(fixed_ms=0)
    return {
        "fc": start.fc,
        "register": start.first_register,
        **_unless(0, count=start.count),
        **_unless([], values=list(start.values)),
        **_unless(False, each_sample=start.each_sample),
        **_unless(0, wait_ms=wait.fixed_ms or 0),
        **_unless(None, wait_register=wait.register_ms),
        **_unless(1.0, wait_factor=wait.factor),
    }


def _read(read: Read, sensor: Sensor, rhythm: _Rhythm) -> dict[str, Any]:
    return {
        "fc": read.fc,
        "register": read.first_register,
        "count": read.count,
        "fields": [row for field in read.fields for row in _fields(field, sensor, rhythm)],
        **_unless(None, status=_status(read.status)),
    }


def _measurement(measurement: Measurement, sensor: Sensor, rhythm: _Rhythm) -> dict[str, Any]:
    fields = [{"at": value.at, **row} for value in measurement.fields for row in _channels(value, sensor, rhythm)]
    return {"command": measurement.full_command, "fields": fields}


def _fields(field: Field, sensor: Sensor, rhythm: _Rhythm) -> Iterator[dict[str, Any]]:
    """Yield the channels of a field, with where it stands in the answer."""
    order = _unless(_HIGH_BYTE_FIRST[SIZES[field.type]], order=field.effective_order)
    for row in _channels(field, sensor, rhythm):
        yield {"at": field.at, "type": field.type, **order, **row}


def _channels(quantity: Quantity, sensor: Sensor, rhythm: _Rhythm) -> Iterator[dict[str, Any]]:
    """Yield the channel of a quantity, then those of its further statistics."""
    yield _channel(quantity, quantity.parameter, quantity.effective_statistic, rhythm)
    for statistic in _further(sensor, quantity.parameter, rhythm):
        yield _channel(quantity, extra_parameter(quantity.parameter, statistic), statistic, rhythm)


def _channel(quantity: Quantity, name: str, statistic: str, rhythm: _Rhythm) -> dict[str, Any]:
    by_name = load_parameters().by_name
    record_s = rhythm.record_s or record_interval(name)
    return {
        "parameter": by_name[name].code,
        **_unless(1.0, scale=quantity.scale),
        **_unless(0.0, offset=quantity.offset),
        "decimals": by_name[name].decimals,
        **_unless("mean", statistic=statistic),
        **_unless(None, speed=None if quantity.speed is None else by_name[quantity.speed].code),
        **_unless([], invalid=list(quantity.invalid)),
        "record_s": record_s,
        "average_s": average_interval(name, statistic, rhythm.sample_s, record_s),
    }


def _status(status: Status | None) -> dict[str, Any] | None:
    if status is None:
        return None
    return {
        "at": status.at,
        "type": status.type,
        **_unless(None, order=status.order),
        "ok": list(status.ok),
        **_unless(0xFFFFFFFF, mask=status.mask),
        **_unless("read", scope=status.scope),
    }


def _unless(default: object, **value: Any) -> dict[str, Any]:
    """Return the entry, or nothing when the firmware takes that value by itself: a short file leaves it more heap."""
    return {key: entry for key, entry in value.items() if entry != default}


def _beyond_the_board(station: Station, known: Mapping[str, Instrument]) -> Iterator[str]:
    """Yield in words what this station asks and a board cannot do."""
    for sensor in station.sensors:
        yield from _impossible_statistics(sensor, known[sensor.instrument], station)
    yield from (_without_a_board if station.hardware == "gateway" else _pins_used_twice)(station, known)
    fields = len(station.pulses) + sum(_number_of_fields(s, known[s.instrument], station) for s in station.sensors)
    if len(station.sensors) > _MOST_SENSORS:
        yield f"{len(station.sensors)} sensors; a board takes {_MOST_SENSORS}"
    if fields > _MOST_FIELDS:
        yield f"its sensors measure {fields} parameters; a board takes {_MOST_FIELDS}"


def _number_of_fields(sensor: Sensor, instrument: Instrument, station: Station) -> int:
    rhythm = _rhythm(sensor, instrument, station)
    return sum(1 + len(_further(sensor, name, rhythm)) for name in instrument.parameters)


def _pins_used_twice(station: Station, known: Mapping[str, Instrument]) -> Iterator[str]:
    pins = [pulse.pin for pulse in station.pulses] + sorted({s.power for s in station.sensors if s.power is not None})
    lines = ("bus", "uplink", "sdi12") if _has_sdi12(station, known) else ("bus", "uplink")
    taken = [wire for line in lines for key, wire in _WIRING[station.hardware][line].items() if key != "uart"]
    for pin in sorted({pin for pin in pins if pin in taken or pins.count(pin) > 1}):
        yield f"pin {pin} is used twice; the lines take {', '.join(map(str, sorted(taken)))}"


def _without_a_board(station: Station, known: Mapping[str, Instrument]) -> Iterator[str]:
    if station.pulses or any(sensor.power is not None for sensor in station.sensors):
        yield "has no board, so no pins: pulses and power are for stations with one"
    if _has_sdi12(station, known):
        yield "has no board: SDI-12 sensors are for stations with one"


def _impossible_statistics(sensor: Sensor, instrument: Instrument, station: Station) -> Iterator[str]:
    """Yield what the sensor's further statistics ask in vain."""
    slow = instrument.timing.minimum_interval_ms > 1000
    for parameter, names in sensor.statistics.items():
        for name in names:
            extra = extra_parameter(parameter, name)
            if parameter not in instrument.parameters:
                yield f"sensor {sensor.number}: statistics of {parameter}, which it does not measure"
            elif extra not in load_parameters().by_name or names.count(name) > 1:
                yield f"sensor {sensor.number}: no {name} of {parameter} is recorded"
            elif extra in instrument.parameters:
                yield f"sensor {sensor.number}: measures {extra} by itself"
            elif name == "gust" and (slow or _sample_s(sensor, instrument, station) != 1):
                yield f"sensor {sensor.number}: a gust of 3 s needs a sample every second"
    if sensor.burst is not None and "wind_from_direction" in instrument.parameters:
        yield f"sensor {sensor.number}: a direction is not read in bursts; sample it more often"


def _refuse_big_floats(value: object) -> None:
    """Raise ConfigurationError for a float that is not finite, or 0, in single precision."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            _refuse_big_floats(inner)
    elif isinstance(value, float):
        try:
            single = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            single = math.inf
        if not math.isfinite(single) or (single == 0.0) != (value == 0.0):
            raise ConfigurationError(f"{value!r} does not fit a board's single-precision float")
