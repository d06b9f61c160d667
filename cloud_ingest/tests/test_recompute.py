"""Layers made again by command: the same as live ingest made them, or found to differ; calibrations by command."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cloud_ingest.commands import app
from cloud_ingest.database import DATABASE
from cloud_ingest.review import Review
from cloud_ingest.tests.field import EC25, T0, batch
from cloud_ingest.tests.log_as_table import change_log
from cloud_ingest.tests.test_ingest import Bench
from cloud_ingest.tests.test_review import records


class Office(Bench):
    """A bench with the files a person at the cloud has."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "cloud.toml").write_text('network = "network.toml"\nstate_dir = "."\n')

    def command(self, *words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--config", str(self.folder / "cloud.toml")])

    def layers(self) -> list[tuple[object, ...]]:
        return self.rows("SELECT * FROM log ORDER BY time, series")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    one = Office(tmp_path)
    with one.store:
        random = np.random.default_rng(8)
        ec25 = np.abs(12 + np.cumsum(random.normal(size=400)) / 5)
        ec25[70] = 80.0
        one.take(batch(records(ec25.tolist(), (28 + random.normal(size=400) / 50).tolist())))
        Review(one.store, one.registry).finish()
    yield one
    one.reader.close()


def test_recomputing_from_raw_gives_bit_for_bit_what_live_ingest_gave(office: Office) -> None:
    before = office.layers()
    assert office.command("recompute", "--check").exit_code == 0
    assert office.command("recompute").exit_code == 0
    assert office.layers() == before


def test_a_layer_somebody_has_changed_in_the_file_is_found_and_made_again(office: Office) -> None:
    before = office.layers()
    change_log(
        office.folder / DATABASE,
        "UPDATE log SET flag = 1, failed = 0 WHERE failed != 0",
        f"DELETE FROM log WHERE journal IS NULL AND time = {T0 + 600}",
    )
    found = office.command("recompute", "--check", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["layers"]["xuan-hoa"] >= 2
    assert office.command("recompute", "--station", "xuan-hoa").exit_code == 0
    assert office.layers() == before


def test_an_hour_somebody_has_changed_in_the_file_is_found_and_made_again(office: Office) -> None:
    assert office.command("recompute").exit_code == 0
    before = office.rows("SELECT * FROM rollups ORDER BY series, level, start")
    assert office.command("recompute", "--check").exit_code == 0
    with sqlite3.connect(office.folder / DATABASE) as connection:
        connection.execute("UPDATE rollups SET highest = highest + 1 WHERE level = 1 AND start < ?", (T0 + 3600,))
        connection.execute("DELETE FROM rollups WHERE level = 2 AND start > ?", (T0 - 3600,))
    connection.close()
    found = office.command("recompute", "--check", "--json")
    assert (found.exit_code, json.loads(found.stdout)["layers"]) == (1, {})
    assert json.loads(found.stdout)["rollups"]["xuan-hoa"] >= 4
    assert office.command("recompute", "--station", "xuan-hoa").exit_code == 0
    assert office.rows("SELECT * FROM rollups ORDER BY series, level, start") == before
    assert office.command("recompute", "--check").exit_code == 0


def test_while_the_service_runs_it_is_asked(office: Office) -> None:
    with office.store:
        found = office.command("recompute", "--json")
        assert json.loads(found.stdout) == {"asked": 1}
        with office.store.transaction() as transaction:
            assert transaction.waiting_spans(1)[0].station == "xuan-hoa"  # type: ignore[arg-type]


CALIBRATE = ("calibration", "add", "--station", "xuan-hoa", "--sensor", "1", "--parameter", "conductivity_25")


def test_a_calibration_is_entered_by_command_listed_and_withdrawn(office: Office) -> None:
    entered = office.command(*CALIBRATE, "--from", "2026-02-01", "--coefficients", "0.1,1.02", "--by", "An", "--json")
    assert entered.exit_code == 0, entered.output
    assert json.loads(entered.stdout)["coefficients"] == [0.1, 1.02]
    assert json.loads(entered.stdout)["valid_from"] == 1769878800, "midnight in Vietnam"
    assert office.command("recompute").exit_code == 0
    value, flag = office.values(EC25)[T0]
    assert flag == 1
    assert office.rows(
        f"SELECT count FROM log JOIN series ON id = series WHERE parameter = {EC25} AND time = {T0}"
    ) == [(round((value - 0.1) / 1.02 * 1000),)]
    assert office.command("calibration", "withdraw", "1").exit_code == 0
    assert office.command("calibration", "withdraw", "1").exit_code == 1
    listed = json.loads(office.command("calibration", "list", "--json").stdout)
    assert listed[0]["withdrawn_at"] is not None
    assert listed[0]["entered_by"] == "An"


def test_what_was_known_on_a_date_can_still_be_written(office: Office, tmp_path: Path) -> None:
    office.command(*CALIBRATE, "--from", "2026-02-01", "--coefficients", "0,2")
    out = tmp_path / "then.csv"
    found = office.command("recompute", "--as-of", "2026-01-01", "--out", str(out))
    assert found.exit_code == 0, found.output
    rows = out.read_text().splitlines()
    assert any(",conductivity_25," in row and ",0,1," in row for row in rows)
    assert not any(",1,1," in row for row in rows), "no row made by calibration 1"
    assert "the network of that date was not kept" in found.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*CALIBRATE, "--from", "soon", "--coefficients", "0,1"), "is no time"),
        ((*CALIBRATE, "--from", "2026-02-01", "--coefficients", "a"), "numbers with commas"),
        ((*CALIBRATE, "--from", "2026-02-01", "--to", "2026-01-01", "--coefficients", "0,1"), "valid_to must be after"),
        ((*CALIBRATE, "--from", "2026-02-01", "--drift-to", "1,1", "--coefficients", "0,1"), "give it"),
        (("calibration", "add", "--station", "nowhere", "--sensor", "1", "--parameter", "ph", "--from", "2026-02-01",
          "--coefficients", "0,1"), "no station 'nowhere'"),
        (("recompute", "--as-of", "2026-01-01"), "go together"),
    ],
)  # fmt: skip
def test_wrong_words_end_with_a_sentence(office: Office, words: tuple[str, ...], says: str) -> None:
    found = office.command(*words)
    assert found.exit_code == 2
    assert says in found.stderr
