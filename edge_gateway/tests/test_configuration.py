"""gateway.toml: what is accepted, and how faults are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_gateway.configuration import GatewayConfiguration, load_configuration
from station_config.errors import ConfigurationError

SMALLEST = """id = "gw-mytho"
state_dir = "state"
[[line]]
name = "uplink"
port = "/dev/ttyUSB0"
[[line.station]]
id = "xuan-hoa"
address = 11
"""


def load_text(folder: Path, text: str) -> GatewayConfiguration:
    (folder / "gateway.toml").write_text(text)
    return load_configuration(folder / "gateway.toml")


def test_paths_are_meant_from_the_files_own_folder(tmp_path: Path) -> None:
    configuration = load_text(tmp_path, SMALLEST + '[broker]\npassword_file = "secret"\n')
    elsewhere = load_text(tmp_path, SMALLEST + '[broker]\npassword_file = "/etc/secret"\n')

    found = configuration.outbox_path, configuration.broker.password_file, elsewhere.broker.password_file
    assert found == (tmp_path / "state" / "outbox.sqlite", tmp_path / "secret", Path("/etc/secret"))


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        ("", False),
        ('host = "127.0.0.1"', False),
        ('host = "mqtt.example.vn"', True),
        ("tls = true", True),
        ('host = "mqtt.example.vn"\ntls = false', False),
    ],
)
def test_tls_is_used_everywhere_but_on_this_machine(tmp_path: Path, broker: str, expected: bool) -> None:
    assert load_text(tmp_path, f"{SMALLEST}[broker]\n{broker}\n").broker.uses_tls is expected


def test_every_fault_is_told_with_its_line(tmp_path: Path) -> None:
    text = SMALLEST.replace("address = 11", 'address = 300\n[[line.station]]\nid = "xuan-hoa"\naddress = 4\ncolour = 1')

    with pytest.raises(ConfigurationError) as refusal:
        load_text(tmp_path, text)

    told = str(refusal.value).replace(f"{tmp_path}/", "").splitlines()
    assert [line.split(": ")[0] for line in told] == ["gateway.toml:8", "gateway.toml:10", "gateway.toml:12"]


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ('[[line.station]]\nid = "my-tho"\naddress = 11\n', "address"),
        ('[[line]]\nname = "uplink"\nport = "/dev/b"\n[[line.station]]\nid = "my-tho"\naddress = 1\n', "line name"),
        ('[[line]]\nname = "b"\nport = "/dev/ttyUSB0"\n[[line.station]]\nid = "my-tho"\naddress = 1\n', "port"),
        ('[[line]]\nname = "b"\nport = "/dev/b"\n[[line.station]]\nid = "xuan-hoa"\naddress = 1\n', "station"),
    ],
)
def test_nothing_is_there_twice(tmp_path: Path, second: str, what: str) -> None:
    with pytest.raises(ConfigurationError, match=f"this {what} is used twice"):
        load_text(tmp_path, SMALLEST + second)


def test_the_same_address_on_two_lines_is_fine(tmp_path: Path) -> None:
    second = '[[line]]\nname = "b"\nport = "/dev/b"\n[[line.station]]\nid = "my-tho"\naddress = 11\n'

    assert len(load_text(tmp_path, SMALLEST + second).stations) == 2
