"""Brokers that die, that nobody listens to, and that lie: every record once in the store, every message once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.gateway_messages import GatewayMessage
from hil_tests.both_sides import Broker, Chain, chain, impatient, needs_mosquitto, until
from simulators.lying_broker import Lies, LyingBroker

pytestmark = needs_mosquitto


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[tuple[Broker, Broker]]:
    pair = Broker(tmp_path), Broker(tmp_path)
    for one in pair:
        one.start()
    yield pair
    for one in pair:
        one.kill()


def hosts(*brokers: Broker) -> list[str]:
    return [f"127.0.0.1:{broker.port}" for broker in brokers]


def in_use(both: Chain) -> int:
    return both.uplink.broker_in_use


def test_when_the_first_broker_dies_records_go_by_the_second_and_back_when_it_returns(
    brokers: tuple[Broker, Broker], tmp_path: Path
) -> None:
    first, second = brokers
    gateway = impatient(hosts=hosts(first, second), first_choice_after_s=0.5)
    with chain(tmp_path, gateway, BrokerSettings(hosts=tuple(hosts(first, second)))) as both:
        until(lambda: both.subscriber.connected, "the cloud on both brokers")
        both.record(1, 1000)
        until(lambda: len(both.stored()) > 100, "the first records")
        first.kill()
        both.record(1001, 3000)
        both.committed(30)
        during = in_use(both)
        first.start()
        until(lambda: in_use(both) == 0, "the way back to the first choice")
        until(lambda: both.subscriber.connected, "the cloud on both brokers again", 60)
        both.record(3001, 3500)
        both.committed(30)
        stored, duplicates = both.stored(), both.query("SELECT conflicts FROM journals")

    assert during == 1
    assert stored == list(range(1, 3501))
    assert duplicates == [(0,)]


def test_a_broker_the_cloud_does_not_listen_to_is_left_for_the_next(
    brokers: tuple[Broker, Broker], tmp_path: Path
) -> None:
    alone, heard = brokers
    gateway = impatient(hosts=hosts(alone, heard), commit_timeout_s=0.2)
    with chain(tmp_path, gateway, BrokerSettings(port=heard.port)) as both:
        both.record(1, 500)
        both.committed(30)
        used, stored = in_use(both), both.stored()

    assert used == 1
    assert stored == list(range(1, 501))


class Desk:
    """Takes results; counts how often each was new, as a handler's own table would."""

    def __init__(self) -> None:
        self.kept: Counter[str] = Counter()
        self.came = 0

    def take(self, _gateway: str, message: GatewayMessage) -> None:
        self.came += 1
        if message.id not in self.kept:
            self.kept[message.id] += 1


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("side", ["gateway", "cloud"])
def test_a_broker_that_acknowledges_and_loses_loses_nothing_and_doubles_nothing(
    brokers: tuple[Broker, Broker], tmp_path: Path, side: str, protocol: str
) -> None:
    broker, _ = brokers
    desk = Desk()
    with LyingBroker(broker.port, Lies(lose=0.25, double=0.2, hold=0.2)) as liar:
        ports = {"gateway": broker.port, "cloud": broker.port, side: liar.port}
        gateway = impatient(port=ports["gateway"], protocol=protocol)
        with chain(tmp_path, gateway, BrokerSettings(port=ports["cloud"]), {"results": desk.take}) as both:
            ids = []
            for at in range(10):
                both.record(1 + 300 * at, 300 * (at + 1))
                ids += both.say(3)
            both.committed(60)
            stored, conflicts = both.stored(), both.query("SELECT conflicts FROM journals")
    lost = liar.told["lose up"] + liar.told["lose down"]

    assert lost > 0, "it never lied: the test shows nothing"
    assert stored == list(range(1, 3001))
    assert conflicts == [(0,)]
    assert desk.kept == Counter(ids)


def test_a_slow_rate_sends_everything_and_little_of_it_twice(brokers: tuple[Broker, Broker], tmp_path: Path) -> None:
    broker, _ = brokers
    gateway = impatient(port=broker.port, max_bytes_per_s=20_000, commit_timeout_s=5.0)
    with chain(tmp_path, gateway, BrokerSettings(port=broker.port)) as both:
        both.record(1, 5000)
        both.committed(60)
        stored = both.stored()
        sent = both.uplink.counters.records_sent

    assert stored == list(range(1, 5001))
    assert sent < 2 * 5000


def test_a_spent_day_holds_records_back_and_lets_messages_through(
    brokers: tuple[Broker, Broker], tmp_path: Path
) -> None:
    broker, _ = brokers
    desk = Desk()
    gateway = impatient(port=broker.port, max_mb_per_day=0.000_001)
    with chain(tmp_path, gateway, BrokerSettings(port=broker.port), {"results": desk.take}) as both:
        until(lambda: both.uplink.counters.connections, "the connection")
        both.record(1, 100)
        ids = both.say(3)
        until(lambda: set(ids) <= set(desk.kept), "the messages")
        stored, waiting = both.stored(), both.waiting()

    assert stored == []
    assert waiting >= 100


def test_a_broker_that_forbids_messages_and_cuts_the_line_does_not_stop_the_records(tmp_path: Path) -> None:
    """Access rules from before messages: mosquitto ends the connection of an MQTT 3 client that publishes elsewhere."""
    broker = Broker(tmp_path)
    (tmp_path / "acl").write_text(
        "".join(f"topic readwrite tram/v1/{one}/#\n" for one in ("records", "commits", "status"))
    )
    conf = tmp_path / f"mosquitto-{broker.port}.conf"
    conf.write_text(f"{conf.read_text()}acl_file {tmp_path}/acl\nuser root\n")
    broker.start()
    try:
        with chain(tmp_path, impatient(port=broker.port), BrokerSettings(port=broker.port)) as both:
            both.say(1)
            both.record(1, 300)
            until(lambda: both.stored() == list(range(1, 301)), "the records", 60)
            waiting = both.waiting()
    finally:
        broker.kill()

    assert waiting >= 1
