"""The cloud's neighbours for its tests: a gateway with a raw MQTT client, records as boards make them, a real cloud."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from cloud_ingest.ledger import RangeSet
from cloud_ingest.topics import shard_of
from firmware.record import BATCH_HEADER_SIZE, Record, batch_header, encode
from station_config.clock import BenchClock
from station_config.free_ports import free_port

T0 = 1_771_000_020  # a whole minute in February 2026
JOURNAL = 0x1234ABCD
NOT_EVALUATED = 2
EC25, WATER_TEMPERATURE, PRESSURE, AIR_TEMPERATURE = 34, 32, 35, 64

NETWORK = """
name = "Test"
[[gateways]]
id = "gw-mytho"
[[stations]]
id = "xuan-hoa"
name_vi = "Xuân Hòa"
name_en = "Xuan Hoa"
latitude = 10.36
longitude = 106.42
river = "Tiền"
river_km = 43.0
gateway = "gw-mytho"
address = 11
sample_interval_s = 10
record_interval_s = 60
sensors = [
  { number = 1, instrument = "yosemitech-y520", address = 1, limits = { conductivity_25 = [0.05, 60.0] } },
  { number = 2, instrument = "keller-acculevel", address = 2, elevation_m = -3.0 },
]
[[stations]]
id = "vam-kenh"
name_vi = "Vàm Kênh"
name_en = "Vam Kenh"
latitude = 10.27
longitude = 106.74
river = "Tiền"
river_km = 2.0
gateway = "gw-mytho"
address = 12
sample_interval_s = 10
record_interval_s = 60
sensors = [{ number = 1, instrument = "yosemitech-y520", address = 1 }]
"""


def until(condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
    """Wait until `condition()` is true; fail after the deadline."""
    pause = threading.Event()
    for _ in range(int(deadline_s / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(f"{what}: not within {deadline_s} s")


def minute(seq: int, time_s: int, ec25: float = 12.5, temperature: float = 27.5, sensor: int = 1) -> list[Record]:
    """One interval of a conductivity probe: two records."""
    return [
        Record(seq, time_s, round(temperature * 100), sensor, WATER_TEMPERATURE, NOT_EVALUATED),
        Record(seq + 1, time_s, round(ec25 * 1000), sensor, EC25, NOT_EVALUATED),
    ]


def minutes(number: int, first_seq: int = 1, first_time_s: int = T0, ec25: float = 12.5) -> list[Record]:
    return [one for at in range(number) for one in minute(first_seq + 2 * at, first_time_s + 60 * at, ec25)]


def batch(records: Iterable[Record], journal: int = JOURNAL) -> bytes:
    encoded = [bytes(encode(one)) for one in records]
    return bytes(batch_header(journal, len(encoded))) + b"".join(encoded)


def damaged(payload: bytes, record: int) -> bytes:
    """The same batch with one bit of a record turned over."""
    at = BATCH_HEADER_SIZE + 18 * record + 10
    return payload[:at] + bytes([payload[at] ^ 0x10]) + payload[at + 1 :]


def records_topic(station: str, gateway: str = "gw-mytho") -> str:
    return f"tram/v1/records/{shard_of(station)}/{gateway}/{station}"


@dataclass
class Broker:
    """mosquitto on a free port of this machine."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, configuration: str | None = None) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(
            configuration
            or f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n"
        )
        self.process = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, "mosquitto")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0


class GatewaySide:
    """What a gateway does on the broker: publish batches, collect what comes back."""

    def __init__(self, port: int, gateway: str = "gw-mytho") -> None:
        self.committed: dict[tuple[str, int], RangeSet] = {}
        self.commit_messages = 0
        self.live: dict[str, Any] = {}
        self._gateway = gateway
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, f"test-{gateway}")
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(f"tram/v1/commits/{gateway}", 1), ("tram/v1/live/#", 0)]
        )
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(60)

    def send(self, payload: bytes, station: str = "xuan-hoa", topic: str | None = None) -> None:
        self._client.publish(topic or records_topic(station, self._gateway), payload, qos=1)

    def say(self, topic: str, message: object) -> None:
        self._client.publish(topic, json.dumps(message), qos=1, retain=True)

    def commits(self, station: str = "xuan-hoa", journal: int = JOURNAL) -> RangeSet:
        return self.committed.get((station, journal), RangeSet())

    def await_commit(self, first: int, last: int, station: str = "xuan-hoa", journal: int = JOURNAL) -> None:
        until(lambda: self.commits(station, journal).covers(first, last), f"commit of {first}..{last}")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        content = json.loads(message.payload)
        if message.topic.startswith("tram/v1/live/"):
            self.live[message.topic.removeprefix("tram/v1/live/")] = content
            return
        ranges = self.committed.setdefault((content["station"], content["journal"]), RangeSet())
        for first, last in content["ranges"]:
            ranges.add(first, last)
        self.commit_messages += 1


class Cloud:
    """The real `tram-cloud run` in a process of its own."""

    def __init__(
        self, folder: Path, broker_port: int, extra: str = "", now_s: float | None = None, port: int | None = None
    ) -> None:
        self.folder = folder
        self.port = free_port() if port is None else port
        self.config = folder / "cloud.toml"
        self._environment = dict(os.environ)
        if now_s is not None:
            self._environment.update(BenchClock(time.time(), now_s, 1.0).as_environment())
        (folder / "network.toml").write_text(NETWORK)
        self.config.write_text(
            f'network = "network.toml"\nstate_dir = "state"\n[broker]\nport = {broker_port}\n'
            f"[http]\nport = {self.port}\n{extra}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "cloud.log").open("ab") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stderr=log)
        until(self.healthy, "a healthy cloud: " + str(self.folder / "cloud.log"), 60)

    def run_once(self) -> tuple[int, str]:
        """Start it where it cannot run; return its exit code and what it said."""
        finished = subprocess.run(self._command, env=self._environment, capture_output=True, text=True, timeout=120)
        return finished.returncode, finished.stderr

    @property
    def _command(self) -> list[str]:
        return [sys.executable, "-m", "cloud_ingest.commands", "run", "--config", str(self.config)]

    def healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "cloud.log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", trust_env=False, timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, **parameters: object) -> Any:
        answer = self.ask(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, path: str, **parameters: object) -> httpx.Response:
        shown = {name: str(value) for name, value in parameters.items()}
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", params=shown or None, trust_env=False, timeout=60)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def a_cloud(folder: Path, broker_port: int, extra: str = "", now_s: float | None = None) -> Iterator[Cloud]:
    folder.mkdir(parents=True, exist_ok=True)
    cloud = Cloud(folder, broker_port, extra, now_s)
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.kill()
