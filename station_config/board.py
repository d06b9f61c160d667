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
from station_config.instruments import Field, Instrument, Read, SerialSettings, Start, Status, load_instruments
from station_config.network import Network, Sensor, Station
from station_config.parameters import load_parameters

VERSION = 1
JOURNAL = {"segment_records": 512, "max_bytes": 524_288}

# Pins of the two RS-485 transceivers on the boards we wire: UART number, TX, RX, driver enable.
_WIRING = {
    "esp32": {"bus": {"uart": 1, "tx": 17, "rx": 16, "de": 4}, "uplink": {"uart": 2, "tx": 26, "rx": 25, "de": 27}},
    "rp2040": {"bus": {"uart": 0, "tx": 0, "rx": 1, "de": 2}, "uplink": {"uart": 1, "tx": 4, "rx": 5, "de": 3}},
}
_PARITY = {"N": None, "E": 0, "O": 1}  # as machine.UART wants it


def board_configuration(
    network: Network, station_id: str, instruments: Mapping[str, Instrument] | None = None
) -> dict[str, Any]:
    """Return station.json of a station as plain data. Raises ConfigurationError when the firmware cannot do it."""
    known = instruments or load_instruments()
    station = network.station(station_id)
    missing = [fault for sensor in station.sensors for fault in _unsupported(sensor, known[sensor.instrument])]
    if missing:
        raise ConfigurationError("\n".join(f"station {station.id}: {text}" for text in missing))
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
        "sensors": [_sensor(sensor, known[sensor.instrument]) for sensor in station.sensors],
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


def _sensor(sensor: Sensor, instrument: Instrument) -> dict[str, Any]:
    return {
        "number": sensor.number,
        "address": sensor.address,
        "timeout_ms": instrument.timing.timeout_ms,
        "retries": instrument.timing.retries,
        "warmup_ms": instrument.timing.warmup_ms,
        "start": _start(instrument.start),
        "reads": [_read(read) for read in instrument.reads],
    }


def _start(start: Start | None) -> dict[str, int] | None:
    if start is None:
        return None
    return {"fc": start.fc, "register": start.first_register, "count": start.count if start.fc == 3 else 0}


def _read(read: Read) -> dict[str, Any]:
    return {
        "fc": read.fc,
        "register": read.first_register,
        "count": read.count,
        "fields": [_field(field) for field in read.fields],
        "status": _status(read.status),
    }


def _field(field: Field) -> dict[str, Any]:
    parameter = load_parameters().by_name[field.parameter]
    encoded: dict[str, Any] = {
        "parameter": parameter.code,
        "at": field.at,
        "type": field.type,
        "order": field.effective_order,
        "scale": field.scale,
        "offset": field.offset,
        "decimals": parameter.decimals,
        "statistic": field.effective_statistic,
        "invalid": list(field.invalid),
    }
    if field.speed is not None:
        encoded["speed"] = load_parameters().by_name[field.speed].code
    return encoded


def _status(status: Status | None) -> dict[str, Any] | None:
    if status is None:
        return None
    order = {} if status.order is None else {"order": status.order}
    return {"at": status.at, "type": status.type, **order, "ok": list(status.ok)}


def _unsupported(sensor: Sensor, instrument: Instrument) -> Iterator[str]:
    """Yield what this instrument needs and the firmware does not do."""
    start = instrument.start
    needs = {
        "a start command that writes values": start is not None and (start.fc == 6 or start.values),
        "a start before each sample, or a wait after it": start is not None and (start.each_sample or start.wait),
        "a first message that only wakes it": instrument.timing.wake_ms is not None,
    }
    statuses = [read.status for read in instrument.reads if read.status is not None]
    needs["a status with a mask"] = any(status.mask != 0xFFFFFFFF for status in statuses)
    needs["a status that speaks for other reads"] = any(status.scope != "read" for status in statuses)
    fields = [field for read in instrument.reads for field in read.fields]
    needs["a direction without a speed"] = any(f.effective_statistic == "direction" and not f.speed for f in fields)
    for what, needed in needs.items():
        if needed:
            yield f"sensor {sensor.number}, {sensor.instrument}: needs {what}, which the firmware does not do"


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
