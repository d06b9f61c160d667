"""A station on a pty, the real gateway with a modem and a siren, a link that can be cut, broker, cloud and phones.

Sixty times as fast as the river: a minute between two records is a second here.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from edge_gateway.tests.fake_station import FakeLine, FakeStation
from firmware import record
from simulators.broker import set_up_broker
from simulators.lines import terminals
from simulators.link import Link
from simulators.modem import SimulatedModem
from simulators.processes import Program, Spawner, command, wait_for
from simulators.site import DEMO_NETWORK, accepts, write_secret
from station_config.clock import BenchClock
from station_config.free_ports import free_ports

SPEED = 60.0
GATEWAY, STATION, ADDRESS, JOURNAL = "gw-go-cong", "xuan-hoa", 13, 0x0BADCAFE
FRESH, SALT = 0.6, 5.0  # conductivity at 25 °C, mS/cm: 0.3 and 2.7 g/L
SENSOR, WATER_TEMPERATURE, CONDUCTIVITY_25 = 1, 32, 34
TAM, HOA, PUMP = "+84912345678", "+84987654321", "+84900000077"

RULES = """
[[rule]]
id = "rice"
parameter = "salinity"
stations = ["xuan-hoa"]
set_level = 2.0
clear_level = 1.5
set_dwell_s = 120
clear_dwell_s = 120
severity = "severe"

[[person]]
name = "Ba Tám"
phone = "0912345678"
rules = ["rice"]

[[person]]
name = "Chị Hoa"
phone = "0987654321"
rules = ["rice"]
"""
WARNING = """
[warning]
rules = "rules.toml"
after_minutes = 5

[[warning.recipient]]
name = "Ba Tám"
phone = "0912345678"

[[warning.recipient]]
name = "Trạm bơm"
phone = "0900000077"

[warning.modem]
port = "{modem}"
answer_timeout_s = 4

[warning.relay]
kind = "lcus"
port = "{siren}"
on_s = 0.3
off_s = 0.2
longest_s = 3
"""


class Field:
    """Use as a context manager. Names of programs: broker, link, phone, modem, cloud, gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conductivity = FRESH
        self.station = FakeStation(STATION, ADDRESS, JOURNAL)
        self.clock = BenchClock(time.time(), time.time(), SPEED)
        self._undo = ExitStack()
        self._programs: dict[str, Program] = {}
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self.station.now = self.clock.now
        self._http = self._undo.enter_context(httpx.Client(timeout=10.0))
        self._line = self._undo.enter_context(FakeLine(self.station))
        self._siren = self._undo.enter_context(terminals(self.folder / "relay", ["siren"]))["siren"]
        self._spawner = Spawner()
        self._undo.callback(self._spawner.close)
        self._start_all()
        river = threading.Thread(target=self._flow, daemon=True)
        river.start()
        self._undo.callback(river.join)
        self._undo.callback(self._stop.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for name in ("gateway", "cloud", *(name for name in self._programs if name not in ("gateway", "cloud"))):
            self._programs[name].stop()
        self._undo.close()

    # -- what can be asked ---------------------------------------------------------------------------------------------

    def phone(self, number: str) -> list[str]:
        """Return the texts the cloud's provider delivered to a number."""
        answer = self._http.get(f"http://127.0.0.1:{self.ports['phone']}/inbox").json()
        return [message["text"] for message in answer["messages"] if message["to"] == number]

    def modem(self, number: str) -> list[str]:
        """Return the texts the gateway's modem delivered to a number."""
        return [text["text"] for text in self.modem_control.texts() if text["to"] == number]

    def alerts(self) -> list[dict[str, Any]]:
        """Return the cloud's alerts, oldest first."""
        found: list[dict[str, Any]] = self._http.get(f"{self._cloud}/api/v1/alerts").json()["alerts"]
        return found[::-1]

    def status(self) -> dict[str, Any]:
        """Return what `tram-gateway status --json` says of warning."""
        argv = [command("tram-gateway"), "status", "--config", str(self.folder / "gateway.toml"), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=self._environment(), check=True)
        warning: dict[str, Any] = json.loads(done.stdout)["warning"]
        return warning

    def siren(self) -> list[bool]:
        """Return what the relay was told since it was last asked, True for on."""
        heard = b""
        try:
            while data := os.read(self._siren, 4096):
                heard += data
        except BlockingIOError:
            pass
        commands = [heard[at : at + 4] for at in range(0, len(heard), 4)]
        assert set(commands) <= {b"\xa0\x01\x01\xa2", b"\xa0\x01\x00\xa1"}
        return [one[2] == 1 for one in commands]

    def caught_up(self) -> bool:
        """Return whether the cloud has nearly all the station made."""
        rows = self._http.get(f"{self._cloud}/api/v1/ledger").json()
        return bool(rows) and int(rows[0]["stored"]) >= self.station.next_seq - 6

    # -- what can be done ----------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """What a power cut does to a program."""
        self._programs[name].kill()

    def start(self, name: str) -> None:
        """Start it again."""
        self._programs[name].start()

    def minutes(self, number: float) -> None:
        """Let so much of the river's time pass."""
        ends = self.clock.now() + 60 * number
        wait_for(lambda: self.clock.now() >= ends, number * 60 / SPEED + 5, "time to pass")

    def until(self, condition: Any, what: str, minutes: float) -> None:
        """Wait for a condition, at most so many minutes of the river's time."""
        wait_for(condition, minutes * 60 / SPEED, what, self.folder / "gateway.log")

    # -- making it -----------------------------------------------------------------------------------------------------

    def _start_all(self) -> None:
        self.ports = dict(zip(("broker", "link", "phone", "cloud"), free_ports(4), strict=True))
        self._cloud = f"http://127.0.0.1:{self.ports['cloud']}"
        self._write_configurations()
        folder, sim = self.folder, command("tram-sim")
        to = ("--to", f"127.0.0.1:{self.ports['broker']}", "--control", str(folder / "link.sock"))
        self._run("broker", self._broker.argv, lambda: accepts(self.ports["broker"]))
        self._run("link", [sim, "link", "--listen", str(self.ports["link"]), *to], lambda: accepts(self.ports["link"]))
        self.link = Link(folder / "link.sock")
        token = ("--token-file", str(folder / "token"))
        self._run("phone", [sim, "phone", "--port", str(self.ports["phone"]), *token], lambda: self._ready("phone"))
        modem = ("--port", str(folder / "modem"), "--control", str(folder / "modem.sock"))
        self._run("modem", [sim, "modem", *modem], lambda: self._ready("modem"))
        self.modem_control = SimulatedModem(folder / "modem.sock")
        self._run("cloud", [command("tram-cloud"), "run", "--config", str(folder / "cloud.toml")], self._cloud_answers)
        gateway = [command("tram-gateway"), "run", "--config", str(folder / "gateway.toml")]
        self._run("gateway", gateway, lambda: (folder / "gateway" / "outbox.sqlite").exists())

    def _write_configurations(self) -> None:
        folder = self.folder
        self._broker = set_up_broker("auto", folder / "broker", self.ports["broker"], gateways=(GATEWAY,))
        write_secret(folder / "token")
        (folder / "rules.toml").write_text(RULES, encoding="utf-8")
        (folder / "gateway.toml").write_text(
            f"""id = "{GATEWAY}"
state_dir = "gateway"
network = "{DEMO_NETWORK}"
poll_interval_s = 0.1
[broker]
port = {self.ports["link"]}
user = "{GATEWAY}"
password_file = "{self._broker.password_file(GATEWAY)}"
commit_timeout_s = 2
retry_max_s = 0.5
[[line]]
name = "uplink"
port = "{self._line.port}"
baud = 115200
[[line.station]]
id = "{STATION}"
address = {ADDRESS}
{WARNING.format(modem=folder / "modem", siren=folder / "relay" / "siren")}""",
            encoding="utf-8",
        )
        (folder / "cloud.toml").write_text(
            f"""network = "{DEMO_NETWORK}"
state_dir = "cloud"
[broker]
port = {self.ports["broker"]}
user = "cloud"
password_file = "{self._broker.password_file("cloud")}"
[http]
port = {self.ports["cloud"]}
[alerts]
rules = "rules.toml"
[sms]
url = "http://127.0.0.1:{self.ports["phone"]}"
token_file = "token"
""",
            encoding="utf-8",
        )

    def _run(self, name: str, argv: Any, ready: Any) -> None:
        log = self.folder / f"{name}.log"
        self._programs[name] = Program(name, argv, self._spawner, log, ready, self._environment())
        self._programs[name].start()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.clock.as_environment()}

    def _ready(self, name: str) -> bool:
        return b'"ready"' in (self.folder / f"{name}.log").read_bytes()

    def _cloud_answers(self) -> bool:
        try:
            return self._http.get(f"{self._cloud}/api/v1/ledger").is_success
        except httpx.TransportError:
            return False

    def _flow(self) -> None:
        """Make a minute's records every minute."""
        minute = int(self.clock.now()) // 60
        while not self._stop.is_set():
            now = int(self.clock.now()) // 60
            for minute in range(minute + 1, now + 1):  # noqa: B020  it goes on where it was
                for raw in self._records(60 * minute):
                    self.station.records[self.station.next_seq] = raw
                    self.station.next_seq += 1
            minute = max(minute, now)
            self._stop.wait(0.05)

    def _records(self, when: int) -> Iterator[bytes]:
        seq = self.station.next_seq
        counts = ((WATER_TEMPERATURE, 2800), (CONDUCTIVITY_25, round(self.conductivity * 1000)))
        for place, (parameter, count) in enumerate(counts):
            yield record.encode(record.Record(seq + place, when, count, SENSOR, parameter, record.NOT_EVALUATED))
