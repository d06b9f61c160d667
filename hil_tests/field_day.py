"""Days of the field in some minutes: a real gateway, broker and cloud, and what each process takes meanwhile.

    python -m hil_tests.field_day --minutes 9
    python -m hil_tests.field_day --days 3 --minutes 12 --stations 20

The gateway polls stations (Modbus TCP) that give a record every ten seconds of field time; beside it a fleet's gateways
publish what the other stations measure. Everybody's clock is the field's. Exit code 1 when memory or open files grow,
the disk is not as predicted, a closed day is not packed, or a record is lost (field_account.py).
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from hil_tests.field_account import FieldDays, Packed, Trend, closed_days, predicted_bytes, trend
from simulators.fleet.command import Progress, publish
from simulators.fleet.plan import FleetPlan
from simulators.fleet.report import faults_of
from simulators.fleet.servers import Servers
from simulators.processes import command, wait_for
from simulators.site import accepts
from station_config.free_ports import free_ports

DAY_S = 86_400
STATIONS, POLLED, POLLED_EVERY_S = 50, 3, 10
GATEWAY = "gw-field"
MIB = 1 << 20
LOOKS = 120


class Samples:
    """Looks at processes every few seconds in a thread of its own."""

    def __init__(self, pids: Mapping[str, int], seconds: float, days: float) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in pids}
        self._seconds, self._days = seconds, days
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(max(0.2, self._seconds / LOOKS)):
            day = (time.monotonic() - began) / self._seconds * self._days
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
def polled_stations(port: int, rate: float, begin_s: int, most: int) -> Iterator[Any]:
    """Run stations that give `rate` records a second, `most` at most; yield what to ask how many they gave."""
    argv = [sys.executable, "-m", "benchmarks.gateways.source", "--ports", str(port), "--rate", str(rate)]
    argv += ["--most", str(most), "--begin", str(begin_s), "--step", str(POLLED_EVERY_S)]
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


def live(days: float, seconds: float, stations: int, folder: Path, console: Console) -> FieldDays:
    """Live through days in so many seconds. Raises SimulatorError."""
    span_s = round(days * DAY_S)
    speed = span_s / seconds
    plan = FleetPlan(stations=stations, rounds=span_s // 60 - 1, speed=speed, window=200)
    (port,) = free_ports(1)
    polled_by = polled_stations(port, speed / POLLED_EVERY_S, plan.start_s, span_s // POLLED_EVERY_S)
    with Servers(folder, plan, others=(GATEWAY,)) as servers, polled_by as stop:
        servers.start()
        (folder / "gateway.toml").write_text(gateway_toml(servers, port), encoding="utf-8")
        argv = [command("tram-gateway"), "run", "--config", str(folder / "gateway.toml"), "--log", "json"]
        servers.run("gateway", argv, lambda: True)
        wait_for(lambda: accepts(port), 30.0, "the polled stations")
        told = {"plan": asdict(plan), "broker": servers.broker_for_publisher(), "begin_s": servers.begin_s}
        samples, began = Samples(servers.pids(), seconds, days), time.monotonic()
        with samples.running():
            publish(told, folder, Progress(console, plan), lambda _line: servers.check())
        took_s = time.monotonic() - began
        made = stop()
        wait_for(lambda: polled(servers) == [[[1, made]]] * POLLED, 300.0, f"{made} records of each polled station")
        audit = servers.audit()
        lived = (time.time() - servers.begin_s) / seconds * days
        servers.stop_cloud()
        disk, free = servers.disk_bytes()["cloud"], free_bytes(servers.state_dir / "store.sqlite")
        outbox = sum(file.stat().st_size for file in (folder / GATEWAY).glob("*.sqlite*"))
        packed = packed_by(servers)
    records, closed = plan.records + POLLED * made, closed_days(days, lived)
    return FieldDays(
        days=days,
        closed=closed,
        records=records,
        seconds=took_s,
        load=psutil.getloadavg()[0],
        trends=samples.trends(),
        used_bytes=disk - free,
        free_bytes=free,
        predicted_bytes=predicted_bytes(records, stations + POLLED, days, closed),
        outbox_bytes=outbox,
        packed=packed,
        faults=faults_of(plan, audit, None),
    )


def free_bytes(file: Path) -> int:
    """Return the size of the pages of a SQLite file that nothing uses."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (pages,), (size,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_size")
        )
    return int(pages) * int(size)


def packed_by(servers: Servers) -> Packed:
    """Return what is in chunks, and what `tram-cloud compact` still finds to pack."""
    told = servers.ask_cloud("compact")
    return Packed(told["chunk_rows"] - told["rows_packed"], told["chunk_bytes"], told["rows_packed"])


def polled(servers: Servers) -> list[list[list[int]]]:
    """Return the ranges stored of each polled station."""
    found = [one for one in servers.audit() if one["station"].startswith("station-")]
    return [[list(part) for part in one["stored"]] for one in found]


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=1.0, help="field time; from two on days are closed and packed")
    parser.add_argument("--minutes", type=float, default=9.0, help="real time that it takes")
    parser.add_argument("--stations", type=int, default=STATIONS, help="of the fleet, 13 records a minute each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="field-day-") as folder:
        came_to = live(options.days, 60 * options.minutes, options.stations, Path(folder), Console(stderr=True))
    sys.stdout.write("\n".join((str(came_to), *came_to.all_faults, "")))
    return 1 if came_to.all_faults else 0


if __name__ == "__main__":
    sys.exit(main())
