"""The gateways that are compared, as processes: `tram-gateway` of this tree, thingsboard-gateway of PyPI."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gateways.arrival import Arrival, Unavailable

THINGSBOARD = "thingsboard-gateway==3.8.5"
NEEDS = ("pymodbus==3.9.2", "pyserial", "pyserial-asyncio")  # its Modbus connector installs these at its first run
MIB = 1 << 20


class Load:
    """What a gateway has to poll."""

    def __init__(self, ports: list[int], devices: int, values: int, period_s: float) -> None:
        self.ports, self.devices, self.values, self.period_s = ports, devices, values, period_s


class Rival(ABC):
    """A gateway under test."""

    name: str

    def __init__(self, folder: Path, broker_port: int, load: Load) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self._process: psutil.Popen | None = None
        self._configure(broker_port, load)

    @abstractmethod
    def _configure(self, broker_port: int, load: Load) -> None: ...

    @abstractmethod
    def _argv(self) -> list[str]: ...

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    @abstractmethod
    def made(self, count: dict[str, Any]) -> int:
        """Return how many readings there were to be had, of what the source counts."""

    @abstractmethod
    def missing(self, count: dict[str, Any], arrival: Arrival) -> int:
        """Return how many of those have not arrived."""

    def start(self) -> None:
        """Start the process."""
        with (self._folder / "log.txt").open("ab") as log:
            self._process = psutil.Popen(
                self._argv(), cwd=self._folder, stdout=log, stderr=log, env=self._environment(), start_new_session=True
            )

    def kill(self) -> None:
        """Pull the plug: kill -9, its children too."""
        if self._process is not None and self._process.is_running():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def cpu_s(self) -> float:
        """Return the CPU time used so far, of the process and its children."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def memory_mib(self) -> tuple[float, float]:
        """Return resident memory and the proportional share (PSS)."""
        found = [process.memory_full_info() for process in self._processes()]
        return sum(one.rss for one in found) / MIB, sum(one.pss for one in found) / MIB

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        return [self._process, *self._process.children(recursive=True)]


class Tram(Rival):
    """Ours: stations on Modbus TCP lines."""

    name = "tram-gateway"

    def _configure(self, broker_port: int, load: Load) -> None:
        self._stations: list[str] = []
        parts = [f'id = "gw-bench"\nstate_dir = "state"\npoll_interval_s = {load.period_s}\n']
        parts.append(f"[broker]\nport = {broker_port}\nretry_max_s = 2\n")
        for line, port in enumerate(load.ports):
            parts.append(f'[[line]]\nname = "line-{line}"\nport = "tcp://127.0.0.1:{port}"\n')
            for address in range(1, load.devices // len(load.ports) + 1):
                self._stations.append(f"station-{line}-{address}")
                parts.append(f'[[line.station]]\nid = "{self._stations[-1]}"\naddress = {address}\n')
        (self._folder / "gateway.toml").write_text("".join(parts))

    def _argv(self) -> list[str]:
        run = "from edge_gateway.commands import app; app()"
        return [sys.executable, "-c", run, "run", "--config", str(self._folder / "gateway.toml"), "--log", "json"]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def made(self, count: dict[str, Any]) -> int:
        """Return the records of all stations."""
        return int(count["made"]) * len(self._stations)

    def missing(self, count: dict[str, Any], arrival: Arrival) -> int:
        """Return how many records have not arrived."""
        return self.made(count) - sum(arrival.arrived((station, ""), count["made"]) for station in self._stations)


class ThingsBoard(Rival):
    """thingsboard-gateway with its Modbus connector; it believes that the broker is a ThingsBoard."""

    storage: str

    def _configure(self, broker_port: int, load: Load) -> None:
        package = venv() / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        shipped = package / "thingsboard_gateway" / "config"
        configuration = json.loads((shipped / "tb_gateway.json").read_text())
        configuration["thingsboard"] |= {"host": "127.0.0.1", "port": broker_port, "remoteConfiguration": False}
        configuration["thingsboard"]["statistics"] = {"enable": False}
        configuration["storage"]["type"] = self.storage
        configuration["connectors"] = [{"name": "bench", "type": "modbus", "configuration": "modbus.json"}]
        folder = self._folder / "config"
        folder.mkdir()
        (self._folder / "logs").mkdir()
        (folder / "tb_gateway.json").write_text(json.dumps(configuration))
        (folder / "modbus.json").write_text(json.dumps({"master": {"slaves": _slaves(load)}}))
        shutil.copy(shipped / "logs.json", folder)

    def _argv(self) -> list[str]:
        return [str(venv() / "bin" / "thingsboard-gateway")]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TB_GW_CONFIG_DIR": str(self._folder / "config")}

    def made(self, count: dict[str, Any]) -> int:
        """Return the readings that were given out to it."""
        return sum(number for _unit, _value, number in count["readings"])

    def missing(self, count: dict[str, Any], arrival: Arrival) -> int:
        """Return how many of them have not arrived."""
        return sum(
            number - arrival.arrived((f"device-{unit}", f"r{value}"), number)
            for unit, value, number in count["readings"]
        )


class ThingsBoardMemory(ThingsBoard):
    """Its default storage."""

    name, storage = "thingsboard memory", "memory"


class ThingsBoardSqlite(ThingsBoard):
    """Its database."""

    name, storage = "thingsboard sqlite", "sqlite"


class ThingsBoardFile(ThingsBoard):
    """Its files."""

    name, storage = "thingsboard file", "file"


RIVALS: dict[str, type[Rival]] = {
    "tram": Tram,
    "memory": ThingsBoardMemory,
    "sqlite": ThingsBoardSqlite,
    "file": ThingsBoardFile,
}


def venv() -> Path:
    """Return the environment of thingsboard-gateway, in the user's cache, never in the project's."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tram" / "thingsboard-gateway" / "venv"


def provide_thingsboard() -> None:
    """Install thingsboard-gateway with pip where it is not. Raises Unavailable."""
    stamp = venv() / ".ready"
    if stamp.exists() and stamp.read_text() == THINGSBOARD:
        return
    print(f"installing {THINGSBOARD} into {venv()}", file=sys.stderr)
    begun = time.monotonic()
    try:
        subprocess.run([sys.executable, "-m", "venv", str(venv())], check=True)
        subprocess.run([str(venv() / "bin" / "pip"), "install", "-q", THINGSBOARD, *NEEDS], check=True)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{THINGSBOARD} could not be installed from PyPI: {error}") from None
    stamp.write_text(THINGSBOARD)
    print(f"installed in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def _slaves(load: Load) -> list[dict[str, Any]]:
    each = load.devices // len(load.ports)
    return [
        {
            "host": "127.0.0.1",
            "port": port,
            "type": "tcp",
            "method": "socket",
            "unitId": address,
            "deviceName": f"device-{address}",
            "deviceType": "default",
            "timeout": 5,
            "byteOrder": "BIG",
            "wordOrder": "BIG",
            "retries": 3,
            "retryOnEmpty": True,
            "retryOnInvalid": True,
            "pollPeriod": int(1000 * load.period_s),
            "connectAttemptTimeMs": 1000,
            "connectAttemptCount": 5,
            "waitAfterFailedAttemptsMs": 1000,
            "attributes": [],
            "timeseries": [
                {"tag": f"r{at}", "type": "32uint", "address": 2 * at, "objectsCount": 2, "functionCode": 3}
                for at in range(load.values)
            ],
            "attributeUpdates": [],
            "rpc": [],
        }
        for line, port in enumerate(load.ports)
        for address in range(line * each + 1, (line + 1) * each + 1)
    ]
