"""Where readings arrive: a broker that can be killed, and somebody behind it who notes every reading and commits."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from firmware.record import SIZE, decode, split_batch

CONNECT_DEADLINE_S = 15.0
Value = tuple[str, str]
"""A device and the name of one of its values; a station and ""."""
NO_LIMIT = {"messages": "0:0,", "telemetryMessages": "0:0,", "telemetryDataPoints": "0:0,"}
SESSION_LIMITS = {
    "maxPayloadSize": 65536,
    "maxInflightMessages": 100,
    "rateLimits": NO_LIMIT,
    "gatewayRateLimits": NO_LIMIT,
}


class Unavailable(Exception):
    """Something the benchmark needs cannot be had here; the text says why."""


class Broker:
    """A mosquitto without memory: after `kill` it comes back empty."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._file = folder / "mosquitto.conf"
        self._file.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen([program, "-c", str(self._file)], stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill it: what it held is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Arrival:
    """Plays the cloud to both gateways: ThingsBoard's, which acknowledges by PUBACK, and ours, which wants commits."""

    def __init__(self, port: int) -> None:
        self.received = 0
        self.distinct = 0
        """Readings, each counted once."""
        self._times: dict[Value, bytearray] = {}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="arrival")
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._listening = threading.Event()
        self._client.on_subscribe = self._on_subscribe
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        if not self._listening.wait(CONNECT_DEADLINE_S):
            raise Unavailable(f"mosquitto does not answer on port {port}")

    def close(self) -> None:
        """End."""
        self._client.disconnect()
        self._client.loop_stop()

    def arrived(self, value: Value, through: int) -> int:
        """Return how many of a value's readings 1..through arrived."""
        times = self._times.get(value, b"")[: through + 1]
        return len(times) - times.count(0) if times else 0

    def _note(self, value: Value, first: int, last: int) -> None:
        times = self._times.setdefault(value, bytearray())
        if len(times) <= last:
            times.extend(bytes(max(1000, last + 1 - len(times))))
        new = times.count(0, first, last + 1)
        times[first : last + 1] = b"\1" * (last + 1 - first)
        self.received += last + 1 - first
        self.distinct += new

    def wait_until(self, condition: Callable[[], bool], at_most_s: float) -> bool:
        """Wait for a condition; say whether it came."""
        ends_at = time.monotonic() + at_most_s
        while not condition():
            if time.monotonic() > ends_at:
                return False
            threading.Event().wait(0.1)
        return True

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe([("tram/v1/records/#", 1), ("v1/gateway/telemetry", 1), ("v1/devices/me/rpc/request/+", 1)])

    def _on_subscribe(self, client: mqtt.Client, *_: Any) -> None:
        self._listening.set()
        # ThingsBoard's gateway asks for its limits once, as its first question, and waits for ever for the answer. When
        # both come back to a broker that was away it may have asked before anybody listened.
        client.publish("v1/devices/me/rpc/response/1", json.dumps(SESSION_LIMITS), 1)

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith("tram/"):
            self._take_batch(client, message)
        elif message.topic.startswith("v1/devices/me/rpc/request/"):
            reply = message.topic.replace("request", "response")
            client.publish(reply, json.dumps(SESSION_LIMITS), 1)
        else:
            self._take_telemetry(json.loads(message.payload))

    def _take_batch(self, client: mqtt.Client, message: mqtt.MQTTMessage) -> None:
        gateway, station = message.topic.split("/")[-2:]
        journal, raw = split_batch(message.payload)
        first = decode(raw[:SIZE]).seq
        last = first + len(raw) // SIZE - 1
        self._note((station, ""), first, last)
        body = {"station": station, "journal": journal, "ranges": [[first, last]]}
        client.publish(f"tram/v1/commits/{gateway}", json.dumps(body), 1)

    def _take_telemetry(self, payload: dict[str, Any]) -> None:
        for device, entries in payload.items():
            for entry in entries:
                for name, number in entry["values"].items():
                    self._note((device, name), int(number), int(number))
