"""A Pi whose root is read-only on purpose: the gateway writes to state_dir and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_gateway.tests.conftest import Broker, Cloud, wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.running import PROGRAM, RunningGateway

# In a mount namespace of its own: a small disk for the state, everything else read-only.
READ_ONLY = 'mount -t tmpfs -o size=16m tmpfs "$1" && mount -o remount,bind,ro / && shift && exec "$@"'


def test_with_a_read_only_root_records_go_from_the_station_to_the_cloud(
    tmp_path: Path, broker: Broker, cloud: Cloud
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    namespace = ["unshare", "--mount", "sh", "-c", READ_ONLY, "_", str(state)]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        pytest.skip("a read-only root needs unshare and root")
    refused = subprocess.run([*namespace, "touch", str(tmp_path / "elsewhere")], capture_output=True)
    assert refused.returncode != 0

    station = FakeStation("xuan-hoa", 11)
    station.add(30)
    with FakeLine(station) as line:
        gateway = RunningGateway(tmp_path, line.port, broker.port, {"xuan-hoa": 11})
        with (tmp_path / "gateway.log").open("wb") as log:
            process = subprocess.Popen(
                [*namespace, *PROGRAM, "run", "--config", str(gateway.file), "--log", "json"],
                stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        try:
            wait_for(lambda: len(cloud.identities()) == 30, "thirty records", 60)
        finally:
            process.terminate()
            process.wait(60)
    assert "Read-only" not in gateway.log()
