"""Questions over HTTP: layers, sums over local time, the newest of everything, completeness; as JSON and CSV."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from pydantic import TypeAdapter

from cloud_ingest import models
from cloud_ingest.api import Sources, make_app
from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.columns import Ints, SeriesKey
from cloud_ingest.database import Database
from cloud_ingest.observations import Logged
from cloud_ingest.quality import Test
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.tests.field import EC25, T0, batch, minutes, until
from cloud_ingest.tests.log_as_table import put_back, with_log
from cloud_ingest.tests.test_ingest import Bench
from cloud_ingest.tests.test_review import calibration
from cloud_ingest.tests.test_rollups import RAIN, WIND_FROM, WIND_SPEED, minutes_of
from firmware.record import MISSING, Record
from station_config.free_ports import free_port

MIDNIGHT = 1771002000  # 2026-02-14 00:00 in Vietnam
STATION = "/api/v1/stations/xuan-hoa"


@dataclass(frozen=True)
class FixedClock:
    at: float

    def now(self) -> float:
        return self.at


class Office(Bench):
    """A bench with the API over it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        sources = Sources(
            reader=self.reader,
            registry=self.registry,
            clock=FixedClock(MIDNIGHT + 2 * 86400),
            health=_nobody_asks,
            metrics=_nobody_asks,
        )
        self.app = make_app(sources)
        self.client = httpx.Client(trust_env=False, timeout=60)

    @contextmanager
    def served(self) -> Iterator[None]:
        config = uvicorn.Config(self.app, port=free_port(), log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        until(lambda: server.started, "the server")
        self.client.base_url = httpx.URL(f"http://127.0.0.1:{config.port}")
        yield
        self.client.close()
        server.should_exit = True
        thread.join()

    def get(self, path: str, **question: object) -> Any:
        params = {name.strip("_"): str(value) for name, value in question.items()}
        answer = self.client.get(path, params=params or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pack(self, key: SeriesKey, times: Ints) -> None:
        """Put rows of counts 0, 1, … into chunks; the last has no value, and failed two tests."""
        rows, nothing = len(times), np.zeros(len(times), np.int64)
        count, flag, failed = np.arange(rows), np.ones(rows, np.uint8), np.zeros(rows, np.int64)
        count[-1], flag[-1], failed[-1] = MISSING, 9, Test.GROSS_RANGE | Test.SPIKE
        with self.store.transaction() as transaction:
            assert isinstance(transaction.log, ChunkedLog)
            number = transaction.series_number(key)
            value = np.full(rows, np.nan)
            columns = (times, count, value, nothing, flag, failed, nothing + 1, np.arange(rows))
            transaction.log.chunks.merge(number, Logged(*columns))

    def settle(self) -> None:
        Review(self.store, self.registry).finish()
        Rollups(self.store, self.registry).finish(MIDNIGHT + 30 * 86400)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    one = Office(tmp_path)
    with one.store, one.served():
        yield one
    one.reader.close()


def _nobody_asks() -> Any:
    raise AssertionError


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_series_has_three_layers(office: Office) -> None:
    with CalibrationBook(Database.in_folder(office.folder)) as book:
        book.enter(calibration(valid_from=MIDNIGHT + 120))
    office.take(
        batch(minutes(5, first_time_s=MIDNIGHT, ec25=10.0)), batch([Record(99, MIDNIGHT + 300, 10000, 1, EC25, 4)])
    )
    office.settle()
    path = f"{STATION}/series/conductivity_25"
    raw, calibrated, flagged = (office.get(path, layer=name) for name in ("raw", "calibrated", "flagged"))
    assert raw["values"] == [10.0] * 6
    assert calibrated["values"] == flagged["values"] == [10.0] * 2 + [11.5] * 4
    assert calibrated["calibrations"] == [0, 0, 1, 1, 1, 1]
    assert flagged["failed"][-1] == ["station"]
    assert (flagged["flags"][-1], flagged["unit"], office.get(path)["layer"]) == (4, "mS/cm", "flagged")


@pytest.mark.parametrize("settled", [False, True])
def test_days_are_local_and_end_at_midnight(office: Office, settled: bool) -> None:
    office.take(batch(minutes(121, first_time_s=MIDNIGHT - 3600, ec25=12.0)))
    if settled:
        office.settle()
    days = office.get(f"{STATION}/aggregates/conductivity_25", by="day", from_=MIDNIGHT - 86400)["buckets"]
    assert [(one["start"], one["end"], one["n"]) for one in days] == [
        (MIDNIGHT - 86400, MIDNIGHT, 61),
        (MIDNIGHT, MIDNIGHT + 86400, 60),
    ]
    assert days[0] | {"start": 0, "end": 0} == {
        "start": 0, "end": 0, "n": 61, "n_usable": 61, "percent_good": 100.0, "mean": 12.0, "minimum": 12.0,
        "maximum": 12.0, "sum": None, "vector_speed": None, "expected": 1440, "completeness": 4.24,
    }  # fmt: skip
    hours = office.get(f"{STATION}/aggregates/conductivity_25", from_=MIDNIGHT - 7200, to=MIDNIGHT)["buckets"]
    assert [(one["start"] - MIDNIGHT, one["n"], one["completeness"]) for one in hours] == [
        (-7200, 1, 1.67),
        (-3600, 60, 100.0),
    ]
    month = office.get(f"{STATION}/aggregates/conductivity_25", by="month")["buckets"]
    assert [(one["n"], one["end"] - one["start"]) for one in month] == [(121, 28 * 86400)]


@pytest.mark.parametrize("settled", [False, True])
def test_rain_over_hours_and_minutes_knows_the_total_before(office: Office, settled: bool) -> None:
    totals = [100, 100, 120, 20, 20, 50]  # 2.0 mm, then a new counter
    office.take(batch(minutes_of(RAIN, totals, begin=MIDNIGHT + 58 * 60)))
    if settled:
        office.settle()
    path, unit = f"{STATION}/aggregates/rain_total", 10.0 ** office.registry.vocabulary.by_name["rain_total"].decimals
    hours = office.get(path, from_=MIDNIGHT + 3600, to=MIDNIGHT + 7200)["buckets"]
    assert [(one["sum"], one["mean"], one["maximum"]) for one in hours] == [(50 / unit, None, None)]
    minute = office.get(path, by="minute", from_=MIDNIGHT + 3600 + 60, to=MIDNIGHT + 7200)["buckets"]
    assert [one["sum"] for one in minute] == [0.0, 30 / unit]
    day = office.get(path, by="day", from_=MIDNIGHT, to=MIDNIGHT + 86400)["buckets"]
    assert [one["sum"] for one in day] == [70 / unit]


def test_wind_directions_are_averaged_as_vectors(office: Office) -> None:
    scale = {
        name: 10 ** office.registry.vocabulary.by_name[name].decimals for name in ("wind_speed", "wind_from_direction")
    }
    directions = minutes_of(WIND_FROM, [350 * scale["wind_from_direction"], 10 * scale["wind_from_direction"]])
    office.take(batch([*directions, *minutes_of(WIND_SPEED, [2 * scale["wind_speed"]] * 2, 3)]))
    office.settle()
    (one,) = office.get(f"{STATION}/aggregates/wind_from_direction", from_=T0, to=T0 + 600)["buckets"]
    assert one["mean"] == pytest.approx(0.0, abs=1e-3) or one["mean"] == pytest.approx(360.0, abs=1e-3)
    assert one["vector_speed"] == pytest.approx(1.9696, abs=1e-4)
    assert (one["minimum"], one["maximum"]) == (None, None)


def test_suspect_values_count_only_when_asked_for(office: Office) -> None:
    office.take(batch(minutes(3, first_time_s=MIDNIGHT + 60)))
    office.settle()
    with office.store.transaction():
        with_log(office.file)
        office.file.execute("UPDATE log SET flag = 3 WHERE time = ?", (MIDNIGHT + 60,))
        office.file.execute("UPDATE log SET flag = 4 WHERE time = ?", (MIDNIGHT + 120,))
        put_back(office.file)
        office.file.execute("INSERT INTO rollup_marks SELECT DISTINCT (time - 1) / 86400, series FROM log")
    path, span = f"{STATION}/aggregates/conductivity_25", {"from_": MIDNIGHT, "to": MIDNIGHT + 3600}
    strict, wide = office.get(path, **span), office.get(path, **span, suspect=True)
    assert [(one["n"], one["n_usable"], one["percent_good"]) for one in strict["buckets"]] == [(3, 1, 33.33)]
    assert [one["n_usable"] for one in wide["buckets"]] == [2]
    assert (strict["usable_flags"], wide["usable_flags"]) == ([1, 2], [1, 2, 3])


def test_the_newest_of_everything(office: Office) -> None:
    office.take(batch(minutes(2, first_time_s=MIDNIGHT)), batch([Record(9, MIDNIGHT, 5, 1, 127, 2)]))
    found = {one["parameter"]: one for one in office.get("/api/v1/latest")}
    assert found["conductivity_25"] == {
        "station": "xuan-hoa", "sensor": 1, "parameter": "conductivity_25", "unit": "mS/cm", "time": MIDNIGHT + 60,
        "value": 12.5, "flag": 1, "failed": [],
    }  # fmt: skip
    assert (found["127"]["value"], found["127"]["flag"], found["127"]["unit"]) == (None, 2, None)
    assert office.get("/api/v1/latest", station="vam-kenh") == []


@pytest.mark.parametrize("settled", [False, True])
def test_completeness_is_of_whole_days_until_now(office: Office, settled: bool) -> None:
    office.take(batch(minutes(720, first_time_s=MIDNIGHT + 60)), batch([Record(9999, MIDNIGHT + 50000, 5, 1, 127, 2)]))
    if settled:
        office.settle()
    answer = office.get("/api/v1/completeness", from_=MIDNIGHT, to=MIDNIGHT + 86400)
    assert (answer["start"], answer["end"], answer["timezone"]) == (MIDNIGHT, MIDNIGHT + 86400, "Asia/Ho_Chi_Minh")
    found = {one["parameter"]: one for one in answer["series"]}
    assert found["conductivity_25"] == {
        "station": "xuan-hoa", "sensor": 1, "parameter": "conductivity_25", "expected": 1440, "came": 720,
        "usable": 720, "percent": 50.0,
    }  # fmt: skip
    assert (found["unknown"]["came"], found["unknown"]["usable"]) == (1, 0)
    later = office.get("/api/v1/completeness", from_=MIDNIGHT + 86400, to=MIDNIGHT + 3 * 86400)
    assert {(one["expected"], one["came"]) for one in later["series"]} == {(1440, 0)}, "tomorrow is not expected yet"


def test_csv_is_asked_for_by_accept_or_by_format(office: Office) -> None:
    office.take(batch(minutes(3, first_time_s=MIDNIGHT)))
    path = f"{STATION}/series/conductivity_25"
    by_accept = office.client.get(path, headers={"Accept": "text/csv"})
    assert by_accept.headers["content-type"] == "text/csv; charset=utf-8"
    assert rows(by_accept.text)[0] == {
        "time_local": "2026-02-14T00:00:00+07:00", "time_utc": "2026-02-13T17:00:00Z", "value [mS/cm]": "12.5",
        "flag": "1", "failed": "",
    }  # fmt: skip
    assert office.client.get(path, params={"format": "csv"}).text == by_accept.text
    assert office.client.get(path, params={"format": "json"}, headers={"Accept": "text/csv"}).json()["times"]
    for question, number in (
        (f"{STATION}/aggregates/conductivity_25", 1),
        ("/api/v1/latest", 4),
        ("/api/v1/completeness", 4),
    ):
        assert len(rows(office.client.get(question, params={"format": "csv"}).text)) == number


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("aggregates/conductivity_25?by=minute&from=0", 422, "more than 10,000 spans of one minute"),
        ("aggregates/conductivity_25?by=hour&from=1700000000&to=1760000000", 422, "more than 10,000 spans of one hour"),
        ("aggregates/conductivity_25?by=day&suspect=true&from=1700000000&to=1760000000", 422, "ask year by year"),
        ("aggregates/conductivity_25?from=5&to=4", 422, "turn them round"),
        ("aggregates/conductivity_25?by=week", 422, "minute"),
        ("aggregates/happiness", 404, "no parameter 'happiness'"),
        ("series/conductivity_25?from=0", 422, "366 days"),
        ("series/conductivity_25?layer=best", 422, "calibrated"),
        ("series/conductivity_25?format=csv&limit=2", 422, "3 points, and at most 2"),
        ("series/conductivity_25?format=pdf", 422, "csv"),
    ],
)
def test_what_cannot_be_answered_says_how_to_ask(office: Office, path: str, status: int, says: str) -> None:
    office.take(batch(minutes(3, first_time_s=MIDNIGHT + 86400)))
    answer = office.client.get(f"{STATION}/{path}")
    assert answer.status_code == status, answer.text
    assert says in answer.text


def test_several_series_are_one_question(office: Office) -> None:
    office.take(batch(minutes(3, first_time_s=MIDNIGHT, ec25=10.0)))
    names = ("xuan-hoa/1/water_temperature", "vam-kenh/1/salinity", "xuan-hoa/1/conductivity_25")
    span = f"from={MIDNIGHT}&to={MIDNIGHT + 60}"
    found = office.get(f"/api/v1/series?{'&'.join(f'of={one}' for one in names)}&{span}")["series"]
    assert [f"{one['station']}/{one['sensor']}/{one['parameter']}" for one in found] == list(names)
    assert [one["times"] for one in found] == [[MIDNIGHT, MIDNIGHT + 60], [], [MIDNIGHT, MIDNIGHT + 60]]
    one = office.get(f"{STATION}/series/conductivity_25", from_=MIDNIGHT, to=MIDNIGHT + 60)
    assert found[2] == one
    again = office.get(f"/api/v1/series?of={names[2]}&of={names[2]}&{span}&layer=raw&limit=2")["series"]
    assert again[0] == again[1] == office.get(f"{STATION}/series/conductivity_25?layer=raw&{span}")


@pytest.mark.parametrize(
    ("question", "status", "says"),
    [
        ("", 422, "required"),
        ("of=xuan-hoa/conductivity_25", 422, "station/sensor/parameter"),
        ("of=xuan-hoa/1/happiness", 404, "no parameter 'happiness'"),
        ("&".join(["of=xuan-hoa/1/salinity"] * 101), 422, "100 items"),
        ("of=xuan-hoa/1/salinity&from=0", 422, "366 days"),
    ],
)
def test_series_that_cannot_be_asked_for_together(office: Office, question: str, status: int, says: str) -> None:
    answer = office.client.get(f"/api/v1/series?{question}")
    assert answer.status_code == status, answer.text
    assert says in answer.text


def test_a_year_of_minutes_is_answered_whole(office: Office) -> None:
    times = MIDNIGHT - 60 * np.arange(366 * 1440)[::-1]
    office.pack(SeriesKey("xuan-hoa", 1, EC25), times)
    span = f"from={times[0]}&to={times[-1]}"
    path = f"{STATION}/series/conductivity_25?{span}"
    whole = models.Series.model_validate(office.get(f"{path}&limit=600000"))
    assert (whole.thinned, whole.times) == (False, times.tolist())
    assert whole.values[:3] == [0.0, 0.001, 0.002]
    assert whole.values[-1] is None
    assert (whole.flags[-1], whole.failed[-2:]) == (9, [[], ["gross_range", "spike"]])
    calibrated = office.get(f"{path}&limit=600000&layer=calibrated")
    assert (set(calibrated["calibrations"]), calibrated["failed"]) == ({0}, [])
    assert len(calibrated["calibrations"]) == len(times)
    thinned = office.get(path)
    assert (thinned["thinned"], len(thinned["times"])) == (True, 2000)
    refused = office.client.get(f"{path}&format=csv")
    assert (refused.status_code, "at most 100,000" in refused.text) == (422, True)
    both = office.client.get(f"/api/v1/series?{span}&limit=600000" + "&of=xuan-hoa/1/conductivity_25" * 2)
    assert (both.status_code, "at most 600,000" in both.text) == (422, True)


def test_answers_are_what_openapi_says_they_are(office: Office) -> None:
    office.take(batch(minutes(90, first_time_s=MIDNIGHT)), batch([Record(999, MIDNIGHT + 60, 5, 1, 127, 2)]))
    for layer in ("raw", "calibrated", "flagged"):
        answer = office.client.get(f"{STATION}/series/salinity?layer={layer}&to={MIDNIGHT + 86400}").content
        assert len(models.Series.model_validate_json(answer, strict=True).times) == 90
    several = office.client.get(f"/api/v1/series?of=xuan-hoa/1/salinity&to={MIDNIGHT + 86400}").content
    assert models.SeveralSeries.model_validate_json(several, strict=True).series[0].flags[0] == 1
    hours = office.client.get(f"{STATION}/aggregates/salinity?from={MIDNIGHT}&to={MIDNIGHT + 7200}").content
    assert [one.n for one in models.Aggregates.model_validate_json(hours, strict=True).buckets] == [60, 29]
    newest = office.client.get("/api/v1/latest").content
    known = TypeAdapter(list[models.NewestValue]).validate_json(newest, strict=True)
    assert {one.parameter for one in known} >= {"127", "salinity"}
    complete = office.client.get("/api/v1/completeness").content
    assert len(models.Completeness.model_validate_json(complete, strict=True).series) == len(known)


def test_questions_about_nobody_and_nothing(office: Office) -> None:
    assert office.client.get("/api/v1/stations/nowhere/aggregates/salinity").status_code == 404
    assert office.get(f"{STATION}/aggregates/salinity")["buckets"] == []
    assert office.get("/api/v1/completeness")["series"] == []
    assert office.get("/api/v1/latest") == []
