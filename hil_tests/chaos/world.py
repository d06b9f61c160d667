"""The chain of a chaos run, brought up: each program a process of its own, the boards real MicroPython.

    instruments ─ bus ─ board ─ line ─ gateway ─ link ─ (a broker that may lie) ─ mosquitto ─ cloud ─ phone

What ends by itself is started again after a moment, as systemd does it in the field, and counted.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar

import httpx

from hil_tests.chaos.files import write_files
from hil_tests.chaos.layout import WORKERS, Layout
from simulators.board import BoardSettings, VirtualBoard
from simulators.broker import BrokerSetup, set_up_broker
from simulators.cluster import Cluster
from simulators.disk.shim import Faults as DiskFaults
from simulators.disk.shim import environment as disk_environment
from simulators.faults.boards import BoardPart, VirtualPower
from simulators.faults.parts import Heal, Part, Parts
from simulators.faults.programs import BrokerPart, CloudPart, GatewayPart
from simulators.faults.wires import Bus, InstrumentPart, LinkPart, PeoplePart, ProviderChannel
from simulators.lines import Lines
from simulators.link import Link
from simulators.processes import Program, Spawner, command, wait_for
from simulators.site import accepts, write_secret
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardError
from station_config.board import board_configuration, encode
from station_config.clock import BenchClock
from station_config.flash import board_files, flash
from station_config.network import load_network

FLASH_BYTES = 2 << 20  # room for the whole ring of the usual configuration
FLASHED_AT_ONCE = 4
READY_S = 90.0
START_AGAIN_AFTER_S = 1.0
SUPERVISED = ("gw-", "ingest", "cloud")

Report = Callable[[str], None]
Found = TypeVar("Found")


class World:
    """Use as a context manager; `start` brings it up, leaving it ends every process."""

    def __init__(self, layout: Layout, report: Report = lambda text: None, gateway: Sequence[str] = ()) -> None:
        """`gateway`: another program than tram-gateway, to see what becomes of one that does not keep its word."""
        self.layout = layout
        self._gateway = tuple(gateway) or (command("tram-gateway"),)
        self.boards: dict[str, VirtualBoard] = {}
        self.disks: dict[str, DiskFaults] = {}
        self.links: dict[str, Link] = {}
        self.restarts: Counter[str] = Counter()  # by the supervisor, of programs nobody had killed
        self._report = report
        self._programs: dict[str, Program] = {}
        self._died_at: dict[str, float] = {}
        self._spawner = Spawner()
        self._http = httpx.Client(timeout=5.0)
        self._clock: BenchClock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- bringing it up ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Flash the boards, start the clock, then everything else. Raises SimulatorError."""
        build()
        layout = self.layout
        self.broker: BrokerSetup = set_up_broker(
            "mosquitto", layout.folder / "broker", layout.ports.broker, gateways=layout.gateways
        )
        users = (*layout.gateways, "cloud")
        write_secret(layout.folder / "sms-token")
        self.cluster = Cluster(layout.folder / "servers", layout.ports.cluster) if layout.store == "cluster" else None
        passwords = {user: self.broker.password_file(user) for user in users}
        write_files(layout, passwords, layout.folder / "sms-token", self.cluster.toml if self.cluster else "")
        self._run("lines", sim("lines", "--config", str(layout.folder / "lines.json")), self._said_ready("lines"))
        self.lines = Lines(layout.socket("lines"))
        self._flash_boards()
        self._clock = BenchClock(time.time(), layout.begin_s, layout.speed)
        self._start_surroundings()
        self._start_cloud()
        for station in self.boards:
            self.boards[station].start()
        for gateway in layout.gateways:
            self._start_gateway(gateway)

    def _flash_boards(self) -> None:
        layout = self.layout
        network = load_network(layout.configuration("network"))
        with_board = [station for station in layout.stations if not station.direct]
        self._report(f"flashing {len(with_board)} boards")
        files = board_files(b"")
        for station in with_board:
            uarts = {1: layout.port(station.bus, "board"), 2: layout.port(station.line, station.id)}
            settings = BoardSettings(
                flash=layout.flash(station.id),
                size_bytes=FLASH_BYTES,
                uarts=uarts,
                rate=layout.speed,
                log=layout.folder / "boards" / f"{station.id}.console",
            )
            self.boards[station.id] = VirtualBoard(settings)

        def flash_one(station: str) -> None:
            board = self.boards[station]
            board.console.wait_for(">>> ")
            configuration = encode(board_configuration(network, station))
            flash(str(board.console_path), {**files, "/station.json": configuration})

        names = list(self.boards)
        for at in range(0, len(names), FLASHED_AT_ONCE):
            group = names[at : at + FLASHED_AT_ONCE]
            for name in group:
                self.boards[name].start()
            side_by_side(flash_one, group)
            for name in group:
                self.boards[name].power_cut()

    def _start_surroundings(self) -> None:
        layout = self.layout
        self._run("broker", self.broker.argv, lambda: accepts(layout.ports.broker))
        self._run("world", sim("world", "--config", str(layout.folder / "world.json")), self._said_ready("world"))
        for gateway, port in layout.ports.links.items():
            name = f"link-{gateway}"
            argv = sim("link", "--listen", str(port), "--to", f"127.0.0.1:{layout.ports.broker}")
            self._run(name, [*argv, "--control", str(layout.socket(name))], self._said_ready(name))
            self.links[gateway] = Link(layout.socket(name))
        phone = sim("phone", "--port", str(layout.ports.phone), "--token-file", str(layout.folder / "sms-token"))
        self._run("phone", phone, self._said_ready("phone"))

    def _start_cloud(self) -> None:
        configuration = ("--config", str(self.layout.configuration("cloud")))
        if self.cluster is None:
            argv = [command("tram-cloud"), "run", *configuration]
            self._run("cloud", argv, self._cloud_answers, self._disk("cloud"))
            return
        self.layout.state("cloud").mkdir(exist_ok=True)
        self.cluster.start(self._run)
        for worker, shards in WORKERS.items():
            self._run(worker, [command("tram-cloud"), "ingest", *configuration, "--shards", shards], lambda: True)
        self._run("cloud", [command("tram-cloud"), "serve", *configuration], self._cloud_answers)

    def _start_gateway(self, gateway: str) -> None:
        configuration = str(self.layout.configuration(gateway))
        argv = [*self._gateway, "run", "--config", configuration, "--log", "json"]
        self._run(gateway, argv, lambda: True, self._disk(gateway))

    def _disk(self, program: str) -> dict[str, str]:
        """Return what makes a program's disk fail on demand."""
        folder = self.layout.state(program)
        folder.mkdir(exist_ok=True)
        self.disks[program] = DiskFaults(self.layout.faults(program), self.layout.seed)
        return disk_environment(folder, faults=self.disks[program])

    def _run(
        self, name: str, argv: Sequence[str], ready: Callable[[], bool], environment: Mapping[str, str] | None = None
    ) -> None:
        around = {**os.environ, **(self._clock.as_environment() if self._clock else {}), **(environment or {})}
        program = Program(name, argv, self._spawner, self.layout.folder / f"{name}.log", ready, around)
        program.start(READY_S)
        program.ready = lambda: True  # who starts it again need not wait for it
        self._programs[name] = program

    def _said_ready(self, name: str) -> Callable[[], bool]:
        log = self.layout.folder / f"{name}.log"
        return lambda: b'"ready"' in log.read_bytes()

    def _cloud_answers(self) -> bool:
        try:
            return self._http.get(self._url("cloud", "/api/v1/ledger")).is_success
        except httpx.TransportError:
            return False

    # -- programs ------------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> BenchClock:
        """The clock of everything."""
        assert self._clock is not None
        return self._clock

    def program(self, name: str) -> Program:
        """Return a program."""
        return self._programs[name]

    def supervise(self) -> None:
        """Start again what has ended by itself; what was killed is without a process, and is left to who killed it."""
        for name, program in self._programs.items():
            if program.running or program.process is None:
                self._died_at.pop(name, None)
            elif time.monotonic() - self._died_at.setdefault(name, time.monotonic()) >= START_AGAIN_AFTER_S:
                self.restarts[name] += 1
                program.start()

    # -- what it can be asked ------------------------------------------------------------------------------------------

    def _url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{getattr(self.layout.ports, port)}{path}"

    def api(self, path: str, **query: object) -> Any:
        """GET a JSON document of the cloud's API. Raises httpx.HTTPError."""
        answer = self._http.get(self._url("cloud", path), params={k: str(v) for k, v in query.items()}, timeout=60.0)
        answer.raise_for_status()
        return answer.json()

    def phone_log(self) -> dict[str, Any]:
        """Return the phone's messages and what its provider refused."""
        found: dict[str, Any] = self._http.get(self._url("phone", "/inbox"), timeout=30.0).json()
        return found

    def wait_ready(self, deadline_s: float = READY_S) -> None:
        """Wait until the cloud answers. Raises BenchError."""
        wait_for(self._cloud_answers, deadline_s, "the cloud to answer", self.layout.folder / "cloud.log")

    def parts(self) -> Parts:
        """Return everything here that can have a fault. A line that several boards share is a bus of its own."""
        layout = self.layout
        lines = dict.fromkeys([*(s.bus for s in layout.stations), *(s.line for s in layout.stations)])
        parts: dict[str, dict[str, Part]] = {
            "bus": {line: Bus(partial(self.lines.set_fault, line)) for line in lines},
            "instrument": {
                f"{s.id}/{sensor}": InstrumentPart(layout.socket("world"), s.id, sensor)
                for s in layout.stations
                for sensor in (1, 2)
            },
            "board": {
                name: BoardPart(VirtualPower(board), partial(getattr, board, "console_path"))
                for name, board in self.boards.items()
            },
            "link": {gateway: LinkPart(link) for gateway, link in self.links.items()},
            "gateway": {
                gateway: GatewayPart(self._programs[gateway], layout.state(gateway), self.disks[gateway])
                for gateway in layout.gateways
            },
            "broker": {"broker": BrokerPart(self._programs["broker"], self.broker)},
            "cloud": self._cloud_parts(),
            "people": {"phone": PeoplePart(ProviderChannel(self._url("phone", "")))},
        }
        return Parts(parts)

    def _cloud_parts(self) -> dict[str, Part]:
        """Return the cloud's processes; in a cluster their stores are servers, which die instead of a disk."""
        if self.cluster is None:
            return {"cloud": CloudPart(self._programs["cloud"], self.disks["cloud"])}
        away = {"cloud": "postgres", "ingest-1": "postgres", "ingest-2": "influxd"}
        return {
            name: CloudPart(self._programs[name], store_away=partial(self._kill, server))
            for name, server in away.items()
        }

    def _kill(self, name: str) -> Heal:
        self._programs[name].kill()
        return self._programs[name].start

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End every process, gateways and cloud first and gracefully."""
        for board in self.boards.values():
            with suppress(VirtualBoardError, OSError):  # the rest must end too
                board.stop()
        order = sorted(self._programs, key=lambda name: not name.startswith(SUPERVISED))
        for name in order:
            with suppress(OSError):
                self._programs[name].stop()
        self._spawner.close()
        self._http.close()


def side_by_side(work: Callable[[str], Found], names: Sequence[str]) -> list[Found]:
    """Work over several consoles at once and return what each gave.

    mpremote prints, so each console takes stdout away while it talks; several at once may leave it away.
    """
    stdout = sys.stdout
    try:
        with ThreadPoolExecutor(max_workers=FLASHED_AT_ONCE) as technicians:
            return list(technicians.map(work, names))
    finally:
        sys.stdout = stdout


def sim(*words: str) -> list[str]:
    """Return the command line of a simulator."""
    return [command("tram-sim"), *words]
