"""The network: gateways, stations and their sensors, from one network.toml.

`load_network` finds everything wrong in the file at once: wrong keys, ids and addresses used twice, instruments we do
not know, instruments on one bus that talk at different serial settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator, model_validator

from station_config.derive import derivable
from station_config.errors import ConfigurationError
from station_config.instruments import Instrument, SerialSettings, load_instruments
from station_config.instruments.model import BusAddress
from station_config.parameters import load_parameters
from station_config.quality import ParameterTests
from station_config.sampling import RECORD_S, SAMPLE_S
from station_config.toml_config import Fault, KeyPath, Several, StrictModel, Table, dotted, load, repeated, rows

_ID = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ADMINISTRATIVE_CODE = re.compile(r"(^|-)(\d{2}|\d{5})(-|$)")  # of a province, of a commune


def _check_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("an id is 1 to 32 of a-z, 0-9 and '-', beginning with a letter")
    if _ADMINISTRATIVE_CODE.search(text):
        raise ValueError("no administrative codes in an id: provinces and communes are merged, stations stay")
    return text


Id = Annotated[str, AfterValidator(_check_id)]
Limits = Annotated[tuple[float, float], Field(strict=False)]
Address = Annotated[int, Field(ge=1, le=247)]


class Gateway(StrictModel):
    """A gateway and the settings of the line its stations are on."""

    id: Id
    serial: SerialSettings = SerialSettings()


class Burst(StrictModel):
    """Several readings for one sample, together their median (puts spikes out) or mean."""

    readings: int = Field(ge=2, le=50)
    statistic: Literal["median", "mean"] = "median"
    pause_ms: int = Field(default=0, ge=0, le=1000)


class Pulse(StrictModel):
    """A contact on a pin of the board, such as a tipping bucket: a running total that outlives the power."""

    number: int = Field(ge=1, le=255)
    pin: int = Field(ge=0, le=63)
    parameter: Literal["rain_total"] = "rain_total"
    per_pulse: float = Field(gt=0.0, le=10.0)  # in the parameter's unit: 0.2 mm, 0.254 mm, 0.5 mm
    debounce_ms: int = Field(default=80, ge=50, le=100)


class Sensor(StrictModel):
    """One instrument on a station's bus. Its number, not its address, is what records carry."""

    number: int = Field(ge=1, le=255)
    instrument: str
    address: BusAddress  # on the Modbus line a number, on the SDI-12 line a character
    serial: SerialSettings | None = None  # as set at commissioning, when not the instrument's default
    sample_interval_s: int | None = Field(default=None, ge=1, le=86400)  # else the station's
    record_interval_s: int | None = Field(default=None, ge=1, le=86400)  # else the station's
    burst: Burst | None = None
    power: int | None = Field(default=None, ge=0, le=63)  # the pin that switches its supply, alone or with others
    wipe_every_s: int | None = Field(default=None, ge=60, le=86400)  # the station sets its brush going
    statistics: dict[str, Several[Literal["min", "max", "gust"]]] = Field(
        default_factory=dict
    )  # parameter -> what is recorded of it besides
    elevation_m: float | None = Field(
        default=None, ge=-50.0, le=50.0
    )  # of a pressure membrane or a radar's zero, station datum
    wind_height_m: float | None = Field(default=None, ge=1.0, le=100.0)  # of an anemometer, above the ground
    limits: dict[str, Limits] = Field(
        default_factory=dict
    )  # parameter -> (valid_min, valid_max), narrower than the vocabulary's

    @field_validator("limits")
    @classmethod
    def _narrower(cls, limits: dict[str, Limits]) -> dict[str, Limits]:
        for name, (low, high) in limits.items():
            parameter = load_parameters().by_name.get(name)
            if parameter is None or parameter.valid_min is None or parameter.valid_max is None:
                raise ValueError(f"{name}: not a measured or derived parameter")
            if not parameter.valid_min <= low < high <= parameter.valid_max:
                raise ValueError(f"{name}: limits go up, within {parameter.valid_min:g} to {parameter.valid_max:g}")
        return limits


class Station(StrictModel):
    """A station: where it is, which gateway reads it, and what hangs on its bus."""

    id: Id
    name_vi: str = Field(min_length=1)
    name_en: str = Field(min_length=1)
    latitude: float = Field(ge=-90.0, le=90.0)
    longitude: float = Field(ge=-180.0, le=180.0)
    altitude_m: float | None = Field(default=None, ge=-50.0, le=4000.0)  # of the ground above the sea
    river: str
    river_km: float = Field(ge=0.0, le=500.0)  # from the mouth
    gateway: Id
    address: Address
    hardware: Literal["esp32", "rp2040", "gateway"] = "esp32"  # "gateway": no board, the gateway asks the instruments
    sample_interval_s: int = Field(default=SAMPLE_S, ge=1, le=3600)  # not given: by parameter, see sampling
    record_interval_s: int = Field(default=RECORD_S, ge=1, le=86400)
    sensors: Several[Sensor] = ()
    pulses: Annotated[Several[Pulse], Field(max_length=4)] = ()
    quality: dict[str, ParameterTests] = Field(default_factory=dict)  # parameter -> tests other than the defaults

    @field_validator("quality")
    @classmethod
    def _known_parameters(cls, quality: dict[str, ParameterTests]) -> dict[str, ParameterTests]:
        if unknown := set(quality) - set(load_parameters().by_name):
            raise ValueError(f"{', '.join(sorted(unknown))}: no such parameter in parameters.toml")
        return quality

    @model_validator(mode="after")
    def _intervals_fit(self) -> Station:
        if self.record_interval_s % self.sample_interval_s:
            raise ValueError("record_interval_s must be a multiple of sample_interval_s")
        if 86400 % self.record_interval_s:
            raise ValueError("record_interval_s must divide a day, so that records end on the same times every day")
        for sensor in self.sensors:
            if sensor.sample_interval_s is not None and sensor.sample_interval_s % self.sample_interval_s:
                raise ValueError(f"sensor {sensor.number}: sample_interval_s must be a multiple of the station's")
            own_s = sensor.record_interval_s or self.record_interval_s
            if own_s % self.record_interval_s or 86400 % own_s:
                raise ValueError(
                    f"sensor {sensor.number}: record_interval_s must be a multiple of the station's and divide a day"
                )
            if own_s % (sensor.sample_interval_s or 1):
                raise ValueError(f"sensor {sensor.number}: record_interval_s must be a multiple of sample_interval_s")
        numbers = {sensor.number for sensor in self.sensors} | {pulse.number for pulse in self.pulses}
        if len(numbers) < len(self.sensors) + len(self.pulses):
            raise ValueError("a pulse input has the number of a sensor, or of another")
        return self

    def sensor(self, number: int) -> Sensor:
        """Return the sensor of this number. Raises KeyError."""
        for sensor in self.sensors:
            if sensor.number == number:
                return sensor
        raise KeyError(number)


class Network(StrictModel):
    """Everything network.toml says."""

    name: str = Field(min_length=1)
    timezone: str = "Asia/Ho_Chi_Minh"
    gateways: Several[Gateway]
    stations: Several[Station]

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (KeyError, OSError, ValueError):  # unknown, a folder's name, not a relative path
            raise ValueError("not a time zone of the tz database, such as Asia/Ho_Chi_Minh") from None
        return timezone

    def station(self, station_id: str) -> Station:
        """Return the station of this id. Raises ConfigurationError that names the known ones."""
        for station in self.stations:
            if station.id == station_id:
                return station
        known = ", ".join(station.id for station in self.stations)
        raise ConfigurationError(f"no station {station_id!r} in the network; it has {known or 'none'}")

    def stations_of(self, gateway_id: str) -> tuple[Station, ...]:
        """Return the stations a gateway reads."""
        return tuple(station for station in self.stations if station.gateway == gateway_id)

    def gateway(self, gateway_id: str) -> Gateway:
        """Return the gateway of this id. Raises ConfigurationError that names the known ones."""
        for gateway in self.gateways:
            if gateway.id == gateway_id:
                return gateway
        known = ", ".join(gateway.id for gateway in self.gateways)
        raise ConfigurationError(f"no gateway {gateway_id!r} in the network; it has {known or 'none'}")


def load_network(path: Path, instruments: Mapping[str, Instrument] | None = None) -> Network:
    """Return the network of a file, checked against the instruments (the shipped ones). Raises ConfigurationError."""
    return load(path, Network, check=partial(_find_conflicts, instruments or load_instruments()))


def _find_conflicts(instruments: Mapping[str, Instrument], data: Table) -> Iterator[Fault]:
    """Yield what is wrong between rows. The data are unchecked: rows that are no tables are the model's to refuse."""
    gateways, stations = list(rows(data, "gateways")), list(rows(data, "stations"))
    yield from repeated((((*path, "id"), row.get("id")) for path, row in gateways), "this gateway id")
    yield from repeated((((*path, "id"), row.get("id")) for path, row in stations), "this station id")
    lines = (((*path, "address"), (row.get("gateway"), row.get("address"))) for path, row in stations)
    yield from repeated(lines, "this address on the gateway's line")
    known = {row.get("id") for _, row in gateways if isinstance(row.get("id"), str)}
    for path, row in stations:
        if isinstance(row.get("gateway"), str) and row["gateway"] not in known:
            yield Fault((*path, "gateway"), "no gateway of this id in the file")
        yield from _find_sensor_conflicts(instruments, path, row)


def _find_sensor_conflicts(instruments: Mapping[str, Instrument], at: KeyPath, station: Table) -> Iterator[Fault]:
    sensors = list(rows(station, "sensors", at))
    yield from repeated((((*path, "number"), row.get("number")) for path, row in sensors), "this sensor number")
    yield from repeated((((*path, "address"), row.get("address")) for path, row in sensors), "this address on the bus")
    first: tuple[KeyPath, SerialSettings] | None = None
    for path, row in sensors:
        name = row.get("instrument")
        instrument = instruments.get(name) if isinstance(name, str) else None
        if instrument is None:
            if isinstance(name, str):
                yield Fault(
                    (*path, "instrument"), f"not a known instrument; known are {', '.join(sorted(instruments))}"
                )
            continue
        yield from _find_misfits(instrument, path, row, station.get("record_interval_s", RECORD_S))
        if instrument.protocol == "sdi12":
            continue  # a line of its own, with but one setting
        settings = _settings(row, instrument)
        first = first or (path, settings)
        if settings != first[1]:
            text = f"talks at {settings}, {dotted(first[0])} on the same bus at {first[1]}; set one of them"
            yield Fault((*path, "instrument"), text)


def _find_misfits(instrument: Instrument, path: KeyPath, sensor: Table, record_interval_s: object) -> Iterator[Fault]:
    """Yield what the sensor's row asks of its instrument in vain."""
    if isinstance(record_interval_s, int) and record_interval_s * 1000 < instrument.timing.minimum_interval_ms:
        least = instrument.timing.minimum_interval_ms / 1000
        yield Fault((*path, "instrument"), f"has a value every {least:g} s at most; lengthen record_interval_s")
    yield from _find_wrong_protocol(instrument, path, sensor)
    wipe_every_s = sensor.get("wipe_every_s")
    if wipe_every_s is not None and instrument.wiper is None:
        yield Fault((*path, "wipe_every_s"), "remove it: this instrument has no brush that can be ordered")
    elif isinstance(wipe_every_s, int) and instrument.wiper and wipe_every_s * 500 < instrument.wiper.busy_ms:
        least_s = instrument.wiper.busy_ms // 500
        yield Fault((*path, "wipe_every_s"), f"is half its time brushing; make it {least_s} or more")
    possible = {*instrument.parameters, *derivable(instrument.parameters)}
    limits = sensor.get("limits")
    for name in limits if isinstance(limits, dict) else ():
        if name in load_parameters().by_name and name not in possible:
            yield Fault((*path, "limits", name), "this instrument neither measures it nor lets it be derived")
    yield from _find_wrong_height(instrument, path, sensor)


def _find_wrong_height(instrument: Instrument, path: KeyPath, sensor: Table) -> Iterator[Fault]:
    """Yield heights that change nothing, because the instrument measures nothing they matter for."""
    heights_matter = {"water_pressure", "water_distance", "air_pressure"}
    if sensor.get("elevation_m") is not None and not heights_matter & set(instrument.parameters):
        text = (
            "only an instrument that measures water_pressure, water_distance or air_pressure has a height that matters"
        )
        yield Fault((*path, "elevation_m"), text)
    if sensor.get("wind_height_m") is not None and "wind_speed" not in instrument.parameters:
        yield Fault((*path, "wind_height_m"), "remove it: this instrument does not measure wind_speed")


def _find_wrong_protocol(instrument: Instrument, path: KeyPath, sensor: Table) -> Iterator[Fault]:
    """Yield what the sensor's row says as if its instrument spoke another protocol."""
    is_sdi12 = instrument.protocol == "sdi12"
    if isinstance(sensor.get("address"), int if is_sdi12 else str):
        text = 'one character in quotes, such as "0": it speaks SDI-12' if is_sdi12 else "a number: it speaks Modbus"
        yield Fault((*path, "address"), text)
    if is_sdi12 and sensor.get("serial") is not None:
        yield Fault((*path, "serial"), "remove it: SDI-12 is 1200 7E1 always")
    if is_sdi12 and sensor.get("burst") is not None:
        yield Fault((*path, "burst"), "remove it: an SDI-12 sensor takes its own readings for each measurement")


def _settings(sensor: Table, instrument: Instrument) -> SerialSettings:
    """Return the serial settings a sensor's row leads to; what is wrong in it is the model's to say."""
    given: Any = sensor.get("serial")
    if not isinstance(given, dict):
        return instrument.serial
    known = {key: value for key, value in given.items() if key in SerialSettings.model_fields}
    return SerialSettings.model_construct(**known)
