"""A disk of the cloud that gives ENOSPC, EIO or EROFS, always or now and then, under the real service."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cloud_ingest.tests.field import T0, Broker, Cloud, GatewaySide, batch, minutes, until
from cloud_ingest.tests.log_as_table import with_log
from simulators.disk.shim import Faults, ShimMissing, environment
from station_config.free_ports import free_port

ROUNDS = ((errno.ENOSPC, 1000), (errno.EIO, 1000), (errno.EROFS, 1000), (errno.EIO, 100), (errno.ENOSPC, 30))
RULES = '[[rule]]\nid = "rice"\nparameter = "salinity"\nthreshold = "rice"\n'


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_failing_disk_did_not_store_was_not_committed_and_comes_when_it_works(tmp_path: Path, seed: int) -> None:
    broker = Broker(free_port(), tmp_path)
    broker.start()
    gateway = GatewaySide(broker.port)
    (tmp_path / "state").mkdir()
    (tmp_path / "rules.toml").write_text(RULES)
    cloud = Cloud(tmp_path, broker.port, '[alerts]\nrules = "rules.toml"\n', now_s=T0 + 3600)
    sent = 0
    faults = Faults(tmp_path / "faults", seed)
    cloud._environment |= _witnessed(tmp_path / "state", faults)
    try:
        cloud.start()
        for error, of_thousand in ROUNDS:
            faults.begin(error, of_thousand)
            before = faults.failed
            while faults.failed == before or sent % 4:
                gateway.send(batch(minutes(50, first_seq=1 + 100 * sent, first_time_s=T0 + 3000 * sent)))
                sent += 1
                until(lambda: gateway.commits().count == 100 * sent or faults.failed > before, "an answer")  # noqa: B023
            committed = list(gateway.commits())
            faults.end()
            assert all(_has(tmp_path, first, last) for first, last in committed)
            gateway.await_commit(1, 100 * sent)
        until(cloud.healthy, "health")
        code = cloud.stop()
    finally:
        cloud.kill()
        gateway.close()
        broker.kill()
    with closing(sqlite3.connect(tmp_path / "state" / "store.sqlite")) as store:
        rows = with_log(store).execute("SELECT count(*), count(DISTINCT seq) FROM log WHERE seq IS NOT NULL").fetchone()
        whole = store.execute("PRAGMA integrity_check").fetchone()
    assert (code, rows, whole) == (0, (100 * sent, 100 * sent), ("ok",))


def _has(folder: Path, first: int, last: int) -> bool:
    """Whether all these numbers are in the store, as another process sees it."""
    with closing(sqlite3.connect(folder / "state" / "store.sqlite")) as store:
        said = with_log(store).execute("SELECT count(DISTINCT seq) FROM log WHERE seq BETWEEN ? AND ?", (first, last))
        found = said.fetchone()
    return bool(found == (last - first + 1,))


def _witnessed(folder: Path, faults: Faults) -> dict[str, str]:
    try:
        return environment(folder, faults=faults)
    except ShimMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
