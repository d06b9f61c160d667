"""The two days before a demo: records as the stations' earlier boards would have left them, sent through the broker.

A chart that begins empty tells nobody anything. The records are made directly from the same river and weather, in a
journal of their own (a board that was since replaced), and go the ordinary way: batches, ingest, commit messages. They
count like all others when a run is judged.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from firmware.record import EVENT_BOOT, MISSING, NO_VALUE, NOT_EVALUATED, Record, batch_header, encode
from simulators.errors import SimulatorError
from simulators.instruments import Y520_ALPHA_PER_C, pressure_bar
from simulators.world import StationSurroundings
from station_config.board import board_configuration
from station_config.network import Network, Station
from station_config.parameters import load_parameters

LENGTH_S = 48 * 3600
STEP_S = 120
BATCH_RECORDS = 600
JOURNAL = 0x0E_A2_11_E2  # the earlier boards' journal id, the same at every station: identity includes the station
CONNECT_DEADLINE_S = 20.0


class HistoryNotStored(SimulatorError):
    """The cloud did not say in time that the earlier records are stored."""


@dataclass(frozen=True)
class Broker:
    """Where and as whom the history is published."""

    port: int
    gateway: str
    password: str


def records(network: Network, station: Station, surroundings: StationSurroundings, until_s: int) -> list[Record]:
    """Return one station's records of the two days before `until_s`: a boot event, then one per field and step."""
    end_s = until_s - until_s % STEP_S
    made = [Record(1, end_s - LENGTH_S, 1, 0, EVENT_BOOT, NOT_EVALUATED)]
    fields = list(_fields(board_configuration(network, station.id)))
    for time in range(end_s - LENGTH_S, end_s, STEP_S):
        values = observed(surroundings, time)
        for sensor, code, decimals in fields:
            made.append(_record(len(made) + 1, time, sensor, code, decimals, values))
    return made


def observed(surroundings: StationSurroundings, time: float) -> dict[str, float]:
    """Return what good instruments would show, {parameter name: value}; NaN where nobody knows."""
    water, air = surroundings.water(time), surroundings.weather(time)
    compensation = 1.0 + Y520_ALPHA_PER_C * (water.water_temperature_c - 25.0)
    return {
        "water_temperature": water.water_temperature_c,
        "conductivity_25": water.conductivity_ms_cm / compensation,
        "water_pressure": pressure_bar(water, surroundings.elevation_m),
        "air_temperature": air.air_temperature_c,
        "relative_humidity": air.relative_humidity_percent,
        "air_pressure": air.air_pressure_hpa,
        "wind_speed": air.wind_speed_m_s,
        "wind_speed_of_gust": air.wind_speed_of_gust_m_s,
        "wind_from_direction": air.wind_from_direction_deg,
        "rain_total": air.rain_total_mm,
        "illuminance": air.illuminance_lx,
        "uv_index": air.uv_index,
    }


def _fields(configuration: Mapping[str, object]) -> Iterator[tuple[int, int, int]]:
    sensors = configuration["sensors"]
    assert isinstance(sensors, list)
    for sensor in sensors:
        for read in sensor["reads"]:
            for field in read["fields"]:
                yield sensor["number"], field["parameter"], field["decimals"]


def _record(seq: int, time: int, sensor: int, code: int, decimals: int, values: Mapping[str, float]) -> Record:
    value = values.get(load_parameters().by_code[code].name, float("nan"))
    if value != value:  # NaN: the instrument had nothing to say
        return Record(seq, time, MISSING, sensor, code, NO_VALUE)
    return Record(seq, time, round(value * 10**decimals), sensor, code, NOT_EVALUATED)


def batches(made: list[Record]) -> Iterator[bytes]:
    """Yield the records as batches."""
    for begin in range(0, len(made), BATCH_RECORDS):
        part = made[begin : begin + BATCH_RECORDS]
        yield batch_header(JOURNAL, len(part)) + b"".join(encode(record) for record in part)


def publish(broker: Broker, made: Mapping[str, list[Record]], deadline_s: float = 60.0) -> None:
    """Publish every station's records and wait until commit messages name them all. Raises HistoryNotStored."""
    missing = {station: {record.seq for record in each} for station, each in made.items()}
    arrived = threading.Event()

    def on_commit(_: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        commit = json.loads(message.payload)
        left = missing.get(commit["station"], set())
        for first, last in commit["ranges"] if commit["journal"] == JOURNAL else ():
            left.difference_update(range(first, last + 1))
        if not any(missing.values()):
            arrived.set()

    with Connection(broker, on_commit) as client:
        for station, each in made.items():
            topic = f"tram/v1/records/{zlib.crc32(station.encode()) % 64:02x}/{broker.gateway}/{station}"
            for batch in batches(each):
                client.publish(topic, batch, qos=1)
        if not arrived.wait(deadline_s):
            left = {station: len(seqs) for station, seqs in missing.items()}
            raise HistoryNotStored(f"after {deadline_s:g} s not confirmed as stored: {left}")


class Connection:
    """An MQTT connection of a gateway that listens to its commit messages; a context manager."""

    def __init__(self, broker: Broker, on_commit: Callable[[mqtt.Client, object, mqtt.MQTTMessage], None]) -> None:
        self._broker = broker
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=broker.gateway)
        self._client.username_pw_set(broker.gateway, broker.password)
        self._client.max_inflight_messages_set(20)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = on_commit

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(f"tram/v1/commits/{self._broker.gateway}", qos=1)

    def __enter__(self) -> mqtt.Client:
        self._client.connect("127.0.0.1", self._broker.port)
        self._client.loop_start()
        if not self._subscribed.wait(CONNECT_DEADLINE_S):
            self._client.loop_stop()
            raise HistoryNotStored(f"the broker on port {self._broker.port} did not take the subscription")
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


__all__ = ["JOURNAL", "LENGTH_S", "Broker", "HistoryNotStored", "observed", "publish", "records"]
