"""`tram-cloud broker-files`: everything mosquitto needs to let in exactly the gateways of a network, and the cloud.

    DIR/broker/        for the broker's machine: mosquitto.conf, acl, ca.pem, server.pem, server.key, revoked.pem, data/
    DIR/clients/<id>/  for one gateway, or `cloud`: ca.pem, cert.pem, key.pem, broker.toml to paste
    DIR/ca.key, …      the authority (certificate_authority): stays here, backed up, and on no other machine

Running it again keeps what is good, makes what is missing, renews what ends soon, and revokes what is no longer in the
network.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cloud_ingest.certificate_authority import Authority, open_authority, write_private, write_public
from cloud_ingest.errors import AuthorityRefused
from station_config.broker_access import BENCH, CLOUD, mosquitto_acl

SERVER = "broker"
_SECONDS_PER_DAY = 86_400
_QUEUE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class BrokerPlan:
    """What the files are to say.

    `names`: the broker's DNS names and IP addresses, the first is what clients connect to. `folder_there`: where
    DIR/broker will stand on the broker's machine. `broker_user`: the user mosquitto runs as.
    """

    network: str
    gateways: tuple[str, ...]
    names: tuple[str, ...]
    port: int
    folder_there: Path
    broker_user: str
    valid_days: int
    renew_days: int
    revoke: frozenset[str] = frozenset()


@dataclass
class Report:
    """What was done, by name."""

    made: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)


def write_broker_files(plan: BrokerPlan, folder: Path, now_s: float) -> Report:
    """Bring the folder to what the plan says. Raises AuthorityRefused, OSError."""
    taken = sorted({CLOUD, BENCH, SERVER} & set(plan.gateways))
    if taken:
        raise AuthorityRefused(f"gateway {taken[0]}: this name has a meaning at the broker; call the gateway otherwise")
    unknown = sorted(plan.revoke - {*plan.gateways, CLOUD, SERVER})
    if unknown:
        raise AuthorityRefused(f"{unknown[0]} cannot be revoked: the network has no such gateway; check its spelling")
    authority, report = open_authority(folder, plan.network, now_s), Report()
    clients = folder / "clients"
    clients.mkdir(mode=0o700, exist_ok=True)
    _revoke(authority, plan, clients, now_s, report)
    for name in (*plan.gateways, CLOUD):
        _client(authority, plan, name, clients / name, now_s, report)
    _broker(authority, plan, folder / "broker", now_s, report)
    return report


def _revoke(authority: Authority, plan: BrokerPlan, clients: Path, now_s: float, report: Report) -> None:
    """Revoke every certificate of removed gateways, and of those named; take their keys away."""
    known = {*plan.gateways, CLOUD, SERVER} - plan.revoke
    gone = [one for one in authority.issued() if one.name not in known and one.ends_at > now_s]
    new = [one for one in gone if one.serial not in authority.revoked()]
    authority.revoke([one.serial for one in new], now_s)
    report.revoked = sorted({one.name for one in new})
    for name in report.revoked:
        if name != SERVER and (clients / name).is_dir():
            shutil.rmtree(clients / name)


def _client(authority: Authority, plan: BrokerPlan, name: str, folder: Path, now_s: float, report: Report) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    _certificate(authority, plan, name, folder / "cert.pem", folder / "key.pem", now_s, report)
    write_public(folder / "ca.pem", authority.certificate_pem)
    write_public(folder / "broker.toml", _toml(plan).encode())


def _broker(authority: Authority, plan: BrokerPlan, folder: Path, now_s: float, report: Report) -> None:
    folder.mkdir(exist_ok=True)
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    cert_file, key_file = folder / "server.pem", folder / "server.key"
    _certificate(authority, plan, SERVER, cert_file, key_file, now_s, report, server=plan.names)
    write_public(folder / "ca.pem", authority.certificate_pem)
    write_public(folder / "revoked.pem", authority.revocation_list())
    write_private(folder / "acl", mosquitto_acl((*plan.gateways, CLOUD)).encode())
    write_public(folder / "mosquitto.conf", _mosquitto(plan).encode())
    _give_to(plan.broker_user, (data, key_file, folder / "acl"))


def _certificate(
    authority: Authority,
    plan: BrokerPlan,
    name: str,
    cert_file: Path,
    key_file: Path,
    now_s: float,
    report: Report,
    *,
    server: Sequence[str] = (),
) -> None:
    """Make a certificate where there is none, none of this authority, one that ends soon, or one for other names."""
    there = cert_file.exists() and key_file.exists()
    if there and _still_good(authority, plan, cert_file, now_s, server):
        report.kept.append(name)
        return
    authority.issue(name, cert_file, key_file, now_s=now_s, days=plan.valid_days, server=server)
    (report.renewed if there else report.made).append(name)


def _still_good(authority: Authority, plan: BrokerPlan, cert_file: Path, now_s: float, server: Sequence[str]) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate_pem))
    except (OSError, ValueError, TypeError, InvalidSignature):  # not there, no certificate, not of this authority
        return False
    days_left = (certificate.not_valid_after_utc.timestamp() - now_s) / _SECONDS_PER_DAY
    return (
        days_left > plan.renew_days
        and certificate.serial_number not in authority.revoked()
        and (not server or _names_of(certificate) == set(server))
    )


def _names_of(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in names}


def _mosquitto(plan: BrokerPlan) -> str:
    there = plan.folder_there
    return f"""# Made by tram-cloud broker-files for {plan.network!r}; changes here are lost when it runs again.
listener {plan.port}
cafile {there / "ca.pem"}
certfile {there / "server.pem"}
keyfile {there / "server.key"}
crlfile {there / "revoked.pem"}
tls_version tlsv1.2
# A client's certificate is its login: its name (CN) is the user of the access list.
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {there / "acl"}
user {plan.broker_user}
# With its defaults mosquitto drops acknowledged messages to a subscriber slower than the senders.
max_queued_messages 0
max_inflight_messages 0
max_queued_bytes {_QUEUE_BYTES}
set_tcp_nodelay true
# What is lost between two saves, gateways send again: they forget only what a commit message names.
persistence true
persistence_location {there / "data"}/
autosave_interval 60
log_type error
log_type warning
log_type notice
"""


def _toml(plan: BrokerPlan) -> str:
    return f"""# Copy this folder to the machine, and paste this table into gateway.toml (cloud.toml for the cloud).
# Paths are meant from the configuration file's folder.
[broker]
host = "{plan.names[0]}"
port = {plan.port}
tls = true
ca_file = "ca.pem"
cert_file = "cert.pem"
key_file = "key.pem"
"""


def _give_to(user: str, paths: Iterable[Path]) -> None:
    """Make the broker's user the owner, when we may and the user is here; elsewhere the installer does it."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, entry.pw_uid, entry.pw_gid)
