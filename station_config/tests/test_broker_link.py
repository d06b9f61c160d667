"""The `[broker]` table that gateway and cloud share: addresses, and files that are checked before anything starts."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from station_config.broker_link import BrokerAddress, BrokerLink, broker_faults
from station_config.certificates import date_advice

BEGINS, ENDS = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a certificate, its key, another key, the same with a passphrase, and text."""
    folder = tmp_path_factory.mktemp("files")
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gw-mytho")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(BEGINS)
        .not_valid_after(ENDS)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (folder / "other.pem").write_bytes(other.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (folder / "locked.pem").write_bytes(key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x")))
    (folder / "text.pem").write_text("sông Tiền")
    return folder


GOOD = {"ca_file": "cert.pem", "cert_file": "cert.pem", "key_file": "key.pem"}


@pytest.mark.parametrize(
    ("broker", "faults"),
    [
        pytest.param(GOOD, [], id="good"),
        pytest.param({"cert_file": "cert.pem"}, [("cert_file", "key_file is missing")], id="no key"),
        pytest.param({"key_file": "key.pem"}, [("key_file", "cert_file is missing")], id="no certificate"),
        pytest.param({**GOOD, "key_file": "other.pem"}, [("key_file", "the key of another certificate")], id="no pair"),
        pytest.param({**GOOD, "key_file": "locked.pem"}, [("key_file", "has a passphrase")], id="passphrase"),
        pytest.param({**GOOD, "key_file": "cert.pem"}, [("key_file", "no private key in PEM form")], id="mixed up"),
        pytest.param({"ca_file": "text.pem"}, [("ca_file", "no certificate in PEM form")], id="text"),
        pytest.param({"ca_file": "none.pem"}, [("ca_file", "cannot be read: No such file")], id="missing"),
        pytest.param({**GOOD, "tls": False}, [("tls", "a client certificate needs TLS")], id="TLS is off"),
        pytest.param({"hosts": ["a"], "port": 1}, [("port", "hosts names the brokers")], id="hosts and port"),
        pytest.param({"hosts": ["a:1", "a:1"]}, [("hosts.1", "listed twice")], id="twice"),
        pytest.param({"hosts": ["a:70000"]}, [("hosts.0", "1 to 65535")], id="no port"),
        pytest.param("text", [], id="no table"),
        pytest.param({"hosts": 7, "cert_file": 7}, [], id="other types"),
    ],
)
def test_faults_are_told_before_anything_starts(folder: Path, broker: object, faults: list[tuple[str, str]]) -> None:
    found = list(broker_faults({"broker": broker}, folder))

    assert [".".join(map(str, fault.path[1:])) for fault in found] == [where for where, _ in faults]
    assert all(says in fault.text for fault, (_, says) in zip(found, faults, strict=True))


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ((2025, 12, 31), "valid from 2026-01-01; this machine's clock is behind"),
        ((2026, 6, 1), None),
        ((2026, 12, 10), "ends on 2027-01-01; renew it"),
        ((2027, 1, 2), "ended on 2027-01-01; renew it"),
    ],
)
def test_the_dates_of_a_certificate_are_told(folder: Path, when: tuple[int, int, int], says: str | None) -> None:
    advice = date_advice(folder / "cert.pem", datetime.datetime(*when, tzinfo=datetime.UTC).timestamp())

    assert advice is None if says is None else says in str(advice)


@pytest.mark.parametrize(
    ("table", "addresses", "tls"),
    [
        ({}, [("127.0.0.1", 1883)], False),
        ({"host": "mqtt.example.org"}, [("mqtt.example.org", 8883)], True),
        ({"host": "10.0.0.1", "tls": False}, [("10.0.0.1", 1883)], False),
        (
            {"hosts": ["a.example.org", "b:8884", "[::1]:1884"]},
            [("a.example.org", 8883), ("b", 8884), ("::1", 1884)],
            True,
        ),
        ({"hosts": ["localhost:1", "127.0.0.1:2"]}, [("localhost", 1), ("127.0.0.1", 2)], False),
    ],
)
def test_addresses_in_order_with_their_usual_ports(
    table: dict[str, object], addresses: list[tuple[str, int]], tls: bool
) -> None:
    link = BrokerLink.model_validate(table)

    assert link.addresses == tuple(BrokerAddress(*one) for one in addresses)
    assert link.uses_tls is tls


def test_an_address_is_written_as_it_is_read() -> None:
    assert [str(one) for one in (BrokerAddress("a", 1), BrokerAddress("::1", 2))] == ["a:1", "[::1]:2"]
