"""The gateway as a service: what is written, checked by systemd's own tools, written again, and taken back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from edge_gateway import installation
from edge_gateway.commands import app
from edge_gateway.configuration import GatewayConfiguration, load_configuration
from edge_gateway.installation import Installation, Program, SystemFile

ONE_LINE = """
id = "gw-mytho"
state_dir = "{state}"
[broker]
host = "broker.example"
password_file = "password"
[[line]]
name = "uplink"
port = "{port}"
[[line.station]]
id = "xuan-hoa"
address = 11
"""
TOOLS = ("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles", "systemctl")
PROGRAM = Program(Path("/opt/tram/bin/tram-gateway"), (Path("/opt/tram"), Path("/usr")))


@pytest.fixture
def systemd_tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and {missing} are not here: apt-get install systemd")
    if missing:
        pytest.skip(f"{missing} are not here: apt-get install systemd")


def planned(tmp_path: Path, state: str = "/var/lib/tram", port: str = "/dev/ttyUSB0", more: str = "") -> Installation:
    file = tmp_path / "gateway.toml"
    file.write_text(more + ONE_LINE.format(state=state, port=port))
    return installation.plan(load_configuration(file), file, PROGRAM)


def content(plan: Installation, name: str) -> str:
    return next(file.content for file in plan.files if file.path.name == name)


def install(prefix: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["install", "--prefix", str(prefix), *arguments])


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("systemd_tools")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "tram-gateway.service"
    # verify looks for the program too; this one is there
    unit.write_text(content(planned(tmp_path), unit.name).replace(str(PROGRAM.command), "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("systemd_tools")
def test_systemd_rates_the_exposure_of_the_unit_as_low(tmp_path: Path) -> None:
    unit = tmp_path / "tram-gateway.service"
    unit.write_text(content(planned(tmp_path), unit.name))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout  # 25 means 2.5 of 10


@pytest.mark.usefixtures("systemd_tools")
def test_a_blank_system_gets_a_configuration_that_loads_and_all_that_the_service_takes(tmp_path: Path) -> None:
    done = install(tmp_path)

    assert done.exit_code == 0, done.output
    assert load_configuration(tmp_path / "etc/tram/gateway.toml").state_dir == Path("/var/lib/tram")
    assert (tmp_path / "etc/systemd/system/multi-user.target.wants/tram-gateway.service").is_symlink()
    assert (tmp_path / "etc/passwd").read_text().startswith("tram:")
    assert (tmp_path / "var/lib/tram").is_dir()
    assert "edit /etc/tram/gateway.toml" in done.output
    assert "--uninstall" in done.output


@pytest.mark.usefixtures("systemd_tools")
def test_installed_twice_is_installed_once_and_the_persons_configuration_stays(tmp_path: Path) -> None:
    install(tmp_path)
    own = tmp_path / "etc/tram/gateway.toml"
    own.write_text(ONE_LINE.format(state="/var/lib/tram", port="/dev/ttyACM0"))
    install(tmp_path)
    before = files_below(tmp_path)

    done = json.loads(install(tmp_path, "--json").output)
    assert {file["state"] for file in done["files"]} == {"unchanged"}
    assert [step["fault"] for step in done["steps"]] == [None, None, None]
    assert files_below(tmp_path) == before
    assert "DeviceAllow=char-ttyACM rw" in (tmp_path / "etc/systemd/system/tram-gateway.service").read_text()
    assert own.read_text() == ONE_LINE.format(state="/var/lib/tram", port="/dev/ttyACM0")


@pytest.mark.usefixtures("systemd_tools")
def test_uninstalled_leaves_configuration_and_records(tmp_path: Path) -> None:
    install(tmp_path)
    outbox = tmp_path / "var/lib/tram/outbox.sqlite"
    outbox.write_bytes(b"records")
    done = install(tmp_path, "--uninstall")

    assert done.exit_code == 0, done.output
    assert outbox.read_bytes() == b"records"
    assert (tmp_path / "etc/tram/gateway.toml").exists()
    left = [name for name, data in files_below(tmp_path).items() if b"tram-gateway install`" in data]
    assert left == []
    assert not (tmp_path / "etc/systemd/system/multi-user.target.wants/tram-gateway.service").is_symlink()


@pytest.mark.usefixtures("systemd_tools")
def test_a_service_whose_configuration_is_broken_can_still_be_taken_back(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "etc/tram/gateway.toml").write_text("id = ")
    done = install(tmp_path, "--uninstall")

    assert done.exit_code == 0, done.output
    assert not (tmp_path / "etc/systemd/system/tram-gateway.service").exists()


def test_a_dry_run_shows_the_files_and_writes_none(tmp_path: Path) -> None:
    done = install(tmp_path, "--dry-run")

    assert done.exit_code == 0
    assert "=== /etc/systemd/system/tram-gateway.service" in done.output
    assert files_below(tmp_path) == {}


def test_somebody_elses_unit_is_not_overwritten(tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system/tram-gateway.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/bin/mine\n")
    done = install(tmp_path)

    assert done.exit_code == 1
    assert "somebody else's file" in done.output
    assert "mine" in unit.read_text()


def test_without_the_right_to_write_it_says_who_to_be() -> None:
    done = install(Path("/sys"))

    assert done.exit_code == 1
    assert "run it as root: sudo tram-gateway install" in done.output


def test_a_wrong_configuration_is_named_with_its_lines_and_nothing_is_written(tmp_path: Path) -> None:
    config = tmp_path / "etc/tram/gateway.toml"
    config.parent.mkdir(parents=True)
    config.write_text('id = "GW"\nstate_dir = "/var/lib/tram"\nspeed = 1\n')
    done = install(tmp_path)

    assert done.exit_code == 2
    assert "gateway.toml:1: id" in done.output
    assert "gateway.toml:3: speed" in done.output
    assert list(files_below(tmp_path)) == ["etc/tram/gateway.toml"]


def test_a_relative_path_is_no_path_for_a_service(tmp_path: Path) -> None:
    assert install(tmp_path, "--config", "gateway.toml").exit_code == 2


@pytest.mark.parametrize(
    ("port", "classes"),
    [
        ("/dev/ttyUSB0", ["ttyUSB"]),
        ("/dev/ttyAMA0", ["ttyAMA"]),
        ("/dev/serial/by-id/usb-not-plugged-in-now-if00", ["ttyACM", "ttyUSB"]),
        ("tcp://10.0.0.7:502", []),
    ],
)
def test_the_service_may_use_the_classes_of_ports_it_is_configured_for(
    port: str, classes: list[str], tmp_path: Path
) -> None:
    unit = content(planned(tmp_path, port=port), "tram-gateway.service")

    assert re.findall("DeviceAllow=char-(.*) rw", unit) == classes


def test_the_kernel_knows_the_class_of_an_adapter_before_it_is_plugged_in(tmp_path: Path) -> None:
    modules = next(file.content for file in planned(tmp_path).files if "modules-load" in str(file.path))

    assert modules.splitlines()[-1] == "usbserial"


@pytest.mark.parametrize(
    ("state", "line"),
    [("/var/lib/tram", "StateDirectory=tram"), ("/data/outbox", "ReadWritePaths=/data/outbox")],
)
def test_the_state_directory_alone_can_be_written(state: str, line: str, tmp_path: Path) -> None:
    unit = content(planned(tmp_path, state=state), "tram-gateway.service").splitlines()

    assert line in unit
    assert "ProtectSystem=strict" in unit


def test_a_slow_radio_gets_a_patient_watchdog(tmp_path: Path) -> None:
    def watchdog_s(timeout_s: float) -> int:
        file = tmp_path / "gateway.toml"
        text = ONE_LINE.format(state="/s", port="/dev/ttyUSB0").replace("[[line.", f"timeout_s = {timeout_s}\n[[line.")
        file.write_text(text)
        unit = content(installation.plan(load_configuration(file), file, PROGRAM), "tram-gateway.service")
        return int(re.findall("WatchdogSec=(.*)", unit)[0])

    assert watchdog_s(60.0) > watchdog_s(1.0) > 240


@pytest.mark.usefixtures("systemd_tools")
def test_secrets_beside_the_configuration_are_for_the_gateways_group_only(tmp_path: Path) -> None:
    install(tmp_path)
    folder = tmp_path / "etc/tram"
    (folder / "keys").mkdir()
    for name in ("password", "keys/office.pem"):
        (folder / name).write_text("secret")
        (folder / name).chmod(0o644)
    more = '[commands]\nkeys_dir = "keys"\n'
    text = ONE_LINE.format(state="/var/lib/tram", port="/dev/ttyUSB0") + more
    (folder / "gateway.toml").write_text(text)
    install(tmp_path)

    rights = {name: (folder / name).stat().st_mode & 0o777 for name in ("gateway.toml", "password", "keys/office.pem")}
    assert rights == dict.fromkeys(rights, 0o640)
    assert (folder / "keys").stat().st_mode & 0o777 == 0o750


def test_a_program_in_a_home_is_shown_alone_of_all_homes(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(ONE_LINE.format(state="/var/lib/tram", port="/dev/ttyUSB0"))
    home = Program(Path("/home/pi/tram/bin/tram-gateway"), (Path("/home/pi/tram"), Path("/usr")))
    unit = content(installation.plan(load_configuration(file), file, home), "tram-gateway.service")

    assert "ProtectHome=tmpfs\nBindReadOnlyPaths=/home/pi/tram\n" in unit
    assert "ProtectHome=yes" in content(planned(tmp_path), "tram-gateway.service")


def test_a_card_of_another_system_keeps_its_own_relative_folders(tmp_path: Path) -> None:
    config = tmp_path / "card/etc/tram/gateway.toml"
    config.parent.mkdir(parents=True)
    config.write_text(ONE_LINE.format(state="state", port="/dev/ttyUSB0"))
    done = install(tmp_path / "card", "--dry-run")

    assert "ReadWritePaths=/etc/tram/state" in done.output
    assert str(tmp_path) not in done.output


def test_every_key_is_explained_in_the_template() -> None:
    text = installation.configuration_template("gw-a", Path("/var/lib/tram"), "/dev/ttyUSB0")
    shown = set(re.findall(r"^(?:# )?([a-z_0-9]+) = ", text, re.M))
    shown |= {part for header in re.findall(r"^(?:# )?\[+([a-z_.0-9]+)\]+", text, re.M) for part in header.split(".")}

    assert set(_keys(GatewayConfiguration)) - shown == set()


def test_what_the_template_leaves_out_is_understood_when_it_is_put_in() -> None:
    text = installation.configuration_template("gw-a", Path("/var/lib/tram"), "/dev/ttyUSB0")
    # a broker has host and port or hosts; a relay is of one kind
    others = r"^# (hosts|port = \"/dev/ttyUSB3\"|address|coil|flash|channel|baud = 9600 *$).*\n"
    other = re.sub(others, "", text, flags=re.M)
    table: dict[str, Any] = tomllib.loads(re.sub(r"^# (?=[a-z_0-9]+ = |\[)", "", other, flags=re.M))
    understood = GatewayConfiguration.model_validate(table)

    assert set(table) == {field.alias or name for name, field in GatewayConfiguration.model_fields.items()}
    assert understood.warning is not None
    assert installation.port_classes(understood) == ["gpiochip", "ttyUSB"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = SystemFile(Path("/etc/tram.conf"), f"# {installation.MARK}\n")

    assert installation.write(file, tmp_path)
    assert not installation.write(file, tmp_path)
    assert [path.name for path in (tmp_path / "etc").iterdir()] == ["tram.conf"]


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
        for inner in _models(field.annotation):
            yield from _keys(inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
