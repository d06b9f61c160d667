"""An office's spreadsheets brought in: once, whatever happens meanwhile, and checked like everything else."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cloud_ingest.column_files import load_map
from cloud_ingest.import_book import DATABASE, ImportBook, Origin
from cloud_ingest.import_work import Imports
from cloud_ingest.imports import read_import
from cloud_ingest.ingest import Ingest, Outcome
from cloud_ingest.intake import Arrived
from cloud_ingest.tests.field import WATER_TEMPERATURE
from cloud_ingest.tests.test_recompute import Office

MAP = """
[time]
column = "giờ"
format = "%d/%m/%Y %H:%M"
timezone = "Asia/Ho_Chi_Minh"
[flags]
good = "tốt"
rejected = "hỏng"
[[column]]
name = "EC"
parameter = "conductivity_25"
scale = 0.001
flag = "ghi chú"
[[column]]
name = "nhiệt độ"
parameter = "water_temperature"
"""
CONDUCTIVITY = 34
MIDNIGHT = 1551373200  # 2019-03-01 in Vietnam


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    one = Office(tmp_path)
    (tmp_path / "map.toml").write_text(MAP, encoding="utf-8")
    lines = [f"01/03/2019 {hour:02d}:00,{8000 + 10 * hour},tốt,28.{hour % 10}" for hour in range(24)]
    lines[5] = "01/03/2019 05:00,99000000,tốt,28.5"
    lines[6] = "01/03/2019 06:00,8060,hỏng,28.6"
    lines[7] = "01/03/2019 07:00,,tốt,28.7"
    lines[8] = "32/03/2019 08:00,8080,tốt,28.8"
    (tmp_path / "mặn.csv").write_text("\n".join(["giờ,EC,ghi chú,nhiệt độ", *lines]) + "\n", encoding="utf-8")
    yield one
    one.reader.close()


def bring_in(office: Office, *words: str) -> dict[str, object]:
    found = office.command(
        *("import", str(office.folder / "mặn.csv"), "--map", str(office.folder / "map.toml")),
        *("--station", "xuan-hoa", "--json", *words),
    )
    assert found.exit_code == 0, found.output
    told: dict[str, object] = json.loads(found.stdout)
    return told


def test_a_year_of_the_office_is_stored_in_utc_and_the_office_s_own_rejections_stay(office: Office) -> None:
    told = bring_in(office)
    assert (told["stored"], told["refused_lines"], told["refused_cells"]) == (44, 1, 1)
    conductivity = office.values(CONDUCTIVITY)
    assert conductivity[MIDNIGHT] == (8.0, 1)
    assert conductivity[MIDNIGHT + 6 * 3600] == (8.06, 4)
    assert MIDNIGHT + 7 * 3600 not in conductivity, "an empty cell is nothing, not a missing measurement"
    assert office.values(WATER_TEMPERATURE)[MIDNIGHT + 7 * 3600] == (28.7, 1)
    assert office.command("audit").exit_code == 0


def test_the_same_file_again_changes_nothing(office: Office) -> None:
    first = bring_in(office)
    before = office.layers()
    again = bring_in(office)
    assert (again["stored"], again["stored_before"], again["journal"]) == (0, 44, first["journal"])
    assert office.layers() == before


def test_an_import_that_was_cut_off_goes_on(office: Office) -> None:
    brought = read_import(office.folder / "mặn.csv", load_map(str(office.folder / "map.toml")), "xuan-hoa")
    with office.store:
        office.take(next(iter(brought.messages()))[1])
    assert bring_in(office)["stored_before"] == 44
    assert len(office.values(WATER_TEMPERATURE)) == 23


def test_another_file_with_the_same_times_does_not_double_them(office: Office) -> None:
    bring_in(office)
    text = (office.folder / "mặn.csv").read_text(encoding="utf-8")
    (office.folder / "mặn.csv").write_text(text.replace("8000", "9000"), encoding="utf-8")
    told = bring_in(office)
    assert told["stored"] == 44
    assert office.values(CONDUCTIVITY)[MIDNIGHT] == (8.0, 1), "the first stays, the second is kept aside and counted"
    assert office.rows("SELECT sum(conflicts) FROM journals") == [(44,)]


def test_a_dry_run_stores_nothing(office: Office) -> None:
    assert bring_in(office, "--dry-run")["records"] == 44
    assert not (office.folder / "store.sqlite").exists()


def test_handed_over_to_a_running_service_it_is_stored_in_pieces_between_messages(office: Office) -> None:
    with office.store:
        told = bring_in(office, "--no-wait", "--by", "lan")
        assert (told["state"], told["stored"]) == ("waiting", 0)
        assert bring_in(office, "--no-wait")["import"] == told["import"], (
            "the same file goes on, and does not begin anew"
        )
        imports = Imports(office.folder, office.ingest)
        outcome = imports.step(MIDNIGHT, busy=True, clock_s=100.0)
        assert outcome is not None
        assert outcome.counts.stored == 44
        assert (imports.is_due(100.0), imports.is_due(101.0)) == (False, True), "what gateways send comes first"
        assert imports.step(MIDNIGHT, clock_s=101.0) is None
        imports.close()
    (entry,) = json.loads(office.command("imports", "--json").stdout)
    assert (entry["state"], entry["stored"], entry["by_whom"], entry["file"]) == ("done", 44, "lan", "mặn.csv")
    assert entry["sha256"] == hashlib.sha256((office.folder / "mặn.csv").read_bytes()).hexdigest()
    assert "mặn.csv" in office.command("imports").stdout
    with sqlite3.connect(office.folder / DATABASE) as book, pytest.raises(sqlite3.IntegrityError, match="never"):
        book.execute("UPDATE imports SET by_whom = 'nobody'")
    book.close()


def test_a_piece_stored_before_the_power_went_is_only_counted_the_second_time(office: Office) -> None:
    with office.store:
        bring_in(office, "--no-wait")
        with ImportBook(office.folder) as book:
            piece = book.next_piece(25)
            assert piece is not None
            office.ingest.store_group(piece.messages, MIDNIGHT)  # and then nothing was noted in the book
        imports = Imports(office.folder, office.ingest)
        imports.step(MIDNIGHT, clock_s=100.0)
        imports.close()
    (entry,) = json.loads(office.command("imports", "--json").stdout)
    assert (entry["state"], entry["stored"], entry["duplicates"]) == ("done", 0, 44)
    assert len(office.values(WATER_TEMPERATURE)) == 23


def test_a_hand_over_that_was_cut_off_goes_on(office: Office) -> None:
    brought = read_import(office.folder / "mặn.csv", load_map(str(office.folder / "map.toml")), "xuan-hoa")
    with ImportBook(office.folder) as book:
        entry = book.begin(brought, Origin("lan", "mặn.csv", "", "map.toml"), MIDNIGHT)
        book.hand_over(entry.id, 1, list(brought.messages()))
    assert bring_in(office)["stored"] == 44


def test_a_file_at_which_the_pipeline_fails_ends_by_itself(office: Office) -> None:
    with office.store:
        bring_in(office, "--no-wait")
        imports = Imports(office.folder, Fragile(office.store, office.registry))
        assert imports.step(MIDNIGHT, clock_s=100.0) is not None
        assert imports.step(MIDNIGHT, clock_s=100.0) is None
        imports.close()
    (entry,) = json.loads(office.command("imports", "--json").stdout)
    assert (entry["state"], entry["reason"]) == ("failed", "ingest failed: ZeroDivisionError: division by zero")


class Fragile(Ingest):
    """A pipeline with a fault."""

    def store_group(self, messages: Sequence[Arrived], now_s: float, *, later: bool = False) -> Outcome:
        raise ZeroDivisionError("division by zero")


def test_what_we_derive_cannot_be_brought_in_as_measured(office: Office) -> None:
    (office.folder / "map.toml").write_text(MAP.replace("conductivity_25", "salinity"), encoding="utf-8")
    found = office.command(
        *("import", str(office.folder / "mặn.csv"), "--map", str(office.folder / "map.toml")),
        *("--station", "xuan-hoa"),
    )
    assert found.exit_code == 2
    assert "salinity is derived by us" in found.stderr
