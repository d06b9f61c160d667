"""The real service on PostgreSQL and InfluxDB, and the commands people type beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from cloud_ingest.tests.field import (
    JOURNAL,
    T0,
    Broker,
    Cloud,
    GatewaySide,
    a_cloud,
    batch,
    damaged,
    minutes,
)
from cloud_ingest.tests.influx_server import InfluxServer
from cloud_ingest.tests.place import rows_of
from cloud_ingest.tests.test_commands import tram_cloud

RULES = Path(__file__).parents[2] / "simulators" / "demo_rules.toml"


@pytest.fixture
def cluster(broker: Broker, postgres_url: URL, influx_server: InfluxServer, tmp_path: Path) -> Iterator[Cloud]:
    folder = tmp_path / "cloud"
    folder.mkdir()
    (folder / "password").write_text(f"{postgres_url.password}\n")
    url = f"postgresql://{postgres_url.username}@127.0.0.1:{postgres_url.port}/{postgres_url.database}"
    observations = influx_server.database()
    extra = (
        f'[store]\ndatabase = "{url}"\npassword_file = "password"\n'
        f'[observations]\nurl = "{observations.url}"\nbucket = "{observations.bucket}"\n'
        f'token_file = "{observations.token_file}"\n'
    )
    with a_cloud(folder, broker.port, extra, now_s=T0 + 3600) as one:
        yield one


def test_the_service_and_every_command_work_on_the_cluster(
    cluster: Cloud, gateway: GatewaySide, postgres_url: URL, tmp_path: Path
) -> None:
    config = ("--config", str(cluster.config))
    gateway.send(batch(minutes(20)))
    gateway.await_commit(1, 40)
    gateway.send(damaged(batch(minutes(3, 41, T0 + 1200)), 2))
    gateway.await_commit(41, 46)

    assert cluster.get("/api/v1/latest")[0]["station"] == "xuan-hoa"
    code, said = tram_cloud("audit", *config, "--json")
    assert (code, [(one["journal"], one["unexplained"]) for one in json.loads(said)]) == (0, [(JOURNAL, [])])
    code, said = tram_cloud("query", "xuan-hoa", "conductivity_25", "--from", "2026-02-13", *config, "--json")
    assert (code, "12.5" in said) == (0, True)

    coefficients = ("--parameter", "conductivity_25", "--from", "2026-02-13T23:00", "--coefficients", "0,2")
    code, said = tram_cloud("calibration", "add", *config, "--station", "xuan-hoa", "--sensor", "1", *coefficients)
    assert (code, said.strip()) == (0, "calibration 1 entered")
    assert code == 0, said
    code, said = tram_cloud("calibration", "list", *config, "--json")
    assert [one["id"] for one in json.loads(said)] == [1]

    code, said = tram_cloud("set-aside", "list", *config, "--json")
    (aside,) = json.loads(said)["set_aside"]
    assert aside["reason"] == "CRC does not match"
    assert tram_cloud("set-aside", "retry", *config, str(aside["id"]))[0] == 0

    code, said = tram_cloud("recompute", *config, "--json")
    assert (code, json.loads(said)) == (0, {"asked": 1})

    code, said = tram_cloud("backup", *config, "--out", str(tmp_path / "backup"))
    assert (code, "pg_dump" in said, str(postgres_url.password) in said) == (2, True, False)
    assert tram_cloud("archive", *config, "--before", "2020-01-01", "--out", str(tmp_path / "archive"))[0] == 2

    assert cluster.stop() == 0
    assert str(postgres_url.password) not in (cluster.folder / "cloud.log").read_text()
    assert {file.suffix for file in (cluster.folder / "state").iterdir()} <= {".lock"}
    assert rows_of(postgres_url, "SELECT count(*) FROM command_migrations") == [(2,)]

    assert tram_cloud("recompute", *config)[0] == 0
    assert tram_cloud("recompute", *config, "--check")[0] == 0
    code, said = tram_cloud("query", "xuan-hoa", "conductivity_25", "--from", "2026-02-13", *config, "--json")
    assert (code, "25.0" in said) == (0, True)
