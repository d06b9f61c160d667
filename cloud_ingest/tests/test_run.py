"""From a batch at the broker to the commit message and the API, on the real command and a real broker."""

from __future__ import annotations

from cloud_ingest.tests.field import (
    JOURNAL,
    T0,
    Cloud,
    GatewaySide,
    batch,
    minutes,
)


def test_batch_is_stored_committed_and_shown(cloud: Cloud, gateway: GatewaySide) -> None:
    gateway.send(batch(minutes(30)))
    gateway.await_commit(1, 60)
    ledger = cloud.get("/api/v1/ledger")
    series = cloud.get("/api/v1/stations/xuan-hoa/series/conductivity_25")
    assert ledger == [
        {"station": "xuan-hoa", "journal": JOURNAL, "ranges": [[1, 60]], "stored": 60, "duplicates_received": 0,
         "conflicts": 0, "set_aside": 0, "missing": []}
    ]  # fmt: skip
    assert series["times"] == [T0 + 60 * at for at in range(30)]
    assert (series["values"], series["flags"]) == ([12.5] * 30, [1] * 30)
    records = cloud.get("/api/v1/stations/xuan-hoa/records", journal=JOURNAL, after_seq=57)
    assert records["next_after_seq"] == 60
    assert records["records"][0] == {
        "journal": JOURNAL, "seq": 58, "time": T0 + 28 * 60, "count": 12500, "sensor": 1, "parameter": 34,
        "flag": 2, "stamped_time": T0 + 28 * 60,
    }  # fmt: skip
    overview = cloud.get("/api/v1/overview")
    assert [station["id"] for station in overview["stations"]] == ["xuan-hoa", "vam-kenh"]
    assert {row["parameter"] for row in overview["stations"][0]["latest"]} == {
        "conductivity_25", "water_temperature", "salinity",
    }  # fmt: skip
