"""A real broker, and a cloud that commits what it is told to."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from firmware import record
from station_config.free_ports import free_port


def wait_for(condition: Callable[[], object], what: str = "the condition", deadline_s: float = 60.0) -> None:
    """Wait until `condition()` is true; fail after the deadline."""
    pause = threading.Event()
    for _ in range(int(deadline_s / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(f"{what} did not come within {deadline_s} s")


class Broker:
    """A mosquitto of our own without persistence: after `kill` it comes back empty."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.file = folder / "mosquitto.conf"
        self.file.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen([program, "-c", str(self.file)], stderr=subprocess.DEVNULL)
        wait_for(self._answers, "the broker")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Cloud:
    """Takes batches like ingest: keeps every identity, and commits when `commits` is on."""

    def __init__(self, port: int, gateway: str) -> None:
        self.commits = True
        self.received: dict[tuple[str, int, int], list[bytes]] = {}
        self.batches: list[tuple[str, int, int, int]] = []
        self.status: list[dict[str, Any]] = []
        self._gateway = gateway
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="cloud")
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def identities(self) -> set[tuple[str, int, int]]:
        return set(self.received)

    def commit(self, payload: bytes | dict[str, object]) -> None:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(f"tram/v1/commits/{self._gateway}", body, 1)

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe([("tram/v1/records/#", 1), ("tram/v1/status/#", 1)])

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith("tram/v1/status/"):
            self.status.append(json.loads(message.payload))
            return
        station = message.topic.rsplit("/", 1)[1]
        journal, raw = record.split_batch(message.payload)
        pieces = [raw[at : at + record.SIZE] for at in range(0, len(raw), record.SIZE)]
        sequence = [record.decode(piece).seq for piece in pieces]
        self.batches.append((station, journal, sequence[0], sequence[-1]))
        for seq, piece in zip(sequence, pieces, strict=True):
            self.received.setdefault((station, journal, seq), []).append(piece)
        if self.commits:
            self.commit({"station": station, "journal": journal, "ranges": [[sequence[0], sequence[-1]]]})


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def cloud(broker: Broker) -> Iterator[Cloud]:
    cloud = Cloud(broker.port, "gw-test")
    yield cloud
    cloud.close()
