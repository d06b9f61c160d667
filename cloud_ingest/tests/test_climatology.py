"""What is usual in a month, learnt from a station's own years and put where a person may read it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np

from cloud_ingest.climatology import Hour, as_toml, learnt
from cloud_ingest.tests.field import EC25, batch
from cloud_ingest.tests.test_recompute import Office
from firmware.record import Record
from station_config.network import load_network

MARCH_1 = {2024: 1709226000, 2025: 1740762000}  # 00:00 in Vietnam
HOUR_S = 3600


def test_a_rare_hour_is_not_usual_and_one_year_is_no_climate() -> None:
    tide = [Hour(year, 3, 1.0, 9.0) for year in (2024, 2025) for _ in range(2000)]
    months = learnt([*tide, Hour(2025, 3, 0.0, 40.0), *(Hour(2025, 4, 1.0, 9.0) for _ in range(700))], 3)
    assert months[2].suspect == (0.2, 9.8)
    assert (months[3].suspect, months[3].years) == (None, (2025,))
    assert (months[0].suspect, months[0].hours) == (None, 0)


def test_the_proposal_is_read_by_the_network_file_as_it_is_printed(tmp_path: Path) -> None:
    office = Office(tmp_path)
    with office.store:
        seq = 1
        for begin in MARCH_1.values():
            salt = 10 + 5 * np.sin(np.arange(300) / 2)
            office.take(
                batch(
                    [
                        Record(seq + at, begin + HOUR_S * (at + 1), round(1000 * ec), 1, EC25, 2)
                        for at, ec in enumerate(salt)
                    ]
                )
            )
            seq += 300
        found = office.command("climatology", "xuan-hoa", "conductivity_25", "--since", "2023")
        as_json = office.command("climatology", "xuan-hoa", "conductivity_25", "--since", "2023", "--json")
        little = office.command("climatology", "vam-kenh", "conductivity_25", "--since", "2023")
        wrong = office.command("climatology", "xuan-hoa", "rain_total")
    office.reader.close()
    assert found.exit_code == 0, found.output
    low, high = json.loads(as_json.stdout)[2]["suspect"]
    assert (4.0 <= low < 5.0, 15.0 < high <= 16.0) == (True, True)
    assert tomllib.loads(found.stdout)["stations"]["quality"]["conductivity_25"]["climatology"] == [
        {"months": [3], "suspect": [low, high]}
    ]
    network = (tmp_path / "network.toml").read_text()
    first, second = network.split('[[stations]]\nid = "vam-kenh"')
    (tmp_path / "network.toml").write_text(f'{first}{found.stdout}[[stations]]\nid = "vam-kenh"{second}')
    station = load_network(tmp_path / "network.toml").station("xuan-hoa")
    assert station.quality["conductivity_25"].climatology[0].months == (3,)
    assert (little.exit_code, "no month has 240 hours" in little.output) == (1, True)
    assert wrong.exit_code == 2


def test_months_without_ground_are_named_and_not_guessed() -> None:
    assert "# month 7: 0 hours of no year; wants 240 hours of 2 years" in as_toml("salinity", learnt([], 3))
