"""A bench: the whole chain on this machine, each part the real program in a process of its own, with plugs to pull.

    world ─ line bus-<station> ─ board ─ line uplink ─ gateway ─ link ─ broker ─ cloud ─ phone

One bench clock runs through all of it: at `speed` 60 an hour of field time passes in a minute. The demo, the check and
the hardware-in-the-loop scenarios are all made of this class; it knows what to start and what to pull, and judges
nothing. `bench_options.py`: what kind; `bench_programs.py`: its processes; `bench_boards.py`: its boards.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, Self

import httpx

from firmware.record import Record
from simulators import control
from simulators import site as sites
from simulators.bench_boards import Boards
from simulators.bench_files import lines_json, world_json
from simulators.bench_options import BenchOptions
from simulators.bench_programs import Programs, sim
from simulators.broker import BrokerSetup, set_up_broker
from simulators.disk import shim
from simulators.lines import Lines
from simulators.link import Link
from simulators.processes import BenchError, Program, command
from simulators.virtual_board.build import build
from station_config.clock import BenchClock


class Bench:
    """A running chain. Use as a context manager; `start` brings it up, leaving it ends every process."""

    def __init__(self, options: BenchOptions, report: Callable[[str], None] = lambda text: None) -> None:
        self.options = options
        self.report = report
        self.out: set[str] = set()
        self.history: dict[str, list[Record]] = {}
        self.disks: dict[str, shim.Faults] = {}
        self.facts: dict[str, Any] = {}  # what a report says of this bench
        self._programs = Programs(options.directory)
        self._http = httpx.Client(timeout=10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- bringing it up --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Flash the boards in the workshop, where no bench clock runs yet; then bring everything up in the field."""
        options = self.options
        if options.hardware is None:
            build()  # after a change of the board this takes a while: before anybody waits for a board
        self.site = sites.lay_out(options.directory, options.plan, options.stations, options.network)
        self.boards = Boards(options, self.site, self._programs)
        self._write_configurations()
        self._start_lines()
        self.report(f"flashing {len(self.site.stations)} boards")
        self.boards.flash_all()
        self._programs.set_clock(BenchClock(time.time() + options.start_lead_s, options.plan.start_s, options.speed))
        self._start_surroundings()
        self._start_cloud()
        for station in self.site.stations:
            self.boards.start(station.id)
        self._start_gateway()

    def _write_configurations(self) -> None:
        site, options = self.site, self.options
        self.broker: BrokerSetup = set_up_broker(
            options.broker,
            self.site.directory / "broker",
            self.site.ports.broker,
            gateways=(sites.GATEWAY, sites.EARLIER_GATEWAY),
        )
        self.sms_token_file = site.directory / "sms-token"
        sites.write_secret(self.sms_token_file)
        sites.write_gateway(
            site,
            self.broker.password_file(sites.GATEWAY),
            poll_interval_s=min(5.0, max(0.2, 15.0 / options.speed)),
            commit_timeout_s=5.0,
        )
        sites.write_cloud(site, self.broker.password_file("cloud"), self.sms_token_file)
        sites.write_rules(site, options.more_rules)

    def _start_lines(self) -> None:
        path = sites.write_json(self.site.directory / "lines.json", lines_json(self.site, self.options))
        self._programs.run("lines", sim("lines", "--config", str(path)), self._programs.said_ready("lines"))
        self.lines = Lines(self.site.socket("lines"))

    def _start_surroundings(self) -> None:
        site, run, said_ready = self.site, self._programs.run, self._programs.said_ready
        self.report(f"broker: {self.broker.kind}")
        run("broker", self.broker.argv, lambda: sites.accepts(site.ports.broker))
        path = sites.write_json(site.directory / "world.json", world_json(site, self.options))
        run("world", sim("world", "--config", str(path)), said_ready("world"))
        link = ("link", "--listen", str(site.ports.link), "--to", f"127.0.0.1:{site.ports.broker}")
        run("link", sim(*link, "--control", str(site.socket("link"))), lambda: sites.accepts(site.ports.link))
        self.link = Link(site.socket("link"))
        phone = ("phone", "--port", str(site.ports.phone), "--token-file", str(self.sms_token_file))
        run("phone", sim(*phone), said_ready("phone"))

    def _start_cloud(self) -> None:
        argv = [command("tram-cloud"), "run", "--config", str(self.site.cloud_file)]
        self._programs.run("cloud", argv, self._cloud_answers, self._disk("cloud"))

    def _start_gateway(self) -> None:
        argv = [command("tram-gateway"), "run", "--config", str(self.site.gateway_file)]
        self._programs.run("gateway", argv, lambda: True, self._disk("gateway"))

    def _disk(self, name: str) -> dict[str, str]:
        """Return the environment that puts a disk which can fail under a program's folder, if there shall be one."""
        if not self.options.failing_disks:
            return {}
        self.disks[name] = shim.Faults(self.site.directory / f"disk-{name}", self.options.seed)
        return shim.environment(self.site.directory / name, faults=self.disks[name])

    # -- what a bench can be asked -----------------------------------------------------------------------------------

    @property
    def clock(self) -> BenchClock:
        """The clock all programs share; raises BenchError before the boards have left the workshop."""
        return self._programs.clock

    def environment(self) -> dict[str, str]:
        """Return the environment of a program that belongs to this bench."""
        return self._programs.environment()

    def program(self, name: str) -> Program:
        """Return a program of the chain: broker, lines, world, link, phone, board:<station>, cloud, gateway."""
        return self._programs[name]

    @property
    def programs(self) -> dict[str, Program]:
        """All programs by name."""
        return dict(self._programs.by_name)

    def api(self, path: str, **query: object) -> Any:
        """GET a JSON document of the cloud's API. Raises httpx.HTTPError."""
        url = f"http://127.0.0.1:{self.site.ports.cloud}{path}"
        answer = self._http.get(url, params={k: str(v) for k, v in query.items()})
        answer.raise_for_status()
        return answer.json()

    def inbox(self) -> list[dict[str, Any]]:
        """Return the messages the simulated phone has received."""
        answer = self._http.get(f"http://127.0.0.1:{self.site.ports.phone}/inbox")
        messages: list[dict[str, Any]] = answer.json()["messages"]
        return messages

    def refused_messages(self) -> int:
        """Return how many messages the phone's provider has refused, as it was told to."""
        answer = self._http.get(f"http://127.0.0.1:{self.site.ports.phone}/inbox")
        return len(answer.json()["refused"])

    def gateway_status(self) -> dict[str, Any]:
        """Return what `tram-gateway status` says, which works while the gateway is out too."""
        argv = [command("tram-gateway"), "status", "--config", str(self.site.gateway_file), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=self.environment(), check=False)
        if done.returncode != 0:
            raise BenchError(f"tram-gateway status failed: {done.stderr[-400:]}")
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def truth(self, station: str, time: float) -> dict[str, float | None]:
        """Return the water as it was at a moment of bench time, before any instrument."""
        answer = control.ask(self.site.socket("world"), {"truth": {"station": station, "time": time}})
        water: dict[str, float | None] = answer["water"]
        return water

    def _cloud_answers(self) -> bool:
        try:
            return self._http.get(f"http://127.0.0.1:{self.site.ports.cloud}/api/v1/ledger").is_success
        except httpx.TransportError:
            return False

    # -- plugs ---------------------------------------------------------------------------------------------------------

    @property
    def plugs(self) -> list[str]:
        """Names of all that can be pulled out."""
        return ["link", "broker", "gateway", *(f"board:{s.id}" for s in self.site.stations)]

    def pull(self, plug: str) -> None:
        """Pull a plug: cut the link, kill -9 broker (its memory and disk are gone), gateway or board."""
        if plug not in self.plugs:
            raise BenchError(f"no plug {plug!r}; there are {', '.join(self.plugs)}")
        if plug == "link":
            self.link.cut(True)
        elif plug.startswith("board:"):
            self.boards.powers[plug.removeprefix("board:")].off()
        else:
            self._programs[plug].kill()
        if plug == "broker":
            self.broker.erase()
        self.out.add(plug)

    def put_back(self, plug: str) -> None:
        """Put a plug back in."""
        if plug == "link":
            self.link.cut(False)
        elif plug in self.out:
            if plug.startswith("board:"):
                self.boards.powers[plug.removeprefix("board:")].on()
            else:
                self._programs[plug].start()
        self.out.discard(plug)

    def silence_bus(self, station: str, on: bool) -> None:
        """Cut or mend the instruments' bus of a station."""
        self.lines.set_fault(f"bus-{station}", "cut", on)

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End every process, the gateway and the cloud first and gracefully."""
        self._programs.stop(first=("gateway", "cloud"))
        self._http.close()
