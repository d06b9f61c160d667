"""tram-station as a technician and a script meet it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from station_config.commands import app

run = CliRunner().invoke


def test_check_of_a_right_network(network_text: str, write_network: Callable[[str], Path]) -> None:
    result = run(app, ["check", "--network", str(write_network(network_text)), "--json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["network"], [(s["id"], s["sensors"]) for s in told["stations"]]) == (
        0,
        "Sông Tiền",
        [("xuan-hoa", 3)],
    )


def test_check_shows_the_stations_to_people(network_text: str, write_network: Callable[[str], Path]) -> None:
    result = run(app, ["check", "--network", str(write_network(network_text))])
    assert (result.exit_code, "xuan-hoa" in result.stdout, "no faults found" in result.stdout) == (0, True, True)


def test_check_of_a_wrong_network_names_every_fault(network_text: str, write_network: Callable[[str], Path]) -> None:
    path = write_network(network_text.replace("address = 2", "address = 1").replace("river =", "rivr ="))
    result = run(app, ["check", "--network", str(path)])
    assert (result.exit_code, result.stdout, result.stderr.count(f"{path}:")) == (2, "", 3)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (["flash", "--port", "/dev/ttyNONE", "--station", "xuan-hoa"], 1, "no such port"),
        (["flash", "--port", "/dev/ttyNONE", "--station", "nowhere"], 2, "no station 'nowhere'"),
        (["flash", "--port", "/dev/ttyNONE"], 2, "Missing option '--station'"),
    ],
)
def test_exit_codes_of_flash(
    network_text: str, write_network: Callable[[str], Path], arguments: list[str], exit_code: int, text: str
) -> None:
    result = run(app, [*arguments, "--network", str(write_network(network_text))])
    assert (result.exit_code, text in result.stderr) == (exit_code, True)


def test_journal_of_a_port_that_is_not_there(tmp_path: Path) -> None:
    result = run(app, ["journal", "--port", "/dev/ttyNONE", "--out", str(tmp_path / "x.trb"), "--json"])
    assert (result.exit_code, result.stdout, list(tmp_path.iterdir())) == (1, "", [])


@pytest.mark.parametrize("command", ["flash", "journal", "check", "ports"])
def test_help_has_an_example(command: str) -> None:
    result = run(app, [command, "--help"])
    assert (result.exit_code, f"tram-station {command}" in result.stdout) == (0, True)
