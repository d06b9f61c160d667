"""Stations without a board: the real gateway asks simulated instruments itself, on a line and through the network.

What it records must be what the instruments stand in, as in simulators/tests/test_instruments_on_board.py, where it is
a board that asks them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import ModbusTcpClient

from edge_gateway.outbox_reader import OutboxReader
from firmware.record import (
    EVENT_BOOT,
    EVENT_CONFIGURATION,
    LAST_EVENT,
    MISSING,
    NO_VALUE,
    NOT_EVALUATED,
    SIZE,
    Record,
    decode,
)
from hil_tests.workshop import STATIONS, prepare
from simulators.board import BoardSettings, VirtualBoard
from simulators.lines import Lines
from simulators.processes import wait_for
from station_config.clock import BenchClock
from station_config.free_ports import free_port
from station_config.parameters import load_parameters

RATE = 40.0
START_S = 1_780_000_000.0
INSTRUMENTS = {
    1: ("yosemitech-y504", {"water_temperature": 28.4, "oxygen_saturation": 84.2}),
    2: ("aqualabo-c4e", {"water_temperature": 28.5, "conductivity_25": 7.28}),
    3: ("keller-acculevel", {"water_pressure": 31.42, "water_temperature": 28.6}),
}
NETWORK = """
name = "Thử"
[[gateways]]
id = "gw-test"
[[stations]]
id = "cong-long"
name_vi = "Cống Long"
name_en = "Long sluice"
latitude = 10.3
longitude = 106.5
river = "Tiền"
river_km = 12.0
gateway = "gw-test"
address = 21
hardware = "gateway"
sample_interval_s = 20
record_interval_s = 60
sensors = [
{sensors}
]
"""
GATEWAY = [sys.executable, "-c", "from edge_gateway.commands import app; app()"]
SERIAL = '{ baud = 9600, parity = "N", stop = 1 }'


@contextmanager
def program(argv: list[str], clock: BenchClock) -> Iterator[dict[str, Any]]:
    """Run a simulator; yield what it says when it is ready."""
    running = subprocess.Popen(
        [sys.executable, "-m", *argv], stdout=subprocess.PIPE, env={**os.environ, **clock.as_environment()}
    )
    assert running.stdout is not None
    try:
        yield json.loads(running.stdout.readline())
    finally:
        running.terminate()
        running.wait(60)
        running.stdout.close()


@dataclass
class Site:
    """Instruments on a line, and the gateway that asks them."""

    folder: Path
    clock: BenchClock
    port: str
    more: str = ""  # of gateway.toml
    scada_port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def journal(self) -> Path:
        return self.state / "journal-cong-long.sqlite"

    def write(self) -> None:
        sensors = ",\n".join(
            f'{{ number = {number}, instrument = "{name}", address = {number}, serial = {SERIAL} }}'
            for number, (name, _) in INSTRUMENTS.items()
        )
        (self.folder / "network.toml").write_text(NETWORK.replace("{sensors}", sensors))
        (self.folder / "gateway.toml").write_text(
            f"""id = "gw-test"
state_dir = "state"
network = "network.toml"
[broker]
port = {free_port()}
[[line]]
name = "bus"
port = "{self.port}"
timeout_s = 0.5
{self.more}
[[direct]]
station = "cong-long"
line = "bus"
[modbus_server]
port = {self.scada_port}
"""
        )

    def start(self) -> None:
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*GATEWAY, "run", "--config", str(self.folder / "gateway.toml"), "--log", "json"],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.clock.as_environment()},
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def journal_records(self) -> list[Record]:
        """Read the journal's file itself."""
        with sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True) as sql:
            found = [decode(raw) for (raw,) in sql.execute("SELECT raw FROM record ORDER BY seq")]
        sql.close()
        return found

    def outbox_records(self, station: str = "cong-long") -> list[Record]:
        """Read what the outbox has of a station."""
        if not (self.state / "outbox.sqlite").exists():
            return []
        reader = OutboxReader(self.state / "outbox.sqlite")
        try:
            found: list[Record] = []
            for series in [one for one in reader.with_buffered() if one.station == station]:
                head = reader.oldest(series, [])
                while head is not None:
                    piece = reader.following(head, [], 600)
                    found += [decode(piece.records, at) for at in range(0, len(piece.records), SIZE)]
                    head = reader.oldest(series, [(0, piece.last_seq)])
            return found
        except sqlite3.OperationalError:  # not made yet
            return []
        finally:
            reader.close()

    def wait_for_minutes(self, number: int, deadline_s: float = 60.0) -> None:
        """Wait until the outbox has measured values of so many more minutes."""
        before = len(minutes(self.outbox_records()))
        wait_for(
            lambda: len(minutes(self.outbox_records())) >= before + number,
            deadline_s,
            f"{number} more minutes",
            self.folder / "gateway.log",
        )


def minutes(records: list[Record]) -> set[int]:
    return {record.time for record in records if record.flag == NOT_EVALUATED and record.parameter > LAST_EVENT}


def expected() -> dict[tuple[int, int], int]:
    vocabulary = load_parameters()
    return {
        (number, vocabulary.by_name[name].code): round(value * 10 ** vocabulary.by_name[name].decimals)
        for number, (_, values) in INSTRUMENTS.items()
        for name, value in values.items()
    }


@pytest.fixture(params=["serial", "rtu+tcp", "tcp"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with instruments_on(tmp_path, request.param) as site:
        site.write()
        site.start()
        yield site
        if site.process is not None and site.process.poll() is None:
            site.kill()


@contextmanager
def instruments_on(tmp_path: Path, scheme: str) -> Iterator[Site]:
    """A line with the instruments on it, in the network unless the scheme is "serial"; a board may join it."""
    clock = BenchClock(time.time(), START_S, RATE)
    lines = {"bus": ["gateway", "instruments", "board"]}
    (tmp_path / "lines.json").write_text(
        json.dumps({"dir": str(tmp_path / "lines"), "socket": str(tmp_path / "lines.sock"), "lines": lines})
    )
    world = {
        "stations": [
            {
                "id": "cong-long",
                "river_km": 12.0,
                "port": str(tmp_path / "lines/bus/instruments"),
                "instruments": [
                    {"sensor": number, "model": name, "address": number, "values": values}
                    for number, (name, values) in INSTRUMENTS.items()
                ],
            }
        ],
        "socket": str(tmp_path / "world.sock"),
    }
    (tmp_path / "world.json").write_text(json.dumps(world))
    near = tmp_path / "lines/bus/gateway"
    with ExitStack() as stack:
        stack.enter_context(program(["simulators.lines", "--config", str(tmp_path / "lines.json")], clock))
        stack.enter_context(program(["simulators.world", "--config", str(tmp_path / "world.json")], clock))
        port = str(near)
        if scheme != "serial":
            argv = ["simulators.serial_server", "--line", str(near)] + ["--modbus"] * (scheme == "tcp")
            told = stack.enter_context(program(argv, clock))
            port = f"{scheme}://127.0.0.1:{told['port']}"
        yield Site(tmp_path, clock, port)


def test_what_the_instruments_stand_in_is_recorded_and_carried_into_the_outbox(site: Site) -> None:
    wanted = expected()

    def whole_minutes() -> list[int]:
        records = site.outbox_records()
        return [
            time
            for time in minutes(records)
            if {(r.sensor, r.parameter): r.count for r in records if r.time == time and r.sensor} == wanted
        ]

    wait_for(lambda: len(whole_minutes()) >= 2, 60.0, "two minutes of all values", site.folder / "gateway.log")
    records = site.outbox_records()
    assert [record.parameter for record in records[:2]] == [EVENT_BOOT, EVENT_CONFIGURATION]
    assert all(record.time % 60 == 0 for record in records if record.parameter > LAST_EVENT)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert _seen_by_scada(site, len(wanted)) == {
        channel: pytest.approx(count / 10 ** load_parameters().by_code[channel[1]].decimals)
        for channel, count in wanted.items()
    }
    assert site.stop() == 0
    assert "begins again" not in site.log()


def _seen_by_scada(site: Site, channels: int) -> dict[tuple[int, int], float]:
    """Read the station's live registers at the gateway."""
    client: Any = ModbusTcpClient("127.0.0.1", port=site.scada_port, timeout=5)
    assert client.connect()
    registers = client.read_input_registers(100, count=4 * channels, device_id=21).registers
    client.close()
    blocks = struct.iter_unpack(">BBHf", struct.pack(f">{4 * channels}H", *registers))
    return {(sensor, parameter): value for sensor, parameter, _, value in blocks}


@pytest.mark.parametrize("site", ["serial", "tcp"], indirect=True)
def test_killed_again_and_again_it_gives_no_number_twice_and_loses_nothing_of_its_journal(site: Site) -> None:
    seen: dict[int, Record] = {}
    for _ in range(4):
        site.wait_for_minutes(1)
        site.kill()
        for record in site.journal_records():
            assert seen.setdefault(record.seq, record) == record
        site.start()
    site.wait_for_minutes(2)
    site.stop()
    journal = site.journal_records()

    assert [record.seq for record in journal] == list(range(1, len(journal) + 1))
    assert all(seen[record.seq] == record for record in journal[: len(seen)])
    assert site.outbox_records() == journal
    assert [record.count for record in journal if record.parameter == EVENT_BOOT] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("site", ["serial"], indirect=True)
def test_a_lost_outbox_is_read_again_from_the_journal(site: Site) -> None:
    site.wait_for_minutes(2)
    site.stop()
    for file in site.state.glob("outbox.sqlite*"):
        file.unlink()
    site.start()
    site.wait_for_minutes(3)
    site.stop()

    assert site.outbox_records() == site.journal_records()


@pytest.mark.parametrize("site", ["serial"], indirect=True)
def test_a_journal_that_is_damaged_is_set_aside_and_another_one_begun(site: Site) -> None:
    site.wait_for_minutes(1)
    site.stop()
    before = {record.seq: record for record in site.outbox_records()}
    site.journal.write_bytes(b"\xaa" * site.journal.stat().st_size)
    site.start()
    wait_for(lambda: len(site.outbox_records()) > len(before) + 10, 60.0, "records of another journal")
    site.stop()
    reader = OutboxReader(site.state / "outbox.sqlite")
    journals = {series.journal for series in reader.with_buffered()}
    reader.close()

    assert len(journals) == 2
    assert list(site.state.glob("journal-cong-long.damaged-*.sqlite"))
    assert [record.parameter for record in site.journal_records()[:2]] == [EVENT_BOOT, EVENT_CONFIGURATION]


@pytest.mark.parametrize("site", ["tcp"], indirect=True)
def test_instruments_that_fall_silent_are_recorded_as_missing(site: Site) -> None:
    site.wait_for_minutes(1)
    lines = Lines(site.folder / "lines.sock")
    lines.set_fault("bus", "cut", True)
    wait_for(
        lambda: any(r.flag == NO_VALUE and r.count == MISSING for r in site.outbox_records()), 60.0, "missing values"
    )
    lines.clear("bus")
    site.wait_for_minutes(1)


def test_instruments_share_their_line_with_a_station(tmp_path: Path) -> None:
    (tmp_path / "workshop").mkdir()
    workshop = prepare(tmp_path / "workshop")
    shutil.copy(workshop.flash("vam-kenh"), tmp_path / "board.flash")
    with instruments_on(tmp_path, "serial") as site:
        settings = BoardSettings(flash=tmp_path / "board.flash", uarts={2: tmp_path / "lines/bus/board"}, rate=RATE)
        site.more = f'[[line.station]]\nid = "vam-kenh"\naddress = {STATIONS["vam-kenh"]}'
        site.write()
        with VirtualBoard(settings) as board:
            board.console.wait_for("tram station=")
            site.start()
            site.wait_for_minutes(3, 90.0)
            wait_for(lambda: len(site.outbox_records("vam-kenh")) >= 2, 60.0, "the station's records")
            site.stop()
        records, wanted = site.outbox_records(), expected()
        journal = site.journal_records()

    assert records == journal
    # Whatever both heard of each other on the pair, no value is another's.
    assert {(r.sensor, r.parameter): r.count for r in records if r.sensor and r.count != MISSING} == wanted
    assert all(wanted[r.sensor, r.parameter] == r.count for r in records if r.sensor and r.count != MISSING)
    assert [record.seq for record in site.outbox_records("vam-kenh")][:2] == [1, 2]
