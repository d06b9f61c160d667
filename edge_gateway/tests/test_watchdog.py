"""The service manager hears that the gateway lives, and no longer hears it when one thread is stuck."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_gateway.service_manager import ServiceManager
from edge_gateway.tests.conftest import wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.notify_socket import NotifySocket
from edge_gateway.tests.running import RunningGateway
from edge_gateway.watchdog import Pulse, Watchdog, longest_silence_s
from station_config.free_ports import free_port

WATCHDOG_S = 12.0
"""Longer than twice what the idle uplink takes to come round."""

STUCK_AFTER_ONE_ROUND = """
import threading
from edge_gateway import poller

whole_round = poller.LinePoller._round

def round_that_ends_in_a_driver(self, *arguments, **keywords):
    whole_round(self, *arguments, **keywords)
    threading.Event().wait()

poller.LinePoller._round = round_that_ends_in_a_driver
from edge_gateway.commands import app
app()
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[NotifySocket]:
    service = NotifySocket(tmp_path)
    yield service
    service.close()


@pytest.fixture
def line() -> Iterator[FakeLine]:
    with FakeLine(FakeStation("xuan-hoa", 11)) as line:
        yield line


@pytest.fixture
def gateway(tmp_path: Path, line: FakeLine) -> Iterator[RunningGateway]:
    gateway = RunningGateway(tmp_path, line.port, free_port(), {"xuan-hoa": 11})
    yield gateway
    gateway.close()


def test_systemd_hears_that_the_gateway_is_ready_alive_and_stopping_with_no_broker_anywhere(
    gateway: RunningGateway, service: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in service.environment(WATCHDOG_S).items():
        monkeypatch.setenv(name, value)
    gateway.start()
    service.wait_for("READY=1")
    service.wait_for("STATUS=1 of 1 stations answer")
    service.wait_for("WATCHDOG=1")
    service.wait_for("WATCHDOG=1")

    assert gateway.terminate() == 0
    service.wait_for("STOPPING=1")


def test_a_line_stuck_in_a_driver_stops_the_feeding_and_is_named_in_the_log(
    gateway: RunningGateway, service: NotifySocket, tmp_path: Path
) -> None:
    with (tmp_path / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", STUCK_AFTER_ONE_ROUND, "run", "--config", str(gateway.file), "--log", "json"],
            stderr=log,
            env=service.environment(WATCHDOG_S),
        )
    try:
        service.wait_for("READY=1")
        service.wait_for("WATCHDOG=1")
        wait_for(lambda: '"threads": ["line uplink"]' in gateway.log(), "the stuck thread in the log")
        service.during(0.5)

        assert "WATCHDOG=1" not in service.during(WATCHDOG_S / 3)
    finally:
        process.kill()
        process.wait(60)


def test_a_thread_that_rests_as_long_as_it_said_is_not_stuck_and_one_that_does_not_return_is() -> None:
    watchdog, stop = Watchdog(ServiceManager(), 10.0), threading.Event()
    pulse = watchdog.pulse("line a", stop)
    rest = threading.Thread(target=pulse.wait, args=(60.0,))
    rest.start()
    while pulse.expected_at < time.monotonic() + 30:
        stop.wait(0.001)

    begun = time.monotonic()
    assert watchdog.overdue(begun + 65) == []
    assert watchdog.overdue(begun + 71) == ["line a"]
    stop.set()
    rest.join()


def test_asking_the_stop_signal_is_the_sign_of_life() -> None:
    stop = threading.Event()
    pulse = Pulse(stop)
    before = pulse.expected_at

    assert not pulse.is_set()
    assert pulse.expected_at > before
    pulse.set()
    assert stop.is_set()


def test_a_writer_that_waits_for_work_is_not_stuck_and_one_in_a_dead_disk_is() -> None:
    busy_since: list[float | None] = [None]
    watchdog = Watchdog(ServiceManager(), 10.0)
    watchdog.watch("outbox", lambda: busy_since[0])

    assert watchdog.overdue(1_000.0) == []
    busy_since[0] = 1_000.0
    assert watchdog.overdue(1_009.0) == []
    assert watchdog.overdue(1_011.0) == ["outbox"]


def test_a_slow_radio_is_given_the_time_its_timeouts_take() -> None:
    assert longest_silence_s([60.0, 1.0]) > longest_silence_s([1.0]) + 14 * 59


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "/run/n"}, None),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000"}, 30.0),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "30000000"}, None),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_only_when_systemd_says_so(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert ServiceManager.from_environment(environment, pid=7).watchdog_s == watchdog_s


def test_a_service_manager_that_has_gone_is_no_fault_of_the_gateway(tmp_path: Path) -> None:
    ServiceManager.from_environment({"NOTIFY_SOCKET": str(tmp_path / "gone")}, pid=7).ready()


def test_an_abstract_socket_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0tram-test-abstract")
        listener.settimeout(60)
        ServiceManager.from_environment({"NOTIFY_SOCKET": "@tram-test-abstract"}, pid=7).status("all\nwell")

        assert listener.recv(100) == b"STATUS=all well"
