"""What goes up and is no record, over a real broker: gateway's outbox and uplink here, the cloud's ingest there.

Both sides as they run in the field, in one process, so that a test can look into both files.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.gateway_messages import GatewayMessage, GatewayMessages, MessageRefused, decode_message
from cloud_ingest.ingest import Ingest
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from cloud_ingest.subscriber import Inbox, Subscriber
from cloud_ingest.worker import IngestWorker
from edge_gateway.configuration import (
    BrokerConfiguration,
    GatewayConfiguration,
    LineConfiguration,
    StationConfiguration,
)
from edge_gateway.contacts import ContactBook
from edge_gateway.messages import UpMessage, encode_message
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.uplink import Uplink
from station_config.clock import SystemClock
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

NOW = 1_780_000_000.0
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
pytestmark = pytest.mark.skipif(not shutil.which("mosquitto", path="/usr/sbin:/usr/bin"), reason="mosquitto is missing")


def until(condition: Callable[[], object], what: str, deadline_s: float = 15.0) -> None:
    pause = threading.Event()
    for _ in range(int(deadline_s / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(f"{what}: not within {deadline_s} s")


class Broker:
    """A mosquitto that keeps nothing on disk: killed, it has forgotten everything."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._file = folder / "mosquitto.conf"
        self._file.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(self._file)], stderr=subprocess.DEVNULL)
        until(self._answers, "the broker")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Desk:
    """Takes results at the cloud: what was kept, by id, and how often each came."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, GatewayMessage]] = {}
        self.came: Counter[str] = Counter()
        self.disk_full = False

    def take(self, gateway: str, message: GatewayMessage) -> None:
        self.came[message.id] += 1
        if self.disk_full:
            raise StoreUnavailable("the disk is full")
        if "command" not in message.body:
            raise MessageRefused("it names no command")
        self.kept.setdefault(message.id, (gateway, message))


class Chain(NamedTuple):
    """Both sides, running."""

    broker: Broker
    outbox: Outbox
    uplink: Uplink
    subscriber: Subscriber
    desk: Desk
    commands: list[bytes]
    store_file: Path

    def send(self, number: int, kind: str = "results", **body: object) -> list[str]:
        return self.outbox.write(
            lambda store: [store.enqueue(kind, {"command": f"c{at}", **body}, NOW + at) for at in range(number)]
        )

    def waiting(self) -> int:
        reader = self.outbox.reader()
        found = len(reader.messages_waiting(10_000))
        reader.close()
        return found

    def committed(self, *, deadline_s: float = 15.0) -> None:
        until(lambda: self.waiting() == 0, "the commit of every message", deadline_s)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    one = Broker(tmp_path)
    one.start()
    yield one
    one.kill()


@pytest.fixture
def chain(broker: Broker, tmp_path: Path) -> Iterator[Chain]:
    configuration = GatewayConfiguration(
        id=GATEWAY,
        state_dir=tmp_path,
        broker=BrokerConfiguration(port=broker.port, commit_timeout_s=0.3, retry_min_s=0.05, retry_max_s=0.2),
        line=(
            LineConfiguration(name="a", port="/dev/null", station=(StationConfiguration(id="xuan-hoa", address=11),)),
        ),
    )
    (tmp_path / "network.toml").write_text(NETWORK)
    registry = Registry(load_network(tmp_path / "network.toml"), load_instruments(), load_parameters())
    clock, stop, desk, inbox, commands = SystemClock(), threading.Event(), Desk(), Inbox(), list[bytes]()
    outbox = open_outbox(tmp_path / "outbox.sqlite", Limits(1 << 30, 1e9), clock)
    uplink = Uplink(configuration, outbox, ContactBook(("xuan-hoa",)), clock, commands.append)
    outbox.on_change(uplink.wake)
    subscriber = Subscriber(BrokerSettings(port=broker.port), inbox)
    with Store(tmp_path / "store") as store:
        ingest = Ingest(store, registry, GatewayMessages({"results": desk.take}))
        worker = IngestWorker(ingest, inbox, subscriber, clock, lambda: None)
        threads = [threading.Thread(target=work, args=(stop,)) for work in (worker.run, uplink.run)]
        subscriber.start()
        for thread in threads:
            thread.start()
        yield Chain(broker, outbox, uplink, subscriber, desk, commands, tmp_path / "store" / "store.sqlite")
        stop.set()
        inbox.close()
        uplink.wake()
        for thread in threads:
            thread.join(15)
        subscriber.stop()
    uplink.close()
    outbox.close()


def test_a_result_reaches_its_handler_and_leaves_the_outbox(chain: Chain) -> None:
    ids = chain.send(50, text="Độ mặn")
    chain.committed()

    assert list(chain.desk.kept) == ids
    assert chain.desk.kept[ids[7]] == (GATEWAY, GatewayMessage(ids[7], NOW + 7, {"command": "c7", "text": "Độ mặn"}))


def test_a_broker_killed_between_publish_and_commit_loses_no_message(chain: Chain) -> None:
    chain.desk.disk_full = True
    ids = chain.send(100)
    until(lambda: len(chain.desk.came) > 0, "the first arrival")
    chain.broker.kill()
    more = chain.send(20)
    chain.desk.disk_full = False
    chain.broker.start()
    chain.committed(deadline_s=40)

    assert set(chain.desk.kept) == set(ids + more)


def test_what_the_cloud_cannot_store_yet_is_not_committed_and_comes_again(chain: Chain) -> None:
    chain.desk.disk_full = True
    ids = chain.send(3)
    until(lambda: sum(chain.desk.came.values()) >= 3, "several attempts")
    waited = chain.waiting()
    chain.desk.disk_full = False
    chain.committed()

    assert waited == 3
    assert set(chain.desk.kept) == set(ids)


def test_a_commit_message_that_is_lost_makes_a_duplicate_that_changes_nothing(chain: Chain) -> None:
    ids = chain.send(5)
    chain.committed()
    first = dict(chain.desk.kept)
    for at, one in enumerate(ids):  # the gateway never heard of it and says it again
        chain.outbox.write(lambda store, at=at, one=one: store.enqueue("results", {"command": f"c{at}"}, NOW, one))  # type: ignore[misc]
    chain.committed()

    assert all(chain.desk.came[one] >= 2 for one in ids)
    assert chain.desk.kept == first


@pytest.mark.parametrize(
    ("kind", "says"), [("results", "it names no command"), ("losses", "nothing here takes losses")]
)
def test_what_can_never_be_used_is_set_aside_and_acknowledged(chain: Chain, kind: str, says: str) -> None:
    chain.outbox.write(lambda store: store.enqueue(kind, {"anything": 1}, NOW, "odd-1"))
    chain.committed()
    with sqlite3.connect(chain.store_file) as store:
        aside = store.execute("SELECT topic, reason FROM set_aside").fetchall()
    store.close()

    assert aside == [(f"tram/v1/{kind}/{GATEWAY}", says)]


def test_commands_are_handed_over_as_they_came(chain: Chain) -> None:
    until(lambda: chain.uplink.counters.connections and chain.subscriber.connected, "both connections")
    chain.subscriber.publish(f"tram/v1/commands/{GATEWAY}", b"\x00 not ours to read", qos=1)
    chain.subscriber.publish("tram/v1/commands/another", b"not for us", qos=1)
    chain.subscriber.publish(f"tram/v1/commands/{GATEWAY}", b"second", qos=1)
    until(lambda: len(chain.commands) == 2, "the commands")

    assert chain.commands == [b"\x00 not ours to read", b"second"]


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(
        st.text(max_size=8).filter(lambda key: key not in ("id", "at")), st.text() | st.integers() | st.none()
    ),
)
def test_the_cloud_reads_what_the_gateway_writes(message_id: str, at: float, body: dict[str, object]) -> None:
    written = encode_message(UpMessage(message_id, "results", json.dumps(body), at))

    assert decode_message(written) == GatewayMessage(message_id, at, body)
