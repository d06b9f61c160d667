"""The cloud a fleet meets: a broker, and `tram-cloud run`, or workers with PostgreSQL and InfluxDB; each a process.

with Servers(folder, plan, workers=0) as servers:
    servers.start()
    servers.look()       as often as one likes: what each process takes
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import psutil

from simulators.broker import set_up_broker
from simulators.fleet.plan import FleetPlan, network_toml
from simulators.processes import BenchError, Program, Spawner, command
from simulators.site import accepts
from station_config.broker_access import CLOUD
from station_config.clock import BenchClock
from station_config.free_ports import free_ports

if TYPE_CHECKING:
    from simulators.cluster import Cluster

READY_S = 120.0
SHARDS = 64
MIB = 1 << 20


@dataclass
class Usage:
    """What a program and its children have taken: CPU seconds, most memory (PSS), bytes given to the disk."""

    cpu_s: float = 0.0
    memory_mib: float = 0.0
    written_bytes: int = 0
    files: int = 0


class Servers:
    """`workers` 0: one process and SQLite; else so many ingest workers, PostgreSQL and InfluxDB."""

    def __init__(self, folder: Path, plan: FleetPlan, workers: int = 0, others: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._plan = plan
        self._workers = workers
        self._others = others  # gateways beside the fleet's
        self._spawner = Spawner()
        self._programs: dict[str, Program] = {}
        self._seen: dict[str, dict[int, Usage]] = {}
        self._before: dict[str, Usage] = {}
        self.begin_s = 0.0
        self._port, self._http, *rest = free_ports(6)
        self._cluster = _cluster(folder / "servers", rest) if workers else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def configuration(self) -> Path:
        """The cloud's configuration."""
        return self._folder / "cloud.toml"

    @property
    def state_dir(self) -> Path:
        """Where the cloud keeps what is its own."""
        return self._folder / "cloud"

    def start(self) -> None:
        """Write the files and start everything. Raises SimulatorError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        gateways = (*self._plan.gateways, *self._others)
        self._broker = set_up_broker("mosquitto", self._folder / "broker", self._port, gateways=gateways)
        (self._folder / "network.toml").write_text(network_toml(self._plan), encoding="utf-8")
        self.configuration.write_text(self._cloud_toml(), encoding="utf-8")
        clock = self._clock()
        self._environment = {**os.environ, **(clock.as_environment() if clock else {})}
        self.run("broker", self._broker.argv, lambda: accepts(self._port))
        self._start_cloud()
        self.look()

    def _clock(self) -> BenchClock | None:
        """Return field time, which begins now; with a backlog it is the real time, and the records are of the past."""
        self.begin_s = time.time()
        return BenchClock(self.begin_s, self._plan.start_s, self._plan.speed) if self._plan.speed else None

    def _start_cloud(self) -> None:
        configuration = ("--config", str(self.configuration))
        if self._cluster is None:
            self.run("cloud", [command("tram-cloud"), "run", *configuration], self._cloud_answers)
            return
        self._cluster.start(self.run)
        for number in range(self._workers):
            argv = [command("tram-cloud"), "ingest", *configuration, "--shards", _shards(number, self._workers)]
            self.run(f"ingest-{number + 1}", argv, lambda: True)
        self.run("cloud", [command("tram-cloud"), "serve", *configuration], self._cloud_answers)

    def password_file(self, gateway: str) -> Path:
        """Return the file with a gateway's password."""
        return self._broker.password_file(gateway)

    @property
    def broker_port(self) -> int:
        """Where the broker listens on this machine."""
        return self._port

    def pids(self) -> dict[str, int]:
        """Return the process of each program."""
        return {name: program.pid for name, program in self._programs.items()}

    def run(self, name: str, argv: Sequence[str], ready: Callable[[], bool]) -> None:
        """Start a program in the fleet's time and wait for it. Raises BenchError."""
        program = Program(name, argv, self._spawner, self._folder / f"{name}.log", ready, self._environment)
        self._programs[name] = program
        program.start(READY_S)

    def _cloud_answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._http}/health", trust_env=False, timeout=10.0).status_code < 500
        except httpx.TransportError:
            return False

    def _cloud_toml(self) -> str:
        return f"""network = "network.toml"
state_dir = "cloud"
{self._cluster.toml if self._cluster else ""}[broker]
port = {self._port}
user = "{CLOUD}"
password_file = "{self._broker.password_file(CLOUD)}"
[http]
port = {self._http}
"""

    def broker_for_publisher(self) -> dict[str, Any]:
        """Return how the fleet's gateways reach the broker."""
        passwords = {gateway: str(self._broker.password_file(gateway)) for gateway in self._plan.gateways}
        return {"host": "127.0.0.1", "port": self._port, "user": None, "passwords": passwords, "tls": False}

    def check(self) -> None:
        """Raise BenchError when a program has ended."""
        for name, program in self._programs.items():
            if not program.running:
                raise BenchError(f"{name} has ended by itself; its log: {self._folder / name}.log")

    # -- what they take ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Note what every process has taken until now; one that ends keeps what was seen last."""
        for name, program in self._programs.items():
            with suppress(psutil.Error, BenchError):
                one = psutil.Process(program.pid)
                for process in (one, *one.children(recursive=True)):
                    _note(self._seen.setdefault(name, {}), process)

    def cpu_s(self) -> float:
        """Return the CPU seconds that all programs had taken when they were last looked at."""
        return sum(one.cpu_s for processes in self._seen.values() for one in processes.values())

    def count_from_now(self) -> None:
        """Count CPU and bytes from now on: what is new to the cloud has been taken in. The first call counts."""
        if not self._before:
            self._before = self.usage()

    def usage(self) -> dict[str, Usage]:
        """Return by program what it has taken, since `count_from_now` was called where it was."""
        self.look()
        found = {}
        for name, processes in self._seen.items():
            before, each = self._before.get(name, Usage()), processes.values()
            found[name] = Usage(
                sum(one.cpu_s for one in each) - before.cpu_s,
                sum(one.memory_mib for one in each),
                sum(one.written_bytes for one in each) - before.written_bytes,
                sum(one.files for one in each),
            )
        return found

    # -- afterwards ---------------------------------------------------------------------------------------------------

    def metric(self, name: str) -> float | None:
        """Return a number of /metrics, None where there is none of that name."""
        text = httpx.get(f"http://127.0.0.1:{self._http}/metrics", trust_env=False, timeout=60.0).text
        return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), None)

    def audit(self) -> list[dict[str, Any]]:
        """Return what `tram-cloud audit` says. Raises BenchError."""
        found: list[dict[str, Any]] = self.ask_cloud("audit")
        return found

    def ask_cloud(self, name: str) -> Any:
        """Return what a command of tram-cloud answers as JSON, in the fleet's time. Raises BenchError."""
        argv = [command("tram-cloud"), name, "--config", str(self.configuration), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=self._environment)
        if not done.stdout.startswith(("[", "{")):
            raise BenchError(f"tram-cloud {name}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def stop_cloud(self) -> None:
        """End the cloud's own processes in order, so that what is on disk is all there is."""
        for name, program in self._programs.items():
            if name.startswith(("cloud", "ingest")):
                program.stop(60.0)

    def disk_bytes(self) -> dict[str, int]:
        """Return the size of what is kept, by who keeps it."""
        places = {"cloud": self.state_dir}
        if self._cluster is not None:
            places |= {name: self._folder / "servers" / name for name in ("postgres", "influx")}
        return {name: sum(f.stat().st_size for f in place.rglob("*") if f.is_file()) for name, place in places.items()}

    def stop(self) -> None:
        """End everything."""
        for program in reversed(list(self._programs.values())):
            with suppress(OSError):
                program.stop()
        self._spawner.close()


def _cluster(folder: Path, ports: list[int]) -> Cluster:
    from simulators.cluster import Cluster  # wants PostgreSQL's driver, which one machine does without

    postgres, rpc, influx, front = ports
    return Cluster(folder, (postgres, rpc, influx, front))


def _note(seen: dict[int, Usage], process: psutil.Process) -> None:
    with process.oneshot():
        times, memory, written = process.cpu_times(), process.memory_full_info(), process.io_counters().write_bytes
        known = seen.setdefault(process.pid, Usage())
        known.cpu_s, known.written_bytes = times.user + times.system, written
        known.memory_mib = max(known.memory_mib, memory.pss / MIB)
        known.files = process.num_fds()


def _shards(number: int, workers: int) -> str:
    """Return the shards of a worker, counted from 0."""
    return f"{SHARDS * number // workers:02x}-{SHARDS * (number + 1) // workers - 1:02x}"
