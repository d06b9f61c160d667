"""ET0, rain intensity and the water quality index over HTTP and by command, from records to the published figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.tests import test_queries, test_recompute
from cloud_ingest.tests.field import batch
from firmware.record import NOT_EVALUATED, Record
from station_config.network import load_network
from station_config.parameters import load_parameters

WEATHER = """
name = "Test"
timezone = "{zone}"
[[gateways]]
id = "gw-field"
[[stations]]
id = "garden"
name_vi = "Vườn"
name_en = "Garden"
latitude = {latitude}
longitude = {longitude}
{altitude}
river = "none"
river_km = 1.0
gateway = "gw-field"
address = 11
sample_interval_s = 60
record_interval_s = 900
pulses = [{{ number = 9, pin = 4, per_pulse = 0.2 }}]
sensors = [
  {{ number = 1, instrument = "lufft-ws-umb", address = 1{wind} }},
  {{ number = 2, instrument = "yosemitech-y4000", address = 2, serial = {{ baud = 19200, parity = "E" }} }},
]
"""
NDIAYE = {"zone": "Africa/Dakar", "latitude": 16.2167, "longitude": -16.25, "altitude": "altitude_m = 8.0"}
UCCLE = {"zone": "Europe/Brussels", "latitude": 50.8, "longitude": 4.35, "altitude": "altitude_m = 100.0"}
OCTOBER_1 = 1759276800  # 2025-10-01 00:00 UTC, and at N'Diaye
JULY_6 = 1751752800  # 2025-07-06 00:00 in Uccle
HOUR_S, DAY_S, QUARTER_S = 3600, 86400, 900
LACKS = "1 of 24 hours are not complete; solar_radiation: no value"
VALUES = {"air_temperature": 38.0, "relative_humidity": 52.0, "wind_speed": 3.3, "solar_radiation": 680.6}


class Field(test_queries.Office, test_recompute.Office):
    """A store with the API over it, and the files for the command."""

    def __init__(self, folder: Path, network: str) -> None:
        self.NETWORK = network
        self.seq = 0
        super().__init__(folder)

    def hear(self, parameter: str, times: Sequence[int], values: list[float], sensor: int = 1) -> None:
        """Take in one value for each time."""
        known = load_parameters().by_name[parameter]
        counts = [round(value * 10**known.decimals) for value in values]
        records = [
            Record(self.seq + at, time_s, count, sensor, known.code, NOT_EVALUATED)
            for at, (time_s, count) in enumerate(zip(times, counts, strict=True), start=1)
        ]
        self.seq += len(records)
        self.take(batch(records), station="garden", now_s=times[-1] + 60)

    def hour(self, end_s: int, **values: float) -> None:
        for name, value in values.items():
            self.hear(name, range(end_s - HOUR_S + QUARTER_S, end_s + 1, QUARTER_S), [value] * 4)

    def ask(self, quantity: str, first: int, last: int, **more: object) -> Any:
        return self.get(f"/api/v1/stations/garden/computed/{quantity}", from_=first, to=last, **more)

    def everything_settled(self) -> None:
        Review(self.store, self.registry).finish()
        Rollups(self.store, self.registry).finish(OCTOBER_1 + 30 * DAY_S)


@contextmanager
def a_field(folder: Path, place: Mapping[str, object], wind: str = ", wind_height_m = 2.0") -> Iterator[Field]:
    one = Field(folder, WEATHER.format(wind=wind, **place))
    with one.store, one.served():
        yield one
    one.reader.close()


def test_hours_are_those_of_fao_56_example_19(tmp_path: Path) -> None:
    with a_field(tmp_path, NDIAYE) as field:
        field.hour(OCTOBER_1 - 7 * HOUR_S, **VALUES | {"solar_radiation": 444.6})  # 0.8 of a clear sky
        field.hour(
            OCTOBER_1 + 4 * HOUR_S, air_temperature=28.0, relative_humidity=90.0, wind_speed=1.9, solar_radiation=-1.4
        )
        field.hour(OCTOBER_1 + 16 * HOUR_S, **VALUES)  # the example's 14 to 15 h are of UTC-1
        field.hear("air_temperature", range(OCTOBER_1 + 17 * HOUR_S, OCTOBER_1 + 17 * HOUR_S + 1), [38.0])
        before = field.ask("reference_evapotranspiration", OCTOBER_1, OCTOBER_1 + DAY_S, by="hour")
        field.everything_settled()
        answer = field.ask("reference_evapotranspiration", OCTOBER_1, OCTOBER_1 + DAY_S, by="hour")
    night, day, short = answer["values"]
    assert (night["value"], day["value"]) == (pytest.approx(0.0, abs=0.005), pytest.approx(0.627, abs=0.002))
    assert day["inputs"] == VALUES
    assert (short["value"], short["reason"]) == (None, "air_temperature: 1 of 4 values are usable")
    assert (answer["unit"], answer["partial"], answer["source"][:3]) == ("mm", False, "FAO")
    assert {one["parameter"] for one in answer["inputs"]} == set(VALUES)
    assert before == answer  # whether rollups were made or not


def test_a_day_is_that_of_fao_56_example_18_or_says_what_it_lacks(tmp_path: Path) -> None:
    with a_field(tmp_path, UCCLE, ", wind_height_m = 10.0") as field:
        for hour in range(1, 49):
            warm, cold = hour % 24 == 15, hour % 24 == 5
            field.hour(
                JULY_6 + hour * HOUR_S,
                air_temperature=21.5 if warm else 12.3 if cold else 17.0,
                relative_humidity=63.0 if warm else 84.0 if cold else 70.0,
                wind_speed=2.78,
                **({} if hour == 40 else {"solar_radiation": 22.07e6 / DAY_S}),
            )
        answer = field.ask("reference_evapotranspiration", JULY_6, JULY_6 + 2 * DAY_S)
        table = field.command(
            "query", "garden", "reference_evapotranspiration", "--from", "2025-07-06", "--to", "2025-07-08"
        )
        data = field.command(
            "query", "garden", "reference_evapotranspiration", "--from", "2025-07-06", "--to", "2025-07-08", "--json"
        )
    first, second = answer["values"]
    assert first["value"] == pytest.approx(3.88, abs=0.01)
    assert second["reason"] == "1 of 24 hours are not complete; solar_radiation: no value"
    assert (table.exit_code, "FAO Irrigation" in table.output) == (0, True), table.output
    assert json.loads(data.output)["values"] == answer["values"]


def test_what_the_station_lacks_is_said_all_at_once_and_never_guessed(tmp_path: Path) -> None:
    with a_field(tmp_path, NDIAYE | {"altitude": ""}, "") as field:
        field.hour(OCTOBER_1 + 15 * HOUR_S, air_temperature=38.0, relative_humidity=52.0, wind_speed=3.3)
        refused = field.client.get("/api/v1/stations/garden/computed/reference_evapotranspiration")
        command = field.command("query", "garden", "reference_evapotranspiration", "--from", "2025-10-01")
        index = field.client.get("/api/v1/stations/garden/computed/water_quality_index", params={"from": OCTOBER_1})
        nobody = field.client.get("/api/v1/stations/nowhere/computed/water_quality_index")
        minute = field.client.get("/api/v1/stations/garden/computed/reference_evapotranspiration?by=minute")
    assert (refused.status_code, refused.json()["detail"]) == (
        422,
        "reference_evapotranspiration of garden cannot be computed, it needs solar_radiation, of which this station has"
        " no series; the station's altitude_m in network.toml; wind_height_m of its sensor 1 in network.toml",
    )
    assert (command.exit_code, refused.json()["detail"] in command.output) == (2, True)
    assert (index.status_code, "dissolved_oxygen with water_temperature" in index.json()["detail"]) == (422, True)
    assert (nobody.status_code, minute.status_code) == (404, 422)


def test_a_station_that_measures_light_estimates_its_radiation_and_says_so(tmp_path: Path) -> None:
    with a_field(tmp_path, NDIAYE) as field:
        field.hour(OCTOBER_1 + 16 * HOUR_S, **{name: value for name, value in VALUES.items() if "solar" not in name})
        field.hour(OCTOBER_1 + 16 * HOUR_S, illuminance=VALUES["solar_radiation"] * 122.0)
        answer = field.ask("reference_evapotranspiration", OCTOBER_1, OCTOBER_1 + DAY_S, by="hour")
    (hour,) = answer["values"]
    assert hour["value"] == pytest.approx(0.627, abs=0.002)
    assert "estimated from illuminance" in answer["method"]
    assert {"parameter": "illuminance", "sensor": 1, "unit": "lx"}.items() <= next(
        one for one in answer["inputs"] if "estimated: 122 lx" in one["use"]
    ).items()


def test_a_month_is_the_sum_of_its_days_or_says_which_lack(tmp_path: Path) -> None:
    """Two whole months in the settled rollups; one hour of the second is short of radiation."""
    first, days = OCTOBER_1 - 122 * DAY_S, 30 + 31  # June and July
    with a_field(tmp_path, NDIAYE) as field:
        times = range(first + QUARTER_S, first + days * DAY_S + 1, QUARTER_S)
        for name, value in VALUES.items():
            short = range(first + 40 * DAY_S + 1, first + 40 * DAY_S + HOUR_S + 1) if name == "solar_radiation" else ()
            own = [one for one in times if one not in short]
            field.hear(name, own, [value / 3 if name == "solar_radiation" else value] * len(own))
        ask = ("reference_evapotranspiration", first, first + days * DAY_S)
        by_day, by_month = field.ask(*ask, by="day"), field.ask(*ask, by="month")
        table = field.command(
            *("query", "garden", "reference_evapotranspiration", "--by", "month"),
            *("--from", "2025-06-01", "--to", "2025-08-01", "--csv"),
        )
    assert [one["reason"] for one in by_day["values"] if one["reason"]] == [LACKS]
    june, july = by_month["values"]
    of_june = [one["value"] for one in by_day["values"][:30]]
    of_july = [one["value"] for one in by_day["values"][30:] if one["value"] is not None]
    assert (june["start"], june["end"]) == (first, first + 30 * DAY_S)
    assert june["value"] == pytest.approx(sum(of_june), abs=0.001)
    assert june["parts"]["days"] == 30
    assert (july["value"], july["parts"]["days"], len(of_july)) == (None, 30, 30)
    assert july["parts"]["sum_of_days"] == pytest.approx(sum(of_july), abs=0.001)
    assert july["reason"] == f"1 of 31 days lack; {LACKS}"
    assert "sum of the month's days" in by_month["method"]
    assert (table.exit_code, "sum_of_days" in table.output) == (0, True), table.output


def test_a_partial_index_says_in_every_form_that_it_is_one(tmp_path: Path) -> None:
    with a_field(tmp_path, NDIAYE) as field:
        times = range(OCTOBER_1 + QUARTER_S, OCTOBER_1 + HOUR_S + 1, QUARTER_S)
        for name, value in {"ph": 5.75, "dissolved_oxygen": 4.9, "water_temperature": 28.0}.items():
            field.hear(name, times, [value] * 4, sensor=2)
        field.hear("ph", range(OCTOBER_1 + 2 * HOUR_S, OCTOBER_1 + 2 * HOUR_S + 1), [7.0], sensor=2)
        answer = field.ask("water_quality_index", OCTOBER_1, OCTOBER_1 + 2 * HOUR_S, by="hour")
        text = field.client.get(
            "/api/v1/stations/garden/computed/water_quality_index",
            params={"from": OCTOBER_1, "to": OCTOBER_1 + HOUR_S, "by": "hour", "format": "csv"},
        ).text
        table = field.command(
            "query", "garden", "water_quality_index", "--from", "2025-10-01", "--to", "2025-10-01T02:00", "--by", "hour"
        )
    one, short = answer["values"]
    # 4.9 of 7.72 mg/L by the decision's formula are 63.4 %; pH halfway between 50 and 100
    assert one["inputs"]["oxygen_saturation"] == pytest.approx(63.5, abs=0.1)
    assert one["parts"] == {"ph": 75.0, "oxygen_saturation": pytest.approx(63.4, abs=0.05)}
    assert (one["value"], one["quality_class"]["en"]) == (round(0.75 * 63.46), "bad")
    assert short["reason"] == "ph: 1 of 4 values are usable"
    assert answer["partial"]
    assert {"II", "III", "V"} < set(answer["missing"])
    assert "COD" in answer["missing"]["IV"]
    assert ("1460/QĐ-TCMT" in answer["source"], "2019-11-12" in answer["source"]) == (True, True)
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["partial"].startswith("partial, without II: aldrin")
    assert "partial, without II" in table.output.replace("\n", " ")


def test_rain_intensity_knows_what_one_tip_is_and_what_a_gap_hides(tmp_path: Path) -> None:
    with a_field(tmp_path, NDIAYE) as field:
        tips = [0, 0, 1, 1, 11, 11, 11, 11]  # of a bucket, every quarter of an hour
        times = range(OCTOBER_1, OCTOBER_1 + 2 * HOUR_S - 1, QUARTER_S)
        field.hear("rain_total", times, [0.2 * one for one in tips], sensor=9)
        later = OCTOBER_1 + 4 * HOUR_S
        field.hear("rain_total", range(later, later + 1), [5.0], sensor=9)
        hours = field.ask("rain_intensity_computed", OCTOBER_1, later, by="hour")
        minutes = field.ask("rain_intensity_computed", OCTOBER_1, later, by="minute")
        sums = field.get("/api/v1/stations/garden/aggregates/rain_total", from_=OCTOBER_1, to=later, by="hour")[
            "buckets"
        ]
    assert hours["resolution"] == 0.8  # 0.2 mm in a quarter of an hour
    assert [(one["value"], one["parts"]) for one in hours["values"]] == [
        (2.2, {"heaviest_10_min": 8.0}),
        (0.0, {"heaviest_10_min": 0.0}),
        (2.8, {"heaviest_10_min": None}),  # fell at some time in two hours
    ]
    assert [one["sum"] for one in sums] == [2.2, 0.0, 2.8]
    assert [one["value"] for one in minutes["values"]] == [0.0, 0.8, 0.0, 8.0, 0.0, 0.0, 0.0, None]
    assert minutes["values"][-1]["reason"] == "no total about ten minutes before"


def test_heights_that_matter_to_nobody_are_refused(tmp_path: Path) -> None:
    text = WEATHER.format(wind="", **NDIAYE).replace("address = 2,", "address = 2, wind_height_m = 10.0,")
    (tmp_path / "network.toml").write_text(text)
    with pytest.raises(Exception, match="wind_height_m: remove it: this instrument does not measure wind_speed"):
        load_network(tmp_path / "network.toml")
