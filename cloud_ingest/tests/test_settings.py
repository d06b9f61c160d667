"""Two years later somebody asks: by which network, by which levels did the cloud work on that day?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.rules import Rule
from cloud_ingest.commands import app
from cloud_ingest.database import Database
from cloud_ingest.settings_book import Kind, history, keep, keep_all, network_of, rules_as_json
from cloud_ingest.store import Store

NETWORK = Path(__file__).parents[2] / "simulators" / "demo_network.toml"
RICE = Rule(id="rice", parameter="salinity", stations=("xuan-hoa",), set_level=4.0, clear_level=3.0)
MARCH, APRIL, MAY = 1_772_323_200, 1_775_001_600, 1_777_593_600


@pytest.fixture
def books(tmp_path: Path) -> Database:
    with Store(tmp_path):
        pass
    (tmp_path / "network.toml").write_text(NETWORK.read_text())
    (tmp_path / "cloud.toml").write_text(f'network = "network.toml"\nstate_dir = "{tmp_path}"\n[broker]\nhost="h"\n')
    return Database.in_folder(tmp_path)


def test_what_did_not_change_is_kept_once_and_what_came_back_is_kept_again(books: Database) -> None:
    other = Rule(**{**RICE.__dict__, "set_level": 2.0})
    kept = [keep(books, Kind.RULES, rules_as_json((rule,)), at) for rule, at in
            ((RICE, MARCH), (RICE, MARCH + 60), (other, APRIL), (RICE, MAY))]  # fmt: skip
    assert kept == [True, False, True, True]
    versions = history(books, Kind.RULES)
    assert [one.in_force_from for one in versions] == [MARCH, APRIL, MAY]
    assert versions[0].version == versions[2].version != versions[1].version
    assert json.loads(versions[1].content)[0]["set_level"] == 2.0


def test_a_station_that_was_moved_is_where_it_was_on_that_day(books: Database, tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    keep_all(books, path, (RICE,), MARCH)
    path.write_text(path.read_text().replace('name_en = "', 'name_en = "New ', 1))
    assert keep_all(books, path, (RICE,), APRIL) == [Kind.NETWORK]
    before, after = (network_of(one).stations for one in history(books, Kind.NETWORK))
    assert {"New " + one.name_en for one in before} & {one.name_en for one in after}


def test_a_person_lists_and_reads_them(books: Database, tmp_path: Path) -> None:
    keep_all(books, tmp_path / "network.toml", (RICE,), MARCH)

    def ask(*words: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, ["settings", *words, "--config", str(tmp_path / "cloud.toml")])
        return found.exit_code, found.output

    code, text = ask("list", "--json")
    assert code == 0
    assert [one["kind"] for one in json.loads(text)] == ["network", "rules"]
    assert ask("show", "1") == (0, (tmp_path / "network.toml").read_text())
    assert ask("show", "9") == (2, "there is no version 9; tram-cloud settings list shows all\n")


def test_no_telephone_number_is_kept_with_the_rules() -> None:
    assert "phone" not in rules_as_json((RICE,))
