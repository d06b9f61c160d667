"""`tram-gateway doctor` before real parts that fail for real: ports, disks, brokers, certificates, stations."""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import string
import subprocess
import sys
import threading
import tomllib
import tty
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from edge_gateway.commands import app
from edge_gateway.doctor.findings import Language, language_of
from edge_gateway.tests.conftest import Broker, Cloud, wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.running import PROGRAM, RunningGateway
from station_config.free_ports import free_port

TEXTS = Path(__file__).parents[1] / "doctor" / "texts.toml"
LINE = '[[line]]\nname = "uplink"\nport = "{port}"\nbaud = 115200\ntimeout_s = 0.2\n'
STATION = '[[line.station]]\nid = "{id}"\naddress = {address}\n'
Found = dict[str, dict[str, Any]]
"""Findings by code."""


class Patient:
    """A gateway.toml to examine."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "gateway.toml"
        self.state = folder / "state"
        self.state.mkdir()
        self.broker = f"port = {free_port()}"
        self.port = "/dev/no-such-port"
        self.stations = {"xuan-hoa": 11}

    def write(self) -> None:
        stations = "".join(STATION.format(id=name, address=address) for name, address in self.stations.items())
        head = f'id = "gw-test"\nstate_dir = "{self.state}"\n[broker]\n{self.broker}\n'
        self.file.write_text(head + LINE.format(port=self.port) + stations)

    def examined(self, *arguments: str) -> tuple[int, Found]:
        """Return the exit code, and what was found."""
        self.write()
        done = CliRunner().invoke(app, ["doctor", "--config", str(self.file), "--json", "--lang", "en", *arguments])
        return done.exit_code, {finding["code"]: finding for finding in json.loads(done.output)["findings"]}

    def found(self, *arguments: str) -> Found:
        return self.examined(*arguments)[1]


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A serial port: the far end's descriptor, and the port's name."""
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


class Papers:
    """An authority, and certificates it signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.authority = folder / "ca.pem"
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self.authority.write_bytes(self._signed(self._name, self._key, -1, 3650, ca=True))

    def make(self, name: str, first_day: int, last_day: int, host: str = "localhost") -> tuple[Path, Path]:
        """Return certificate and key; days count from today."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_file.write_bytes(self._signed(subject, key, first_day, last_day, host=host))
        form = serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return cert_file, key_file

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        first_day: int,
        last_day: int,
        *,
        ca: bool = False,
        host: str = "localhost",
    ) -> bytes:
        today = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today + timedelta(days=first_day))
            .not_valid_after(today + timedelta(days=last_day, hours=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


def serve_tls(broker: Broker, cert_file: Path, key_file: Path) -> None:
    """Let the broker speak TLS only."""
    broker.kill()
    # It drops root's rights, and a test's folder is root's alone.
    broker.file.write_text(f"user root\n{broker.file.read_text()}certfile {cert_file}\nkeyfile {key_file}\n")
    broker.start()


def found_beside(gateway: RunningGateway) -> Found:
    """Return what is found beside a running gateway."""
    done = CliRunner().invoke(app, ["doctor", "--config", str(gateway.file), "--json"])
    return {finding["code"]: finding for finding in json.loads(done.output)["findings"]}


# --- ports -----------------------------------------------------------------------------------------------------------


def test_a_port_that_is_not_there_is_a_failure_with_advice(patient: Patient) -> None:
    code, found = patient.examined()

    assert code == 1
    assert found["port-missing"]["verdict"] == "failure"
    assert "lsusb" in found["port-missing"]["advice"]


def test_a_file_is_no_port(patient: Patient) -> None:
    patient.port = str(patient.file)

    assert "port-no-port" in patient.found()


def test_a_free_port_is_opened(patient: Patient, terminal: tuple[int, str]) -> None:
    patient.port = terminal[1]

    assert patient.found()["port-ok"]["values"] == {"port": terminal[1], "baud": 115200}


def test_a_port_in_use_is_not_touched_and_its_user_is_named(patient: Patient, terminal: tuple[int, str]) -> None:
    patient.port = terminal[1]
    sleeper = "import os,sys,time; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", sleeper, terminal[1]], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        found = patient.found()
        holder.kill()

    assert f"process {holder.pid}" in found["port-held"]["text"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every port")
def test_a_port_without_rights_names_the_group(patient: Patient, terminal: tuple[int, str]) -> None:
    patient.port = terminal[1]
    Path(terminal[1]).chmod(0)

    assert "dialout" in patient.found()["port-no-right"]["advice"]


def test_a_port_whose_wires_are_joined_proves_itself(patient: Patient, terminal: tuple[int, str]) -> None:
    patient.port = terminal[1]
    stop = threading.Event()

    def wires() -> None:
        while not stop.is_set():
            try:
                os.write(terminal[0], os.read(terminal[0], 4096))
            except OSError:  # nobody has the port open
                stop.wait(0.01)

    joined = threading.Thread(target=wires, daemon=True)
    joined.start()
    found = patient.found("--loopback", "uplink")
    stop.set()
    os.write(os.open(terminal[1], os.O_RDWR | os.O_NOCTTY), b"!")
    joined.join(60)

    assert list(found) == ["port-loop"]


def test_a_port_with_open_wires_says_that_nothing_came_back(patient: Patient, terminal: tuple[int, str]) -> None:
    patient.port = terminal[1]

    assert list(patient.found("--loopback", "uplink")) == ["port-loop-silent"]


def test_a_modbus_tcp_device_that_is_off_is_a_failure(patient: Patient) -> None:
    patient.port = f"rtu+tcp://127.0.0.1:{free_port()}"

    assert patient.found()["port-no-device"]["verdict"] == "failure"


def test_the_modem_that_is_to_warn_people_is_looked_for_too(patient: Patient, tmp_path: Path) -> None:
    network = Path(__file__).parents[2] / "simulators" / "demo_network.toml"
    (tmp_path / "rules.toml").write_text("")
    patient.write()
    warning = '[warning]\nrules = "rules.toml"\n[warning.modem]\nport = "/dev/no-modem"\n'
    people = '[[warning.recipient]]\nname = "Tram truc"\nphone = "+84900000001"\n'
    patient.file.write_text(f'network = "{network}"\n{patient.file.read_text()}{warning}{people}')
    done = CliRunner().invoke(app, ["doctor", "--config", str(patient.file), "--json", "--lang", "en"])

    subjects = [one["subject"] for one in json.loads(done.output)["findings"] if one["code"] == "port-missing"]
    assert subjects == ["uplink", "warning.modem"]


# --- clock and disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "code"), [(86_400, "clock-not-set"), (1_500_000_000, "clock-behind")])
def test_a_clock_that_stood_still_is_not_believed(
    at: float, code: str, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from station_config.clock import BENCH_CLOCK_VARIABLE

    monkeypatch.setenv(BENCH_CLOCK_VARIABLE, f"{datetime.now(UTC).timestamp()!r},{at!r},1.0")

    assert patient.found()[code]["verdict"] == "failure"


def test_a_disk_that_can_be_written_is_timed(patient: Patient) -> None:
    assert patient.found()["disk-written"]["values"]["took_ms"] >= 0
    assert list(patient.state.iterdir()) == []


def test_a_card_that_turned_read_only_is_a_failure(patient: Patient) -> None:
    patient.write()
    mount = f'mount -t tmpfs -o ro tmpfs "{patient.state}" && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", mount, "_"]
    if shutil.which("unshare") is None or subprocess.run([*argv, "true"], capture_output=True).returncode != 0:
        pytest.skip("mounting a read-only disk needs unshare and root")
    done = subprocess.run(
        [*argv, *PROGRAM, "doctor", "--config", str(patient.file), "--json"], capture_output=True, text=True
    )

    assert done.returncode == 1, done.stderr
    found = {finding["code"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "Read-only file system" in found["disk-not-written"]["text"]


def test_a_disk_too_small_for_the_outbox_is_seen_before_it_is_full(patient: Patient) -> None:
    free = shutil.disk_usage(patient.state).free
    patient.broker += f"\n[outbox]\nmax_bytes = {2 * free}"

    assert patient.found()["disk-small"]["verdict"] == "warning"


def test_a_state_directory_that_is_not_there_is_a_failure(patient: Patient) -> None:
    patient.state.rmdir()

    assert "disk-no-folder" in patient.found()


# --- broker ----------------------------------------------------------------------------------------------------------


def test_a_broker_that_is_not_there(patient: Patient) -> None:
    assert patient.found()["broker-closed"]["verdict"] == "failure"


def test_a_name_that_means_nothing(patient: Patient) -> None:
    patient.broker = 'host = "broker.invalid"\ntls = false'

    assert patient.found()["broker-no-name"]["values"]["host"] == "broker.invalid"


def test_a_broker_that_lets_us_in(patient: Patient, broker: Broker) -> None:
    patient.broker = f"port = {broker.port}"

    assert patient.found()["broker-ok"]["verdict"] == "ok"


def test_a_broker_that_does_not_know_us(patient: Patient, broker: Broker) -> None:
    broker.kill()
    broker.file.write_text(broker.file.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    broker.start()
    patient.broker = f"port = {broker.port}"

    assert "not let us in" in patient.found()["broker-refused"]["text"]


def test_a_listener_that_is_no_broker(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_gateway.mqtt_session.HANDSHAKE_DEADLINE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        patient.broker = f"port = {mute.getsockname()[1]}"

        assert "broker-silent" in patient.found()


@pytest.mark.parametrize(
    ("first_day", "last_day", "host", "code"),
    [
        (-30, -1, "localhost", "tls-ended"),
        (2, 30, "localhost", "tls-not-begun"),
        (-1, 300, "other.example", "tls-name"),
        (-1, 5, "localhost", "tls-soon"),
    ],
)
def test_a_brokers_certificate_that_does_not_hold(
    first_day: int, last_day: int, host: str, code: str, patient: Patient, broker: Broker, papers: Papers
) -> None:
    serve_tls(broker, *papers.make("broker", first_day, last_day, host))
    patient.broker = f'host = "localhost"\nport = {broker.port}\ntls = true\nca_file = "{papers.authority}"'

    assert code in patient.found()


def test_a_brokers_certificate_from_an_authority_we_do_not_know(
    patient: Patient, broker: Broker, papers: Papers, tmp_path: Path
) -> None:
    serve_tls(broker, *papers.make("broker", -1, 300))
    (tmp_path / "other").mkdir()
    other = Papers(tmp_path / "other")
    patient.broker = f'host = "localhost"\nport = {broker.port}\ntls = true\nca_file = "{other.authority}"'

    assert "ca_file" in patient.found()["tls-unknown"]["advice"]


def test_tls_towards_a_port_that_speaks_none(patient: Patient, broker: Broker) -> None:
    patient.broker = f'host = "localhost"\nport = {broker.port}\ntls = true'

    assert {"tls-refused", "tls-none"} & set(patient.found())


def test_tls_with_all_papers_in_order(patient: Patient, broker: Broker, papers: Papers) -> None:
    serve_tls(broker, *papers.make("broker", -1, 300))
    patient.broker = f'host = "localhost"\nport = {broker.port}\ntls = true\nca_file = "{papers.authority}"'
    found = patient.found()

    assert found["broker-ok"]["verdict"] == "ok"
    assert not [code for code in found if code.startswith("tls-")]


@pytest.mark.parametrize(
    ("name", "first_day", "last_day", "code"),
    [
        ("gw-test", -30, -1, "certificate-ended"),
        ("gw-test", 2, 300, "certificate-not-begun"),
        ("gw-test", -1, 10, "certificate-soon"),
        ("gw-other", -1, 300, "certificate-name"),
    ],
)
def test_the_gateways_own_certificate(
    name: str, first_day: int, last_day: int, code: str, patient: Patient, papers: Papers
) -> None:
    cert_file, key_file = papers.make(name, first_day, last_day)
    patient.broker += f'\ntls = true\ncert_file = "{cert_file}"\nkey_file = "{key_file}"'

    assert code in patient.found()


def test_a_key_that_belongs_to_another_certificate_is_a_fault_of_the_configuration(
    patient: Patient, papers: Papers
) -> None:
    cert_file, _ = papers.make("gw-test", -1, 300)
    _, key_file = papers.make("gw-other", -1, 300)
    patient.broker += f'\ntls = true\ncert_file = "{cert_file}"\nkey_file = "{key_file}"'
    code, found = patient.examined()

    assert code == 2
    assert "key_file" in found["configuration-wrong"]["text"]


# --- stations --------------------------------------------------------------------------------------------------------


def test_stations_are_asked_who_they_are_and_how_late(patient: Patient, broker: Broker) -> None:
    sound, late = FakeStation("xuan-hoa", 11), FakeStation("vam-kenh", 12)
    sound.add(30)
    late.clock_offset_s = -90
    patient.stations = {"xuan-hoa": 11, "vam-kenh": 12, "hoa-binh": 13}
    with FakeLine(sound, late) as line:
        patient.port = line.port
        code, found = patient.examined()

    assert code == 1
    assert found["station-silent"]["subject"] == "hoa-binh"
    assert "A and B" in found["station-silent"]["advice"]
    assert found["station-clock-off"]["subject"] == "vam-kenh"
    assert found["station-clock-off"]["values"]["offset_s"] == pytest.approx(-90, abs=2)


def test_a_sound_station_shows_its_backlog(patient: Patient) -> None:
    station = FakeStation("xuan-hoa", 11)
    station.add(30)
    patient.stations = {"xuan-hoa": 11}
    with FakeLine(station) as line:
        patient.port = line.port
        answer = patient.found()["station-answers"]

    assert answer["verdict"] == "ok"
    assert answer["values"]["backlog"] == 30
    assert station.acknowledged == []


def test_another_station_at_the_address_is_named(patient: Patient) -> None:
    patient.stations = {"xuan-hoa": 11}
    with FakeLine(FakeStation("vam-kenh", 11)) as line:
        patient.port = line.port

        assert patient.found()["station-other"]["values"]["answers"] == "vam-kenh"


def test_beside_a_running_gateway_its_port_and_stations_are_left_alone(
    patient: Patient, tmp_path: Path, broker: Broker
) -> None:
    station = FakeStation("xuan-hoa", 11)
    station.add(5)
    with ExitStack() as stack:
        line = stack.enter_context(FakeLine(station))
        gateway = RunningGateway(tmp_path, line.port, broker.port, {"xuan-hoa": 11})
        stack.callback(gateway.close)
        gateway.start()
        wait_for(lambda: station.stored_through == 5)
        wait_for(lambda: "station-polled" in found_beside(gateway), "its word on the station", 60)
        found = found_beside(gateway)

    assert "gateway-runs" in found
    assert "port-ours" in found
    assert found["station-polled"]["subject"] == "xuan-hoa"
    assert "broker-ok" in found


def test_a_doctor_beside_the_gateway_does_not_push_it_off_the_broker(
    patient: Patient, tmp_path: Path, broker: Broker
) -> None:
    with ExitStack() as stack:
        line = stack.enter_context(FakeLine(FakeStation("xuan-hoa", 11)))
        cloud = Cloud(broker.port, "gw-test")
        stack.callback(cloud.close)
        gateway = RunningGateway(tmp_path, line.port, broker.port, {"xuan-hoa": 11})
        stack.callback(gateway.close)
        gateway.start()
        wait_for(lambda: cloud.status)
        CliRunner().invoke(app, ["doctor", "--config", str(gateway.file), "--json"])
        heard = len(cloud.status)
        wait_for(lambda: len(cloud.status) > heard)
        assert all(status["online"] for status in cloud.status)


# --- words -----------------------------------------------------------------------------------------------------------


def test_every_text_is_there_in_both_languages_with_the_same_values_and_advice_where_it_is_needed() -> None:
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    for code, text in texts.items():
        assert _places(text["en"]) | {"subject"} >= _places(text["vi"]), code
        assert _places(text["en"]) - {"subject", "why"} <= _places(text["vi"]) | {"why"}, code
        is_ok = text["verdict"] == "ok"
        assert is_ok != ("en_advice" in text and "vi_advice" in text), code


def test_every_finding_in_the_code_has_its_text() -> None:
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    code = "".join(file.read_text() for file in TEXTS.parent.glob("*.py"))
    built = {"certificate-ended", "certificate-not-begun", "certificate-soon", "certificate-ok", "configuration-wrong"}

    assert [name for name in texts if f'"{name}"' not in code and name not in built] == []


def test_a_vietnamese_technician_is_told_in_vietnamese(patient: Patient) -> None:
    patient.write()
    done = CliRunner().invoke(app, ["doctor", "--config", str(patient.file)], env={"LC_ALL": "vi_VN.UTF-8"})

    assert "không có /dev/no-such-port" in done.output
    assert "HỎNG" in done.output


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "vi_VN.UTF-8"}, Language.vi),
        ({"LANG": "vi_VN.UTF-8", "LC_ALL": "en_GB.UTF-8"}, Language.en),
        ({"LC_ALL": "", "LANG": "vi_VN"}, Language.vi),
        ({}, Language.en),
    ],
)
def test_the_language_is_the_persons(environment: dict[str, str], language: Language) -> None:
    assert language_of(environment) is language


def _places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}
