"""A disk that is full, read-only or forbidden, under the real gateway: nothing is acknowledged, nothing is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_gateway.tests.conftest import Broker, Cloud, wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.running import RunningGateway

JOURNAL = 0x1234ABCD
CANNOT = "the outbox cannot be written"
AGAIN = "the outbox can be written again"
DISK_BYTES = 8 << 20


@pytest.fixture
def station() -> FakeStation:
    return FakeStation("xuan-hoa", 11, JOURNAL)


@pytest.fixture
def line(station: FakeStation) -> Iterator[FakeLine]:
    with FakeLine(station) as line:
        yield line


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own for the state directory."""
    folder = tmp_path / "state"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        if os.environ.get("CI") == "true":
            raise AssertionError(done.stderr.decode())
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def gateway(tmp_path: Path, disk: Path, line: FakeLine, broker: Broker) -> Iterator[RunningGateway]:
    one = RunningGateway(tmp_path, line.port, broker.port, {"xuan-hoa": 11})
    yield one
    one.close()


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def fill(disk: Path) -> Callable[[], None]:
    """Fill the disk to the last byte; return what makes room again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return ballast.unlink


def identities(last: int) -> set[tuple[str, int, int]]:
    return {("xuan-hoa", JOURNAL, seq) for seq in range(1, last + 1)}


def test_a_full_disk_is_waited_for_and_nothing_is_acknowledged_meanwhile(
    gateway: RunningGateway, disk: Path, station: FakeStation, cloud: Cloud
) -> None:
    station.new_journal(JOURNAL, 100)
    gateway.start()
    wait_for(lambda: station.stored_through == 100 and cloud.identities() == identities(100))
    cloud.commits = False
    make_room = fill(disk)
    while CANNOT not in gateway.log():
        before = station.stored_through
        station.add(130)
        wait_for(lambda before=before: station.stored_through > before or CANNOT in gateway.log(), deadline_s=60)  # type: ignore[misc]
    acknowledged, heard = station.stored_through, len(cloud.status)
    wait_for(lambda: len(cloud.status) > heard + 3)
    said, told = gateway.log().count(CANNOT), cloud.status[-1]["outbox_trouble"]
    lied = station.stored_through > acknowledged
    make_room()
    cloud.commits = True
    wait_for(lambda: cloud.identities() == identities(station.next_seq - 1) and gateway.buffered() == 0, deadline_s=60)

    assert (lied, said) == (False, 1)
    assert "full" in told
    assert AGAIN in gateway.log()


def test_a_gateway_that_starts_on_a_full_disk_goes_on_when_there_is_room(
    gateway: RunningGateway, disk: Path, station: FakeStation, cloud: Cloud
) -> None:
    station.new_journal(JOURNAL, 50)
    make_room = fill(disk)
    gateway.start()
    wait_for(lambda: "waits for its disk" in gateway.log())
    silent = station.requests == 0
    make_room()
    wait_for(lambda: cloud.identities() == identities(50), deadline_s=60)

    assert silent


def test_a_card_that_can_only_be_read_is_waited_for(
    gateway: RunningGateway, disk: Path, station: FakeStation, cloud: Cloud
) -> None:
    station.new_journal(JOURNAL, 50)
    gateway.start()
    wait_for(lambda: cloud.identities() == identities(50) and gateway.buffered() == 0)
    gateway.terminate()
    remount(disk, "ro")
    station.add(50)
    gateway.start()
    wait_for(lambda: "waits for its disk" in gateway.log(), deadline_s=60)
    acknowledged = station.stored_through
    remount(disk, "rw")
    wait_for(lambda: cloud.identities() == identities(100), deadline_s=60)

    assert acknowledged == 50
