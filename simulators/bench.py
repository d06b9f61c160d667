"""A bench: the whole chain on this machine, each part the real program in a process of its own, with plugs to pull.

    world ─ line bus-<station> ─ board ─ line uplink ─ gateway ─ link ─ broker ─ cloud ─ phone

One bench clock runs through all of it: at `speed` 60 an hour of field time passes in a minute. The demo, the check and
the hardware-in-the-loop scenarios are all made of this class; it knows what to start and what to pull, and judges
nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import httpx

from firmware.record import Record
from simulators import control
from simulators import site as sites
from simulators.broker import BrokerSetup, set_up_broker
from simulators.disk import shim
from simulators.faults.boards import NoPlug, PlugMissing, Power, ProgramPower, RelayPower
from simulators.lines import Lines
from simulators.link import Link
from simulators.plan import Plan
from simulators.processes import BenchError, Program, Spawner, command
from simulators.relays import Relay
from simulators.virtual_board.build import build
from station_config.clock import BenchClock

FLASH_BYTES = 1 << 20
START_LEAD_S = 10.0
BrokerKind = Literal["auto", "mosquitto", "embedded"]


@dataclass(frozen=True)
class BenchOptions:
    """What kind of bench: where its files go, how fast its clock runs, what the instruments measure."""

    directory: Path
    plan: Plan
    speed: float = 60.0
    seed: int = 1
    replay: Path | None = None
    broker: BrokerKind = "auto"
    stations: tuple[str, ...] | None = None
    start_lead_s: float = START_LEAD_S
    network: Path = sites.DEMO_NETWORK
    shown: tuple[dict[str, Any], ...] | None = None
    """The instruments of every station as `tram-sim world` reads them; None: the usual three."""
    more_rules: str = ""
    """TOML: alert rules, and persons who follow them, beside the farmer's."""
    hardware: Hardware | None = None
    """The ports of one real board; None: virtual boards."""
    failing_disks: bool = False
    """Put a witness under the files of gateway and cloud, by which their disks can be made to fail (needs gcc)."""


@dataclass(frozen=True)
class Hardware:
    """A real station board's ports: its console, the adapters on its instruments' bus and its uplink, its relay."""

    board: Path
    bus: Path
    uplink: Path
    relay: Relay | None = None
    bus_baud: int = 9600


class Bench:
    """A running chain. Use as a context manager; `start` brings it up, leaving it ends every process."""

    def __init__(self, options: BenchOptions, report: Callable[[str], None] = lambda text: None) -> None:
        self.options = options
        self.report = report
        self.out: set[str] = set()
        self.history: dict[str, list[Record]] = {}
        self._programs: dict[str, Program] = {}
        self._spawner = Spawner()
        self._http = httpx.Client(timeout=10.0)
        self._clock: BenchClock | None = None
        self.disks: dict[str, shim.Faults] = {}
        self.powers: dict[str, Power] = {}
        self.flashed: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}  # what a report says of this bench

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
        self._write_configurations()
        self._start_lines()
        self._flash_boards()
        self._clock = BenchClock(time.time() + options.start_lead_s, options.plan.start_s, options.speed)
        self._start_surroundings()
        self._start_cloud()
        for station in self.site.stations:
            self._start_board(station.id)
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
        site = self.site
        virtual = self.options.hardware is None
        lines = {sites.UPLINK: ["gateway", *(s.id for s in site.stations if virtual)]}
        lines |= {f"bus-{s.id}": [*(["board"] if virtual else []), "instruments"] for s in site.stations}
        configuration = {"dir": str(site.directory / "lines"), "socket": str(site.socket("lines")), "lines": lines}
        path = sites.write_json(site.directory / "lines.json", {**configuration, "baud": None, **self._devices()})
        self._run("lines", sim("lines", "--config", str(path)), self._said_ready("lines"))
        self.lines = Lines(site.socket("lines"))

    def _devices(self) -> dict[str, Any]:
        """Return the real adapters on the lines, where the board is real."""
        hardware = self.options.hardware
        if hardware is None:
            return {}
        station = self.site.stations[0].id
        devices = {f"bus-{station}": {"adapter": str(hardware.bus)}, sites.UPLINK: {"adapter": str(hardware.uplink)}}
        return {"devices": devices, "device_baud": hardware.bus_baud}

    def _flash_boards(self) -> None:
        ids = [station.id for station in self.site.stations]
        self.report(f"flashing {len(ids)} boards")
        for station in ids:
            self._start_board(station)
        with ThreadPoolExecutor(max_workers=len(ids)) as technicians:
            self.flashed = dict(zip(ids, technicians.map(self.flash, ids), strict=True))
        for station in ids:
            with suppress(PlugMissing):  # then it goes on with its power
                self.powers[station].off()

    def _start_surroundings(self) -> None:
        site, options = self.site, self.options
        self.report(f"broker: {self.broker.kind}")
        self._run("broker", self.broker.argv, lambda: sites.accepts(site.ports.broker))
        world = {
            "stations": [
                {
                    "id": s.id,
                    "river_km": s.river_km,
                    "port": str(site.line(f"bus-{s.id}", "instruments")),
                    "shift_s": site.places[s.id].shift_s,
                    "elevation_m": site.places[s.id].elevation_m,
                    **({} if options.shown is None else {"instruments": options.shown}),
                }
                for s in site.stations
            ],
            "seed": options.seed,
            "replay": str(options.replay) if options.replay else None,
            "socket": str(site.socket("world")),
        }
        path = sites.write_json(site.directory / "world.json", world)
        self._run("world", sim("world", "--config", str(path)), self._said_ready("world"))
        link = ("link", "--listen", str(site.ports.link), "--to", f"127.0.0.1:{site.ports.broker}")
        self._run("link", sim(*link, "--control", str(site.socket("link"))), lambda: sites.accepts(site.ports.link))
        self.link = Link(site.socket("link"))
        phone = ("phone", "--port", str(site.ports.phone), "--token-file", str(self.sms_token_file))
        self._run("phone", sim(*phone), self._said_ready("phone"))

    def _start_board(self, station: str) -> None:
        """Give a board power; one that is virtual runs with the environment there is now."""
        hardware, console = self.options.hardware, self.site.console(station)
        if hardware is not None:
            self.powers[station] = RelayPower(hardware.relay, hardware.board) if hardware.relay else NoPlug()
            self.powers[station].on()
            return
        console.unlink(missing_ok=True)
        self._run(f"board:{station}", self._board_argv(station), console.exists)
        self.powers[station] = ProgramPower(self._programs[f"board:{station}"], console)

    def console(self, station: str) -> Path:
        """Return the port of a board's console."""
        return self.options.hardware.board if self.options.hardware else self.site.console(station)

    def _board_argv(self, station: str) -> list[str]:
        site = self.site
        uarts = (f"1={site.line(f'bus-{station}', 'board')}", f"2={site.line(sites.UPLINK, station)}")
        return sim(
            "board",
            *("--flash", str(site.flash(station)), "--size", str(FLASH_BYTES)),
            *(word for uart in uarts for word in ("--uart", uart)),
            *("--console", str(site.console(station)), "--heap", "120k", "--rate", repr(self.options.speed)),
            *("--log", str(site.directory / f"console-{station}.log")),
        )

    def flash(self, station: str) -> dict[str, Any]:
        """Flash one board over its console, as a technician does; return what tram-station reported."""
        port, network = str(self.console(station)), str(self.site.network_file)
        return self._tram_station("flash", "--port", port, "--network", network, "--station", station)

    def journals(self, station: str) -> Path:
        """Return the folder of batch files that `read_journal` wrote last."""
        return self.site.directory / "journals" / station

    def read_journal(self, station: str) -> Path:
        """Read a board's journal out over its console and restart it; return the folder of batch files."""
        folder = self.journals(station)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._tram_station("journal", "--port", str(self.console(station)), "--out", str(folder / "journal.trb"))
        return folder

    def _tram_station(self, *words: str) -> dict[str, Any]:
        argv = [command("tram-station"), *words, "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise BenchError(f"tram-station {words[0]} failed: {done.stdout[-400:]}{done.stderr[-2000:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def _start_cloud(self) -> None:
        argv = [command("tram-cloud"), "run", "--config", str(self.site.cloud_file)]
        self._run("cloud", argv, self._cloud_answers, self._disk("cloud"))

    def _start_gateway(self) -> None:
        argv = [command("tram-gateway"), "run", "--config", str(self.site.gateway_file)]
        self._run("gateway", argv, lambda: True, self._disk("gateway"))

    def _disk(self, name: str) -> dict[str, str]:
        """Return the environment that puts a disk which can fail under a program's folder, if there shall be one."""
        if not self.options.failing_disks:
            return {}
        self.disks[name] = shim.Faults(self.site.directory / f"disk-{name}", self.options.seed)
        return shim.environment(self.site.directory / name, faults=self.disks[name])

    @property
    def clock(self) -> BenchClock:
        """The clock all programs share; raises BenchError before the boards have left the workshop."""
        if self._clock is None:
            raise BenchError("the bench clock does not run before start() has flashed the boards")
        return self._clock

    def environment(self) -> dict[str, str]:
        """Return the environment of a program that belongs to this bench."""
        return {**os.environ, **(self._clock.as_environment() if self._clock else {})}

    def _run(
        self, name: str, argv: Sequence[str], ready: Callable[[], bool], more: Mapping[str, str] | None = None
    ) -> None:
        log = self.site.directory / f"{name.replace(':', '-')}.log"
        environment = {**self.environment(), **(more or {})}
        self._programs[name] = Program(name, argv, self._spawner, log, ready, environment)
        self._programs[name].start()

    def _said_ready(self, name: str) -> Callable[[], bool]:
        log = self.site.directory / f"{name}.log"
        return lambda: b'"ready"' in log.read_bytes()

    # -- what a bench can be asked -----------------------------------------------------------------------------------

    def program(self, name: str) -> Program:
        """Return a program of the chain: broker, lines, world, link, phone, board:<station>, cloud, gateway."""
        return self._programs[name]

    @property
    def programs(self) -> dict[str, Program]:
        """All programs by name."""
        return dict(self._programs)

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
            self.powers[plug.removeprefix("board:")].off()
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
                self.powers[plug.removeprefix("board:")].on()
            else:
                self._programs[plug].start()
        self.out.discard(plug)

    def silence_bus(self, station: str, on: bool) -> None:
        """Cut or mend the instruments' bus of a station."""
        self.lines.set_fault(f"bus-{station}", "cut", on)

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End every process, the gateway and the cloud first and gracefully."""
        order = sorted(self._programs, key=lambda name: name not in ("gateway", "cloud"))
        for name in order:
            self._programs[name].stop()
        self._spawner.close()
        self._http.close()


def sim(*words: str) -> list[str]:
    """Return the command line of a simulator."""
    return [command("tram-sim"), *words]
