"""The gateway's outbox and uplink, the cloud's ingest and store, and a broker between them, for tests of both sides.

Everything runs as in the field, in one process, so that a test can look into both files.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.gateway_messages import GatewayMessages, Handler
from cloud_ingest.ingest import Ingest
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from cloud_ingest.subscriber import Inbox, Subscribers
from cloud_ingest.worker import IngestWorker
from edge_gateway.configuration import (
    BrokerConfiguration,
    GatewayConfiguration,
    LineConfiguration,
    OutboxConfiguration,
    StationConfiguration,
)
from edge_gateway.contacts import ContactBook
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.slices import Series, Slice
from edge_gateway.uplink import Uplink
from firmware.record import SIZE, Record, encode
from station_config.clock import SystemClock
from station_config.free_ports import free_port
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

NOW = 1_780_000_000
STATION, JOURNAL = "xuan-hoa", 0x1234ABCD
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None and os.environ.get("CI") != "true", reason="mosquitto is not installed: apt install mosquitto"
)
GATEWAY = "gw-mytho"
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
sensors = [{ number = 1, instrument = "yosemitech-y520", address = 1 }]
"""


def until(condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
    pause = threading.Event()
    for _ in range(int(deadline_s / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(f"{what}: not within {deadline_s} s")


class Broker:
    """A mosquitto that keeps nothing on disk: killed, it has forgotten everything."""

    def __init__(self, folder: Path, port: int | None = None, file: Path | None = None) -> None:
        """`file`: a configuration of its own that listens on `port`."""
        self.port = port or free_port()
        self._file = file or folder / f"mosquitto-{self.port}.conf"
        if file is None:
            self._file.write_text(
                f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
                "max_queued_messages 0\nmax_inflight_messages 0\n"
            )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([str(MOSQUITTO), "-c", str(self._file)], stderr=subprocess.DEVNULL)
        until(self._answers, "the broker")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Chain(NamedTuple):
    """Both sides, running."""

    outbox: Outbox
    uplink: Uplink
    subscriber: Subscribers
    commands: list[bytes]
    store_file: Path

    def record(self, first: int, last: int) -> None:
        """Store records in the gateway's outbox, in slices of 13 as a line brings them."""
        for at in range(first, last + 1, 13):
            seqs = range(at, min(at + 13, last + 1))
            raw = b"".join(bytes(encode(Record(seq, NOW + 60 * seq, 2750, 1, 32, 2))) for seq in seqs)
            self.outbox.append(Slice(Series(STATION, JOURNAL), at, raw))

    def say(self, number: int, kind: str = "results", **body: object) -> list[str]:
        """Enqueue messages {"command": "c<n>"}; return their ids."""
        return self.outbox.write(
            lambda store: [store.enqueue(kind, {"command": f"c{at}", **body}, NOW + at) for at in range(number)]
        )

    def waiting(self) -> int:
        """Return how many records and messages wait for a commit."""
        reader = self.outbox.reader()
        found = len(reader.message_ids(10_000)) + sum(state.buffered for state in reader.series())
        reader.close()
        return found

    def committed(self, deadline_s: float = 60.0) -> None:
        """Wait until nothing waits any more."""
        until(lambda: self.waiting() == 0, "the commit of everything", deadline_s)

    def stored(self) -> list[int]:
        """Return the sequence numbers in the cloud's store, each as often as it is there."""
        rows = self.query("SELECT first_seq, length(records) FROM raw ORDER BY first_seq")
        return [seq for first, size in rows for seq in range(first, first + size // SIZE)]

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """Ask the cloud's store."""
        with sqlite3.connect(self.store_file) as store:
            found = store.execute(text).fetchall()
        store.close()
        return found


@contextmanager
def chain(
    folder: Path, gateway: BrokerConfiguration, cloud: BrokerSettings, handlers: Mapping[str, Handler] | None = None
) -> Iterator[Chain]:
    """Run both sides until the block ends."""
    configuration = GatewayConfiguration(
        id=GATEWAY,
        state_dir=folder,
        broker=gateway,
        outbox=OutboxConfiguration(gather_s=0.02),
        line=(LineConfiguration(name="a", port="/dev/null", station=(StationConfiguration(id=STATION, address=11),)),),
    )
    (folder / "network.toml").write_text(NETWORK)
    registry = Registry(load_network(folder / "network.toml"), load_instruments(), load_parameters())
    clock, stop, inbox, commands = SystemClock(), threading.Event(), Inbox(), list[bytes]()
    outbox = open_outbox(folder / "outbox.sqlite", Limits(1 << 30, 1e9), clock)
    uplink = Uplink(configuration, outbox, ContactBook((STATION,)), clock, commands.append)
    outbox.on_change(uplink.wake)
    subscriber = Subscribers(cloud, inbox)
    with Store(folder / "store") as store:
        ingest = Ingest(store, registry, GatewayMessages(handlers or {}))
        worker = IngestWorker(ingest, inbox, subscriber, clock, lambda: None)
        threads = [threading.Thread(target=work, args=(stop,)) for work in (worker.run, uplink.run)]
        subscriber.start()
        for thread in threads:
            thread.start()
        try:
            yield Chain(outbox, uplink, subscriber, commands, folder / "store" / "store.sqlite")
        finally:
            stop.set()
            inbox.close()
            uplink.wake()
            for thread in threads:
                thread.join(60)
            subscriber.stop()
            uplink.close()
            outbox.close()


def impatient(**settings: object) -> BrokerConfiguration:
    """Return a gateway's broker settings with times for tests."""
    return BrokerConfiguration.model_validate(
        {"commit_timeout_s": 0.3, "retry_min_s": 0.05, "retry_max_s": 0.2, **settings}
    )
