"""Measured files: what is in them comes out, row by row, and other files are refused with what was expected."""

from __future__ import annotations

import csv
import gzip
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from simulators.estuary import Place
from simulators.replay import Replay, ReplayError, Series, read_series
from station_config.salinity import practical_salinity

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = {"Grand Bay": "gndblwq2021.csv", "Apalachicola": "apacpwq_2012_2013.csv.gz"}
# Half a digit of the file's salinity (0.1), of its conductivity (0.01) and of its temperature (0.1) together: 0.06
# below 23 g/L, and 0.0626 in the worst of Apalachicola's 65,282 good rows.
ROUNDING = 0.063
HERE = Place("vam-kenh", 2.0)

CDMO = """StationCode,isSWMP,DateTimeStamp,F_Record,Temp,F_Temp,SpCond,F_SpCond,Sal,F_Sal,Depth,F_Depth
gndblwq   ,P,7/2/2021 0:00,,30.7,<0> ,13.73,<0> ,7.9,<0> ,0.63,<0>
gndblwq   ,P,7/2/2021 0:15,,30.8,<0> ,13.59,<1> [SDO] (CCU),7.8,<0> ,,<-2> [GCM]
gndblwq   ,P,12/31/2021 23:45,{CSM},,<-2> [GSM],,<-2> [GSM],,<-2> [GSM],,<-2> [GSM]
"""


@cache
def read_once(path: Path) -> Series:
    return read_series(path)


def measured(name: str) -> Path:
    path = DATA / FILES[name]
    if not path.exists():
        pytest.skip(f"measured series {path.name} is not at {DATA}: data of others are never part of the project")
    return path


@pytest.fixture(scope="module", params=FILES)
def series(request: pytest.FixtureRequest) -> Series:
    return read_once(measured(request.param))


@pytest.fixture
def cdmo(tmp_path: Path) -> Path:
    path = tmp_path / "export.csv"
    path.write_text(CDMO, encoding="utf-8")
    return path


def test_salinity_from_the_replayed_conductivity_is_the_files_own(series: Series) -> None:
    state = Replay(series).salinity(HERE, series.times)
    difference = np.abs(state - series.salinity)
    compared = difference[np.isfinite(difference)]
    assert len(compared) > 4000
    assert compared.max() <= ROUNDING
    assert np.mean(compared <= 0.06) > 0.997


def test_a_state_agrees_with_its_row(series: Series) -> None:
    good = np.flatnonzero(np.isfinite(series.salinity) & np.isfinite(series.conductivity_25_ms_cm))[::97]
    for row in good:
        state = Replay(series).water(HERE, float(series.times[row]) + 450.0)
        own = practical_salinity(state.conductivity_ms_cm, state.water_temperature_c)
        assert abs(own - series.salinity[row]) <= ROUNDING


def test_times_ascend_by_quarters_of_an_hour(series: Series) -> None:
    assert (np.diff(series.times) % 900.0 == 0.0).all()
    assert (np.diff(series.times) > 0.0).all()


def test_every_row_of_grand_bay_comes_out_as_it_stands() -> None:
    path = measured("Grand Bay")
    series = read_once(path)
    expected = []
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        stamp = datetime.strptime(row["DateTimeStamp"], "%m/%d/%Y %H:%M").replace(tzinfo=UTC) + timedelta(hours=6)
        good = re.match(r"<0>", row["F_SpCond"]) and row["SpCond"]
        expected.append((stamp.timestamp(), float(row["SpCond"]) if good else np.nan))
    np.testing.assert_array_equal(np.column_stack((series.times, series.conductivity_25_ms_cm)), expected)


def test_rejected_raw_values_of_apalachicola_do_not_come_out() -> None:
    series = read_once(measured("Apalachicola"))
    assert len(series.times) == 70176
    assert series.times[0] == datetime(2012, 1, 1, 5, tzinfo=UTC).timestamp()
    assert np.nanmin(series.conductivity_25_ms_cm) >= 0.0
    assert np.nanmax(series.temperature_c) < 40.0


def test_the_traps_of_the_original_format(cdmo: Path) -> None:
    series = read_series(cdmo)
    first = datetime(2021, 7, 2, 6, tzinfo=UTC).timestamp()
    assert series.times[:2].tolist() == [first, first + 900.0]
    np.testing.assert_array_equal(series.conductivity_25_ms_cm, [13.73, np.nan, np.nan])
    np.testing.assert_array_equal(series.depth_m, [0.63, np.nan, np.nan])
    assert series.flags[1] == "<1> [SDO] (CCU)"


def test_a_row_holds_until_the_next_and_nothing_is_interpolated(cdmo: Path) -> None:
    replay = Replay(read_series(cdmo))
    begin = float(replay.series.times[0])
    shown = [
        replay.water(HERE, begin + after).water_temperature_c for after in (-1.0, 0.0, 899.9, 900.0, 1799.9, 1800.0)
    ]
    np.testing.assert_array_equal(shown, [np.nan, 30.7, 30.7, 30.8, 30.8, np.nan])


def test_another_station_plays_the_series_later(cdmo: Path) -> None:
    replay = Replay(read_series(cdmo))
    later = Place("xuan-hoa", 42.0, shift_s=7200.0)
    begin = float(replay.series.times[0])
    assert replay.water(later, begin + 7200.0) == replay.water(HERE, begin)
    assert replay.series.shifted(7200.0).times[0] == begin + 7200.0


def test_the_zone_can_be_given(cdmo: Path) -> None:
    assert read_series(cdmo, 7.0).times[0] == datetime(2021, 7, 1, 17, tzinfo=UTC).timestamp()


def test_a_zipped_file_is_read_like_a_plain_one(cdmo: Path) -> None:
    zipped = cdmo.with_suffix(".csv.gz")
    zipped.write_bytes(gzip.compress(cdmo.read_bytes()))
    np.testing.assert_array_equal(read_series(zipped).times, read_series(cdmo).times)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a,b\n1,2\n", r"neither a CDMO export \(columns StationCode.*UTC table.*it has a, b"),
        ("", "it has no columns"),
        (CDMO.splitlines()[0], "no rows"),
        (CDMO.replace("gndblwq   ", "nowhere"), "station 'nowhere': its standard time is not known"),
        (CDMO.replace("7/2/2021 0:15", "2 July"), r":3: '2 July' is not a time of the form"),
        (CDMO.replace("13.73", "much"), r":2: SpCond is 'much', not a number"),
    ],
    ids=["other columns", "empty", "header only", "unknown station", "bad time", "bad number"],
)
def test_files_that_cannot_be_replayed_say_why(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ReplayError, match=complaint):
        read_series(path)


def test_a_missing_and_a_damaged_file_say_why(tmp_path: Path) -> None:
    damaged = tmp_path / "cut.csv.gz"
    damaged.write_bytes(gzip.compress(CDMO.encode())[:40])
    for path in (tmp_path / "absent.csv", damaged):
        with pytest.raises(ReplayError, match="cannot be read"):
            read_series(path)
