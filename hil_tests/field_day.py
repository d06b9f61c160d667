"""A day of the field in some minutes: a real gateway, broker and cloud, and what each process takes meanwhile.

    python -m hil_tests.field_day --minutes 9

The gateway polls stations (Modbus TCP) that give a record a second of field time; beside it a fleet's gateways publish
what 50 stations measure. Everybody's clock is the field's. Exit code 1 when memory or open files grow, the disk is not
as predicted, or a record is lost.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console

from simulators.fleet.command import Progress, publish
from simulators.fleet.plan import FleetPlan
from simulators.fleet.report import faults_of
from simulators.fleet.servers import Servers
from simulators.processes import command, wait_for
from simulators.site import accepts
from station_config.free_ports import free_ports

DAY_S = 86_400
STATIONS, POLLED = 50, 3
GATEWAY = "gw-field"
MIB = 1 << 20
WARM = 1 / 3  # of the day: caches, SQLite's pages and Python's arenas fill
MOST_MIB_A_DAY, MOST_FILES_A_DAY = 12.0, 2.0
# The writer of a young store fills SQLite's cache of pages (schema.py) as its file grows: once, and no leak.
PAGE_CACHE_MIB = {"cloud": 32.0}
# Bytes on disk, from the tables of a store of 390,000 records of 2,000 stations (docs/scaling.md):
SCAN_BYTES, RAW_BYTES, ARRIVAL_BYTES = 53, 21, 24  # of a record
SERIES_BYTES, SERIES_A_STATION, EMPTY_BYTES = 160, 18, 400_000
DISK_TOLERANCE = 0.25


@dataclass(frozen=True)
class Trend:
    """What a process took: at the beginning (after warming up) and the end, and the slope of the line through all."""

    name: str
    first_mib: float
    last_mib: float
    mib_a_day: float
    files: int
    files_a_day: float

    @property
    def faults(self) -> list[str]:
        """Return what grows."""
        found = []
        grew_mib = self.last_mib - self.first_mib
        if self.mib_a_day > MOST_MIB_A_DAY and grew_mib > PAGE_CACHE_MIB.get(self.name, 0.0):
            found.append(f"{self.name}: memory grows by {self.mib_a_day:.1f} MiB a day, {MOST_MIB_A_DAY} allowed")
        if self.files_a_day > MOST_FILES_A_DAY:
            found.append(f"{self.name}: open files grow by {self.files_a_day:.1f} a day")
        return found


def trend(name: str, samples: NDArray[np.float64]) -> Trend:
    """Return the trend of samples: rows of (day, MiB, files)."""
    late = samples[samples[:, 0] >= WARM]
    slopes = [float(np.polyfit(late[:, 0], late[:, column], 1)[0]) for column in (1, 2)]
    edge = max(1, len(late) // 10)
    first, last = (float(part[:, 1].mean()) for part in (late[:edge], late[-edge:]))
    return Trend(name, first, last, slopes[0], int(late[-1, 2]), slopes[1])


def predicted_bytes(records: int, stations: int) -> int:
    """Return what the cloud's state directory will hold before any day is closed and packed."""
    series = stations * SERIES_A_STATION
    return records * (SCAN_BYTES + RAW_BYTES + ARRIVAL_BYTES) + series * SERIES_BYTES + EMPTY_BYTES


@dataclass
class FieldDay:
    """What a day came to."""

    records: int
    seconds: float
    load: float
    trends: list[Trend]
    disk_bytes: int
    predicted_bytes: int
    outbox_bytes: int
    faults: list[str]

    @property
    def all_faults(self) -> list[str]:
        """Return everything that is wrong."""
        found = [*self.faults, *(fault for one in self.trends for fault in one.faults)]
        if abs(self.disk_bytes / self.predicted_bytes - 1) > DISK_TOLERANCE:
            found.append(f"disk: {self.disk_bytes:,} bytes, predicted {self.predicted_bytes:,}")
        return found

    def __str__(self) -> str:
        rows = [
            f"| {one.name} | {one.first_mib:.1f} | {one.last_mib:.1f} | {one.mib_a_day:+.1f} | {one.files} | "
            f"{one.files_a_day:+.1f} |"
            for one in self.trends
        ]
        head = "| process | MiB after 8 h | MiB at the end | slope, MiB a day | open files | slope a day |\n"
        disk = f"disk of the cloud {self.disk_bytes / 1e6:.1f} MB, predicted {self.predicted_bytes / 1e6:.1f} MB"
        told = f"{self.records:,} records in {self.seconds:.0f} s, load {self.load:.0f}; {disk}"
        outbox = f"outbox {self.outbox_bytes / 1e6:.1f} MB"
        return "\n".join((f"{head}|---|---|---|---|---|---|", *rows, "", f"{told}; {outbox}"))


class Samples:
    """Looks at processes every few seconds in a thread of its own."""

    def __init__(self, pids: Mapping[str, int], seconds: float) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in pids}
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(max(0.2, self._seconds / 120)):
            day = (time.monotonic() - began) / self._seconds
            for name, process in self._processes.items():
                self._found[name].append((day, process.memory_info().rss / MIB, float(process.num_fds())))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def trends(self) -> list[Trend]:
        """Return one for each process."""
        return [trend(name, np.array(found)) for name, found in self._found.items()]


@contextmanager
def polled_stations(port: int, rate: float, begin_s: int) -> Iterator[Any]:
    """Run stations that give `rate` records a second; yield what to ask how many they gave."""
    argv = [sys.executable, "-m", "benchmarks.gateways.source", "--ports", str(port), "--rate", str(rate)]
    argv += ["--most", str(DAY_S), "--begin", str(begin_s)]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()

    def stop() -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("stop\n")
        process.stdin.flush()
        return int(json.loads(process.stdout.readline())["made"])

    try:
        yield stop
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def gateway_toml(servers: Servers, port: int) -> str:
    """Return the configuration of the real gateway."""
    stations = "".join(f'[[line.station]]\nid = "station-0-{at}"\naddress = {at}\n' for at in range(1, POLLED + 1))
    return (
        f'id = "{GATEWAY}"\nstate_dir = "{GATEWAY}"\npoll_interval_s = 0.2\n[outbox]\ngather_s = 0.2\n'
        f'[broker]\nport = {servers.broker_port}\nuser = "{GATEWAY}"\n'
        f'password_file = "{servers.password_file(GATEWAY)}"\n'
        f'[[line]]\nname = "line"\nport = "tcp://127.0.0.1:{port}"\n{stations}'
    )


def live(seconds: float, folder: Path, console: Console) -> FieldDay:
    """Live through a day in so many seconds. Raises SimulatorError."""
    speed = DAY_S / seconds
    plan = FleetPlan(stations=STATIONS, rounds=DAY_S // 60 - 1, speed=speed, window=200)
    (port,) = free_ports(1)
    with Servers(folder, plan, others=(GATEWAY,)) as servers, polled_stations(port, speed, plan.start_s) as stop:
        servers.start()
        (folder / "gateway.toml").write_text(gateway_toml(servers, port), encoding="utf-8")
        argv = [command("tram-gateway"), "run", "--config", str(folder / "gateway.toml"), "--log", "json"]
        servers.run("gateway", argv, lambda: True)
        wait_for(lambda: accepts(port), 10.0, "the polled stations")
        told = {"plan": asdict(plan), "broker": servers.broker_for_publisher(), "begin_s": servers.begin_s}
        samples, began = Samples(servers.pids(), seconds), time.monotonic()
        with samples.running():
            publish(told, folder, Progress(console, plan), lambda _line: servers.check())
        took_s = time.monotonic() - began
        made = stop()
        wait_for(lambda: polled(servers) == [[[1, made]]] * POLLED, 120.0, f"{made} records of each polled station")
        audit = servers.audit()
        servers.stop_cloud()
        disk = servers.disk_bytes()["cloud"]
        outbox = sum(file.stat().st_size for file in (folder / GATEWAY).glob("*.sqlite*"))
    records = plan.records + POLLED * made
    load = psutil.getloadavg()[0]
    predicted = predicted_bytes(records, STATIONS)
    return FieldDay(records, took_s, load, samples.trends(), disk, predicted, outbox, faults_of(plan, audit, None))


def polled(servers: Servers) -> list[list[list[int]]]:
    """Return the ranges stored of each polled station."""
    found = [one for one in servers.audit() if one["station"].startswith("station-")]
    return [[list(part) for part in one["stored"]] for one in found]


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="real time that the day takes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="field-day-") as folder:
        day = live(60 * options.minutes, Path(folder), Console(stderr=True))
    sys.stdout.write("\n".join((str(day), *day.all_faults, "")))
    return 1 if day.all_faults else 0


if __name__ == "__main__":
    sys.exit(main())
