"""A fleet that exists only as messages: its bytes are a gateway's, its account is kept, and a real cloud takes it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firmware.record import NOT_EVALUATED, SIZE, Record, decode, split_batch
from simulators.broker import find_mosquitto
from simulators.commands import app
from simulators.fleet.commits import Pending
from simulators.fleet.patience import FleetStopped, Patience
from simulators.fleet.plan import CHANNELS, FleetPlan, faults, network_toml
from simulators.fleet.publisher import batches
from simulators.fleet.records import Fleet
from simulators.fleet.report import faults_of
from station_config.board import board_configuration
from station_config.network import load_network

SMALL = FleetPlan(stations=3, rounds=40, gather=2, per_gateway=2)


def records_of(payload: bytes) -> tuple[int, list[Record]]:
    journal, raw = split_batch(payload)
    return journal, [decode(bytes(raw[at : at + SIZE])) for at in range(0, len(raw), SIZE)]


def test_a_batch_is_what_the_station_in_the_network_file_would_give(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(network_toml(SMALL))
    network = load_network(tmp_path / "network.toml")
    assert [station.id for station in network.stations_of("fg-001")] == [SMALL.station(0), SMALL.station(1)]
    sensors = board_configuration(network, SMALL.station(2))["sensors"]
    fields = [(s["number"], f["parameter"]) for s in sensors for read in s["reads"] for f in read["fields"]]
    assert sorted(fields) == sorted((channel.sensor, channel.parameter) for channel in CHANNELS)
    payload = list(Fleet(SMALL).round(1))[2]
    journal, records = records_of(payload)
    assert journal == SMALL.journal(2)
    assert [record.seq for record in records] == list(range(27, 53))
    assert {record.flag for record in records} == {NOT_EVALUATED}
    assert [record.time - SMALL.start_s for record in records] == [180] * 13 + [240] * 13


def test_the_seed_gives_the_bytes() -> None:
    assert list(Fleet(SMALL).round(5)) == list(Fleet(SMALL).round(5))
    assert list(Fleet(SMALL).round(5)) != list(Fleet(replace(SMALL, seed=2)).round(5))


def test_late_and_doubled_batches_lose_none() -> None:
    plan = FleetPlan(stations=5, rounds=80, late=0.1, doubled=0.1)
    sent = [(one.station, one.number) for one in batches(plan)]
    assert set(sent) == {(station, number) for station in range(5) for number in range(80)}
    assert len(sent) > 5 * 80 + 10
    assert sent != sorted(sent, key=lambda one: one[1])


def test_a_cloud_that_works_is_waited_for_and_one_that_stands_still_is_not() -> None:
    patience = Patience(limit_s=120.0)
    for at in range(0, 1200, 10):  # numbers its new series: no commit message, one core busy
        patience.take(at, committed=0, waiting=100, cpu_s=float(at))
    patience.take(1200, committed=13, waiting=100, cpu_s=1200.0)
    patience.take(1300, committed=13, waiting=0, cpu_s=1201.0)  # nothing to wait for
    patience.take(1420, committed=13, waiting=100, cpu_s=1205.0)
    with pytest.raises(FleetStopped, match="100 batches wait"):
        patience.take(1421, committed=13, waiting=100, cpu_s=1205.0)


def test_a_batch_counts_when_commits_name_all_of_it() -> None:
    pending = Pending(SMALL)
    pending.send(0, 0, b"a", 10.0)
    pending.send(0, 1, b"b", 11.0)

    def commit(*ranges: list[int]) -> bytes:
        return json.dumps({"station": "f00000", "journal": SMALL.journal(0), "ranges": ranges}).encode()

    pending.take(commit([1, 25], [27, 52]), 15.0)  # 26 is missing
    assert (pending.records_done, list(pending.lags_s)) == (26, [4.0])
    assert pending.overdue(30.0, 39.0) == []
    assert pending.overdue(30.0, 41.0) == [(0, b"a")]
    assert pending.overdue(30.0, 60.0) == []
    pending.take(commit([1, 52]), 61.0)
    pending.take(commit([1, 52]), 62.0)
    assert (pending.records_done, list(pending.lags_s), len(pending)) == (52, [4.0, 51.0], 0)


def test_the_account_names_what_is_lost_and_what_is_double() -> None:
    def entry(at: int, stored: list[list[int]], conflicts: int = 0) -> dict[str, object]:
        said = {"station": SMALL.station(at), "journal": SMALL.journal(at), "stored": stored}
        return {**said, "conflicts": conflicts, "set_aside": []}

    whole = [[1, 40 * 26]]
    assert faults_of(SMALL, [entry(at, whole) for at in range(3)], 3 * 1040.0) == []
    found = faults_of(SMALL, [entry(0, [[1, 5], [7, 1040]]), entry(1, whole, 2)], 3119.0)
    assert len(found) == 4
    assert "stored [[1, 5], [7, 1040]]" in found[0]
    assert "2 records of a moment twice" in found[1]


def test_wrong_use_is_told_all_at_once() -> None:
    done = CliRunner().invoke(app, ["fleet", "--channels", "14", "--per-gateway", "500", "--stations", "2"])
    assert done.exit_code == 2
    assert "--channels 14" in done.output
    assert "--per-gateway 500" in done.output
    assert list(faults(SMALL)) == []


def test_a_real_cloud_stores_every_record_once(tmp_path: Path) -> None:
    if find_mosquitto() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mosquitto is not installed")
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    words = ["--stations", "60", "--minutes", "40", "--late", "0.02", "--doubled", "0.02", "--json"]
    done = CliRunner().invoke(app, ["fleet", *words, "--folder", str(tmp_path / "fleet")])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["faults"] == []
    assert said["batches"] > 60 * 40
    assert set(said["programs"]) == {"broker", "cloud"}
    assert said["disk_bytes"]["cloud"] > 18 * 60 * 40 * 13
