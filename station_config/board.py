"""What a station's firmware is told: station.json, made from the network and the instruments.

The firmware knows nothing of units and names. It reads, scales and counts by this table; so everything it cannot do
is refused here, in words, before a board is flashed.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from station_config.errors import ConfigurationError
from station_config.instruments import Field, Instrument, Read, SerialSettings, Start, Status, Wait, load_instruments
from station_config.instruments.model import SIZES
from station_config.network import Network, Sensor, Station
from station_config.parameters import load_parameters

VERSION = 1
JOURNAL = {"segment_records": 512, "max_bytes": 524_288}

# Pins of the two RS-485 transceivers on the boards we wire: UART number, TX, RX, driver enable.
_WIRING = {
    "esp32": {"bus": {"uart": 1, "tx": 17, "rx": 16, "de": 4}, "uplink": {"uart": 2, "tx": 26, "rx": 25, "de": 27}},
    "rp2040": {"bus": {"uart": 0, "tx": 0, "rx": 1, "de": 2}, "uplink": {"uart": 1, "tx": 4, "rx": 5, "de": 3}},
}
_MOST_SENSORS, _MOST_FIELDS = 32, 64  # a station's memory has room for
_HIGH_BYTE_FIRST = {1: "AB", 2: "AB", 4: "ABCD"}  # the effective order of what has none given
_PARITY = {"N": None, "E": 0, "O": 1}  # as machine.UART wants it


def board_configuration(
    network: Network, station_id: str, instruments: Mapping[str, Instrument] | None = None
) -> dict[str, Any]:
    """Return station.json of a station as plain data. Raises ConfigurationError when the firmware cannot do it."""
    known = instruments or load_instruments()
    station = network.station(station_id)
    faults = list(_beyond_the_board(station, known))
    if faults:
        raise ConfigurationError("\n".join(f"station {station.id}: {text}" for text in faults))
    wiring = _WIRING[station.hardware]
    return {
        "version": VERSION,
        "station": station.id,
        "address": station.address,
        "sample_s": station.sample_interval_s,
        "record_s": station.record_interval_s,
        "bus": _line(wiring["bus"], _bus_settings(station, known)),
        "uplink": _line(wiring["uplink"], network.gateway(station.gateway).serial),
        "journal": dict(JOURNAL),
        "sensors": [_sensor(sensor, known[sensor.instrument], station.sample_interval_s) for sensor in station.sensors],
    }


def encode(configuration: Mapping[str, Any]) -> bytes:
    """Return the bytes of station.json: compact, keys in order, no number a single float would make infinite."""
    _refuse_big_floats(configuration)
    return json.dumps(configuration, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _bus_settings(station: Station, instruments: Mapping[str, Instrument]) -> SerialSettings:
    settings = (sensor.serial or instruments[sensor.instrument].serial for sensor in station.sensors)
    return next(settings, SerialSettings())  # the network's check made sure that all are the same


def _line(wiring: Mapping[str, int], settings: SerialSettings) -> dict[str, int | None]:
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


def _sensor(sensor: Sensor, instrument: Instrument, sample_interval_s: int) -> dict[str, Any]:
    timing = instrument.timing
    return {
        "number": sensor.number,
        "address": sensor.address,
        "timeout_ms": timing.timeout_ms,
        "retries": timing.retries,
        "warmup_ms": timing.warmup_ms,
        **_unless(1, every=math.ceil(timing.minimum_interval_ms / (1000 * sample_interval_s)) or 1),
        **_unless(0, wake_ms=timing.wake_ms or 0),
        **_unless(None, start=_start(instrument.start)),
        "reads": [_read(read) for read in instrument.reads],
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


def _read(read: Read) -> dict[str, Any]:
    return {
        "fc": read.fc,
        "register": read.first_register,
        "count": read.count,
        "fields": [_field(field) for field in read.fields],
        **_unless(None, status=_status(read.status)),
    }


def _field(field: Field) -> dict[str, Any]:
    parameter = load_parameters().by_name[field.parameter]
    return {
        "parameter": parameter.code,
        "at": field.at,
        "type": field.type,
        **_unless(_HIGH_BYTE_FIRST[SIZES[field.type]], order=field.effective_order),
        **_unless(1.0, scale=field.scale),
        **_unless(0.0, offset=field.offset),
        "decimals": parameter.decimals,
        **_unless("mean", statistic=field.effective_statistic),
        **_unless(None, speed=None if field.speed is None else load_parameters().by_name[field.speed].code),
        **_unless([], invalid=list(field.invalid)),
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
    fields = sum(len(known[sensor.instrument].parameters) for sensor in station.sensors)
    if len(station.sensors) > _MOST_SENSORS:
        yield f"{len(station.sensors)} sensors; a board takes {_MOST_SENSORS}"
    if fields > _MOST_FIELDS:
        yield f"its sensors measure {fields} parameters; a board takes {_MOST_FIELDS}"


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
