"""The log as systemd's journal takes it, as JSON elsewhere, and never with a secret in it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_gateway.logs import journal_line
from edge_gateway.tests.conftest import Broker, wait_for
from edge_gateway.tests.running import PROGRAM
from station_config.free_ports import free_port

GATEWAY = """
id = "gw-test"
state_dir = "state"
[broker]
port = {port}
user = "gw-test"
password_file = "secret.txt"
retry_min_s = 0.1
[[line]]
name = "uplink"
port = "/dev/no-such-port"
[[line.station]]
id = "xuan-hoa"
address = 11
"""
SECRET = "trung-thu-2026"


class Logged:
    """A gateway that writes its log into a file, which it may take for the journal."""

    def __init__(self, folder: Path, broker_port: int) -> None:
        self.file = folder / "log"
        (folder / "secret.txt").write_text(SECRET + "\n")
        (folder / "gateway.toml").write_text(GATEWAY.format(port=broker_port))
        self._argv = [*PROGRAM, "run", "--config", str(folder / "gateway.toml")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, to_journal: bool = False) -> None:
        with self.file.open("wb") as log:
            found = os.fstat(log.fileno())
            journal = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"} if to_journal else {}
            self._process = subprocess.Popen([*self._argv, *arguments], stderr=log, env={**os.environ, **journal})

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Logged]:
    gateway = Logged(tmp_path, free_port())
    yield gateway
    gateway.close()


def test_the_journal_gets_priorities_and_no_second_time_stamp(gateway: Logged) -> None:
    gateway.start(to_journal=True)
    wait_for(lambda: any("the line cannot be used" in line for line in gateway.lines()))
    wait_for(lambda: any("no connection to the broker" in line for line in gateway.lines()))

    (started,) = (line for line in gateway.lines() if "the gateway runs" in line)
    assert started == "<6>the gateway runs gateway=gw-test lines=1 stations=1"
    (line_lost,) = (line for line in gateway.lines() if "the line cannot be used" in line)
    assert line_lost.startswith("<4>the line cannot be used line=uplink reason=")
    assert "20" + "26-" not in gateway.file.read_text()


def test_a_file_that_is_not_the_journal_gets_json_with_the_time_in_utc(gateway: Logged) -> None:
    gateway.start()
    wait_for(lambda: len(gateway.lines()) >= 2)

    first = json.loads(gateway.lines()[0])
    assert first["event"] == "the gateway runs"
    assert first["timestamp"].endswith("Z")


@pytest.mark.parametrize("form", ["journal", "json", "console"])
def test_a_password_the_broker_refuses_is_in_no_log(form: str, tmp_path: Path, broker: Broker) -> None:
    broker.kill()
    broker.file.write_text(broker.file.read_text().replace("true", "false", 1))
    broker.start()
    gateway = Logged(tmp_path, broker.port)
    gateway.start("--log", form)
    try:
        wait_for(lambda: any("no connection to the broker" in line for line in gateway.lines()))
    finally:
        gateway.close()

    assert SECRET not in gateway.file.read_text()


def test_a_traceback_in_the_journal_keeps_its_priority_on_every_line() -> None:
    entry = {"level": "error", "event": "work failed", "thread": "line a", "exception": "Traceback\n  File x\nOSError"}

    assert journal_line(None, "error", entry).splitlines() == [
        '<3>work failed thread="line a"',
        "<3>Traceback",
        "<3>  File x",
        "<3>OSError",
    ]
