"""The link to a guarded broker: password, TLS, and what it will not trust."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Iterator

import pytest

from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.subscriber import Inbox, Subscriber
from cloud_ingest.tests.field import Broker, batch, minutes, records_topic, until
from station_config.errors import ConfigurationError
from station_config.free_ports import free_port

SECRET = "sông-tiền"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """mosquitto with TLS and one user; its certificate is its own authority."""
    folder = tmp_path_factory.mktemp("guarded")
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(folder / "users"), "cloud", SECRET], check=True, capture_output=True
    )
    (folder / "secret").write_text(SECRET + "\n", encoding="utf-8")
    (folder / "wrong").write_text("guess\n")
    broker = Broker(free_port(), folder)
    broker.start(
        f"listener {broker.port} 127.0.0.1\nallow_anonymous false\npassword_file {folder}/users\nuser root\n"
        f"certfile {folder}/ca.pem\nkeyfile {folder}/key.pem\n"
    )
    yield broker
    broker.kill()


def settings(broker: Broker, password: str = "secret", **changes: object) -> BrokerSettings:
    known = {"port": broker.port, "user": "cloud", "tls": True, "ca_file": broker.folder / "ca.pem"}
    return BrokerSettings.model_validate({**known, "password_file": broker.folder / password, **changes})


def test_a_guarded_broker_lets_us_in_and_delivers(guarded: Broker) -> None:
    inbox = Inbox()
    subscriber = Subscriber(settings(guarded), inbox)
    subscriber.start()
    until(lambda: subscriber.connected, "the connection")
    subscriber.publish(records_topic("xuan-hoa"), batch(minutes(1)), qos=1)
    taken = inbox.take(1000, 10)
    subscriber.acknowledge(taken)
    subscriber.stop()
    assert [(one.topic, one.payload) for one in taken] == [(records_topic("xuan-hoa"), batch(minutes(1)))]


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("password", "changes", "says"),
    [
        ("wrong", {}, "refused: Not authorized; check user and password"),
        ("secret", {"ca_file": None}, "certificate verify failed"),
        ("secret", {"tls": False}, "connection lost"),
    ],
)
def test_without_trust_there_is_no_connection(
    guarded: Broker, password: str, changes: dict[str, object], says: str
) -> None:
    subscriber = Subscriber(settings(guarded, password, **changes), Inbox())
    subscriber.start()
    until(lambda: subscriber.problem is not None, "the refusal")
    subscriber.stop()
    gc.collect()
    assert says in str(subscriber.problem)
    assert not subscriber.connected


def test_a_missing_password_file_is_named(guarded: Broker) -> None:
    subscriber = Subscriber(settings(guarded, password="none"), Inbox())
    with pytest.raises(ConfigurationError, match=r"broker\.password_file: .*none cannot be read"):
        subscriber.start()
