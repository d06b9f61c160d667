"""mosquitto from exactly the files `tram-cloud broker-files` writes: whom it lets in, what it says to the others."""

from __future__ import annotations

import gc
import getpass
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_ingest.broker_files import BrokerPlan, Report, write_broker_files
from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.subscriber import Inbox, Subscribers
from edge_gateway.configuration import BrokerConfiguration
from edge_gateway.errors import BrokerRefused, BrokerUnreachable
from edge_gateway.mqtt_session import MqttSession, Will
from hil_tests.both_sides import Broker, chain, impatient, needs_mosquitto, until
from station_config.free_ports import free_port

pytestmark = [
    needs_mosquitto,
    # paho leaves the socket of a failed handshake to the garbage collector
    pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]
DAY_S = 86_400
A, B = "gw-mytho", "gw-bentre"


class Site:
    """A folder of broker files, and the broker that runs on them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.broker = Broker(folder, self.port, folder / "broker" / "mosquitto.conf")

    def write(self, *gateways: str, now_s: float | None = None, **changes: object) -> Report:
        settings = {"valid_days": 730, "renew_days": 90, **changes}
        plan = BrokerPlan(
            network="Test",
            gateways=gateways,
            names=("127.0.0.1", "localhost"),
            port=self.port,
            folder_there=self.folder / "broker",
            broker_user=getpass.getuser(),
            **settings,  # type: ignore[arg-type]
        )
        return write_broker_files(plan, self.folder, time.time() if now_s is None else now_s)

    def client(self, name: str, *leave_out: str, **changes: object) -> BrokerConfiguration:
        folder = self.folder / "clients" / name
        files = {"ca_file": folder / "ca.pem", "cert_file": folder / "cert.pem", "key_file": folder / "key.pem"}
        known = {key: path for key, path in files.items() if key not in leave_out}
        return impatient(host="127.0.0.1", port=self.port, tls=True, **known, **changes)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path / "files")
    one.write(A, B)
    one.broker.start()
    yield one
    one.broker.kill()


def session(settings: BrokerConfiguration, *topics: str, client: str = "test") -> MqttSession:
    will = Will("tram/v1/status/nobody", b"{}")
    return MqttSession(
        settings, settings.addresses[0], settings.protocol, client, topics or ("tram/v1/commits/x",), will
    )


def refusal(settings: BrokerConfiguration) -> str:
    one = session(settings)
    with pytest.raises(BrokerRefused) as refused:
        one.connect()
    one.close()
    text = str(refused.value)
    del refused
    gc.collect()
    return text


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_gateway_and_the_cloud_meet_by_their_certificates(site: Site, tmp_path: Path, protocol: str) -> None:
    there = site.folder / "clients" / "cloud"
    cloud = BrokerSettings(
        host="127.0.0.1", port=site.port, tls=True,
        ca_file=there / "ca.pem", cert_file=there / "cert.pem", key_file=there / "key.pem",
    )  # fmt: skip
    with chain(tmp_path, site.client(A, protocol=protocol), cloud) as both:
        both.record(1, 500)
        both.say(1, "warnings")
        both.committed()
        stored = both.stored()

    assert stored == list(range(1, 501))


def test_without_a_certificate_nobody_comes_in(site: Site) -> None:
    assert "the broker wants a client certificate: set cert_file and key_file" in refusal(
        site.client(A, "cert_file", "key_file")
    )


def test_the_cloud_without_its_certificate_is_told_what_to_do(site: Site) -> None:
    ca_file = site.folder / "clients" / "cloud" / "ca.pem"
    subscriber = Subscribers(BrokerSettings(host="127.0.0.1", port=site.port, tls=True, ca_file=ca_file), Inbox())
    subscriber.start()
    until(lambda: subscriber.problem, "the refusal")
    subscriber.stop()
    gc.collect()

    assert subscriber.problem == "the broker wants a client certificate: set cert_file and key_file"


def test_a_certificate_of_another_authority_is_refused(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other")
    other.write(A)
    stranger = other.client(A).model_copy(update={"port": site.port, "ca_file": site.folder / "ca.pem"})

    assert "the broker does not know who made cert_file" in refusal(stranger)


def test_a_certificate_that_has_ended_is_refused(site: Site) -> None:
    (site.folder / "clients" / A / "cert.pem").unlink()
    site.write(A, B, now_s=time.time() - 100 * DAY_S, valid_days=50, renew_days=0)

    assert "the broker says cert_file has ended: renew it" in refusal(site.client(A))


def test_a_removed_gateway_is_revoked_and_refused(site: Site) -> None:
    stolen = {name: (site.folder / "clients" / B / name).read_bytes() for name in ("cert.pem", "key.pem", "ca.pem")}
    report = site.write(A)
    gone = not (site.folder / "clients" / B).exists()
    site.broker.kill()
    site.broker.start()
    (site.folder / "clients" / B).mkdir()
    for name, data in stolen.items():
        (site.folder / "clients" / B / name).write_bytes(data)

    assert (report.revoked, report.kept, gone) == ([B], [A, "cloud", "broker"], True)
    assert "the broker says cert_file is revoked" in refusal(site.client(B))
    still = session(site.client(A))
    still.connect()
    still.close()


def test_a_broker_that_is_not_the_one_of_our_authority_is_not_trusted(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other")
    other.write(A)

    assert "check ca_file" in refusal(site.client(A).model_copy(update={"ca_file": other.folder / "ca.pem"}))


def test_a_gateway_can_neither_speak_as_another_nor_hear_its_commands(site: Site) -> None:
    sessions = {
        "a": session(site.client(A), f"tram/v1/commands/{B}", f"tram/v1/commits/{B}", client="a"),
        "b": session(site.client(B), f"tram/v1/commands/{B}", client="b"),
        "cloud": session(site.client("cloud"), "tram/v1/records/#", "tram/v1/results/#", client="cloud"),
    }
    for one in sessions.values():
        one.connect()
    for topic in (f"records/00/{A}/xuan-hoa", f"results/{A}"):
        sessions["a"].publish(f"tram/v1/{topic}", b"as myself")
    sessions["cloud"].publish(f"tram/v1/commands/{B}", b"for b")
    sessions["cloud"].publish(f"tram/v1/commits/{B}", b"for b")
    heard: dict[str, list[bytes]] = {name: [] for name in sessions}

    def listen(*names: str) -> None:
        for name in names:
            sessions[name].poll(0.01)
            while (message := sessions[name].take()) is not None:
                heard[name].append(message.payload)

    def all_is_heard() -> bool:
        listen(*sessions)
        return len(heard["cloud"]) == 2 and len(heard["b"]) == 1

    until(all_is_heard, "what is allowed")
    for topic in (f"records/00/{B}/xuan-hoa", f"results/{B}", f"status/{B}", f"commands/{B}", f"commits/{A}"):
        liar = session(site.client(A), client="liar")
        liar.connect()
        liar.publish(f"tram/v1/{topic}", b"as another")
        with suppress(BrokerUnreachable):  # mosquitto 2.0 ends the connection of an MQTT 3 client it denies a topic
            for _ in range(20):
                liar.poll(0.01)
        liar.close()
    for _ in range(20):
        listen(*sessions)
    for one in sessions.values():
        one.close()
    assert heard == {"a": [], "b": [b"for b"], "cloud": [b"as myself", b"as myself"]}
