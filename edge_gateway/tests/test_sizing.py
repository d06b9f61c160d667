"""How long the outbox lasts: before the first start, at the present rate, with old records in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_gateway.commands import app
from edge_gateway.configuration import load_configuration
from edge_gateway.sizing import USUAL_RECORDS_PER_DAY, bytes_for_all_days, days_left, expected_per_day
from edge_gateway.slices import Series
from edge_gateway.tests.first_schema import write_first_outbox

GATEWAY = """
id = "gw-test"
state_dir = "state"
{more}
[[line]]
name = "uplink"
port = "/dev/ttyUSB0"
{stations}
"""
NETWORK = """
name = "Test"
[[gateways]]
id = "gw-test"
[[stations]]
id = "xuan-hoa"
name_vi = "Xuân Hòa"
name_en = "Xuan Hoa"
latitude = 10.36
longitude = 106.42
river = "Tiền"
river_km = 43.0
gateway = "gw-test"
address = 11
sample_interval_s = 10
record_interval_s = 60
sensors = [{ number = 1, instrument = "yosemitech-y520", address = 1 }]
"""


def write(folder: Path, stations: int = 1, more: str = "") -> Path:
    tables = "\n".join(
        f'[[line.station]]\nid = "{"xuan-hoa" if not n else f"other-{n}"}"\naddress = {11 + n}' for n in range(stations)
    )
    (folder / "network.toml").write_text(NETWORK)
    file = folder / "gateway.toml"
    file.write_text(GATEWAY.format(more=more, stations=tables))
    return file


def test_before_the_first_start_the_status_says_how_long_the_outbox_will_last(tmp_path: Path) -> None:
    file = write(tmp_path, stations=30)

    people = CliRunner().invoke(app, ["status", "--config", str(file)], env={"COLUMNS": "200"})
    script = json.loads(CliRunner().invoke(app, ["status", "--config", str(file), "--json"]).stdout)

    assert people.exit_code == 0
    assert "for 60 days it needs 843 MB" in people.stdout
    assert script["outbox"]["expected_per_day"] == 30 * USUAL_RECORDS_PER_DAY
    assert 0 < script["outbox"]["days_left"] < 60
    assert script["stations"]["xuan-hoa"]["days_left"] == script["outbox"]["days_left"]
    assert not (tmp_path / "state").exists()


def test_the_status_of_a_file_an_earlier_version_made_says_that_a_start_upgrades_it(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "state").mkdir()
    write_first_outbox(tmp_path / "state" / "outbox.sqlite", Series("xuan-hoa", 7), 13, 1_771_000_020)

    found = CliRunner().invoke(app, ["status", "--config", str(file)])

    assert found.exit_code == 1
    assert "it upgrades it and loses nothing" in found.stderr


def test_a_network_tells_what_a_station_records(tmp_path: Path) -> None:
    configuration = load_configuration(write(tmp_path, stations=2, more='network = "network.toml"'))

    found = expected_per_day(configuration)

    assert found == {"xuan-hoa": 2 * 1440, "other-1": USUAL_RECORDS_PER_DAY}  # temperature and conductivity


@pytest.mark.parametrize(
    ("buffered", "used", "per_day", "oldest_days", "days"),
    [
        pytest.param(0, 100_000, 0.0, 0.0, None, id="nothing comes"),
        pytest.param(0, 0, 1440.0, 0.0, 60.0, id="age bounds a slow station"),
        pytest.param(0, 0, 1440.0, 55.0, 5.0, id="old records go soon"),
        pytest.param(0, 0, 1440.0, 70.0, 0.0, id="and the oldest now"),
        pytest.param(100_000, 2_500_000, 1_000_000.0, 0.0, 10.6, id="size bounds a fast one"),
        pytest.param(100_000, 300 << 20, 1_000_000.0, 0.0, 0.0, id="full"),
    ],
)
def test_days_left(
    tmp_path: Path, buffered: int, used: int, per_day: float, oldest_days: float, days: float | None
) -> None:
    configuration = load_configuration(write(tmp_path))

    assert days_left(configuration, buffered, used, per_day, oldest_days) == days
    assert bytes_for_all_days(configuration, 1_000_000.0) == 1_500_000_000
