"""The TLS files of a `[broker]` table, of a gateway or of the cloud: whether they can be used, and until when.

    ca_file     the authority the broker's certificate is checked against
    cert_file   this machine's own certificate, its name (CN) is the user at the broker
    key_file    the private key of cert_file, PEM without a passphrase

`tram-cloud broker-files` makes all three. A certificate that has ended is told and not refused: a gateway that does not
start would lose records, one that cannot connect keeps them.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from station_config.errors import ConfigurationError
from station_config.toml_config import Fault, Table

ENDS_SOON_DAYS = 30
_SECONDS_PER_DAY = 86_400
_LISTEN_S = 5.0
_RENEW = "renew it with tram-cloud broker-files and copy it here"
_ALERTS = (
    ("alert certificate required", "the broker wants a client certificate: set cert_file and key_file"),
    (
        "alert unknown ca",
        "the broker does not know who made cert_file: take the one tram-cloud broker-files made for it",
    ),
    ("alert certificate expired", f"the broker says cert_file has ended: {_RENEW}"),
    ("alert certificate revoked", "the broker says cert_file is revoked: " + _RENEW),
    ("alert bad certificate", "the broker does not accept cert_file: " + _RENEW),
    ("alert decrypt error", "the broker does not accept cert_file: " + _RENEW),
    (
        "alert handshake failure",
        "the broker ended the TLS handshake: set cert_file and key_file if it wants a certificate",
    ),
)


class Validity(NamedTuple):
    """Whom a certificate names, and its first and last moment, unix seconds."""

    name: str
    begins_at: float
    ends_at: float


class TlsFiles(NamedTuple):
    """The three files, as the ssl module wants them."""

    ca_file: str | None
    cert_file: str | None
    key_file: str | None


def broker_file_faults(data: Table, folder: Path) -> Iterator[Fault]:
    """Yield what is wrong with the TLS files of `data["broker"]`; relative paths are meant from `folder`.

    For `toml_config.load(check=…)`, so it takes unchecked data.
    """
    broker = data.get("broker")
    if not isinstance(broker, dict):
        return
    paths = {key: folder / broker[key] for key in ("ca_file", "cert_file", "key_file") if _is_path(broker.get(key))}
    if ("cert_file" in paths) != ("key_file" in paths):
        given, other = ("cert_file", "key_file") if "cert_file" in paths else ("key_file", "cert_file")
        yield Fault(("broker", given), f"{other} is missing; a certificate and its key are given together")
    if "cert_file" in paths and broker.get("tls") is False:
        yield Fault(("broker", "tls"), "a client certificate needs TLS; remove tls = false, or cert_file and key_file")
    faulty = False
    for key, path in paths.items():
        try:
            _read_key(path) if key == "key_file" else read_validity(path)
        except ConfigurationError as error:
            faulty = True
            yield Fault(("broker", key), str(error))
    if (
        not faulty
        and "cert_file" in paths
        and "key_file" in paths
        and not _match(paths["cert_file"], paths["key_file"])
    ):
        yield Fault(("broker", "key_file"), "is the key of another certificate; copy cert_file and key_file together")


def read_validity(path: Path) -> Validity:
    """Return whom the first certificate of a PEM file names, and its dates. Raises ConfigurationError."""
    from cryptography import x509  # slow to import, and needed only where certificates are

    try:
        certificate = x509.load_pem_x509_certificates(_read(path))[0]
    except (ValueError, IndexError):
        raise ConfigurationError(
            f"{path}: no certificate in PEM form; it begins with -----BEGIN CERTIFICATE-----"
        ) from None
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return Validity(
        str(names[0].value) if names else "",
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def date_advice(path: Path, now_s: float) -> str | None:
    """Return what to say of a certificate that has ended, ends soon or has not begun; None when all is well.

    Raises ConfigurationError when it cannot be read.
    """
    validity = read_validity(path)
    days_left = (validity.ends_at - now_s) / _SECONDS_PER_DAY
    if now_s < validity.begins_at:
        return (
            f"{path}: valid from {_date(validity.begins_at)}; this machine's clock is behind, or the file is for later"
        )
    if days_left < 0:
        return f"{path}: ended on {_date(validity.ends_at)}; {_RENEW}"
    if days_left < ENDS_SOON_DAYS:
        return f"{path}: ends on {_date(validity.ends_at)}; {_RENEW}"
    return None


def alert_advice(text: str) -> str | None:
    """Return what to do when a broker ended the TLS handshake with this alert (OpenSSL's text); None for no alert."""
    text = text.lower()
    return next((advice for mark, advice in _ALERTS if mark in text), None)


def handshake_refusal(host: str, port: int, files: TlsFiles) -> str | None:
    """Return what to do when a broker does not accept our certificate; None when that cannot be seen.

    With TLS 1.3 a broker looks at our certificate when for us the handshake is over, and who has begun to speak by then
    may find the connection reset and never read why. So this one connects and only listens.
    """
    context = ssl.create_default_context(cafile=files.ca_file)
    try:
        if files.cert_file and files.key_file:
            context.load_cert_chain(files.cert_file, files.key_file)
        with (
            socket.create_connection((host, port), _LISTEN_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as connection,
        ):
            connection.recv(1)
    except OSError as error:
        return alert_advice(str(error))
    return None


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def _read_key(path: Path) -> bytes:
    """Return the public half of a private key, DER. Raises ConfigurationError."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), None)
    except TypeError:
        raise ConfigurationError(
            f"{path}: has a passphrase, and nobody is there to type it; take a key without"
        ) from None
    except ValueError:
        raise ConfigurationError(f"{path}: no private key in PEM form") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _match(cert_file: Path, key_file: Path) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    certificate = x509.load_pem_x509_certificates(_read(cert_file))[0]
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public == _read_key(key_file)


def _date(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d")
