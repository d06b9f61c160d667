"""The real service in trouble: stopped in mid-work, its disk full, read-only or away, its store destroyed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_ingest.tests.disk import a_disk, fill, remount
from cloud_ingest.tests.field import T0, Broker, Cloud, GatewaySide, a_cloud, batch, minutes, until
from cloud_ingest.tests.log_as_table import with_log

DISK_BYTES = 8 << 20
RULES = '[[rule]]\nid = "rice"\nparameter = "salinity"\nthreshold = "rice"\n'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with a_disk(tmp_path / "cloud" / "state", DISK_BYTES) as folder:
        yield folder


@pytest.fixture
def starved(disk: Path, broker: Broker, tmp_path: Path) -> Iterator[Cloud]:
    """A cloud, alerts and all, whose state_dir is a small disk."""
    (tmp_path / "cloud" / "rules.toml").write_text(RULES)
    with a_cloud(tmp_path / "cloud", broker.port, '[alerts]\nrules = "rules.toml"\n', now_s=T0 + 3600) as one:
        yield one


def log_of(cloud: Cloud) -> str:
    return (cloud.folder / "cloud.log").read_text()


def writable(cloud: Cloud) -> bool:
    return bool(cloud.ask("/health").json()["store_writable"])


def some(number: int) -> bytes:
    """The batch of this number: 500 records, those of the next follow."""
    return batch(minutes(250, first_seq=1 + 500 * number, first_time_s=T0 + 15000 * number))


def stored_once(cloud: Cloud, last: int) -> None:
    with sqlite3.connect(cloud.folder / "state" / "store.sqlite") as store:
        found = (
            with_log(store)
            .execute("SELECT count(*), count(DISTINCT seq), max(seq) FROM log WHERE seq IS NOT NULL")
            .fetchone()
        )
        raw = store.execute("SELECT sum(length(records)) FROM raw").fetchone()
    store.close()
    assert (found, raw) == ((last, last, last), (18 * last,))


def test_a_full_disk_is_said_waited_for_and_nothing_is_acknowledged_meanwhile(
    starved: Cloud, disk: Path, gateway: GatewaySide
) -> None:
    gateway.send(some(0))
    gateway.await_commit(1, 500)
    make_room = fill(disk)
    sent = 1
    while writable(starved):
        gateway.send(some(sent))
        sent += 1
        until(lambda: gateway.commits().covers(1, 500 * sent) or not writable(starved), "an answer")  # noqa: B023
    named = gateway.commits().count
    gateway.send(some(sent))
    health = starved.ask("/health")
    overview = starved.get("/api/v1/overview")
    told = log_of(starved).count("nothing is stored or acknowledged")
    lied = gateway.commits().count - named
    make_room()
    gateway.await_commit(1, 500 * (sent + 1))
    until(starved.healthy, "health again")

    assert (health.status_code, health.json()["status"]) == (503, "failing")
    assert "full" in " ".join(health.json()["problems"])
    assert "make room" in health.json()["warnings"][0]
    assert overview["stations"][0]["latest"]
    assert (told, lied, log_of(starved).count("the store can be written again")) == (1, 0, 1)
    stored_once(starved, 500 * (sent + 1))


def test_a_process_killed_on_a_full_disk_goes_on_from_what_was_acknowledged(
    starved: Cloud, disk: Path, gateway: GatewaySide
) -> None:
    make_room = fill(disk)
    sent = 0
    while writable(starved):
        gateway.send(some(sent))
        sent += 1
        until(lambda: gateway.commits().covers(1, 500 * sent) or not writable(starved), "an answer")  # noqa: B023
    starved.kill()
    make_room()
    starved.start()
    gateway.await_commit(1, 500 * sent)  # nobody sent it again: it was never acknowledged
    stored_once(starved, 500 * sent)


def test_a_disk_that_can_only_be_read_is_named_at_the_start_and_the_broker_keeps_what_comes(
    starved: Cloud, disk: Path, gateway: GatewaySide
) -> None:
    gateway.send(some(0))
    gateway.await_commit(1, 500)
    starved.stop()
    remount(disk, "ro")
    gateway.send(some(1))
    code, said = starved.run_once()
    remount(disk, "rw")
    starved.start()
    gateway.await_commit(1, 1000)
    stored_once(starved, 1000)
    assert (code, "free the disk or mend its rights" in said, "Traceback" in said) == (1, True, False), said


def test_a_limit_on_the_size_of_files_is_waited_for(broker: Broker, gateway: GatewaySide, tmp_path: Path) -> None:
    with a_cloud(tmp_path / "cloud", broker.port, now_s=T0 + 3600) as cloud:
        gateway.send(some(0))
        gateway.await_commit(1, 500)
        assert cloud.process is not None
        subprocess.run(["prlimit", f"--pid={cloud.process.pid}", "--fsize=300000:unlimited"], check=True)
        gateway.send(some(1))
        sent = 2
        while writable(cloud):
            gateway.send(some(sent))
            sent += 1
            until(lambda: gateway.commits().covers(1, 500 * sent) or not writable(cloud), "an answer")  # noqa: B023
        subprocess.run(["prlimit", f"--pid={cloud.process.pid}", "--fsize=unlimited:unlimited"], check=True)
        gateway.await_commit(1, 500 * sent)
        stored_once(cloud, 500 * sent)


def test_a_stop_while_a_group_is_in_work_finishes_it_or_leaves_it_with_the_broker(
    cloud: Cloud, gateway: GatewaySide
) -> None:
    stopped = threading.Event()
    sent: list[int] = []  # records of each message

    def keep_sending() -> None:
        while not stopped.is_set():
            gateway.send(some(len(sent)))
            sent.append(500)

    sending = threading.Thread(target=keep_sending)
    sending.start()
    try:
        until(lambda: gateway.commits().count > 0, "work under way")
        code = cloud.stop()
        named = gateway.commits().count
    finally:
        stopped.set()
        sending.join()
    cloud.start()
    gateway.await_commit(1, sum(sent))
    assert (code, 0 < named < sum(sent)) == (0, True)
    assert log_of(cloud).count('"event": "stopped"') == 1
    stored_once(cloud, sum(sent))
    # finished and not told to the broker, or told: at most one group is delivered a second time
    assert cloud.get("/api/v1/ledger")[0]["duplicates_received"] <= 60_000


def test_a_stop_while_the_store_cannot_be_written_is_no_hang_and_no_loss(cloud: Cloud, gateway: GatewaySide) -> None:
    with sqlite3.connect(cloud.folder / "state" / "store.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        gateway.send(some(0))
        until(lambda: not writable(cloud), "the batch in its hands")
        code = cloud.stop()
        other.execute("ROLLBACK")
    other.close()
    cloud.start()
    gateway.await_commit(1, 500)
    assert code == 0


def test_a_thread_that_dies_takes_the_process_along(cloud: Cloud, gateway: GatewaySide) -> None:
    gateway.send(some(0))
    gateway.await_commit(1, 500)
    assert cloud.process is not None
    with sqlite3.connect(cloud.folder / "state" / "store.sqlite", isolation_level=None) as other:
        (version,) = other.execute("PRAGMA schema_version").fetchone()
        other.executescript(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'raw';"
            f"PRAGMA schema_version = {version + 1};"
        )
    other.close()
    gateway.send(some(1))
    code = cloud.process.wait(60)
    last = [json.loads(line) for line in log_of(cloud).splitlines() if line.startswith("{")]
    stopping = [one for one in last if one["event"] == "stopping"]
    assert (code, [one["thread"] for one in stopping]) == (1, ["ingest"])
    assert "damaged" in stopping[0]["reason"]
    assert not gateway.commits().covers(501, 501)
