"""Backups while ingest writes, what a restored store knows, and backups that are not whole."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_ingest.store import Store
from cloud_ingest.tests.disk import a_disk
from cloud_ingest.tests.field import JOURNAL, T0, Broker, GatewaySide, a_cloud, batch, damaged, minutes, until
from cloud_ingest.tests.log_as_table import with_log
from cloud_ingest.tests.test_commands import tram_cloud
from cloud_ingest.tests.test_ingest import Bench

RULES = '[[rule]]\nid = "rice"\nparameter = "salinity"\nthreshold = "rice"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """cloud.toml over a store with 40 records, one unusable, and secrets beside it."""
    state = tmp_path / "state"
    state.mkdir()
    bench = Bench(state)
    with bench.store:
        bench.take(batch(minutes(15)), damaged(batch(minutes(5, first_seq=31)), 4))
    bench.reader.close()
    (state / "network.toml").rename(tmp_path / "network.toml")
    (tmp_path / "password").write_text("quite secret\n")
    file = tmp_path / "cloud.toml"
    broker = '[broker]\nuser = "tram"\npassword_file = "password"\n'
    file.write_text(f'network = "network.toml"\nstate_dir = "state"\n{broker}')
    return file


def backed_up(config: Path, name: str = "backup.tar") -> Path:
    target = config.parent / name
    code, output = tram_cloud("backup", "--config", str(config), "--out", str(target))
    assert code == 0, output
    return target


def audit(config: Path) -> Any:
    code, output = tram_cloud("audit", "--config", str(config), "--json")
    return code, json.loads(output)


def stored(ledger: Any) -> list[list[int]]:
    ranges: list[list[int]] = next(one["ranges"] for one in ledger if one["journal"] == JOURNAL)
    return ranges


def test_a_backup_taken_while_ingest_writes_is_whole_and_what_came_after_is_sent_again(
    broker: Broker, gateway: GatewaySide, tmp_path: Path
) -> None:
    batches = [batch(minutes(20, first_seq=1 + 40 * at, first_time_s=T0 + 1200 * at)) for at in range(400)]
    (tmp_path / "cloud").mkdir()
    (tmp_path / "cloud" / "rules.toml").write_text(RULES)
    target, stop = tmp_path / "backup.tar", threading.Event()

    def send() -> None:
        for payload in batches:
            gateway.send(payload)
            if stop.wait(0.005):
                return

    with a_cloud(tmp_path / "cloud", broker.port, '[alerts]\nrules = "rules.toml"\n', now_s=T0 + 3600) as cloud:
        sender = threading.Thread(target=send)
        sender.start()
        until(lambda: gateway.commits().count > 400, "the first commits")
        before = gateway.commits().count
        code, output = tram_cloud("backup", "--config", str(cloud.config), "--out", str(target), "--json")
        until(lambda: gateway.commits().count > before + 400, "commits after the backup")
        stop.set()
        sender.join()
        cloud.kill()
        manifest = json.loads(output)
        shutil.rmtree(cloud.folder / "state")
        restored = tram_cloud("restore", str(target), "--into", str(cloud.folder / "state"), "--verify")
        _, (entry,) = audit(cloud.config)
        cloud.start()
        for payload in batches:
            gateway.send(payload)
        until(lambda: stored(cloud.get("/api/v1/ledger")) == [[1, 16000]], "all that came after the backup", 60)
        ledger = cloud.get("/api/v1/ledger")[0]
    with sqlite3.connect(cloud.folder / "state" / "store.sqlite") as store:
        records = (
            with_log(store)
            .execute("SELECT count(*), count(DISTINCT seq) FROM log WHERE journal IS NOT NULL")
            .fetchone()
        )
        raw = store.execute("SELECT sum(length(records)) FROM raw").fetchone()
    store.close()

    assert (code, restored[0]) == (0, 0), restored
    assert sorted(manifest["databases"]) == ["alerts.sqlite", "commands.sqlite", "store.sqlite"]
    assert entry["stored"] == manifest["journals"][0]["stored"]
    assert before <= manifest["journals"][0]["records"] < 16000
    assert (records, raw) == ((16000, 16000), (16000 * 18,))
    assert (ledger["missing"], ledger["conflicts"]) == ([], 0)


def test_the_audit_of_a_restored_store_is_the_same(config: Path) -> None:
    before = audit(config)
    target = backed_up(config)
    shutil.rmtree(config.parent / "state")
    code, output = tram_cloud("restore", str(target), "--into", str(config.parent / "state"), "--verify")
    assert code == 0, output
    assert audit(config) == before


def test_a_folder_is_as_good_as_a_file(config: Path) -> None:
    target = backed_up(config, "backup")
    code, output = tram_cloud("restore", str(target), "--into", str(config.parent / "other"), "--verify", "--json")
    assert (code, json.loads(output)["journals"][0]["records"]) == (0, 39)
    assert sorted(file.name for file in (config.parent / "other").iterdir()) == ["commands.sqlite", "store.sqlite"][-1:]


def test_no_secret_is_in_a_backup_and_what_is_left_out_is_said(config: Path) -> None:
    target = backed_up(config)
    _, output = tram_cloud("restore", str(target), "--verify", "--json")
    assert b"quite secret" not in target.read_bytes()
    assert target.stat().st_mode & 0o077 == 0
    assert f"{config.parent / 'password'} (secret or certificate)" in json.loads(output)["not_included"]


def test_a_torn_backup_is_found_out_wherever_it_was_torn(config: Path) -> None:
    whole = backed_up(config).read_bytes()
    torn = config.parent / "torn.tar"
    end = whole.rindex(b"SQLite format 3") + 60_000
    for size in (0, 100, 512, 3000, len(whole) // 3, len(whole) // 2, end):
        torn.write_bytes(whole[:size])
        code, output = tram_cloud("restore", str(torn), "--verify")
        assert (code, "Traceback" in output) == (1, False), size


def test_a_changed_byte_is_found_out_wherever_it_is(config: Path) -> None:
    target = backed_up(config)
    with tarfile.open(target) as tar:
        spans = [(member.offset_data, member.size) for member in tar.getmembers()]
    whole = target.read_bytes()
    for begin, size in spans:
        for at in range(begin, begin + size, max(1, size // 7)):
            target.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            code, _ = tram_cloud("restore", str(target), "--into", str(config.parent / "new"))
            left = list((config.parent / "new").iterdir())
            assert (code, left) == (1, []), at


def test_a_store_whose_raw_records_do_not_fit_its_ledger_is_no_good_backup(config: Path) -> None:
    with sqlite3.connect(config.parent / "state" / "store.sqlite") as store:
        store.execute("DELETE FROM raw WHERE first_seq = 1")
    store.close()
    code, output = tram_cloud("restore", str(backed_up(config)), "--verify")
    assert (code, "the ledger has 39 records, the store" in output) == (1, True), output


def test_a_directory_in_use_or_not_empty_is_left_alone(config: Path) -> None:
    target = backed_up(config)
    state = config.parent / "state"
    store = (state / "store.sqlite").read_bytes()
    not_empty = tram_cloud("restore", str(target), "--into", str(state))
    with Store(state):
        in_use = tram_cloud("restore", str(target), "--into", str(state))
    assert (not_empty[0], "not empty" in not_empty[1]) == (1, True)
    assert (in_use[0], "in use by a running tram-cloud" in in_use[1]) == (1, True)
    assert (state / "store.sqlite").read_bytes() == store


def test_an_earlier_backup_is_never_written_over(config: Path) -> None:
    target = backed_up(config)
    before = target.read_bytes()
    code, output = tram_cloud("backup", "--config", str(config), "--out", str(target))
    assert (code, "there is something already" in output, target.read_bytes() == before) == (1, True, True)


def test_a_member_of_a_tar_file_cannot_lead_out_of_the_directory(config: Path) -> None:
    backup = backed_up(config, "backup")
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["databases"] = {"../evil.sqlite": manifest["databases"]["store.sqlite"]}
    (backup / "manifest.json").write_text(json.dumps(manifest))
    code, output = tram_cloud("restore", str(backup), "--into", str(config.parent / "new"))
    assert (code, "digest" in output, (config.parent / "evil.sqlite").exists()) == (1, True, False)


def test_wrong_use_exits_2(config: Path) -> None:
    nothing = tram_cloud("restore", str(config.parent / "no.tar"), "--verify")
    neither = tram_cloud("restore", str(backed_up(config)))
    assert (nothing[0], neither[0]) == (2, 2)


def test_a_full_disk_leaves_no_half_backup(config: Path) -> None:
    with a_disk(config.parent / "disk", 64 << 10) as disk:
        code, output = tram_cloud("backup", "--config", str(config), "--out", str(disk / "backup.tar"))
        left = list(disk.iterdir())
    assert (code, left, "full" in output or "No space" in output) == (1, [], True), output
