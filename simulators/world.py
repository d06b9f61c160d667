"""`tram-sim world`: the instruments of all stations in a simulated or replayed river, in one process.

    configuration -> surroundings of each station (estuary or replay, weather) -> its instruments -> one bus per pty
    control socket: faults of instruments while they run, and the truth they measure

Values are computed when an instrument is asked, from bench time (TRAM_BENCH_CLOCK) or the system's clock; while nobody
asks the process sleeps. Configuration (JSON):

    {"stations": [{"id": "xuan-hoa", "river_km": 42, "port": "/path/of/a/pty", "shift_s": 7200, "elevation_m": -3.0}],
     "seed": 1, "replay": null, "socket": "/path/of/control.socket", "answers": "/path/of/a/log/of/all/answers.csv"}

A station has the usual three instruments, or those its "instruments" name: {"sensor": 1, "model": "keller-acculevel",
"address": 2}. Models that do not stand in the simulated water are any instrument's file with the values it shall show:
{"sensor": 4, "model": "aqualabo-c4e", "address": 30, "values": {"water_temperature": 28.4, "conductivity_25": 7.28}}.
Those that speak SDI-12 have a character as their address and are on the station's "sdi12_port". Tipping buckets close a
contact on a pin of the board: "buckets": [{"pin": 14, "per_tip_mm": 0.2, "pins": "/path/of/the/board/s/fifo"}].

Control, one JSON object per line over the unix socket, one answer per line ({"ok": true} or {"error": "…"}):

    {"station": "xuan-hoa", "sensor": 1, "fault": "silent", "on": true}     see simulators.instruments.Fault
    {"station": "xuan-hoa", "sensor": 1, "fault": "drift", "on": true, "amount": 5}
    {"station": "xuan-hoa", "pin": 14, "pour_mm": 1.2}                      rain into a bucket; says how often it tipped
    {"orders": {"station": "xuan-hoa", "sensor": 4}}                        starts, turns of its brush, lost messages
    {"truth": {"station": "xuan-hoa", "time": 1772000000}}                  without "time": now
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pymodbus import pymodbus_apply_logging_config

from simulators import control
from simulators.answer_log import AnswerLog
from simulators.errors import SimulatorError
from simulators.estuary import Estuary, Place, WaterState
from simulators.instrument_bus import InstrumentBus
from simulators.instruments import MODELS, Fault, Instrument
from simulators.replay import Replay, read_series
from simulators.sdi12_bus import Sdi12Bus, Sdi12Sensor
from simulators.tipping_bucket import TippingBucket
from simulators.toml_instrument import TomlInstrument
from simulators.weather import WeatherState, weather
from station_config.clock import Clock, clock_from_environment
from station_config.instruments import load_instruments
from station_config.instruments.model import BusAddress

PORT_TIMEOUT_S = 10.0


class WorldConfigurationError(SimulatorError):
    """The configuration of the world cannot be used; the text names every fault."""


class ControlRefused(SimulatorError):
    """A line on the control socket asks for something that does not exist."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InstrumentChoice(_Model):
    """One instrument of a station: its number there, its model, its address on the bus."""

    sensor: int = Field(ge=1, le=255)
    model: str
    address: BusAddress
    values: dict[str, float] | None = None  # parameter: what it shows, for any model we have a file of


_USUAL_INSTRUMENTS = (
    InstrumentChoice(sensor=1, model="yosemitech-y520", address=1),
    InstrumentChoice(sensor=2, model="keller-acculevel", address=2),
    InstrumentChoice(sensor=3, model="ecowitt-wn90lp", address=0x90),
)


class BucketChoice(_Model):
    """A tipping bucket on a pin of a station's board."""

    pin: int = Field(ge=0, le=63)
    per_tip_mm: float = Field(gt=0)
    pins: Path


class StationChoice(_Model):
    """One station: where it stands and the ports of its lines."""

    id: str
    river_km: float
    port: Path
    sdi12_port: Path | None = None
    shift_s: float | None = None
    elevation_m: float = -3.0
    instruments: tuple[InstrumentChoice, ...] = _USUAL_INSTRUMENTS
    buckets: tuple[BucketChoice, ...] = ()


class WorldConfiguration(_Model):
    """The whole world. `noise` scales the instruments' own noise; a replay has none unless told."""

    stations: tuple[StationChoice, ...] = Field(min_length=1)
    seed: int = 1
    replay: Path | None = None
    socket: Path
    noise: float | None = Field(default=None, ge=0)
    answers: Path | None = None


class WaterSource(Protocol):
    """Where the state of the water comes from: the estuary model or a measured series."""

    def water(self, place: Place, time: float) -> WaterState:
        """Return the state of the water at one moment."""


@dataclass(frozen=True)
class StationSurroundings:
    """The water and the air at one station."""

    place: Place
    source: WaterSource
    seed: int

    def water(self, time: float) -> WaterState:
        """Return the water at this moment."""
        return self.source.water(self.place, time)

    def weather(self, time: float) -> WeatherState:
        """Return the air at this moment."""
        return weather(time, self.place, self.seed)

    @property
    def elevation_m(self) -> float:
        """Height of the pressure sensor above the datum."""
        return self.place.elevation_m


@dataclass(frozen=True)
class Station:
    """One station of the world: what surrounds it and its instruments by sensor number."""

    surroundings: StationSurroundings
    instruments: Mapping[int, Instrument | Sdi12Sensor]
    buckets: Mapping[int, TippingBucket]


def read_configuration(path: Path) -> WorldConfiguration:
    """Return the configuration. Raises WorldConfigurationError with every fault."""
    try:
        configuration = WorldConfiguration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WorldConfigurationError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        faults = _faults_of(error).splitlines()
        raise WorldConfigurationError("\n".join(f"{path}: {fault}" for fault in faults)) from None
    faults = [_fault_of(choice, station) for station in configuration.stations for choice in station.instruments]
    if any(faults):
        raise WorldConfigurationError("\n".join(f"{path}: {fault}" for fault in faults if fault))
    return configuration


def _fault_of(choice: InstrumentChoice, station: StationChoice) -> str:
    if choice.values is None:
        known = ", ".join(MODELS)
        return "" if choice.model in MODELS else f"no such instrument: {choice.model}; have {known}; others need values"
    definition = load_instruments().get(choice.model)
    if definition is None:
        return f"no file of an instrument: {choice.model}; have {', '.join(load_instruments())}"
    is_sdi12 = definition.protocol == "sdi12"
    if is_sdi12 != isinstance(choice.address, str) or (is_sdi12 and station.sdi12_port is None):
        return f"{choice.model}: SDI-12 has a character as address and the station an sdi12_port; Modbus has a number"
    missing = set(definition.parameters) ^ set(choice.values)
    return f"{choice.model}: values must be those of {', '.join(definition.parameters)}" if missing else ""


def build_stations(configuration: WorldConfiguration, clock: Clock) -> dict[str, Station]:
    """Return the stations by id. Raises ReplayError when the measured file cannot be used."""
    replay = Replay(read_series(configuration.replay)) if configuration.replay else None
    source: WaterSource = replay or Estuary(configuration.seed)
    noise = configuration.noise if configuration.noise is not None else float(replay is None)
    return {
        choice.id: _build_station(choice, source, number, configuration.seed, noise, clock)
        for number, choice in enumerate(configuration.stations)
    }


def _build_station(
    choice: StationChoice, source: WaterSource, number: int, seed: int, noise: float, clock: Clock
) -> Station:
    shift_s = choice.shift_s if choice.shift_s is not None else 3600.0 * number
    surroundings = StationSurroundings(Place(choice.id, choice.river_km, choice.elevation_m, shift_s), source, seed)
    return Station(
        surroundings,
        {
            one.sensor: _build_instrument(one, surroundings, f"{choice.id} {one.sensor}", seed, noise, clock)
            for one in choice.instruments
        },
        {
            one.pin: TippingBucket(
                one.pins, one.pin, one.per_tip_mm, lambda time: surroundings.weather(time).rain_total_mm, clock
            )
            for one in choice.buckets
        },
    )


def _build_instrument(
    choice: InstrumentChoice, surroundings: StationSurroundings, name: str, seed: int, noise: float, clock: Clock
) -> Instrument | Sdi12Sensor:
    values, address = choice.values, choice.address
    if isinstance(address, str):
        return Sdi12Sensor(choice.model, load_instruments()[choice.model], address, lambda _: values or {}, clock)
    if values is None:
        return MODELS[choice.model](address, surroundings, clock, name, seed, noise)
    return TomlInstrument(choice.model, load_instruments()[choice.model], address, lambda _: values, clock)


class _TruthAsked(_Model):
    station: str
    time: float | None = None


class _OrdersAsked(_Model):
    station: str
    sensor: int


class _FaultAsked(_Model):
    station: str
    sensor: int
    fault: Fault
    on: bool
    amount: float = 0.0


class _RainAsked(_Model):
    station: str
    pin: int
    pour_mm: float = Field(ge=0)


class Control:
    """What the control socket can ask of the world."""

    def __init__(self, stations: Mapping[str, Station], clock: Clock) -> None:
        self._stations = stations
        self._clock = clock

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks and return the answer. Raises ControlRefused, FaultImpossible."""
        try:
            if "truth" in request:
                return self._truth(_TruthAsked.model_validate(request["truth"]))
            if "orders" in request:
                return self._orders(_OrdersAsked.model_validate(request["orders"]))
            if "pour_mm" in request:
                return self._pour(_RainAsked.model_validate(request))
            return self._set_fault(_FaultAsked.model_validate(request))
        except ValidationError as error:
            raise ControlRefused(_faults_of(error)) from None

    def _truth(self, asked: _TruthAsked) -> dict[str, Any]:
        time = self._clock.now() if asked.time is None else asked.time
        around = self._station(asked.station).surroundings
        states = {"water": asdict(around.water(time)), "weather": asdict(around.weather(time))}
        known = {
            kind: {name: None if math.isnan(value) else value for name, value in state.items()}
            for kind, state in states.items()
        }
        return {"station": asked.station, "time": time, **known}

    def _orders(self, asked: _OrdersAsked) -> dict[str, Any]:
        one = self._instrument(asked.station, asked.sensor)
        if not isinstance(one, TomlInstrument):
            raise ControlRefused(f"sensor {asked.sensor} of {asked.station} does not count its orders")
        return {"starts": one.starts, "wipes": one.wipes, "lost": one.lost}

    def _set_fault(self, asked: _FaultAsked) -> dict[str, Any]:
        self._instrument(asked.station, asked.sensor).set_fault(asked.fault, asked.on, asked.amount)
        return {"ok": True}

    def _instrument(self, station: str, sensor: int) -> Instrument | Sdi12Sensor:
        instruments = self._station(station).instruments
        if sensor not in instruments:
            raise ControlRefused(f"{station} has no sensor {sensor}; have {sorted(instruments)}")
        return instruments[sensor]

    def _pour(self, asked: _RainAsked) -> dict[str, Any]:
        buckets = self._station(asked.station).buckets
        if asked.pin not in buckets:
            raise ControlRefused(f"{asked.station} has no bucket on pin {asked.pin}; have {sorted(buckets)}")
        bucket = buckets[asked.pin]
        bucket.pour(asked.pour_mm)
        return {"ok": True, "tips": bucket.tips}

    def _station(self, name: str) -> Station:
        if name not in self._stations:
            raise ControlRefused(f"no station {name}; have {', '.join(self._stations)}")
        return self._stations[name]


def _faults_of(error: ValidationError) -> str:
    return "\n".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())


async def run(configuration: WorldConfiguration, clock: Clock, port_timeout_s: float = PORT_TIMEOUT_S) -> None:
    """Serve all stations until SIGTERM or SIGINT. Raises PortMissing, ReplayError, ControlError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stations = build_stations(configuration, clock)
    kept = ExitStack()
    log = None if configuration.answers is None else kept.enter_context(AnswerLog(configuration.answers, clock))
    buses = [
        bus
        for number, choice in enumerate(configuration.stations)
        for bus in _buses(choice, stations[choice.id], configuration.seed + number, log)
    ]
    buckets = [bucket for station in stations.values() for bucket in station.buckets.values()]
    running = [asyncio.create_task(one.run()) for one in (*buses, *buckets)]
    try:
        await _open_ports(buses, port_timeout_s)
        async with control.serve(configuration.socket, Control(stations, clock).answer):
            typer.echo(json.dumps({"ready": True}))
            await stop.wait()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        kept.close()


def _buses(choice: StationChoice, station: Station, seed: int, log: AnswerLog | None) -> list[InstrumentBus | Sdi12Bus]:
    instruments = station.instruments.values()
    numbers = {id(one): number for number, one in station.instruments.items()}

    def heard(instrument: Instrument, address: int, registers: Sequence[int]) -> None:
        if log is not None:
            log.note(choice.id, numbers[id(instrument)], address, registers)

    buses: list[InstrumentBus | Sdi12Bus] = [
        InstrumentBus(choice.port, [one for one in instruments if isinstance(one, Instrument)], seed, heard)
    ]
    if choice.sdi12_port is not None:
        buses.append(Sdi12Bus(choice.sdi12_port, [one for one in instruments if isinstance(one, Sdi12Sensor)]))
    return buses


async def _open_ports(buses: Sequence[InstrumentBus | Sdi12Bus], timeout_s: float) -> None:
    outcomes = await asyncio.gather(*(bus.wait_until_serving(timeout_s) for bus in buses), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def command(
    config: Annotated[Path, typer.Option(help="JSON file: stations with their ports, seed, replay, control socket.")],
    port_timeout_s: Annotated[float, typer.Option(min=0, help="How long to wait for the ports.")] = PORT_TIMEOUT_S,
) -> None:
    """Serve the simulated instruments of all stations on their buses.

    Example: tram-sim world --config world.json
    """
    pymodbus_apply_logging_config(logging.CRITICAL)  # noise on a line is what the bench makes on purpose
    try:
        asyncio.run(run(read_configuration(config), clock_from_environment(os.environ), port_timeout_s))
    except (WorldConfigurationError, ValueError) as error:
        typer.echo(f"tram-sim world: {error}", err=True)
        raise typer.Exit(2) from None
    except SimulatorError as error:
        typer.echo(f"tram-sim world: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(command)
