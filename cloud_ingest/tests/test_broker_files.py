"""`tram-cloud broker-files`: what it writes, and what it keeps, renews and revokes when it runs again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from cloud_ingest.broker_files import BrokerPlan, Report, write_broker_files
from cloud_ingest.certificate_authority import open_authority
from cloud_ingest.errors import AuthorityRefused
from cloud_ingest.tests.field import NETWORK

NOW = 1_780_000_000.0
DAY_S = 86_400
NAMES = ("mqtt.example.org", "203.0.113.5")
A, B = "gw-mytho", "gw-bentre"


def plan(
    folder: Path, *gateways: str, names: tuple[str, ...] = NAMES, revoke: frozenset[str] = frozenset()
) -> BrokerPlan:
    return BrokerPlan("Tiền Giang", gateways, names, 8883, folder / "broker", "nobody-here", 730, 90, revoke)


def write(folder: Path, *gateways: str, day: float = 0.0, **changes: object) -> Report:
    return write_broker_files(plan(folder, *gateways, **changes), folder, NOW + day * DAY_S)  # type: ignore[arg-type]


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def serials(folder: Path) -> dict[str, int]:
    return {path.parent.name: certificate(path).serial_number for path in folder.glob("clients/*/cert.pem")}


def revoked(folder: Path) -> set[int]:
    return {one.serial_number for one in x509.load_pem_x509_crl((folder / "broker" / "revoked.pem").read_bytes())}


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    write(tmp_path, A)

    keys = [tmp_path / "ca.key", tmp_path / "broker/server.key", *tmp_path.glob("clients/*/key.pem")]
    assert [path.stat().st_mode & 0o777 for path in keys] == [0o600] * 4


def test_a_second_run_keeps_everything(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "revoked.pem"}

    report = write(tmp_path, A, B, day=1)

    assert report == Report(kept=[A, B, "cloud", "broker"])
    assert {path: path.read_bytes() for path in before} == before


def test_what_ends_soon_is_renewed_and_what_is_missing_made(tmp_path: Path) -> None:
    write(tmp_path, A)
    write(tmp_path, A, B, day=600)

    report = write(tmp_path, A, B, day=700)

    assert (report.renewed, report.kept, report.made) == ([A, "cloud", "broker"], [B], [])


def test_all_certificates_of_a_removed_gateway_are_revoked(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    first = serials(tmp_path)[B]
    write(tmp_path, A, B, day=650)  # renewed: two are valid now
    second = serials(tmp_path)[B]

    report = write(tmp_path, A, day=651)
    again = write(tmp_path, A, day=652)

    assert (report.revoked, again.revoked) == ([B], [])
    assert revoked(tmp_path) == {first, second}
    assert B not in (tmp_path / "broker" / "acl").read_text()


def test_a_lost_gateway_is_revoked_and_gets_new_files(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    before = serials(tmp_path)

    report = write(tmp_path, A, B, revoke=frozenset({B}))

    after = serials(tmp_path)
    assert (report.revoked, report.made) == ([B], [B])
    assert revoked(tmp_path) == {before[B]}
    assert (after[A] == before[A], after[B] == before[B]) == (True, False)


def test_a_gateway_that_comes_back_gets_a_certificate_that_is_not_revoked(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    write(tmp_path, A)

    write(tmp_path, A, B)

    assert serials(tmp_path)[B] not in revoked(tmp_path)


def test_another_name_of_the_broker_renews_its_certificate_only(tmp_path: Path) -> None:
    write(tmp_path, A)

    report = write(tmp_path, A, names=("broker.example.org",))

    names = certificate(tmp_path / "broker/server.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert (report.renewed, report.kept) == (["broker"], [A, "cloud"])
    assert names.value.get_values_for_type(x509.DNSName) == ["broker.example.org"]


@pytest.mark.parametrize("name", ["cloud", "bench", "broker"])
def test_a_gateway_cannot_be_called_like_another_user(tmp_path: Path, name: str) -> None:
    with pytest.raises(AuthorityRefused, match="has a meaning at the broker"):
        write(tmp_path, name)


def test_an_authority_whose_key_is_lost_is_not_replaced_in_silence(tmp_path: Path) -> None:
    write(tmp_path, A)
    (tmp_path / "ca.key").unlink()

    with pytest.raises(AuthorityRefused, match=r"restore ca\.key and ca\.pem from a backup"):
        open_authority(tmp_path, "Tiền Giang", NOW)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloud_ingest.commands", "broker-files", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_command_writes_the_files_of_a_network(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(NETWORK)
    out = tmp_path / "out"

    done = run("--network", str(tmp_path / "network.toml"), "--out", str(out), "--name", "mqtt.example.org", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["made"] == ["gw-mytho", "cloud", "broker"]
    assert 'host = "mqtt.example.org"\nport = 8883\n' in (out / "clients/gw-mytho/broker.toml").read_text()


@pytest.mark.parametrize(
    ("name", "revoke", "code", "says"),
    [
        ("mqtt://x", [], 2, "without a port"),
        ("mqtt.example.org", ["--revoke", "gw-x"], 1, "gw-x cannot be revoked: the network has no such gateway"),
    ],
)
def test_a_wrong_use_is_told(tmp_path: Path, name: str, revoke: list[str], code: int, says: str) -> None:
    (tmp_path / "network.toml").write_text(NETWORK)

    done = run("--network", str(tmp_path / "network.toml"), "--out", str(tmp_path / "out"), "--name", name, *revoke)

    assert done.returncode == code
    assert says in done.stderr
