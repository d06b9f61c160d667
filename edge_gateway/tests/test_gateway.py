"""The real `tram-gateway run`, a real broker, stations on ptys; and every plug pulled."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_gateway.tests.conftest import Broker, Cloud, wait_for
from edge_gateway.tests.fake_station import FakeLine, FakeStation
from edge_gateway.tests.running import PROGRAM, RunningGateway
from firmware import record
from station_config.clock import BENCH_CLOCK_VARIABLE, BenchClock

JOURNAL = 0x1234ABCD


@pytest.fixture
def station() -> FakeStation:
    return FakeStation("xuan-hoa", 11, JOURNAL)


@pytest.fixture
def line(station: FakeStation) -> Iterator[FakeLine]:
    with FakeLine(station) as line:
        yield line


Starter = Callable[..., RunningGateway]


@pytest.fixture
def starter(tmp_path: Path, line: FakeLine, broker: Broker) -> Iterator[Starter]:
    made: list[RunningGateway] = []

    def make(**settings: Any) -> RunningGateway:
        made.append(RunningGateway(tmp_path, line.port, broker.port, {"xuan-hoa": 11}, **settings))
        made[-1].start()
        return made[-1]

    yield make
    for gateway in made:
        gateway.close()


def identities(last: int, journal: int = JOURNAL, first: int = 1) -> set[tuple[str, int, int]]:
    return {("xuan-hoa", journal, seq) for seq in range(first, last + 1)}


def has_received(cloud: Cloud, number: int) -> bool:
    return len(cloud.received) >= number


def test_readings_arrive_as_the_station_made_them_and_leave_the_outbox(
    starter: Starter, station: FakeStation, cloud: Cloud
) -> None:
    station.new_journal(JOURNAL, 300)
    gateway = starter()
    wait_for(lambda: cloud.identities() == identities(300))
    wait_for(lambda: gateway.buffered() == 0)

    assert {raw for copies in list(cloud.received.values()) for raw in copies} == set(station.records.values())


def test_the_status_says_where_everything_is(starter: Starter, station: FakeStation, cloud: Cloud) -> None:
    station.new_journal(JOURNAL, 30)
    starter()
    wait_for(
        lambda: cloud.status and cloud.status[-1].get("stations", {}).get("xuan-hoa", {}).get("committed_through") == 30
    )

    found = cloud.status[-1]["stations"]["xuan-hoa"]
    expected = {
        "journal": JOURNAL,
        "first_seq": 1,
        "next_seq": 31,
        "stored_through": 30,
        "buffered": 0,
        "reachable": True,
    }
    assert {key: found[key] for key in expected} == expected


def test_a_gateway_killed_again_and_again_loses_nothing(starter: Starter, station: FakeStation, cloud: Cloud) -> None:
    station.new_journal(JOURNAL, 1500)
    gateway = starter(commit_timeout_s=0.5)
    for share in (0.1, 0.3, 0.5, 0.8):
        wait_for(partial(has_received, cloud, int(1500 * share)), deadline_s=60)
        gateway.kill()
        gateway.start()
    wait_for(lambda: station.stored_through == 1500, deadline_s=60)
    wait_for(lambda: cloud.identities() == identities(1500), deadline_s=60)
    wait_for(lambda: gateway.buffered() == 0, deadline_s=60)

    copies = {raw for received in list(cloud.received.values()) for raw in received}
    assert copies == set(station.records.values())


def test_a_broker_killed_and_back_empty_loses_nothing(
    starter: Starter, station: FakeStation, broker: Broker, cloud: Cloud
) -> None:
    station.new_journal(JOURNAL, 1500)
    gateway = starter(commit_timeout_s=0.5)
    wait_for(lambda: len(cloud.received) > 200)
    broker.kill()
    station.add(200)
    wait_for(lambda: station.stored_through > 1500, deadline_s=60)
    broker.start()
    wait_for(lambda: cloud.identities() == identities(1700), deadline_s=60)
    wait_for(lambda: gateway.buffered() == 0, deadline_s=60)


def test_what_the_broker_took_and_the_cloud_did_not_commit_is_kept_and_sent_again(
    starter: Starter, station: FakeStation, cloud: Cloud
) -> None:
    cloud.commits = False
    station.new_journal(JOURNAL, 100)
    gateway = starter(commit_timeout_s=0.3)
    wait_for(lambda: all(len(copies) >= 3 for copies in list(cloud.received.values())) and len(cloud.received) == 100)

    assert gateway.buffered() == 100


def test_only_the_ranges_of_a_commit_are_freed(starter: Starter, station: FakeStation, cloud: Cloud) -> None:
    cloud.commits = False
    station.new_journal(JOURNAL, 100)
    gateway = starter(commit_timeout_s=0.3)
    wait_for(lambda: cloud.identities() == identities(100))
    cloud.commit({"station": "xuan-hoa", "journal": JOURNAL, "ranges": [[1, 20], [31, 100]]})
    wait_for(lambda: gateway.buffered() == 10)
    cloud.batches.clear()
    wait_for(lambda: len(cloud.batches) > 2)

    assert {seq for _, _, first, last in cloud.batches[1:] for seq in range(first, last + 1)} <= set(range(21, 31))


def test_commit_messages_that_are_none_are_counted_and_harm_nothing(
    starter: Starter, station: FakeStation, cloud: Cloud
) -> None:
    cloud.commits = False
    station.new_journal(JOURNAL, 20)
    gateway = starter()
    wait_for(lambda: cloud.identities() == identities(20))
    for payload in (b"", b"\xff", b"{", b'{"station":"xuan-hoa","journal":1,"ranges":[[9,1]]}'):
        cloud.commit(payload)
    cloud.commit({"station": "xuan-hoa", "journal": JOURNAL, "ranges": [[1, 5]]})
    wait_for(lambda: gateway.buffered() == 15)

    assert gateway.log().count("not understood") == 4


def test_another_board_does_not_stop_the_old_ones_records(starter: Starter, station: FakeStation, cloud: Cloud) -> None:
    cloud.commits = False
    station.new_journal(JOURNAL, 50)
    gateway = starter(commit_timeout_s=0.3)
    wait_for(lambda: station.stored_through == 50)
    station.new_journal(0x77, 30, first_seq=500)
    wait_for(lambda: station.stored_through == 529)
    cloud.commits = True
    wait_for(lambda: gateway.buffered() == 0)

    assert cloud.identities() == identities(50) | identities(529, 0x77, 500)


def test_a_damaged_outbox_is_set_aside_and_the_station_read_again(
    starter: Starter, station: FakeStation, cloud: Cloud
) -> None:
    cloud.commits = False
    station.new_journal(JOURNAL, 400)
    gateway = starter(commit_timeout_s=0.3)
    wait_for(lambda: station.stored_through == 400)
    gateway.terminate()
    gateway.outbox.write_bytes(b"\0" * 8192)
    gateway.start()
    wait_for(lambda: "set aside" in gateway.log() and gateway.log().count("the gateway runs") == 2)
    cloud.commits = True
    wait_for(lambda: cloud.identities() == identities(400) and gateway.buffered() == 0)

    assert len(gateway.status()["outbox"]["damaged_files"]) == 1


def test_an_outbox_that_is_damaged_while_it_runs_is_replaced_without_a_restart(
    starter: Starter, station: FakeStation, cloud: Cloud
) -> None:
    cloud.commits = False
    station.new_journal(JOURNAL, 100)
    gateway = starter(commit_timeout_s=0.3)
    wait_for(lambda: station.stored_through == 100)
    for ending in ("", "-wal", "-shm"):
        file = gateway.outbox.with_name(gateway.outbox.name + ending)
        with file.open("r+b") as raw:
            raw.write(b"\xaa" * file.stat().st_size)
    station.add(20)
    wait_for(lambda: gateway.log().count("the gateway runs") == 2, deadline_s=60)
    cloud.commits = True
    wait_for(lambda: cloud.identities() == identities(120) and gateway.buffered() == 0)

    assert "set aside" in gateway.log()


def test_new_records_do_not_wait_behind_a_backlog(starter: Starter, station: FakeStation, cloud: Cloud) -> None:
    cloud.commits = False
    station.new_journal(JOURNAL, 3000)
    gateway = starter(commit_timeout_s=0.3)
    wait_for(lambda: station.stored_through == 3000, deadline_s=60)
    gateway.terminate()
    cloud.batches.clear()
    gateway.start()
    wait_for(lambda: len(cloud.batches) >= 2)

    assert {cloud.batches[0][3], cloud.batches[1][2]} == {3000, 1}


def test_it_starts_without_port_and_without_broker_and_goes_on_when_they_come(
    tmp_path: Path, station: FakeStation, broker: Broker
) -> None:
    broker.kill()
    port = tmp_path / "line"
    gateway = RunningGateway(tmp_path, str(port), broker.port, {"xuan-hoa": 11})
    gateway.start()
    wait_for(lambda: "no connection to the broker" in gateway.log() and "cannot be used" in gateway.log())
    station.new_journal(JOURNAL, 50)
    broker.start()
    cloud = Cloud(broker.port, "gw-test")
    with FakeLine(station) as line:
        port.symlink_to(line.port)
        wait_for(lambda: cloud.identities() == identities(50))
        cloud.close()
        gateway.close()


def test_sigterm_ends_it_gracefully_and_says_offline(starter: Starter, station: FakeStation, cloud: Cloud) -> None:
    station.new_journal(JOURNAL, 30)
    gateway = starter()
    wait_for(lambda: cloud.identities() == identities(30))

    exit_code = gateway.terminate()

    wait_for(lambda: cloud.status[-1] == {"gateway": "gw-test", "online": False})
    assert exit_code == 0


def test_a_kill_says_offline_by_the_last_will(starter: Starter, cloud: Cloud) -> None:
    gateway = starter()
    wait_for(lambda: cloud.status and cloud.status[-1]["online"])

    gateway.kill()

    wait_for(lambda: cloud.status[-1] == {"gateway": "gw-test", "online": False})


def test_the_status_tells_the_health_of_each_line(starter: Starter, station: FakeStation, cloud: Cloud) -> None:
    station.new_journal(JOURNAL, 30)
    gateway = starter()
    wait_for(lambda: station.stored_through == 30)
    gateway.terminate()

    (line,) = gateway.status()["lines"].values()

    assert line["questions"] >= 5
    assert (line["timeouts"], line["crc_errors"], line["late_answers"]) == (0, 0, 0)
    assert 0 <= line["latency_ms"]["median"] <= line["latency_ms"]["p99"] <= line["latency_ms"]["longest"]


def test_status_works_without_a_running_gateway(starter: Starter, station: FakeStation, cloud: Cloud) -> None:
    cloud.commits = False
    station.new_journal(JOURNAL, 30)
    gateway = starter()
    wait_for(lambda: station.stored_through == 30)
    gateway.terminate()

    found = gateway.status()["stations"]["xuan-hoa"]

    assert (found["buffered"], found["next_seq"], found["stored_through"], found["committed_through"]) == (
        30,
        31,
        30,
        0,
    )


def test_a_second_gateway_on_the_same_outbox_is_refused(starter: Starter, cloud: Cloud) -> None:
    gateway = starter()
    wait_for(lambda: cloud.status)

    second = subprocess.run(
        [*PROGRAM, "run", "--config", str(gateway.file)], capture_output=True, text=True, timeout=120, check=False
    )

    assert (second.returncode, "another tram-gateway" in second.stderr) == (1, True)


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_wrong_configuration_is_exit_2_with_the_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "gateway.toml").write_text('id = "gw"\nstate_dir = "s"\ncolour = 1\n')

    done = subprocess.run(
        [*PROGRAM, command, "--config", str(tmp_path / "gateway.toml")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, "gateway.toml:3: colour" in done.stderr) == (2, True)


def test_a_gateway_that_starts_in_1970_sets_no_clock_until_its_own_is_right(
    starter: Starter, station: FakeStation, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.clock_is_set = False
    station.new_journal(JOURNAL, 30)
    monkeypatch.setenv(BENCH_CLOCK_VARIABLE, BenchClock(time.time(), 60.0, 1.0).as_environment()[BENCH_CLOCK_VARIABLE])
    gateway = starter()
    wait_for(lambda: cloud.identities() == identities(30))
    wait_for(lambda: cloud.status and "clock" in cloud.status[-1])
    at_first, set_at_first = cloud.status[-1]["clock"], list(station.clocks_received)
    assert gateway.terminate() == 0
    monkeypatch.delenv(BENCH_CLOCK_VARIABLE)
    gateway.start()
    wait_for(lambda: station.clocks_received, "the station's clock")

    assert (at_first["trusted"], set_at_first) == (False, [])
    assert "before 2010" in at_first["reason"]
    assert abs(station.clocks_received[0]) < 60


def test_the_status_tells_what_went_over_the_air_and_whether_the_clock_is_trusted(
    starter: Starter, station: FakeStation, cloud: Cloud
) -> None:
    station.new_journal(JOURNAL, 30)
    gateway = starter()
    wait_for(lambda: cloud.identities() == identities(30) and gateway.buffered() == 0)
    wait_for(lambda: cloud.status and cloud.status[-1].get("uplink", {}).get("bytes_today", 0) > 30 * record.SIZE)
    published, kept = cloud.status[-1], gateway.status()

    assert published["uplink"]["sending"] == kept["traffic"]["sending"] == "within the budget"
    assert 0 < kept["traffic"]["bytes_today"] <= cloud.status[-1]["uplink"]["bytes_today"]
    assert published["clock"]["trusted"] is kept["clock"]["trusted"] is True
