"""What a command has done at a station: a real board at the end of a line that goes on being polled."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_gateway import station_jobs
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.errands import Details, Errand
from edge_gateway.errors import JobExpired, JobFailed
from edge_gateway.line_jobs import Steps
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_store import Limits
from edge_gateway.poller import LinePoller
from edge_gateway.station_link import StationLink
from edge_gateway.update_jobs import Update, configuration_update, firmware_update, update
from hil_tests.workshop import STATIONS, Workshop, configuration, prepare
from simulators.board import BoardSettings, VirtualBoard
from simulators.processes import wait_for
from simulators.wire import Wire
from station_config.clock import BenchClock

STATION, ADDRESS = "vam-kenh", STATIONS["vam-kenh"]
RATE = 100.0  # a trial of 15 minutes takes nine seconds
OUTCOME_S = 60.0
BOOT = 2  # the first was in the workshop


@dataclass
class Bench:
    """A board, and the thread that polls its line."""

    board: VirtualBoard
    poller: LinePoller
    outbox: Outbox
    clock: BenchClock
    remembered: list[dict[str, Any]] = field(default_factory=list)

    def errand(self, lasts_s: float = 1e6, **progress: object) -> Errand:
        return Errand(
            STATION,
            self.clock.now,
            self.clock.now() + lasts_s,
            lambda noted: self.remembered.append(dict(noted)),
            dict(progress),
        )

    def do(self, job: Any, address: int = ADDRESS) -> Details:
        future: Future[Details] = self.poller.submit(job, address)
        return future.result(OUTCOME_S)

    def stored(self) -> int:
        reader = self.outbox.reader()
        stored = sum(state.buffered for state in reader.series())
        reader.close()
        return stored


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return prepare(tmp_path_factory.mktemp("workshop"))


@contextmanager
def polled(workshop: Workshop, folder: Path) -> Iterator[Bench]:
    shutil.copy(workshop.flash(STATION), folder / "board.flash")
    clock = BenchClock(time.time(), 1_780_000_000.0, RATE)
    outbox = open_outbox(folder / "outbox.sqlite", Limits(1 << 28, 1e9), clock)
    with Wire(folder / "wire") as wire:
        plain = {
            "id": "gw-test",
            "state_dir": folder,
            "poll_interval_s": 0.1,
            "clock_tolerance_s": 100.0,
            "line": [
                {
                    "name": "radio",
                    "port": str(wire.ends["gateway"]),
                    "baud": 115200,
                    "timeout_s": 0.3,
                    "station": [{"id": STATION, "address": ADDRESS}],
                }
            ],
        }
        gateway = GatewayConfiguration.model_validate(plain)
        poller = LinePoller(gateway, gateway.lines[0], outbox, ContactBook((STATION,)), clock)
        stop = threading.Event()
        thread = threading.Thread(target=poller.run, args=(stop,))
        settings = BoardSettings(flash=folder / "board.flash", uarts={2: wire.ends["board"]}, rate=RATE)
        with VirtualBoard(settings) as board:
            board.console.wait_for("tram station=")
            thread.start()
            try:
                yield Bench(board, poller, outbox, clock)
            finally:
                stop.set()
                thread.join(60)
                outbox.close()


@pytest.fixture
def bench(workshop: Workshop, tmp_path: Path) -> Iterator[Bench]:
    with polled(workshop, tmp_path) as bench:
        yield bench


def test_a_station_is_read_its_clock_set_its_log_fetched_and_its_line_scanned(bench: Bench) -> None:
    errand = bench.errand()
    read = bench.do(lambda link, address: station_jobs.read_now(link, address, errand))
    clock = bench.do(lambda link, address: station_jobs.set_clock(link, address, errand))
    logs = bench.do(lambda link, address: station_jobs.read_logs(link, address, errand))
    scan = bench.do(lambda link, _: station_jobs.scan(link, 10, 12, errand))

    assert (read["version"], read["boot"]) == ("0.1.0", BOOT)
    assert read["channels"] == []  # it has no instruments
    assert abs(clock["offset_after_s"]) < RATE
    assert isinstance(logs["log"], str)
    assert [(one["address"], one.get("station")) for one in scan["found"]] == [(ADDRESS, STATION)]


def test_calibration_of_a_sensor_that_is_not_there_is_refused_by_the_station(bench: Bench) -> None:
    with pytest.raises(JobFailed, match="bad argument"):
        bench.do(lambda link, address: station_jobs.calibration_mode(link, address, bench.errand(), 77, True))


def test_a_command_for_another_station_at_this_address_does_nothing(bench: Bench) -> None:
    errand = bench.errand()
    errand.station = "hoa-binh"
    with pytest.raises(JobFailed, match="answers as station 'vam-kenh'"):
        bench.do(lambda link, address: station_jobs.reboot(link, address, errand))


def test_a_restart_happens_once_however_often_the_job_is_begun_again(bench: Bench) -> None:
    first = bench.do(lambda link, address: station_jobs.reboot(link, address, bench.errand()))
    again = bench.errand(**bench.remembered[-1])
    second = bench.do(lambda link, address: station_jobs.reboot(link, address, again))

    assert (first["boot_before"], first["boot_after"]) == (BOOT, BOOT + 1)
    assert (second["boot_before"], second["boot_after"]) == (BOOT, BOOT + 1)


def test_a_job_that_is_begun_again_after_its_end_and_without_effect_does_nothing(bench: Bench) -> None:
    with pytest.raises(JobExpired):
        bench.do(lambda link, address: station_jobs.reboot(link, address, bench.errand(-1.0, boot=BOOT)))
    read = bench.do(lambda link, address: station_jobs.read_now(link, address, bench.errand()))

    assert read["boot"] == BOOT


def test_a_configuration_is_taken_and_proves_itself_while_records_come_in(bench: Bench) -> None:
    wanted = configuration_update(configuration(STATION, record_s=120))
    stored = bench.stored()
    told = bench.do(lambda link, address: update(link, address, bench.errand(), wanted))
    again = bench.do(lambda link, address: update(link, address, bench.errand(), wanted))

    assert told["before"]["configuration_hash"] != told["after"]["configuration_hash"]
    assert again["already"] is True
    assert bench.stored() > stored


@pytest.mark.parametrize(
    ("content", "why"),
    [(configuration(STATION, record_s=65), "bad configuration"), (configuration(STATION, address=77), "gone back")],
    ids=["refused", "given up"],
)
def test_a_broken_configuration_ends_with_the_old_one(bench: Bench, content: bytes, why: str) -> None:
    with pytest.raises(JobFailed, match=why) as failure:
        bench.do(lambda link, address: update(link, address, bench.errand(), configuration_update(content)))
    read = bench.do(lambda link, address: station_jobs.read_now(link, address, bench.errand()))

    assert read["configuration_hash"] == failure.value.details["before"]["configuration_hash"]  # type: ignore[index]


def test_firmware_is_updated_and_the_job_begun_again_at_each_step_changes_nothing(
    bench: Bench, workshop: Workshop
) -> None:
    wanted = firmware_update(workshop.image("0.2.0"))
    told = bench.do(lambda link, address: update(link, address, bench.errand(), wanted))
    ends = [bench.do(partial(_update_as, bench.errand(**progress), wanted)) for progress in list(bench.remembered)]

    assert (told["before"]["version"], told["after"]["version"]) == ("0.1.0", "0.2.0")
    assert {(end["before"]["version"], end["after"]["version"], end["after"]["boot"]) for end in ends} == {
        ("0.1.0", "0.2.0", told["after"]["boot"])
    }


def _update_as(errand: Errand, wanted: Update, link: StationLink, address: int) -> Steps[Details]:
    return update(link, address, errand, wanted)


def test_firmware_that_cannot_start_gives_way_and_the_result_says_so(bench: Bench, workshop: Workshop) -> None:
    image = workshop.image("0.2.0", ("main", "def start():\n", "def start():\n    raise ValueError('no')\n"))
    with pytest.raises(JobFailed, match="gone back") as failure:
        bench.do(lambda link, address: update(link, address, bench.errand(), firmware_update(image)))

    assert failure.value.details["after"]["version"] == "0.1.0"  # type: ignore[index]


def test_a_station_that_falls_silent_while_it_is_sent_a_file_goes_on_where_it_was(
    bench: Bench, workshop: Workshop
) -> None:
    image = workshop.image("0.2.0")
    future = bench.poller.submit(
        lambda link, address: update(link, address, bench.errand(), firmware_update(image)), ADDRESS
    )
    wait_for(lambda: bool(bench.remembered), 10, "the transfer to begin")
    bench.board.power_cut()
    bench.board.start()

    assert future.result(OUTCOME_S)["after"]["version"] == "0.2.0"
