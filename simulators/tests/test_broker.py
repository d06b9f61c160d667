"""Both brokers as processes, seen by paho: what our chain needs of a broker, and what it must refuse."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from simulators.broker import BrokerMissing, BrokerSetup, find_mosquitto, set_up_broker
from station_config.broker_access import access_of, allows, mosquitto_acl
from station_config.free_ports import free_port

DEADLINE_S = 60.0
KINDS = [
    pytest.param("mosquitto", marks=pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")),
    "embedded",
]
RECORDS_A = "tram/v1/records/2a/gw-a/xuan-hoa"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = monotonic() + DEADLINE_S
    while not condition():
        assert monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        Event().wait(0.01)


@dataclass
class Running:
    """One broker process."""

    setup: BrokerSetup
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.setup.argv, stdout=subprocess.DEVNULL)
        until(self.answers, "the broker to answer")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", self.setup.port), timeout=30).close()
        except OSError:
            return False
        return True

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@dataclass
class Peer:
    """One MQTT client: what it has received, and how its connection went."""

    broker: Running
    user: str | None
    password: str | None = None
    id: str = ""
    clean: bool = True
    manual_ack: bool = False
    will: str | None = None
    received: list[tuple[str, bytes, bool]] = field(default_factory=list)
    answers: list[bool] = field(default_factory=list)

    def __enter__(self) -> Peer:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=self.id, clean_session=self.clean, manual_ack=self.manual_ack
        )
        if self.user is not None:
            file = self.broker.setup.directory / f"password-{self.user}"
            client.username_pw_set(self.user, self.password or file.read_text(encoding="utf-8").strip())
        if self.will:
            client.will_set(self.will, b"offline", qos=1, retain=True)
        client.on_connect = lambda _c, _u, _f, reason, _p: self.answers.append(not reason.is_failure)
        client.on_message = lambda _c, _u, message: self._take(message)
        self.mids: list[int] = []
        client.on_subscribe = lambda _c, _u, mid, _codes, _p: self.mids.append(mid)
        client.connect("127.0.0.1", self.broker.setup.port, keepalive=30)
        client.loop_start()
        self.client = client
        until(lambda: bool(self.answers), "an answer to CONNECT")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _take(self, message: mqtt.MQTTMessage) -> None:
        self.received.append((message.topic, bytes(message.payload), message.retain))

    def subscribe(self, topic: str) -> Peer:
        _result, mid = self.client.subscribe(topic, qos=1)
        until(lambda: mid in self.mids, "SUBACK")
        return self

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(DEADLINE_S)

    def wants(self, *payloads: bytes) -> None:
        until(lambda: len(self.received) >= len(payloads), f"{payloads}")
        assert [payload for _topic, payload, _retain in self.received] == list(payloads)

    def drop(self) -> None:
        """Lose the connection without a word."""
        self.client.loop_stop()
        sock = self.client.socket()
        assert sock is not None
        sock.close()


@pytest.fixture(scope="module", params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp(request.param)
    running = Running(set_up_broker(request.param, directory, free_port(), gateways=("gw-a", "gw-b")))
    running.start()
    yield running
    running.end(signal.SIGKILL)


def test_records_reach_the_cloud_and_the_commit_comes_back(broker: Running) -> None:
    with Peer(broker, "gw-a") as gateway, Peer(broker, "cloud") as cloud:
        gateway.subscribe("tram/v1/commits/gw-a")
        cloud.subscribe("tram/v1/records/+/+/+")
        gateway.publish(RECORDS_A, b"TRB1 batch")
        cloud.wants(b"TRB1 batch")
        cloud.publish("tram/v1/commits/gw-a", b"committed")
        gateway.wants(b"committed")


def test_messages_of_one_sender_keep_their_order(broker: Running) -> None:
    with Peer(broker, "gw-a") as gateway, Peer(broker, "cloud") as cloud:
        cloud.subscribe("tram/v1/records/+/+/+")
        payloads = [b"%d" % number for number in range(200)]
        for payload in payloads:
            gateway.client.publish(RECORDS_A, payload, qos=1)
        cloud.wants(*payloads)


@pytest.mark.parametrize(
    ("user", "password"), [(None, None), ("cloud", "guessed"), ("gw-a", "x" * 200), ("nobody", "guessed")]
)
def test_without_the_right_password_nobody_comes_in(broker: Running, user: str | None, password: str | None) -> None:
    with Peer(broker, user, password) as stranger:
        assert stranger.answers[0] is False


def test_a_gateway_cannot_write_as_another_nor_as_the_cloud(broker: Running) -> None:
    with Peer(broker, "bench") as bench:
        bench.subscribe("tram/v1/#")
        for topic in (RECORDS_A, "tram/v1/status/gw-a", "tram/v1/commits/gw-b", "tram/v1/live/xuan-hoa/salinity"):
            with Peer(broker, "gw-b") as thief:  # one connection each: mosquitto ends it with the refusal
                thief.publish(topic, b"forged")
        with Peer(broker, "gw-b") as gateway:
            gateway.publish("tram/v1/status/gw-b", b"own")
        bench.wants(b"own")


def test_a_gateway_does_not_hear_what_is_for_another(broker: Running) -> None:
    with Peer(broker, "gw-b") as listener, Peer(broker, "cloud") as cloud:
        for topic in ("#", "tram/v1/commits/gw-a", "tram/v1/commits/+", "tram/v1/commits/gw-b"):
            listener.subscribe(topic)
        cloud.publish("tram/v1/commits/gw-a", b"for a")
        cloud.publish("tram/v1/commits/gw-b", b"for b")
        until(lambda: bool(listener.received), "a commit")
        assert {payload for _topic, payload, _retain in listener.received} == {b"for b"}


def test_a_retained_status_waits_for_who_comes_later_and_is_for_subscribers_only(broker: Running) -> None:
    with Peer(broker, "gw-a") as gateway:
        gateway.publish("tram/v1/status/gw-a", b"online", retain=True)
    with Peer(broker, "cloud") as cloud:
        cloud.subscribe("tram/v1/status/+")
        cloud.wants(b"online")
        assert cloud.received[0][2] is True
        with Peer(broker, "bench") as other:
            other.subscribe("tram/v1/live/#")
            cloud.publish("tram/v1/live/xuan-hoa/salinity", b"2.3")
            other.wants(b"2.3")
    with Peer(broker, "gw-a") as gateway:
        gateway.publish("tram/v1/status/gw-a", b"", retain=True)


def test_a_gateway_that_vanishes_is_announced_by_its_will(broker: Running) -> None:
    with Peer(broker, "cloud") as cloud:
        cloud.subscribe("tram/v1/status/gw-b")
        with Peer(broker, "gw-b", will="tram/v1/status/gw-b") as gateway:
            gateway.drop()
            cloud.wants(b"offline")


def test_a_session_keeps_what_comes_while_its_client_is_away(broker: Running) -> None:
    wanted = {b"1", b"2", b"3"}
    with Peer(broker, "cloud", id="cloud-1", clean=False) as cloud:
        cloud.subscribe("tram/v1/records/+/+/+")
    with Peer(broker, "gw-a") as gateway:
        for payload in sorted(wanted):
            gateway.publish(RECORDS_A, payload)
    with Peer(broker, "cloud", id="cloud-1", clean=False) as cloud:  # at least once; the embedded one in any order
        until(lambda: wanted <= {payload for _topic, payload, _retain in cloud.received}, "all three")


@pytest.mark.parametrize("kind", KINDS[:1])
def test_mosquitto_sends_again_what_was_not_acknowledged(kind: str, tmp_path: Path) -> None:
    broker = Running(set_up_broker(kind, tmp_path, free_port(), gateways=("gw-a",)))  # type: ignore[arg-type]
    broker.start()
    with Peer(broker, "cloud", id="cloud-2", clean=False, manual_ack=True) as cloud, Peer(broker, "gw-a") as gateway:
        cloud.subscribe("tram/v1/records/+/+/+")
        gateway.publish(RECORDS_A, b"unacknowledged")
        cloud.wants(b"unacknowledged")
    with Peer(broker, "cloud", id="cloud-2", clean=False) as cloud:
        cloud.wants(b"unacknowledged")
    broker.end(signal.SIGTERM)


def test_nothing_is_lost_while_others_come_and_subscribe(broker: Running) -> None:
    payloads = [b"%d" % number for number in range(300)]
    with Peer(broker, "bench") as bench, Peer(broker, "gw-a") as gateway, Peer(broker, "cloud") as cloud:
        cloud.subscribe("tram/v1/results/+")
        bench.subscribe("tram/v1/results/gw-a")
        for number, payload in enumerate(payloads):
            gateway.client.publish("tram/v1/results/gw-a", payload, qos=1)
            cloud.client.subscribe(f"tram/v1/results/gw-{number}", qos=1)
        bench.wants(*payloads)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_it_comes_back_empty_and_lets_its_users_in(kind: str, tmp_path: Path) -> None:
    broker = Running(set_up_broker(kind, tmp_path, free_port(), gateways=("gw-a",)))  # type: ignore[arg-type]
    broker.start()
    with Peer(broker, "gw-a") as gateway:
        gateway.publish("tram/v1/status/gw-a", b"before", retain=True)
        broker.end(signal.SIGKILL)
        broker.setup.erase()
        broker.start()
        until(lambda: len(gateway.answers) > 1, "the gateway to come back by itself")
        with Peer(broker, "cloud") as cloud:
            cloud.subscribe("tram/v1/status/#")
            gateway.publish("tram/v1/status/gw-a", b"after", retain=False)
            cloud.wants(b"after")
    assert broker.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_owner_can_read_passwords_and_the_broker_has_hashes(kind: str, tmp_path: Path) -> None:
    setup = set_up_broker(kind, tmp_path / "b", 1, gateways=("gw-a",))  # type: ignore[arg-type]
    again = set_up_broker(kind, tmp_path / "b2", 1, gateways=("gw-a",))  # type: ignore[arg-type]

    secrets = [s.password_file(user).read_text(encoding="utf-8").strip() for s in (setup, again) for user in s.users]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in setup.directory.glob("password*")}
    broker_file = (setup.directory / "passwords").read_text(encoding="utf-8")
    assert (len(set(secrets)), modes, [s for s in secrets if s in broker_file]) == (6, {0o600}, [])
    assert not any(secret in word for secret in secrets for word in setup.argv)


def test_auto_takes_mosquitto_where_it_is_and_the_embedded_broker_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = set_up_broker("auto", tmp_path / "here", 1, gateways=()).kind
    monkeypatch.setattr("simulators.broker.find_mosquitto", lambda: None)
    elsewhere = set_up_broker("auto", tmp_path / "elsewhere", 1, gateways=()).kind

    assert (here, elsewhere) == ("mosquitto" if find_mosquitto() else "embedded", "embedded")
    with pytest.raises(BrokerMissing, match="apt install mosquitto"):
        set_up_broker("mosquitto", tmp_path, 1, gateways=())


@pytest.mark.parametrize(
    ("user", "reads", "topic", "allowed"),
    [
        ("gw-a", True, "tram/v1/commits/gw-a", True),
        ("gw-a", True, "tram/v1/commits/gw-b", False),
        ("gw-a", True, "tram/v1/commits/+", False),
        ("gw-a", True, "tram/v1/#", False),
        ("gw-a", True, "#", False),
        ("gw-a", False, "tram/v1/records/00/gw-a/xuan-hoa", True),
        ("gw-a", False, "tram/v1/records/00/gw-a", True),
        ("gw-a", False, "tram/v1/records/00/gw-b/xuan-hoa", False),
        ("gw-a", False, "tram/v1/commits/gw-a", False),
        ("cloud", True, "tram/v1/records/#", True),
        ("cloud", True, "tram/v1/records/+/+/+", True),
        ("cloud", True, "tram/v1/+/x", False),
        ("cloud", False, "tram/v1/commits/gw-a", True),
        ("cloud", False, "tram/v1/records/00/gw-a/xuan-hoa", False),
        ("bench", True, "#", True),
        ("bench", True, "$SYS/broker/uptime", True),
        ("bench", False, "tram/v1/status/gw-a", False),
    ],
)
def test_access(user: str, reads: bool, topic: str, allowed: bool) -> None:
    access = access_of(user)

    assert allows(access.read if reads else access.write, topic) is allowed


def test_mosquittos_acl_names_every_user_once() -> None:
    lines = mosquitto_acl(("gw-a", "cloud")).splitlines()

    assert [line for line in lines if line.startswith("user")] == ["user gw-a", "user cloud"]
