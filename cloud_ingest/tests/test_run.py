"""The real command on a real broker: from a batch to the commit message and the API, and through trouble."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from cloud_ingest.database import Database
from cloud_ingest.settings_book import Kind, history, version_of
from cloud_ingest.static_pages import CONTENT_TYPES, PAGES
from cloud_ingest.tests.field import JOURNAL, T0, Broker, Cloud, GatewaySide, a_cloud, batch, damaged, minutes, until
from cloud_ingest.tests.log_as_table import with_log
from station_config.free_ports import free_port

RULES = """
[[rule]]
id = "rice"
parameter = "salinity"
threshold = "rice"
set_dwell_s = 120
clear_dwell_s = 120
stale_after_s = 86400
[[person]]
name = "Ba Tám"
phone = "0912 345 678"
rules = ["rice"]
"""

OLD_MAP = """
[time]
column = "time"
format = "unix"
[[column]]
name = "ec"
parameter = "conductivity_25"
[[column]]
name = "t"
parameter = "water_temperature"
"""


def test_batch_is_stored_committed_and_shown(running: Cloud, line: GatewaySide) -> None:
    line.send(batch(minutes(30)))
    line.await_commit(1, 60)
    ledger = [entry for entry in running.get("/api/v1/ledger") if entry["journal"] == JOURNAL]
    series = running.get("/api/v1/stations/xuan-hoa/series/conductivity_25")
    records = running.get("/api/v1/stations/xuan-hoa/records", journal=JOURNAL, after_seq=57)
    overview = running.get("/api/v1/overview")
    assert ledger == [
        {"station": "xuan-hoa", "journal": JOURNAL, "ranges": [[1, 60]], "stored": 60, "duplicates_received": 0,
         "conflicts": 0, "set_aside": 0, "missing": [], "declared_lost": []}
    ]  # fmt: skip
    assert series == {
        "station": "xuan-hoa", "parameter": "conductivity_25", "unit": "mS/cm", "sensor": 1,
        "layer": "flagged", "thinned": False, "times": [T0 + 60 * at for at in range(30)], "values": [12.5] * 30,
        "flags": [1] * 30, "failed": [[]] * 30, "calibrations": [],
    }  # fmt: skip
    assert records["next_after_seq"] == 60
    assert records["records"][0] == {
        "journal": JOURNAL, "seq": 58, "time": T0 + 28 * 60, "count": 12500, "sensor": 1, "parameter": 34,
        "flag": 2, "stamped_time": T0 + 28 * 60,
    }  # fmt: skip
    assert [(one["id"], one["online"], one["last_time"]) for one in overview["stations"]] == [
        ("xuan-hoa", False, T0 + 29 * 60),
        ("vam-kenh", False, None),
    ]
    assert [(one["parameter"], one["label"]["vi"], one["flag"]) for one in overview["stations"][0]["latest"]] == [
        ("water_temperature", "Nhiệt độ nước", 1),
        ("conductivity_25", "Độ dẫn điện ở 25 °C", 1),
        ("salinity", "Độ mặn", 1),
        ("specific_conductance", "Độ dẫn điện riêng ở 25 °C", 1),
    ]
    until(lambda: "xuan-hoa/salinity" in line.live, "the live topic")
    assert line.live["xuan-hoa/conductivity_25"] == {
        "value": 12.5, "unit": "mS/cm", "flag": 1, "time": T0 + 29 * 60, "sensor": 1,
    }  # fmt: skip


def test_poison_does_not_hold_up_the_rest(running: Cloud, line: GatewaySide) -> None:
    before = running.get("/health")["set_aside"]
    line.send(b"\x00" * 50)
    line.send(batch(minutes(1), journal=2), topic="tram/v1/records/xx/y")
    line.send(damaged(batch(minutes(2), journal=2), 2), station="vam-kenh")
    line.send(batch(minutes(2, first_seq=5), journal=2), station="vam-kenh")
    line.await_commit(1, 8, "vam-kenh", 2)
    ledger = [entry for entry in running.get("/api/v1/ledger") if entry["journal"] == 2]
    assert running.get("/health")["set_aside"] == before + 3
    assert (ledger[0]["ranges"], ledger[0]["set_aside"], ledger[0]["missing"]) == ([[1, 2], [4, 8]], 1, [])


def test_every_record_once_after_kill_9_in_mid_stream(broker: Broker, gateway: GatewaySide, tmp_path: Path) -> None:
    batches = [batch(minutes(300, first_seq=1 + 600 * at, first_time_s=T0 + 18000 * at)) for at in range(300)]
    with a_cloud(tmp_path / "cloud", broker.port) as cloud:
        gateway.send(batches[0])
        until(lambda: gateway.commits().count >= 600, "the first commit")
        for payload in batches[1:]:
            gateway.send(payload)
        cloud.kill()
        known = gateway.commits().count
        cloud.start()
        for at, payload in enumerate(batches):  # what a gateway does with batches no commit named
            if not gateway.commits().covers(1 + 600 * at, 600 * at + 600):
                gateway.send(payload)
        gateway.await_commit(1, 180_000)
        ledger = cloud.get("/api/v1/ledger")[0]
    with sqlite3.connect(cloud.folder / "state" / "store.sqlite") as store:
        logged = (
            with_log(store).execute("SELECT count(*), count(DISTINCT seq) FROM log WHERE seq IS NOT NULL").fetchone()
        )
        raw = store.execute("SELECT sum(length(records)) FROM raw").fetchone()
    store.close()
    assert known < 180_000, "it was killed too late to show anything"
    assert (ledger["ranges"], ledger["stored"], ledger["conflicts"]) == ([[1, 180_000]], 180_000, 0)
    assert (logged, raw) == ((180_000, 180_000), (180_000 * 18,))


def test_what_was_not_stored_stays_with_the_broker(cloud: Cloud, gateway: GatewaySide) -> None:
    with sqlite3.connect(cloud.folder / "state" / "store.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        gateway.send(batch(minutes(2)))
        until(lambda: not cloud.ask("/health").json()["store_writable"], "the batch in its hands")
        cloud.kill()
        other.execute("ROLLBACK")
    other.close()
    cloud.start()
    gateway.await_commit(1, 4)  # nobody sent it again: it was never acknowledged
    assert cloud.get("/api/v1/ledger")[0]["duplicates_received"] == 0


def test_broker_killed_and_back_empty(cloud: Cloud, broker: Broker) -> None:
    side = GatewaySide(broker.port)
    side.send(batch(minutes(2)))
    side.await_commit(1, 4)
    side.close()
    broker.kill()
    until(lambda: cloud.ask("/health").status_code == 503, "health that says so")
    problems = cloud.ask("/health").json()["problems"]
    broker.start()
    side = GatewaySide(broker.port)
    until(cloud.healthy, "the new connection")
    side.send(batch(minutes(3)))
    side.await_commit(1, 6)
    side.close()
    assert [problem.split(":")[0] for problem in problems] == ["no connection to the broker"]


def test_nothing_is_committed_while_the_store_is_locked(cloud: Cloud, gateway: GatewaySide) -> None:
    gateway.send(batch(minutes(1)))
    gateway.await_commit(1, 2)
    with sqlite3.connect(cloud.folder / "state" / "store.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        gateway.send(batch(minutes(2)))
        until(lambda: not cloud.ask("/health").json()["store_writable"], "health that says so")
        series = cloud.get("/api/v1/stations/xuan-hoa/series/salinity")
        named = gateway.commits().count
        other.execute("ROLLBACK")
    other.close()
    gateway.await_commit(1, 4)
    assert (named, len(series["times"])) == (2, 1)


def test_stops_gracefully_and_goes_on_where_it_was(cloud: Cloud, gateway: GatewaySide) -> None:
    gateway.send(batch(minutes(2)))
    gateway.await_commit(1, 4)
    code = cloud.stop()
    gateway.send(batch(minutes(4)))  # the broker keeps it for us
    cloud.start()
    gateway.await_commit(1, 8)
    assert code == 0
    assert cloud.get("/api/v1/ledger")[0]["duplicates_received"] == 4


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1/stations/nowhere/series/salinity", 404, "no station 'nowhere'"),
        ("/api/v1/stations/xuan-hoa/series/happiness", 404, "no parameter 'happiness'"),
        ("/api/v1/stations/xuan-hoa/series/boot", 404, "no parameter 'boot'"),
        ("/api/v1/stations/xuan-hoa/series/salinity?from=yesterday", 422, "integer"),
        ("/api/v1/stations/xuan-hoa/series/salinity?limit=1", 422, "greater than or equal to 2"),
        ("/api/v1/stations/XUAN/records", 422, "pattern"),
        ("/api/v1/stations/nowhere/records", 404, "no station 'nowhere'"),
        ("/api/v1/stations/xuan-hoa/records?after_seq=-1", 422, "greater than or equal to 0"),
        ("/api/v1/alerts?limit=0", 422, "greater than or equal to 1"),
        ("/api/v1/nothing", 404, "no page"),
        ("/__init__.py", 404, "no page"),
        ("/../api.py", 404, "no page"),
        ("/..%2fapi.py", 404, "no page"),
    ],
)
def test_bad_questions_get_a_clear_answer(running: Cloud, path: str, status: int, says: str) -> None:
    answer = running.ask(path)
    assert answer.status_code == status
    assert says in json.dumps(answer.json())


def test_questions_about_nothing_get_empty_answers(running: Cloud) -> None:
    assert running.get("/api/v1/alerts") == {"alerts": []}
    assert running.get("/api/v1/stations/xuan-hoa/series/wind_speed")["times"] == []
    assert running.get("/api/v1/stations/xuan-hoa/records", journal=99) == {"records": [], "next_after_seq": 0}


def test_only_get_is_allowed(running: Cloud) -> None:
    answer = httpx.post(f"http://127.0.0.1:{running.port}/api/v1/overview", trust_env=False, timeout=60)
    assert answer.status_code == 405


def test_page_files_have_their_types_and_a_strict_policy(running: Cloud) -> None:
    for file in sorted(PAGES.rglob("*")):
        if file.suffix in CONTENT_TYPES:
            answer = running.ask(f"/{file.relative_to(PAGES)}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, CONTENT_TYPES[file.suffix])
            assert answer.headers["content-security-policy"].startswith("default-src 'self';")
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_openapi_describes_every_answer(running: Cloud) -> None:
    paths = running.get("/openapi.json")["paths"]
    schemas = {path: route["get"]["responses"]["200"]["content"]["application/json"] for path, route in paths.items()}
    assert all(one["schema"] for one in schemas.values())
    assert sorted(schemas) == [
        "/api/v1/alerts", "/api/v1/completeness", "/api/v1/latest", "/api/v1/ledger", "/api/v1/overview",
        "/api/v1/series",
        "/api/v1/stations/{station}/aggregates/{parameter}", "/api/v1/stations/{station}/computed/{quantity}",
        "/api/v1/stations/{station}/records",
        "/api/v1/stations/{station}/series/{parameter}", "/health",
    ]  # fmt: skip


def test_alert_comes_and_goes_with_what_arrives(broker: Broker, gateway: GatewaySide, tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    folder.mkdir()
    (folder / "rules.toml").write_text(RULES)
    with a_cloud(folder, broker.port, '[alerts]\nrules = "rules.toml"\n', now_s=T0 + 3600) as cloud:
        gateway.send(batch(minutes(10)))
        until(lambda: cloud.get("/api/v1/alerts")["alerts"], "the alert")
        station = cloud.get("/api/v1/overview")["stations"][0]
        gateway.send(batch(minutes(10, first_seq=21, first_time_s=T0 + 600, ec25=0.1)))
        until(lambda: len(cloud.get("/api/v1/alerts")["alerts"]) == 2, "the all clear")
        alerts = cloud.get("/api/v1/alerts")["alerts"]
        after = cloud.get("/api/v1/overview")["stations"][0]["alert"]
    assert [(one["kind"], one["time"]) for one in alerts] == [("cleared", T0 + 720), ("raised", T0 + 120)]
    assert [one["status"] for one in alerts[0]["deliveries"]] == ["pending"]
    rules = history(Database.in_folder(folder / "state"), Kind.RULES)
    assert [T0 + 3600 <= one.in_force_from < T0 + 3700 for one in rules] == [True]
    assert alerts[0]["versions"]["rules"] == version_of((folder / "rules.toml").read_text())
    assert (station["alert"]["rule"], after) == ("rice", None)
    assert station["thresholds"][0]["id"] == "rice"
    assert station["thresholds"][0]["clear"] < station["thresholds"][0]["set"]


def test_closed_days_are_summed_up_while_the_service_runs(broker: Broker, gateway: GatewaySide, tmp_path: Path) -> None:
    with a_cloud(tmp_path / "cloud", broker.port, now_s=T0 + 3 * 86400) as cloud:
        gateway.send(batch(minutes(120)))
        gateway.await_commit(1, 240)
        span = {"from": T0, "to": T0 + 7200}
        before = cloud.get("/api/v1/stations/xuan-hoa/aggregates/salinity", **span)
        with sqlite3.connect(cloud.folder / "state" / "store.sqlite") as store:
            until(lambda: store.execute("SELECT 1 FROM rollups WHERE level = 2").fetchone(), "the sums")
            until(lambda: not store.execute("SELECT 1 FROM rollup_marks").fetchone(), "no more to be summed up")
        store.close()
        after = cloud.get("/api/v1/stations/xuan-hoa/aggregates/salinity", **span)
    assert [one["n"] for one in before["buckets"]] == [one["n"] for one in after["buckets"]]
    assert sum(one["n"] for one in after["buckets"]) == 120


def test_station_is_online_as_its_gateway_says(running: Cloud, line: GatewaySide) -> None:
    def online() -> list[bool]:
        return [station["online"] for station in running.get("/api/v1/overview")["stations"]]

    contact = {"xuan-hoa": {"last_contact": T0 + 3590}, "vam-kenh": {"last_contact": T0}}
    status = {"gateway": "gw-mytho", "online": True, "time": T0 + 3600, "stations": contact}
    line.say("tram/v1/status/gw-mytho", status)
    until(lambda: online() == [True, False], "the station with contact online")
    line.say("tram/v1/status/gw-mytho", {"gateway": "gw-mytho", "online": False})
    until(lambda: online() == [False, False], "all offline")


def test_many_readers_do_not_disturb_ingest(running: Cloud, line: GatewaySide) -> None:
    stop, answers = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            answers.append(running.ask("/api/v1/stations/xuan-hoa/series/salinity").status_code)

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for at in range(30):
        line.send(
            batch(minutes(50, first_seq=1 + 100 * at, first_time_s=T0 + 90000 + 3000 * at), journal=3), "vam-kenh"
        )
    line.await_commit(1, 3000, "vam-kenh", 3)
    stop.set()
    for reader in readers:
        reader.join()
    assert set(answers) == {200}


def test_a_state_directory_in_use_is_named_and_exits_1(running: Cloud) -> None:
    other = Cloud(running.folder, 1, port=free_port())
    code, output = other.run_once()
    assert (code, "another tram-cloud writes" in output) == (1, True)


def test_years_of_a_file_come_in_beside_live_records_and_wake_nobody(
    broker: Broker, gateway: GatewaySide, tmp_path: Path
) -> None:
    folder = tmp_path / "cloud"
    folder.mkdir()
    (folder / "rules.toml").write_text(RULES)
    rows = (f"{T0 - 200 * 86400 + 600 * at},60.0,28.0" for at in range(12_000))
    (folder / "old.csv").write_text("time,ec,t\n" + "\n".join(rows) + "\n")
    (folder / "map.toml").write_text(OLD_MAP)
    with a_cloud(folder, broker.port, '[alerts]\nrules = "rules.toml"\n', now_s=T0 + 3600) as cloud:
        command = subprocess.Popen(
            [
                *(sys.executable, "-m", "cloud_ingest.commands", "import", str(folder / "old.csv"), "--json"),
                *("--config", str(cloud.config), "--map", str(folder / "map.toml"), "--station", "xuan-hoa"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        sent = 0
        while command.poll() is None:
            gateway.send(batch(minutes(1, first_seq=1 + 2 * sent, first_time_s=T0 + 60 * sent, ec25=0.5)))
            sent += 1
            gateway.await_commit(1, 2 * sent)
            with suppress(subprocess.TimeoutExpired):
                command.wait(0.2)
        told = json.loads(command.communicate()[0])
        assert (told["state"], told["stored"]) == ("done", 24_000)
        (newest,) = [one for one in cloud.get("/api/v1/latest") if one["parameter"] == "conductivity_25"]
        assert newest["value"] == 0.5
        gateway.send(batch(minutes(10, first_seq=1 + 2 * sent, first_time_s=T0 + 60 * sent)))
        until(lambda: cloud.get("/api/v1/alerts")["alerts"], "the alert")
        (alert,) = cloud.get("/api/v1/alerts")["alerts"]
    assert alert["time"] == T0 + 60 * sent + 120, "and none of two hundred days ago"
