"""[warning] of gateway.toml: what is accepted, every fault with its line; and trying it out by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_gateway.commands import app
from edge_gateway.configuration import load_configuration
from edge_gateway.warning_works import read_warning_setup
from station_config.errors import ConfigurationError

NOW = 1_795_000_000.0
NETWORK = Path(__file__).parents[2] / "simulators" / "demo_network.toml"
GATEWAY = """id = "gw-go-cong"
state_dir = "state"
network = "network.toml"
[[line]]
name = "uplink"
port = "/dev/ttyUSB0"
[[line.station]]
id = "xuan-hoa"
address = 13
"""
WARNING = """[warning]
rules = "rules.toml"
[[warning.recipient]]
name = "Ba Tám"
phone = "0912 345 678"
[warning.modem]
port = "/dev/ttyUSB2"
pin_file = "pin"
"""
RULES = """[[rule]]
id = "rice"
parameter = "salinity"
threshold = "rice"
[[rule]]
id = "shrimp"
parameter = "salinity"
stations = ["vam-kenh"]
set_level = 20.0
clear_level = 18.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copyfile(NETWORK, tmp_path / "network.toml")
    (tmp_path / "rules.toml").write_text(RULES)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as refusal:
        load_configuration(path)
    return str(refusal.value).replace(f"{path}:", "").splitlines()


def test_the_rules_are_those_of_this_gateways_stations(folder: Path) -> None:
    configuration = load_configuration(write(folder, GATEWAY + WARNING))
    found = read_warning_setup(configuration, NOW)
    assert found is not None
    assert [(rule.id, rule.stations) for rule in found.alerts.rules] == [("rice", ("xuan-hoa",))]
    assert found.configuration.recipients[0].phone == "+84912345678"
    assert found.configuration.modem is not None
    assert found.configuration.modem.pin_file == folder / "pin"
    assert len(found.alerts.version) == len(found.configuration.recipients_version) == 12


def test_a_clock_that_is_not_set_still_finds_thresholds(folder: Path) -> None:
    found = read_warning_setup(load_configuration(write(folder, GATEWAY + WARNING)), 86_400.0)
    assert found is not None
    assert found.alerts.rules[0].set_level > 0


def test_without_the_table_there_is_no_warning(folder: Path) -> None:
    assert read_warning_setup(load_configuration(write(folder, GATEWAY)), NOW) is None


def test_every_fault_is_told_with_its_line(folder: Path) -> None:
    text = GATEWAY.replace('network = "network.toml"\n', "") + WARNING.replace("0912 345 678", "113")
    text += """[[warning.recipient]]
name = "Ba Tám"
phone = "0987654321"
[warning.relay]
kind = "gpio"
line = -3
"""
    told = faults(write(folder, text))
    assert [(line.split(":")[0], line.split(": ")[1]) for line in told] == [
        ("9", "warning"),
        ("13", "warning.recipient[0].phone"),
        ("18", "warning.recipient[1].name"),
        ("22", "warning.relay.gpio.line"),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[warning]\nrules = "rules.toml"\n', "nothing to warn with"),
        (WARNING.partition("[warning.modem]")[0] + '[warning.relay]\nkind = "lcus"\nport = "/x"\n', "by SMS"),
        ('[warning]\nrules = "r"\n[warning.modem]\nport = "/x"\n', "nobody to tell"),
        (WARNING + '[warning.relay]\nkind = "bell"\n', "kind"),
        (WARNING + "after_minutes = 0\n", "after_minutes"),
        (
            WARNING
            + "".join(f'[[warning.recipient]]\nname = "p{n}"\nphone = "09000000{n:02}"\n' for n in range(10, 30)),
            "at most 20",
        ),
    ],
)
def test_what_cannot_work_is_refused(folder: Path, text: str, why: str) -> None:
    assert any(why in line for line in faults(write(folder, GATEWAY + text)))


def test_a_rule_nobody_knows_is_said(folder: Path) -> None:
    text = WARNING.replace('phone = "0912 345 678"', 'phone = "0912 345 678"\nrules = ["rize"]')
    with pytest.raises(ConfigurationError, match="no rule 'rize'"):
        read_warning_setup(load_configuration(write(folder, GATEWAY + text)), NOW)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "say what to try"),
        (["--to", "113"], 2, "not a telephone number"),
        (["--siren"], 2, "no [warning.relay]"),
    ],
)
def test_trying_it_wrongly_is_said(folder: Path, words: list[str], code: int, said: str) -> None:
    path = write(folder, GATEWAY + WARNING)
    done = CliRunner().invoke(app, ["warning", "test", "--config", str(path), *words])
    assert (done.exit_code, said in done.output) == (code, True)


def test_trying_a_modem_that_is_not_there_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_gateway.warning_commands.PORT_WAIT_S", 0.0)
    path = write(folder, GATEWAY + WARNING.replace("/dev/ttyUSB2", str(folder / "none")))
    done = CliRunner().invoke(app, ["warning", "test", "--config", str(path), "--to", "0912345678"])
    assert done.exit_code == 1
    assert "check that the modem is plugged in" in done.output
