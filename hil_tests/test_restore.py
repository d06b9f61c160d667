"""The cloud's disk dies after the last backup: what came since is in the stations' journals, and comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cloud_ingest.tests.field import Broker, a_cloud, until
from edge_gateway.asked_again import NO_LONGER_THERE
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.running import RunningGateway
from station_config.command_keys import generate
from station_config.free_ports import free_port

JOURNAL = 0x1234ABCD


def tram_cloud(*arguments: str) -> Any:
    """The command's JSON and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "cloud_ingest.commands", *arguments, "--json"], capture_output=True, check=False
    )
    return done.returncode, json.loads(done.stdout or b"null")


def test_after_a_restore_gateways_without_an_outbox_bring_what_the_backup_has_not(tmp_path: Path) -> None:
    station = FakeStation("xuan-hoa", 11, JOURNAL)
    station.new_journal(JOURNAL, 100)
    broker = Broker(free_port(), tmp_path)
    broker.start()
    saved = tmp_path / "backup.tar"
    try:
        with FakeLine(station) as line, a_cloud(tmp_path / "cloud", broker.port) as cloud:
            state, config = cloud.folder / "state", ("--config", str(cloud.config))
            (tmp_path / "gateway").mkdir()
            gateway = RunningGateway(tmp_path / "gateway", line.port, broker.port, {"xuan-hoa": 11})
            try:
                gateway.start()
                until(lambda: _stored(cloud.get("/api/v1/ledger")) == [[1, 100]], "the first hundred", 180)
                backup = tram_cloud("backup", *config, "--out", str(saved))
                station.add(100)
                until(
                    lambda: _stored(cloud.get("/api/v1/ledger")) == [[1, 200]] and gateway.buffered() == 0, "all", 180
                )
                cloud.kill()
                shutil.rmtree(state)
                restored = tram_cloud("restore", str(saved), "--into", str(state), "--verify")
                cloud.start()
                station.add(10)
                until(lambda: _stored(cloud.get("/api/v1/ledger")) == [[1, 100], [201, 210]], "what is new", 180)
                missing = tram_cloud("audit", *config)
                gateway.terminate()
                gateway.outbox.rename(gateway.outbox.with_name("before-the-restore.sqlite"))
                gateway.start()
                until(lambda: _stored(cloud.get("/api/v1/ledger")) == [[1, 210]], "what the backup has not", 180)
                whole = tram_cloud("audit", *config)
            finally:
                gateway.close()
    finally:
        broker.kill()

    assert (backup[0], restored[0]) == (0, 0)
    assert (missing[0], missing[1][0]["unexplained"]) == (1, [[101, 200]])
    assert (whole[0], whole[1][0]["stored"], whole[1][0]["conflicts"]) == (0, [[1, 210]], 0)


def test_after_a_restore_gateways_are_asked_again_by_command(tmp_path: Path) -> None:
    """The gateway goes on with its outbox; the oldest of what it is asked for the board has overwritten meanwhile."""
    station = FakeStation("xuan-hoa", 11, JOURNAL)
    station.new_journal(JOURNAL, 100)
    broker = Broker(free_port(), tmp_path)
    broker.start()
    saved, keys = tmp_path / "backup.tar", tmp_path / "keys"
    keys.mkdir()
    generate(tmp_path / "office.pem", keys / "office.pub.pem")
    signs = f'[commands]\nkey_file = "{tmp_path}/office.pem"\nrepeat_s = 1.0\n'
    try:
        with FakeLine(station) as line, a_cloud(tmp_path / "cloud", broker.port, signs) as cloud:
            state, config = cloud.folder / "state", ("--config", str(cloud.config))
            (tmp_path / "gateway").mkdir()
            gateway = RunningGateway(
                *(tmp_path / "gateway", line.port, broker.port, {"xuan-hoa": 11}), keys_dir=keys, id="gw-mytho"
            )
            try:
                gateway.start()
                until(lambda: _stored(cloud.get("/api/v1/ledger")) == [[1, 100]], "the first hundred", 180)
                assert tram_cloud("backup", *config, "--out", str(saved))[0] == 0
                station.add(100)
                until(
                    lambda: _stored(cloud.get("/api/v1/ledger")) == [[1, 200]] and gateway.buffered() == 0, "all", 180
                )
                cloud.kill()
                shutil.rmtree(state)
                assert tram_cloud("restore", str(saved), "--into", str(state), "--verify")[0] == 0
                cloud.start()
                station.overwrite_before(121)
                station.add(10)
                until(lambda: _stored(cloud.get("/api/v1/ledger")) == [[1, 100], [201, 210]], "what is new", 180)
                assert tram_cloud("audit", *config)[0] == 1
                code, (order,) = tram_cloud("ask-again", *config, "--station", "xuan-hoa", "--by", "lan")
                assert (code, order["kind"], order["station"]) == (0, "read-again", "xuan-hoa")
                until(lambda: tram_cloud("audit", *config)[0] == 0, "what the backup has not", 180)
                until(lambda: tram_cloud("command", "list", *config)[1][0]["result"] is not None, "the answer", 180)
                (told,) = tram_cloud("command", "list", *config)[1]
                (account,) = tram_cloud("audit", *config)[1]
            finally:
                gateway.close()
    finally:
        broker.kill()

    assert told["result"]["details"] == {"records": 80, "ranges": {f"{JOURNAL:08x}": [[121, 200]]}}
    assert (account["stored"], account["conflicts"]) == ([[1, 100], [121, 210]], 0)
    (lost,) = account["declared_lost"]
    assert (lost["first"], lost["last"], lost["reason"]) == (101, 120, NO_LONGER_THERE)


def _stored(ledger: Any) -> Any:
    return ledger[0]["ranges"] if ledger else []
