"""A gateway's life, written down call by call: the real `tram-gateway run`, a station on a pty, mosquitto, ingest.

A life is a folder with a trace (hil_tests/disk): every call that changed the state directory, and between them what the
station was told ("acknowledged") and what the cloud had stored ("took"), each noted by whoever heard it first.
"""

from __future__ import annotations

import base64
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from cloud_ingest.gateway_messages import GatewayMessages
from cloud_ingest.ingest import Ingest
from cloud_ingest.losses import LossTaker
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.tests.conftest import Broker, wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.running import PROGRAM, RunningGateway
from simulators.disk.shim import Faults, environment, put_mark
from simulators.lying_broker import Lies, LyingBroker
from station_config.clock import SystemClock
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

STATION, ADDRESS, JOURNAL = "xuan-hoa", 11, 0x1234ABCD
GATEWAY = "gw-test"
DEADLINE_S = 60.0
NETWORK = f"""
name = "Cuts"
[[gateways]]
id = "{GATEWAY}"
[[stations]]
id = "{STATION}"
name_vi = "Xuân Hòa"
name_en = "Xuan Hoa"
latitude = 10.36
longitude = 106.42
river = "Tiền"
river_km = 43.0
gateway = "{GATEWAY}"
address = {ADDRESS}
sample_interval_s = 10
record_interval_s = 60
sensors = [{{ number = 1, instrument = "yosemitech-y520", address = 1 }}]
"""


class Message(NamedTuple):
    """What ingest takes."""

    topic: str
    payload: bytes


def ingest_into(folder: Path) -> tuple[Store, Ingest]:
    """Return a store of the cloud in `folder`, to be entered with `with`, and the pipeline over it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "network.toml"
    file.write_text(NETWORK)
    registry = Registry(load_network(file), load_instruments(), load_parameters())
    store = Store(folder)
    return store, Ingest(store, registry, GatewayMessages({"losses": LossTaker(store).take}))


class StoringCloud:
    """The cloud's ingest behind a broker, which stores only while it is let, and marks what it has stored."""

    def __init__(self, port: int, folder: Path, trace: Path) -> None:
        self.stores = threading.Event()
        self._trace = trace
        self._waiting: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._store, self._ingest = ingest_into(folder)
        self._thread = threading.Thread(target=self._work)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="cloud")
        self._client.on_connect = lambda client, *_: client.subscribe(
            [("tram/v1/records/#", 1), ("tram/v1/losses/#", 1)]
        )
        self._client.on_message = lambda _c, _d, message: self._waiting.put(
            Message(message.topic, bytes(message.payload))
        )
        self._client.reconnect_delay_set(1, 1)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._thread.start()
        assert subscribed.wait(60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._waiting.put(None)
        self.stores.set()
        self._thread.join()

    def _work(self) -> None:
        with self._store:
            while (message := self._waiting.get()) is not None:
                self.stores.wait()
                outcome = self._ingest.store_group([message], SystemClock().now())
                took = [message.topic, base64.b64encode(message.payload).decode()]
                put_mark(self._trace, {"took": took})
                for topic, payload in outcome.commits:
                    self._client.publish(topic, payload, 1)


@dataclass
class Life:
    """One gateway on one state directory. `step` names what it does from now on."""

    folder: Path
    line: FakeLine
    station: FakeStation
    cloud: StoringCloud | None
    gateway: RunningGateway
    program: Sequence[str]
    broker: Broker
    faults: Faults | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    def step(self, name: str | None) -> None:
        """Name the row that what follows belongs to; None: it is not cut."""
        put_mark(self.trace, {"row": name})

    def start(self) -> None:
        with (self.folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, "run", "--config", str(self.gateway.file), "--log", "json"],
                stderr=log,
                stdout=log,
                env={**os.environ, **environment(self.state, self.trace, self.faults)},
            )

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(DEADLINE_S)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def make_records(self, number: int, at_once: int = 13) -> None:
        """The station makes records, each time so many, and is told that they are stored."""
        for _ in range(0, number, at_once):
            self.station.add(at_once)
            last = self.station.next_seq - 1
            wait_for(lambda last=last: self.station.stored_through >= last, f"seq {last} stored", DEADLINE_S)  # type: ignore[misc]

    def buffered(self) -> int:
        reader = OutboxReader(self.gateway.outbox)
        number = sum(state.buffered for state in reader.series()) + len(reader.messages_waiting(100))
        reader.close()
        return number

    def until_empty(self) -> None:
        """The cloud stores all that waits."""
        assert self.cloud is not None
        self.cloud.stores.set()
        wait_for(lambda: self.buffered() == 0, "an empty outbox", DEADLINE_S)
        self.cloud.stores.clear()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


@contextmanager
def a_life(
    folder: Path,
    *,
    with_cloud: bool = True,
    program: Sequence[str] = PROGRAM,
    max_bytes: int | None = None,
    lies: Lies | None = None,
    faults: Faults | None = None,
) -> Iterator[Life]:
    """Everything around a gateway that has not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir(exist_ok=True)
    trace = folder / "trace"
    station = FakeStation(STATION, ADDRESS, JOURNAL)
    station.on_acknowledge = lambda journal, through: put_mark(trace, {"acknowledged": [journal, through]})
    broker = Broker(folder)
    broker.start()
    cloud = None
    try:
        with FakeLine(station) as line, ExitStack() as more:
            port = broker.port if lies is None else more.enter_context(LyingBroker(broker.port, lies)).port
            cloud = StoringCloud(broker.port, folder / "cloud", trace) if with_cloud else None
            outbox = {} if max_bytes is None else {"max_bytes": max_bytes}
            gateway = RunningGateway(folder, line.port, port, {STATION: ADDRESS}, outbox, commit_timeout_s=2.0)
            life = Life(folder, line, station, cloud, gateway, program, broker, faults)
            if not with_cloud:
                broker.kill()
            try:
                yield life
            finally:
                life.close()
                if cloud is not None:
                    with suppress(OSError):
                        cloud.close()
    finally:
        broker.kill()
