"""The private authority of a network's broker: certificates for the broker, each gateway and the cloud.

    DIR/ca.pem        its certificate: what everybody checks the broker against, and the broker everybody
    DIR/ca.key        its key, 0600; whoever has it can be any gateway: keep DIR off the broker's machine
    DIR/issued.csv    name, serial, end of every certificate it ever made, so that all of a gateway's can be revoked
    DIR/revoked.pem   its revocation list

A certificate's name (CN) is the user at the broker. Keys are P-256. X.509 as in RFC 5280.
"""

from __future__ import annotations

import csv
import ipaddress
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_ingest.errors import AuthorityRefused

AUTHORITY_YEARS = 20
_BEGINS_EARLIER = timedelta(days=1)  # clocks differ
_CA_KEY, _CA_CERTIFICATE, _ISSUED, _REVOKED = "ca.key", "ca.pem", "issued.csv", "revoked.pem"


class Issued(NamedTuple):
    """One certificate that was made: whose, its serial number, its end in unix seconds."""

    name: str
    serial: int
    ends_at: int


class Authority:
    """The authority that stands in a folder. Made by `open_authority`."""

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.folder = folder
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self._key = key
        self._certificate = certificate

    def issue(
        self, name: str, cert_file: Path, key_file: Path, *, now_s: float, days: int, server: Sequence[str] = ()
    ) -> None:
        """Write a new key and a certificate for `name`, for a client, or for a server with these names and addresses.

        The list of what was made is on disk before the certificate is.
        """
        begins = datetime.fromtimestamp(now_s, UTC)
        ends = min(begins + timedelta(days=days), self._certificate.not_valid_after_utc)
        key, serial = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
        builder = _builder(name, self._certificate.subject, key.public_key(), serial, begins - _BEGINS_EARLIER, ends)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        if server:
            builder = builder.add_extension(x509.SubjectAlternativeName(_general_names(server)), critical=False)
        self._note(Issued(name, serial, int(ends.timestamp())))
        write_private(key_file, _key_pem(key))
        write_public(cert_file, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issued(self) -> list[Issued]:
        """Return every certificate made so far."""
        path = self.folder / _ISSUED
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [Issued(name, int(serial, 16), int(ends_at)) for name, serial, ends_at in csv.reader(file)]

    def revoke(self, serials: Iterable[int], now_s: float) -> None:
        """Write the revocation list: what was on it, and these. Its end is the authority's own."""
        now = datetime.fromtimestamp(now_s, UTC)
        revoked = {**dict.fromkeys(serials, now), **self._revoked()}  # of one that was on it, the first date stays
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _BEGINS_EARLIER)
            .next_update(self._certificate.not_valid_after_utc)
        )
        for serial, at in revoked.items():
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
            )
        signed = builder.sign(self._key, hashes.SHA256())
        write_public(self.folder / _REVOKED, signed.public_bytes(serialization.Encoding.PEM))

    def revocation_list(self) -> bytes:
        """Return the revocation list, PEM."""
        return (self.folder / _REVOKED).read_bytes()

    def revoked(self) -> set[int]:
        """Return the serial numbers on the revocation list."""
        return set(self._revoked())

    def _revoked(self) -> dict[int, datetime]:
        path = self.folder / _REVOKED
        if not path.exists():
            return {}
        return {one.serial_number: one.revocation_date_utc for one in x509.load_pem_x509_crl(path.read_bytes())}

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)

    def _note(self, issued: Issued) -> None:
        with (self.folder / _ISSUED).open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([issued.name, f"{issued.serial:x}", issued.ends_at])
            file.flush()
            os.fsync(file.fileno())


def open_authority(folder: Path, network: str, now_s: float) -> Authority:
    """Return the authority in `folder`; the first time it is made. Raises AuthorityRefused."""
    key_file, certificate_file = folder / _CA_KEY, folder / _CA_CERTIFICATE
    folder.mkdir(parents=True, exist_ok=True)
    if not key_file.exists() and not certificate_file.exists():
        _make(key_file, certificate_file, network, now_s)
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise AuthorityRefused(
            f"{folder}: the authority cannot be read ({error}); restore {_CA_KEY} and {_CA_CERTIFICATE} from a backup, "
            "or begin a new one in an empty folder and give every gateway its new files"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise AuthorityRefused(f"{folder}: {_CA_KEY} is not the key of {_CA_CERTIFICATE}; restore both from one backup")
    authority = Authority(folder, key, certificate)
    if not (folder / _REVOKED).exists():
        authority.revoke([], now_s)
    return authority


def write_private(path: Path, data: bytes) -> None:
    """Write a file only its owner can read, whole or not at all."""
    _write(path, data, 0o600)


def write_public(path: Path, data: bytes) -> None:
    """Write a file everybody can read, whole or not at all."""
    _write(path, data, 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _make(key_file: Path, certificate_file: Path, network: str, now_s: float) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.fromtimestamp(now_s, UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{network[:40]} broker authority")])
    ends = now + timedelta(days=365 * AUTHORITY_YEARS)
    builder = _builder(None, name, key.public_key(), x509.random_serial_number(), now - _BEGINS_EARLIER, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(
        _key_usage(key_cert_sign=True, crl_sign=True), critical=True
    )
    write_private(key_file, _key_pem(key))
    write_public(certificate_file, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _builder(
    name: str | None, issuer: x509.Name, key: ec.EllipticCurvePublicKey, serial: int, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    subject = issuer if name is None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(name) for name in names]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
