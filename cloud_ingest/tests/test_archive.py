"""Years written as Parquet and taken out of the store: nothing lost, nothing stored again, the audit as it was."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cloud_ingest import backup
from cloud_ingest.archive_files import is_archive
from cloud_ingest.compaction import Compaction
from cloud_ingest.decode import RECORD_DTYPE
from cloud_ingest.ingest import Outcome
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.tests.field import JOURNAL, PRESSURE, Broker, GatewaySide, a_cloud, batch, minutes, until
from cloud_ingest.tests.log_as_table import change_log
from cloud_ingest.tests.test_commands import tram_cloud
from cloud_ingest.tests.test_ingest import Bench
from firmware.record import EVENT_BOOT, EVENT_CLOCK_SET, Record
from station_config.clock import BenchClock

Y2024 = 1_704_042_000  # 2024-01-01T00:00 in Vietnam
BEFORE = "2024-01-01"
NOW = Y2024 + 800 * 86400
OLD, NEW = 120, 40  # records


def everything() -> list[Record]:
    """Two months' ends of 2023 and the first hours of 2024; the turn of the year lies within."""
    november = minutes(30, first_seq=1, first_time_s=Y2024 - 31 * 86400 - 900)
    december = minutes(30, first_seq=61, first_time_s=Y2024 - 29 * 60)
    return [*november, *december, *minutes(20, first_seq=121, first_time_s=Y2024 + 60)]


def layer_of(row: dict[str, Any]) -> float | None:
    """What the log has as a value: none where that is the count on its scale."""
    value: float | None = row["value"]
    return value if row["count"] is None or row["calibration"] else None


@dataclass
class Archive:
    """A cloud.toml over a store with records of 2023 and 2024, settled."""

    folder: Path
    bench: Bench

    @property
    def config(self) -> Path:
        return self.folder / "cloud.toml"

    @property
    def out(self) -> Path:
        return self.folder / "archive"

    @property
    def arguments(self) -> list[str]:
        return ["archive", "--config", str(self.config), "--out", str(self.out)]

    def run(self, *more: str) -> tuple[int, str]:
        return tram_cloud(*self.arguments, *(more or ("--before", BEFORE, "--remove", "--json")))

    def send(self, *payloads: bytes) -> Outcome:
        with self.bench.store:
            return self.bench.take(*payloads, now_s=NOW)

    def settle(self) -> None:
        """What the running service does between messages."""
        with self.bench.store:
            Review(self.bench.store, self.bench.registry).finish()
            rollups = Rollups(self.bench.store, self.bench.registry)
            while self.bench.rows(f"SELECT 1 FROM rollup_marks WHERE block * 86400 < {Y2024}"):
                rollups.step(NOW)
            Compaction(self.bench.store).finish(NOW)

    def audit(self) -> Any:
        return tram_cloud("audit", "--config", str(self.config), "--json")

    def raw_in_store(self) -> list[int]:
        slices = self.bench.rows("SELECT records FROM raw ORDER BY first_seq")
        data = b"".join(one for (one,) in slices if isinstance(one, bytes))
        seqs: list[int] = np.frombuffer(data, RECORD_DTYPE)["seq"].tolist()
        return seqs

    def parquet(self, kind: str) -> list[dict[str, Any]]:
        files = sorted((self.out / kind).rglob("*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]

    def contradictions(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / "state" / "store.sqlite")) as store:
            return backup.contradictions([backup._journal(store, *row) for row in backup._journals(store)])


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    state = tmp_path / "state"
    state.mkdir()
    for name, value in BenchClock(time.time(), NOW, 1.0).as_environment().items():
        monkeypatch.setenv(name, value)
    one = Archive(tmp_path, Bench(state))
    (tmp_path / "network.toml").write_text((state / "network.toml").read_text())
    one.config.write_text('network = "network.toml"\nstate_dir = "state"\n')
    one.send(batch(everything()))
    one.settle()
    yield one
    one.bench.reader.close()


def test_what_is_archived_is_all_there_was_and_leaves_the_store(archive: Archive) -> None:
    before = archive.audit()
    observed = archive.bench.rows(f"SELECT time, count, value, flag, seq FROM log WHERE time <= {Y2024} ORDER BY 1, 2")
    assert archive.bench.rows("SELECT count(*) FROM scans") == [(0,)], "all of it is packed"
    code, output = archive.run()
    rows = archive.parquet("records")
    seen = archive.parquet("observations")

    assert code == 0, output
    assert json.loads(output)["removed"]["records"] == OLD
    assert [Record(*(row[name] for name in Record._fields)) for row in rows] == everything()[:OLD]
    assert Counter((row["time"], row["count"], layer_of(row), row["flag"], row["seq"]) for row in seen) == Counter(
        observed
    )
    assert archive.raw_in_store() == list(range(OLD + 1, OLD + NEW + 1))
    assert archive.bench.rows(f"SELECT count(*) FROM log WHERE time <= {Y2024}") == [(0,)]
    assert archive.audit() == before
    assert archive.contradictions() == []


def test_the_folders_say_station_and_local_month(archive: Archive) -> None:
    code, output = archive.run()
    manifest = json.loads(output)
    months = Counter((one["kind"], one["station"], one["month"]) for one in manifest["files"])
    seqs = [one["seqs"] for one in manifest["files"] if one["kind"] == "records"]
    assert code == 0
    assert sorted(months) == [
        *(("observations", "xuan-hoa", month) for month in ("2023-11", "2023-12")),
        *(("records", "xuan-hoa", month) for month in ("2023-11", "2023-12")),
    ]
    assert [ranges for one in seqs for ranges in one[f"{JOURNAL:08x}"]] == [[1, 32], [33, 120]]


def test_people_find_the_value_with_its_name(archive: Archive) -> None:
    archive.run()
    first = next(row for row in archive.parquet("observations") if row["name"] == "conductivity_25")
    assert (first["value"], first["count"], first["journal"], first["seq"]) == (12.5, 12500, JOURNAL, 2)


def test_calibrated_values_are_archived_as_people_saw_them(archive: Archive) -> None:
    where = (
        "--config",
        str(archive.config),
        "--station",
        "xuan-hoa",
        "--sensor",
        "1",
        "--parameter",
        "conductivity_25",
    )
    entered = tram_cloud("calibration", "add", *where, "--from", "2023-12-31T23:45", "--coefficients", "0.02,1.013")
    archive.settle()
    code, output = archive.run()
    values = Counter(row["value"] for row in archive.parquet("observations") if row["name"] == "conductivity_25")
    assert (entered[0], code, json.loads(output)["removed"]["observations_kept"]) == (0, 0, 0), output
    assert values == {12.5: 44, 0.02 + 1.013 * 12.5: 16}
    assert archive.bench.rows(f"SELECT count(*) FROM log WHERE time <= {Y2024}") == [(0,)]


def test_a_late_duplicate_of_an_archived_record_is_not_stored_again(archive: Archive) -> None:
    archive.run()
    outcome = archive.send(batch(everything()))
    assert (outcome.counts.stored, outcome.counts.duplicates) == (0, OLD + NEW)
    assert archive.bench.committed(outcome) == [[1, OLD + NEW]]
    assert archive.raw_in_store() == list(range(OLD + 1, OLD + NEW + 1))


def test_without_remove_the_store_keeps_everything(archive: Archive) -> None:
    code, output = archive.run("--before", BEFORE, "--json")
    assert (code, json.loads(output)["removed"]) == (0, None)
    assert archive.raw_in_store() == list(range(1, OLD + NEW + 1))
    assert len(archive.parquet("records")) == OLD


def test_what_changed_since_it_was_archived_stays(archive: Archive) -> None:
    archive.run("--before", BEFORE)
    change_log(archive.folder / "state" / "store.sqlite", "UPDATE log SET flag = 4 WHERE seq = 7")
    code, output = archive.run()
    assert (code, json.loads(output)["removed"]["observations_kept"]) == (0, 1)
    assert archive.bench.rows(f"SELECT seq, flag FROM log WHERE time <= {Y2024}") == [(7, 4)]


def test_records_without_a_date_are_never_archived(archive: Archive) -> None:
    archive.send(
        batch([Record(1, 5, 1, 0, EVENT_BOOT, 2), Record(2, 60, 900, 2, PRESSURE, 2)], journal=77),
        batch([Record(1, 5, 1, 0, EVENT_BOOT, 2), Record(2, 60, 900, 2, PRESSURE, 2),
               Record(3, Y2024 - 86400, Y2024 - 86400 - 90, 0, EVENT_CLOCK_SET, 2)], journal=78),
    )  # fmt: skip
    archive.settle()
    code, output = archive.run()
    archived = [(row["journal"], row["seq"], row["true_time"]) for row in archive.parquet("records")]
    assert code == 0, output
    assert [one for one in archived if one[0] != JOURNAL] == [
        (78, 1, Y2024 - 86400 - 85), (78, 2, Y2024 - 86400 - 30), (78, 3, Y2024 - 86400),
    ]  # fmt: skip
    assert [row[0] for row in archive.bench.rows("SELECT seq FROM unstamped")] == [1, 2]
    assert archive.contradictions() == []


@pytest.mark.parametrize("what", ["records", "observations"])
def test_an_altered_archive_removes_nothing(archive: Archive, what: str) -> None:
    archive.run("--before", BEFORE)
    file = next((archive.out / what).rglob("*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    code, output = archive.run()
    assert (code, "torn or altered" in output) == (1, True)
    assert archive.raw_in_store() == list(range(1, OLD + NEW + 1))


def test_what_the_review_still_needs_is_not_removed(archive: Archive) -> None:
    archive.send(batch(minutes(1, first_seq=500, first_time_s=Y2024 - 7200)))
    code, output = archive.run()
    assert (code, "the quality review of xuan-hoa is not finished" in output) == (1, True)
    assert len(archive.raw_in_store()) == OLD + NEW + 2


# The real command, which dies like at a power cut after its so-manieth step that is on disk.
DYING = """
import os, sys
from contextlib import contextmanager
from cloud_ingest import archive_removal
from cloud_ingest.commands import app

left = int(sys.argv.pop(1))
sync, transaction = os.fsync, archive_removal._transaction

def step():
    global left
    left -= 1
    if left == 0:
        os._exit(9)

def counted_sync(descriptor):
    sync(descriptor)
    step()

@contextmanager
def counted_transaction(connection):
    with transaction(connection):
        yield
    step()

os.fsync, archive_removal._transaction = counted_sync, counted_transaction
app()
"""


def test_killed_after_any_step_nothing_is_lost_and_the_same_command_goes_on(archive: Archive) -> None:
    died, steps, code = Counter[bool](), 1, 9
    while code == 9:
        command = [sys.executable, "-c", DYING, str(steps), *archive.arguments, "--before", BEFORE, "--remove"]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=60).returncode
        finished = is_archive(archive.out)
        archived = {row["seq"] for row in archive.parquet("records")} if finished else set()
        assert archived | set(archive.raw_in_store()) == set(range(1, OLD + NEW + 1))
        assert archive.contradictions() == []
        if code == 9:
            steps = 1 if finished and not died[True] else steps + (1 if finished else 3)
            died[finished] += 1

    assert (code, died[False] > 3, died[True] > 3) == (0, True, True)
    assert archive.raw_in_store() == list(range(OLD + 1, OLD + NEW + 1))
    assert {row["seq"] for row in archive.parquet("records")} == set(range(1, OLD + 1))


def test_retention_says_how_old_when_nobody_names_a_day(archive: Archive) -> None:
    without = archive.run("--json")
    archive.config.write_text(archive.config.read_text() + "[retention]\narchive_after_years = 2\n")
    code, output = archive.run("--json")
    assert (without[0], "archive_after_years" in without[1]) == (2, True)
    assert (code, json.loads(output)["before"]) == (0, Y2024)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--before", "yesterday"), 2, "not a day like"),
        (("--before", "2026-01-01", "--remove"), 2, "older than a year"),
    ],
)
def test_wrong_use_is_said(archive: Archive, more: tuple[str, ...], code: int, says: str) -> None:
    found = archive.run(*more)
    assert (found[0], says in found[1]) == (code, True), found


def test_a_folder_with_something_else_in_it_is_left_alone(archive: Archive) -> None:
    archive.out.mkdir()
    (archive.out / "holiday.jpg").write_bytes(b"")
    code, output = archive.run()
    assert (code, "not empty" in output) == (1, True)


def test_years_are_archived_while_the_service_runs_and_goes_on_taking_in(
    archive: Archive, broker: Broker, gateway: GatewaySide
) -> None:
    folder = archive.folder / "live"
    later = [batch(minutes(5, first_seq=201 + 10 * at, first_time_s=NOW - 86400 + 300 * at)) for at in range(40)]
    with a_cloud(folder, broker.port, now_s=NOW) as cloud:
        gateway.send(batch(everything()))
        gateway.await_commit(1, OLD + NEW)
        cloud.stop()
        cloud.start()  # what is due once a day is done at the start
        for payload in later[:20]:
            gateway.send(payload)
        arguments = ("archive", "--config", str(cloud.config), "--out", str(folder / "archive"), "--before", BEFORE)
        until(lambda: tram_cloud(*arguments, "--remove")[0] == 0, "an archive", 60)
        for payload in (*later[20:], batch(everything())):
            gateway.send(payload)
        gateway.await_commit(201, 600)
        until(lambda: cloud.get("/api/v1/ledger")[0]["duplicates_received"] >= OLD + NEW, "the duplicates")
        ledger = cloud.get("/api/v1/ledger")[0]
        saved = tram_cloud("backup", "--config", str(cloud.config), "--out", str(folder / "backup.tar"))
        verified = tram_cloud("restore", str(folder / "backup.tar"), "--verify", "--json")
    manifest = json.loads(verified[1])

    assert (saved[0], verified[0]) == (0, 0)
    assert (ledger["ranges"], ledger["stored"], ledger["conflicts"]) == ([[1, 160], [201, 600]], 560, 0)
    assert manifest["journals"][0]["archived"] == [[1, OLD]]
    assert manifest["journals"][0]["records"] == NEW + 400
