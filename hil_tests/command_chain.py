"""The whole chain for commands: boards on one line, gateway, broker and cloud as the programs they are in the field."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from cloud_ingest.commanding.database import open_book
from cloud_ingest.configuration import load_configuration
from hil_tests.workshop import NETWORK, STATIONS, Workshop
from simulators.board import BoardSettings, VirtualBoard
from simulators.broker import set_up_broker
from simulators.processes import Program, Spawner, command, wait_for
from simulators.site import accepts
from station_config.clock import BenchClock
from station_config.command import AnyCommand, sign
from station_config.command_keys import generate, load_private
from station_config.free_ports import free_ports

GATEWAY = "gw-go-cong"
RATE = 40.0  # a trial of 15 minutes takes 22 s, in which a gateway can be killed and started again
START_S = 1_780_000_000.0
LASTS = "10d"  # of bench time
SETTLE_S = 120.0


class CommandChain:
    """Use as a context manager. `stations` are on the line; `send` is `tram-cloud command send`."""

    def __init__(self, folder: Path, workshop: Workshop, stations: Iterable[str]) -> None:
        self.folder = folder
        self.stations = tuple(stations)
        self.boards: dict[str, VirtualBoard] = {}
        self.clock = BenchClock(time.time(), START_S, RATE)
        self.key_file = folder / "office.pem"
        self._workshop = workshop
        self._stack = ExitStack()
        self._environment = {**os.environ, **self.clock.as_environment()}
        self._http = httpx.Client(timeout=10.0)
        self._mqtt_port, self._http_port = free_ports(2)
        self.broker = set_up_broker("mosquitto", folder / "broker", self._mqtt_port, gateways=(GATEWAY,))

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # whatever it was, no process stays; it is raised on
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # What a person at the cloud does

    def cloud_command(self, *words: str, check: bool = True) -> Any:
        """Run a tram-cloud command with --json; return its document."""
        argv = [command("tram-cloud"), *words, "--config", str(self.folder / "cloud.toml"), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, env=self._environment, timeout=120, check=False)
        assert done.stdout or not check, done.stderr
        if done.returncode == 0 or done.stdout.startswith(("{", "[")):
            return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else {"code": 0}
        return {"error": done.stderr, "code": done.returncode}

    def send(self, kind: str, *options: str, wait: bool = True) -> Any:
        """Order something, and wait for what comes of it."""
        order = self.cloud_command("command", "send", kind, *options, "--expires", LASTS, "--by", "lan")
        return self.outcome(order) if wait else order

    def outcome(self, order: Mapping[str, Any], deadline_s: float = SETTLE_S) -> Any:
        """Wait until nothing more is expected of an order; return it then."""
        self.wait(lambda: self.book.find(order["id"]).state.is_over, f"the end of {order['kind']}", deadline_s)
        return self.book.find(order["id"]).as_json()

    def ledger(self) -> dict[str, Any]:
        """Return the ledger by station."""
        rows = self._http.get(f"http://127.0.0.1:{self._http_port}/api/v1/ledger").raise_for_status().json()
        return {row["station"]: row for row in rows}

    def all_arrived(self, station: str) -> bool:
        """Whether every record the station has made by now is in the cloud, with none missing."""
        made = int(self.send("read-now", "--station", station)["result"]["details"]["next_seq"]) - 1
        row = self.ledger().get(station, {"stored": 0, "missing": ["all"]})
        return bool(row["missing"] == [] and row["stored"] >= made)

    # What somebody with access to the broker can do

    def publish(self, payload: bytes, gateway: str = GATEWAY) -> None:
        """Put a message on the topic of commands, as the cloud's user."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set("cloud", self.broker.password_file("cloud").read_text().splitlines()[0])
        client.connect("127.0.0.1", self._mqtt_port)
        client.loop_start()
        client.publish(f"tram/v1/commands/{gateway}", payload, 1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()

    def signed(self, order: AnyCommand) -> bytes:
        """Return a command signed with the office's key."""
        return sign(order, load_private(self.key_file)).encode()

    # What the gateway knows

    def gateway_rows(self) -> list[dict[str, Any]]:
        """Return the gateway's table of commands."""
        path = self.folder / "gateway" / "outbox.sqlite"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM command ORDER BY rowid")]

    def gateway_commands(self) -> dict[str, Any]:
        """Return what the gateway's published status says of commands."""
        found: list[bytes] = []
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set("cloud", self.broker.password_file("cloud").read_text().splitlines()[0])
        client.on_message = lambda _client, _data, message: found.append(bytes(message.payload))
        client.connect("127.0.0.1", self._mqtt_port)
        client.subscribe(f"tram/v1/status/{GATEWAY}", 1)
        client.loop_start()
        self.wait(lambda: bool(found) and b'"commands_in"' in found[-1], "the gateway's status")
        client.disconnect()
        client.loop_stop()
        commands: dict[str, Any] = json.loads(found[-1])["commands_in"]
        return commands

    def wait(self, condition: Callable[[], bool], what: str, deadline_s: float = SETTLE_S) -> None:
        """Wait for a condition of the chain."""
        wait_for(condition, deadline_s, what, self.folder / "gateway.log")

    # Bringing it up

    def _start(self) -> None:
        self._spawner = Spawner()
        self._stack.callback(self._spawner.close)
        self._stack.callback(self._http.close)
        self._write()
        self._run("lines", self._lines_argv(), lambda: b'"ready"' in (self.folder / "lines.log").read_bytes())
        self._run("broker", list(self.broker.argv), lambda: accepts(self._mqtt_port))
        self.book = self._stack.enter_context(open_book(load_configuration(self.folder / "cloud.toml"), self.clock))
        self.cloud = self._run("cloud", [command("tram-cloud"), "run", *self._config("cloud")], self._cloud_answers)
        for station in self.stations:
            self._start_board(station)
        self.gateway = self._run("gateway", [command("tram-gateway"), "run", *self._config("gateway")], self._is_up)

    def _start_board(self, station: str) -> None:
        flash = self.folder / f"{station}.flash"
        shutil.copy(self._workshop.flash(station), flash)
        settings = BoardSettings(flash=flash, uarts={2: self.folder / "lines" / "radio" / station}, rate=RATE)
        self.boards[station] = self._stack.enter_context(VirtualBoard(settings))
        self.boards[station].console.wait_for("tram station=")

    def _run(self, name: str, argv: list[str], ready: Callable[[], bool]) -> Program:
        program = Program(name, argv, self._spawner, self.folder / f"{name}.log", ready, self._environment)
        self._stack.callback(program.stop)
        program.start()
        return program

    def _lines_argv(self) -> list[str]:
        lines = {"radio": ["gateway", *self.stations]}
        plain = {"dir": str(self.folder / "lines"), "socket": str(self.folder / "lines.sock"), "lines": lines}
        (self.folder / "lines.json").write_text(json.dumps({**plain, "baud": None}))
        return [command("tram-sim"), "lines", "--config", str(self.folder / "lines.json")]

    def _config(self, name: str) -> list[str]:
        return ["--config", str(self.folder / f"{name}.toml")]

    def _cloud_answers(self) -> bool:
        try:
            return self._http.get(f"http://127.0.0.1:{self._http_port}/api/v1/ledger").status_code == 200
        except httpx.HTTPError:
            return False

    def _is_up(self) -> bool:
        return (self.folder / "gateway" / "outbox.sqlite").exists()

    def _write(self) -> None:
        folder = self.folder
        shutil.copy(NETWORK, folder / "network.toml")
        (folder / "keys").mkdir()
        generate(self.key_file, folder / "keys" / "office.pub.pem")
        broker = f'[broker]\nport = {self._mqtt_port}\npassword_file = "{{}}"\nuser = "{{}}"\n'
        cloud = broker.format(self.broker.password_file("cloud"), "cloud")
        (folder / "cloud.toml").write_text(
            f'network = "network.toml"\nstate_dir = "cloud"\n{cloud}[http]\nport = {self._http_port}\n'
            '[commands]\nkey_file = "office.pem"\nrepeat_s = 1.0\n'
        )
        stations = "".join(f'[[line.station]]\nid = "{one}"\naddress = {STATIONS[one]}\n' for one in self.stations)
        (folder / "gateway.toml").write_text(
            f'id = "{GATEWAY}"\nstate_dir = "gateway"\npoll_interval_s = 0.2\nclock_tolerance_s = 100.0\n'
            f"status_interval_s = 0.5\n{broker.format(self.broker.password_file(GATEWAY), GATEWAY)}"
            'commit_timeout_s = 1.0\nretry_max_s = 0.5\nretry_min_s = 0.1\n[commands]\nkeys_dir = "keys"\n'
            f'[[line]]\nname = "radio"\nport = "{folder}/lines/radio/gateway"\n'
            f"baud = 115200\ntimeout_s = 0.3\n{stations}"
        )
