"""What our ingest is compared with; each a process of its own that prints "ready", and when it has all (monotonic).

bare    paho-mqtt, every message acknowledged when it has been counted: the least that paho does
naive   decode, range check, executemany into SQLite (time, series; WAL, synchronous=FULL), commit, acknowledge: no CRC,
        no calibration, nothing derived, no commit messages, no accounting of sequence numbers

python -m benchmarks.load.subscribers naive --port 1883 --records 600000 --folder .
"""

from __future__ import annotations

import argparse
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from cloud_ingest.decode import RECORD_DTYPE
from cloud_ingest.worker import GROUP_BYTES
from firmware.record import BATCH_HEADER_SIZE, SIZE


class Naive:
    """The pipeline that one writes in an afternoon."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "naive.sqlite", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE v (time, series, value, flag, PRIMARY KEY (time, series)) WITHOUT ROWID")
        self._stations: dict[str, int] = {}

    def store(self, messages: list[mqtt.MQTTMessage]) -> None:
        """Store a group in one transaction."""
        self._db.execute("BEGIN")
        for message in messages:
            station = self._stations.setdefault(message.topic, len(self._stations) << 16)
            records = np.frombuffer(message.payload[BATCH_HEADER_SIZE:], RECORD_DTYPE)
            series = station + (records["sensor"].astype(int) << 8) + records["parameter"]
            value = records["count"] / 100.0
            flag = np.where((value < -1e6) | (value > 1e6), 4, 1)
            columns = (one.tolist() for one in (records["time"], series, value, flag))
            self._db.executemany("INSERT OR IGNORE INTO v VALUES (?, ?, ?, ?)", zip(*columns, strict=True))
        self._db.execute("COMMIT")


class Subscriber:
    """Counts records until all are there."""

    def __init__(self, records: int, naive: Naive | None) -> None:
        self._left = records
        self._naive = naive
        self._waiting: deque[mqtt.MQTTMessage] = deque()
        self._arrived = threading.Event()
        self._done = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, "rival", clean_session=True, protocol=mqtt.MQTTv311, manual_ack=True
        )
        self._client.on_connect = lambda client, *_: client.subscribe("tram/v1/records/#", 1)
        self._client.on_subscribe = lambda *_: print("ready", flush=True)
        self._client.on_message = self._count if naive is None else self._keep

    def run(self, port: int) -> None:
        """Return when all have been acknowledged."""
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        while self._naive is not None and self._left > 0:
            self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                self._store(self._naive)
        if self._naive is None:
            self._done.wait()
        print(time.monotonic(), flush=True)
        self._client.loop_stop()

    def _count(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        client.ack(message.mid, message.qos)
        self._left -= (len(message.payload) - BATCH_HEADER_SIZE) // SIZE
        if self._left <= 0:
            self._done.set()

    def _keep(self, _client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        self._waiting.append(message)
        self._arrived.set()

    def _store(self, naive: Naive) -> None:
        group, size = [], 0
        while self._waiting and size < GROUP_BYTES:
            group.append(self._waiting.popleft())
            size += len(group[-1].payload)
        naive.store(group)
        for message in group:
            self._client.ack(message.mid, message.qos)
            self._left -= (len(message.payload) - BATCH_HEADER_SIZE) // SIZE


def main() -> None:
    """Take part in a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("bare", "naive"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    options = parser.parse_args()
    naive = Naive(options.folder) if options.kind == "naive" else None
    Subscriber(options.records, naive).run(options.port)


if __name__ == "__main__":
    main()
