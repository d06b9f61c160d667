"""What an instrument's columns say together, and files of columns checked and scored."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from cloud_ingest.column_files import load_map, map_names, read_columns
from cloud_ingest.commands import app
from cloud_ingest.errors import FileRefused
from cloud_ingest.quality import Test
from cloud_ingest.quality_control import Checked, check
from station_config.errors import ConfigurationError
from station_config.quality import ParameterTests, configured_tests, default_tests, read_tests

DATA = Path(__file__).parents[3] / "shared" / "data"
QUARTER_S = 900
Floats = npt.NDArray[np.float64]


def verdicts(columns: dict[str, Floats], own: dict[str, ParameterTests] | None = None) -> dict[str, Checked]:
    number = len(next(iter(columns.values())))
    times = np.arange(number, dtype=np.int64) * QUARTER_S
    return check(times, columns, lambda name: configured_tests(name, own or {}), np.full(number, 3))


def a_tide(days: int, seed: int = 1) -> tuple[Floats, Floats, Floats, Floats]:
    """Depth, conductivity, temperature and turbidity of an estuary, quarter-hours."""
    hours = np.arange(days * 96) / 4
    noise = np.random.default_rng(seed).normal(size=(4, len(hours)))
    tide = np.sin(hours * 2 * np.pi / 12.42) + 0.3 * np.sin(hours * 2 * np.pi / 23.93)
    return (
        np.round(1.6 + 0.5 * tide + 0.01 * noise[0], 3),
        np.round(20 + 8 * tide + 0.3 * noise[1], 2),
        np.round(28 + np.sin(hours * 2 * np.pi / 24) + 0.05 * noise[2], 2),
        np.round(20 + 5 * np.abs(noise[3]), 1),
    )


def test_a_quiet_tide_is_all_good() -> None:
    depth, conductivity, temperature, turbidity = a_tide(60)
    checked = verdicts(
        {
            "water_depth": depth,
            "conductivity": conductivity,
            "water_temperature": temperature,
            "turbidity": turbidity,
        }
    )
    for name, one in checked.items():
        assert set(one.flag.tolist()) == {1}, name


def test_a_broken_thermistor_takes_along_what_is_computed_with_it() -> None:
    depth, conductivity, temperature, turbidity = a_tide(3)
    temperature[100:150] = 50.0
    checked = verdicts(
        {
            "conductivity_25": conductivity,
            "water_temperature": temperature,
            "turbidity": turbidity,
            "water_depth": depth,
        }
    )
    assert set(checked["water_temperature"].flag[100:150]) == {4}
    assert set(checked["conductivity_25"].flag[101:149]) == {4}
    assert Test.NEEDED_INPUT in Test(int(checked["conductivity_25"].failed[120]))
    assert set(checked["turbidity"].flag[101:149]) == {3}, "nobody trusts the rest of such an instrument"
    assert set(checked["conductivity_25"].flag[:99]) == {1}


def test_a_probe_out_of_the_water_fails_in_all_that_needs_water() -> None:
    depth, conductivity, temperature, _ = a_tide(3)
    depth[120:124], conductivity[120:124] = 0.02, 0.01
    checked = verdicts({"conductivity": conductivity, "water_temperature": temperature, "water_depth": depth})
    assert set(checked["water_temperature"].flag[120:124]) == {4}
    assert set(checked["conductivity"].flag[120:124]) == {4}
    assert Test.MULTI_VARIATE in Test(int(checked["water_temperature"].failed[121]))
    assert checked["conductivity"].flag[124] != 4, "it is back in the water"


def test_fresh_water_after_rain_is_not_a_probe_in_air() -> None:
    _, conductivity, temperature, _ = a_tide(4)
    fresh = conductivity / np.linspace(1, 400, len(conductivity))
    checked = verdicts({"conductivity": fresh, "water_temperature": temperature})
    assert not (checked["conductivity"].failed & Test.MULTI_VARIATE).any()


def test_a_probe_hung_at_another_depth_between_two_visits_is_found_when_it_is_back() -> None:
    depth, conductivity, temperature, _ = a_tide(30)
    depth[1000:1600] -= 0.35
    for visit in (1000, 1600):
        for column in (depth, conductivity, temperature):
            column[visit - 2 : visit] = np.nan
    checked = verdicts({"water_depth": depth, "conductivity": conductivity, "water_temperature": temperature})
    assert set(checked["water_depth"].flag[1000:1598]) == {4}
    assert set(checked["conductivity"].flag[1000:1598]) == {3}
    assert set(checked["water_depth"].flag[1600:]) == {1}


def test_a_storm_surge_is_not_a_moved_probe_and_a_week_of_it_is() -> None:
    for days, suspected in ((2, False), (7, True)):
        depth, *_ = a_tide(60)
        depth[4000 : 4000 + days * 96] += 0.7
        flags = verdicts({"water_depth": depth})["water_depth"].failed & Test.LEVEL_SHIFT
        assert bool(flags.any()) is suspected, days


def test_a_drifted_oxygen_sensor_is_suspected_back_to_when_it_was_two_milligrams_off() -> None:
    oxygen = np.full(2000, 6.0) + 0.5 * np.sin(np.arange(2000) / 7)
    oxygen[900:1500] -= np.linspace(0, 4, 600)
    oxygen[898:900] = oxygen[1498:1500] = np.nan
    one = verdicts({"dissolved_oxygen": oxygen})["dissolved_oxygen"]
    suspected = np.flatnonzero(one.flag == 3)
    assert suspected.min() == pytest.approx(1200, abs=20)
    assert suspected.max() == 1497
    assert Test.VISIT_DRIFT in Test(int(one.failed[1400]))


def test_a_day_of_weather_before_a_visit_is_no_drift() -> None:
    oxygen = np.full(2000, 6.0) + 0.5 * np.sin(np.arange(2000) / 7)
    oxygen[1494:1500] -= 5.0  # low water: nothing that lasts
    oxygen[898:900] = oxygen[1498:1500] = np.nan
    assert not (verdicts({"dissolved_oxygen": oxygen})["dissolved_oxygen"].failed & Test.VISIT_DRIFT).any()


def test_salinity_by_a_conductivity_that_is_only_noise_is_suspect_and_so_is_oxygen() -> None:
    depth, conductivity, temperature, _ = a_tide(10)
    conductivity[500:600] = np.random.default_rng(2).uniform(2, 60, 100)
    columns = {"conductivity": conductivity, "water_temperature": temperature, "water_depth": depth}
    columns |= {"salinity": conductivity * 0.6, "dissolved_oxygen": 6.0 + temperature / 20}
    checked = verdicts(columns)
    for name in ("conductivity", "salinity", "dissolved_oxygen"):
        assert (checked[name].flag[505:595] >= 3).all(), name
        assert set(checked[name].flag[:490]) == {1}, name
    assert set(checked["water_temperature"].flag) == {1}


def test_a_test_that_breaks_says_not_evaluated_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("cloud_ingest.qartod.spike_test", broken)
    monkeypatch.setattr("cloud_ingest.qartod.gross_range_test", broken)
    one = verdicts({"chlorophyll": np.array([1.0, 2.0, 3.0])})["chlorophyll"]
    assert Test.SPIKE in one.by_test
    assert set(one.by_test[Test.SPIKE].tolist()) == {2}
    assert 4 not in one.flag


def test_a_parameter_without_tests_is_held_against_its_range_only() -> None:
    one = verdicts({"ammonium_nitrogen": np.array([1.0, -1.0, np.nan])})["ammonium_nitrogen"]
    assert one.flag.tolist() == [1, 4, 9]


def test_the_shipped_thresholds_name_only_parameters_we_know() -> None:
    assert len(default_tests()) > 10


def test_wrong_thresholds_are_told_all_at_once_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "tests.toml"
    file.write_text(
        "[salinty]\nspike = { suspect = 1.0 }\n[ph]\nspike = { suspect = 2.0, fail = 1.0 }\nneeds = ['heat']\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        read_tests(file)
    text = str(caught.value)
    assert "salinty" in text
    assert "suspect must be below fail" in text
    assert "heat" in text
    assert "line 1" in text or ":1" in text


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


OURS = """
[time]
column = "giờ"
format = "%d/%m/%Y %H:%M"
timezone = "Asia/Ho_Chi_Minh"
[[column]]
name = "độ mặn"
parameter = "salinity"
"""


def test_a_spreadsheet_of_the_department_is_read_in_local_time_and_nothing_in_it_is_guessed(tmp_path: Path) -> None:
    write(tmp_path / "map.toml", [OURS])
    file = write(
        tmp_path / "mặn.csv",
        ["giờ,độ mặn", "01/03/2019 00:00,4.1", "31/02/2019 00:00,4.1", "01/03/2019 00:00,9", "01/03/2019 01:00,cao"],
    )
    table = read_columns(file, load_map(str(tmp_path / "map.toml")))
    assert table.times.tolist() == [1551373200, 1551376800]
    assert table.refused == 2
    assert [fault.split(":")[0] for fault in table.faults] == ["line 3", "line 4"]
    assert table.columns["độ mặn"].unreadable.tolist() == [False, True]


def test_a_file_without_the_column_is_refused_with_what_it_has(tmp_path: Path) -> None:
    write(tmp_path / "map.toml", [OURS])
    file = write(tmp_path / "x.csv", ["time,salt", "1,2"])
    with pytest.raises(FileRefused, match=r"no column 'giờ', 'độ mặn'; the file has time, salt"):
        read_columns(file, load_map(str(tmp_path / "map.toml")))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\x1f\x8b broken"], ids=["empty", "not text", "not gzip"])
def test_files_that_are_none_end_with_a_sentence_and_exit_code_2(tmp_path: Path, content: bytes) -> None:
    for name in ("x.csv", "x.csv.gz"):
        (tmp_path / name).write_bytes(content)
        found = CliRunner().invoke(app, ["qc", str(tmp_path / name), "--map", "nerrs"])
        assert found.exit_code == 2
        assert name in found.stderr
        assert "Traceback" not in found.output


def test_flags_come_out_beside_the_values(tmp_path: Path) -> None:
    write(tmp_path / "map.toml", [OURS])
    rows = [f"01/03/2019 {hour:02d}:00,{value}" for hour, value in enumerate([4.1, 4.2, 44.0, 4.3, "?"])]
    file = write(tmp_path / "in.csv", ["giờ,độ mặn", *rows])
    found = CliRunner().invoke(
        app, ["qc", str(file), "--map", str(tmp_path / "map.toml"), "--out", str(tmp_path / "out.csv"), "--json"]
    )
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["columns"]["độ mặn"]["flags"]["fail"] == 2
    with (tmp_path / "out.csv").open(encoding="utf-8") as out:
        flagged = list(csv.DictReader(out))
    assert flagged[2]["độ mặn_flag"] == "4"
    assert flagged[2]["độ mặn_failed"] == "gross_range spike"
    assert flagged[4] == {
        "time_utc": "2019-02-28T21:00:00Z",
        "độ mặn": "",
        "độ mặn_flag": "4",
        "độ mặn_failed": "syntax",
    }


def test_the_maps_that_come_with_the_program_are_whole() -> None:
    assert map_names() == ["cdmo", "nerrs"]
    for name in map_names():
        assert load_map(name).flags is not None


@pytest.mark.parametrize(
    ("name", "map_name", "recall"),
    [
        (
            "apacpwq_2012_2013.csv.gz",
            "nerrs",
            dict.fromkeys(("temp", "spcond", "sal", "do_pct", "do_mgl", "depth", "ph", "turb"), 0.9),
        ),
        ("gndblwq2021.csv", "cdmo", {}),
    ],
)
def test_measured_series_that_people_have_flagged_are_scored(
    name: str, map_name: str, recall: dict[str, float]
) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"measured series {name} is not here: data of others are never part of the project")
    found = json.loads(CliRunner().invoke(app, ["qc", str(DATA / name), "--map", map_name, "--json"]).stdout)
    for column, one in found["columns"].items():
        assert one["score"]["false_alarms"] < 0.005, column
        assert (one["score"]["recall"] or 0) >= recall.get(column, 0), column
