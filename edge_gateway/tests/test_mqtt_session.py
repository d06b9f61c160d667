"""The connection to a real broker: passwords, TLS, and what is said when it fails."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_gateway.configuration import BrokerConfiguration
from edge_gateway.errors import BrokerRefused, BrokerUnreachable
from edge_gateway.mqtt_session import MqttSession, Will
from edge_gateway.tests.conftest import Broker
from station_config.free_ports import free_port

SECRET = "m4t-khau"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a self-signed certificate for 127.0.0.1, of the broker and its own authority."""
    folder = tmp_path_factory.mktemp("certificate")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def guarded(tmp_path: Path, certificate: Path) -> Iterator[Broker]:
    """A broker with TLS and one user."""
    for name in ("key.pem", "ca.pem"):
        shutil.copy(certificate / name, tmp_path)
        (tmp_path / name).chmod(0o644)
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "gw-test", SECRET], check=True, capture_output=True)
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    broker = Broker(tmp_path)
    broker.file.write_text(
        f"listener {broker.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
        f"certfile {tmp_path}/ca.pem\nkeyfile {tmp_path}/key.pem\nuser root\n"
    )
    broker.start()
    yield broker
    broker.kill()


def session(port: int, protocol: str = "3.1.1", **settings: Any) -> MqttSession:
    broker = BrokerConfiguration(port=port, **settings)
    return MqttSession(
        broker,
        broker.addresses[0],
        protocol,
        "tram-gw-test",
        ("tram/v1/commits/gw-test", "tram/v1/commands/gw-test"),
        Will("tram/v1/status/gw-test", b"{}"),
    )


def secret_file(folder: Path, secret: str) -> Path:
    (folder / "secret").write_text(secret + "\n")
    return folder / "secret"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_both_versions_of_mqtt_connect_and_subscribe(broker: Broker, protocol: str) -> None:
    connection = session(broker.port, protocol)

    connection.connect()

    for topic in ("tram/v1/commits/gw-test", "tram/v1/commands/gw-test", "tram/v1/commands/gw-other"):
        connection.publish(topic, topic.encode())
    received = []
    for _ in range(50):
        connection.poll(0.1)
        while (message := connection.take()) is not None:
            received.append(message)
        if len(received) == 2:
            break
    connection.close()
    assert {(one.topic, one.payload.decode()) for one in received} == {
        ("tram/v1/commits/gw-test", "tram/v1/commits/gw-test"),
        ("tram/v1/commands/gw-test", "tram/v1/commands/gw-test"),
    }


def test_tls_with_our_authority_and_a_password_connects(guarded: Broker, tmp_path: Path) -> None:
    connection = session(
        guarded.port,
        tls=True,
        ca_file=tmp_path / "ca.pem",
        user="gw-test",
        password_file=secret_file(tmp_path, SECRET),
    )

    connection.connect()
    connection.close()


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_of_an_unknown_authority_is_refused(guarded: Broker) -> None:
    with pytest.raises(BrokerRefused, match="check ca_file"):
        session(guarded.port, tls=True).connect()


def test_a_wrong_password_is_refused_and_not_told(guarded: Broker, tmp_path: Path) -> None:
    wrong = secret_file(tmp_path, "sai-mat-khau")
    connection = session(guarded.port, tls=True, ca_file=tmp_path / "ca.pem", user="gw-test", password_file=wrong)

    with pytest.raises(BrokerRefused, match="check user, password_file") as refusal:
        connection.connect()

    connection.close()
    assert "sai-mat-khau" not in str(refusal.value)


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(BrokerUnreachable):
        session(free_port()).connect()


def test_a_broker_that_goes_is_noticed(broker: Broker) -> None:
    connection = session(broker.port)
    connection.connect()
    broker.kill()

    def poll_for_five_seconds() -> None:
        for _ in range(50):
            connection.poll(0.1)

    with pytest.raises(BrokerUnreachable):
        poll_for_five_seconds()
