"""`tram-cloud query` on a store, with and without a service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_ingest.tests.field import batch, minutes
from cloud_ingest.tests.test_queries import MIDNIGHT
from cloud_ingest.tests.test_recompute import Office

QUERY = ("query", "xuan-hoa", "conductivity_25")
DAYS = ("--from", "2026-02-14", "--to", "2026-02-15")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    one = Office(tmp_path)
    with one.store:
        one.take(batch(minutes(90, first_time_s=MIDNIGHT + 60)))
        yield one
    one.reader.close()


def test_hours_for_people_scripts_and_spreadsheets(office: Office) -> None:
    shown = office.command(*QUERY, *DAYS, "--by", "hour")
    assert (shown.exit_code, "nothing" in shown.output) == (0, False), shown.output
    as_csv = office.command(*QUERY, *DAYS, "--by", "hour", "--csv").output.splitlines()
    assert as_csv[1].startswith("2026-02-14T00:00:00+07:00,2026-02-13T17:00:00Z,2026-02-14T01:00:00+07:00,")
    assert ",12.5,12.5,12.5,,,60,60,100.0,60,100.0" in as_csv[1]
    answer = json.loads(office.command(*QUERY, *DAYS, "--by", "hour", "--json").output)
    assert (answer["unit"], answer["by"], [row["n"] for row in answer["rows"]]) == ("mS/cm", "hour", [60, 30])


def test_single_values_of_a_layer(office: Office) -> None:
    as_csv = office.command(*QUERY, *DAYS, "--layer", "raw", "--csv").output.splitlines()
    assert (len(as_csv), as_csv[0]) == (91, "time_local,time_utc,value [mS/cm],flag")
    answer = json.loads(
        office.command(*QUERY, "--from", "2026-02-14T00:01", "--to", "2026-02-14T00:01", "--json").output
    )
    assert answer["rows"] == [{"time": MIDNIGHT + 60, "value": 12.5, "flag": 1, "failed": [], "calibration": 0}]
    assert "12.5" in office.command(*QUERY, *DAYS).output


def test_nothing_is_said_to_be_nothing(office: Office) -> None:
    found = office.command("query", "vam-kenh", "salinity", *DAYS, "--by", "day")
    assert (found.exit_code, "nothing in this time" in found.output) == (0, True)


def test_a_store_of_an_earlier_program_is_named(office: Office) -> None:
    with office.store.transaction():
        office.file.execute("PRAGMA user_version = 1")
    found = office.command(*QUERY, *DAYS, "--by", "hour")
    assert (found.exit_code, "tram-cloud run brings it up to date" in found.stderr) == (1, True), found.output


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("query", "nowhere", "salinity", *DAYS), 2, "no station 'nowhere'; there are"),
        (("query", "xuan-hoa", "happiness", *DAYS), 2, "no parameter 'happiness'"),
        ((*QUERY, "--from", "yesterday"), 2, "is no time"),
        ((*QUERY, "--from", "2020-01-01", "--to", "2026-01-01"), 2, "ask year by year"),
        ((*QUERY, *DAYS, "--csv", "--json"), 2, "not both"),
    ],
)
def test_wrong_words_end_with_a_sentence(office: Office, words: tuple[str, ...], code: int, says: str) -> None:
    found = office.command(*words)
    assert (found.exit_code, says in found.stderr) == (code, True), found.output
