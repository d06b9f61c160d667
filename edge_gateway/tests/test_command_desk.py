"""Commands in any order, repeated, late, with kills and clocks that jump: each has its effect once at most."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_gateway.command_desk import CommandDesk
from edge_gateway.command_policy import Do, Turn, admit, take_turn
from edge_gateway.command_table import KEPT_AFTER_EXPIRY_S, CommandTable
from edge_gateway.command_work import Asked, CommandWork
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.errors import OutboxUnavailable
from edge_gateway.line_jobs import Job, Result
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_schema import bring_up_to_date
from edge_gateway.outbox_store import Limits
from edge_gateway.slices import Range
from edge_gateway.tests.conftest import wait_for
from station_config.command import (
    JournalInCloud,
    OfStation,
    ReadAgain,
    ReadAgainArguments,
    ReadNow,
    key_id,
    new_id,
    sign,
    verify,
)

OFFICE = Ed25519PrivateKey.generate()
KEYS = {key_id(OFFICE.public_key()): OFFICE.public_key()}
START = 1_780_000_000
STATIONS = ("ben-tre", "my-tho")


class Wall:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.time: float = START

    def now(self) -> float:
        return self.time


class Line:
    """Keeps jobs until the test lets them end; what a station did is what it was asked to do."""

    def __init__(self) -> None:
        self.begun: list[tuple[Job[Any], Future[Any]]] = []

    def submit(self, job: Job[Result], address: int) -> Future[Result]:
        future: Future[Result] = Future()
        self.begun.append((job, future))
        return future

    def ask_again(self, station: str, in_cloud: Mapping[int, Sequence[Range]]) -> Asked:
        future: Asked = Future()
        future.set_result({7: [(11, 26), (40, 40)]} if in_cloud == {7: [(1, 10)]} else {})
        return future


class Gateway:
    """A desk on a file, that can be killed and started again."""

    def __init__(self, folder: Path, wall: Wall) -> None:
        self.wall = wall
        self.path = folder / "outbox.sqlite"
        self.line = Line()
        self.start()

    def start(self) -> None:
        plain = {
            "id": "gw-test",
            "state_dir": self.path.parent,
            "line": [
                {
                    "name": "radio",
                    "port": "/dev/null",
                    "station": [{"id": name, "address": 11 + at} for at, name in enumerate(STATIONS)],
                }
            ],
        }
        configuration = GatewayConfiguration.model_validate(plain)
        self.outbox: Outbox = open_outbox(self.path, Limits(1 << 30, 1e12), self.wall)
        self.line = Line()
        work = CommandWork(configuration, {"radio": self.line}, self.wall, list, lambda: None)
        self.desk = CommandDesk("gw-test", KEYS, self.outbox, work, self.wall)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.desk.run, args=(self.stop,))
        self.thread.start()

    def kill(self) -> None:
        self.stop.set()
        self.thread.join(60)
        self.outbox.close()

    def rows(self) -> dict[str, tuple[str, str | None]]:
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute("SELECT id, state, result FROM command").fetchall()
        return {row[0]: (row[1], row[2]) for row in rows}

    def results(self) -> Counter[tuple[str, str]]:
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute("SELECT body FROM messages WHERE kind = 'results'").fetchall()
        return Counter((body["command"], body["outcome"]) for body in map(json.loads, (row[0] for row in rows)))

    def judged(self) -> int:
        counters = self.desk.counters
        return counters.accepted + counters.repeated + sum(counters.refused.values())

    def deliver(self, payload: bytes) -> None:
        """Deliver, and wait until it has been judged."""
        judged = self.judged()
        self.desk.deliver(payload)
        wait_for(lambda: self.judged() > judged, "the verdict")


def order(wall: Wall, station: str, lasts_s: int = 600, issued_ago_s: int = 0) -> ReadNow:
    issued = int(wall.time) - issued_ago_s
    return ReadNow(
        id=new_id(),
        gateway="gw-test",
        issued_at=issued,
        expires_at=issued + lasts_s,
        by="lan",
        arguments=OfStation(station=station),
    )


@pytest.fixture
def gateway(tmp_path: Path) -> Any:
    gateway = Gateway(tmp_path, Wall())
    yield gateway
    gateway.kill()


def test_what_is_asked_for_again_is_told_by_journal(gateway: Gateway) -> None:
    known = ReadAgainArguments(station="ben-tre", in_cloud=[JournalInCloud(journal=7, ranges=[(1, 10)])])
    command = ReadAgain(**order(gateway.wall, "ben-tre").model_dump(exclude={"kind", "arguments"}), arguments=known)
    gateway.deliver(sign(command, OFFICE).encode())
    wait_for(lambda: gateway.rows()[command.id][0] == "finished", "the end")
    told = json.loads(gateway.rows()[command.id][1] or "")
    assert told["details"] == {"records": 17, "ranges": {"00000007": [[11, 26], [40, 40]]}}


def test_a_command_is_on_disk_and_accepted_before_it_starts_and_its_result_is_told_once(gateway: Gateway) -> None:
    command = order(gateway.wall, "ben-tre")
    gateway.deliver(sign(command, OFFICE).encode())
    wait_for(lambda: gateway.line.begun, "the job")

    assert gateway.rows()[command.id][0] == "started"
    gateway.line.begun[0][1].set_result({"version": "0.1.0"})
    wait_for(lambda: gateway.rows()[command.id][0] == "finished", "the end")
    gateway.deliver(sign(command, OFFICE).encode())

    assert gateway.results() == {(command.id, "accepted"): 1, (command.id, "done"): 1}
    assert len(gateway.line.begun) == 1


def test_commands_for_one_station_wait_for_each_other_and_not_for_those_of_another(gateway: Gateway) -> None:
    for station in ("ben-tre", "ben-tre", "my-tho"):
        gateway.deliver(sign(order(gateway.wall, station), OFFICE).encode())
    wait_for(lambda: len(gateway.line.begun) == 2, "two jobs")
    gateway.line.begun[0][1].set_result({})
    wait_for(lambda: len(gateway.line.begun) == 3, "the third")


def test_without_the_time_a_command_waits_at_the_cloud(tmp_path: Path) -> None:
    wall = Wall()
    wall.time = 77.0
    gateway = Gateway(tmp_path, wall)
    command = order(Wall(), "ben-tre")
    gateway.deliver(sign(command, OFFICE).encode())
    refused = dict(gateway.desk.counters.refused)
    wall.time = START - 1.0
    wait_for(lambda: gateway.desk.status()["refused"] == {"clock not set": 1}, "the refusal")
    with closing(sqlite3.connect(gateway.path)) as connection:
        wait_for(
            lambda: connection.execute("SELECT count(*) FROM command_memory").fetchone()[0], "the clock to be seen"
        )
    wall.time = START
    gateway.deliver(sign(command, OFFICE).encode())

    assert refused == {"clock not set": 1}
    assert command.id in gateway.rows()
    gateway.kill()


def test_a_disk_that_cannot_be_written_for_a_while_loses_no_command(gateway: Gateway) -> None:
    command = order(gateway.wall, "ben-tre")
    gateway.deliver(sign(command, OFFICE).encode())
    wait_for(lambda: gateway.line.begun, "the job")
    gateway.line.begun[0][1].set_exception(OutboxUnavailable("disk full"))
    wait_for(lambda: len(gateway.line.begun) == 2, "the job to be begun again")
    gateway.line.begun[1][1].set_result({})
    wait_for(lambda: gateway.rows()[command.id][0] == "finished", "the end")


class TableMachine(RuleBasedStateMachine):
    """The table alone: every command is done at most once, whatever is repeated, tidied and set back."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.connection = sqlite3.connect(Path(self.folder.name) / "outbox.sqlite", isolation_level=None)
        bring_up_to_date(self.connection)
        self.table = CommandTable(self.connection)
        self.wall = Wall()
        self.known: dict[str, ReadNow] = {}
        self.effects: Counter[str] = Counter()
        self.table.memory(self.wall.time)

    def admit(self, command: ReadNow) -> None:
        now = self.wall.time
        self.table.tidy(now)
        verdict = verify(sign(command, OFFICE).encode(), KEYS, "gw-test", now)
        stored = self.table.find(command.id)
        found = admit(verdict, stored, self.table.memory(now), self.table.load(), "station ben-tre")
        if found.do is Do.KEEP:
            self.table.receive(command, "text", "station ben-tre", now)

    @rule(lasts_s=st.integers(1, 5000), ago_s=st.integers(0, 3000))
    def a_new_one(self, lasts_s: int, ago_s: int) -> None:
        command = order(self.wall, "ben-tre", lasts_s, ago_s)
        self.known[command.id] = command
        self.admit(command)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def one_again(self, data: st.DataObject) -> None:
        self.admit(self.known[data.draw(st.sampled_from(sorted(self.known)))])

    @precondition(lambda self: self.table.unfinished())
    @rule(ends=st.booleans())
    def the_next_is_done(self, ends: bool) -> None:
        """Start the next, have its effect, and perhaps be cut off before the result is on disk: then it is resumed."""
        stored = self.table.unfinished()[0]
        turn = take_turn(stored, self.wall.time)
        if turn is Turn.EXPIRE:
            self.table.finish(stored.id, {"outcome": "expired"}, self.wall.time)
            return
        assert turn is not Turn.START or self.wall.time < stored.expires_at
        self.table.start(stored.id, self.wall.time)
        if "done" not in stored.progress:  # as a station knows by its boot number
            self.effects[stored.id] += 1
            self.table.note_progress(stored.id, {"done": True})
        if ends:
            assert self.table.finish(stored.id, {"outcome": "done"}, self.wall.time)
            assert not self.table.finish(stored.id, {"outcome": "failed"}, self.wall.time)

    @rule(step_s=st.sampled_from([1, 60, 1000, KEPT_AFTER_EXPIRY_S, 20_000, -60, -5000]))
    def time_passes_or_is_set_back(self, step_s: int) -> None:
        self.wall.time += step_s

    @rule()
    def the_power_goes(self) -> None:
        self.connection.close()
        self.connection = sqlite3.connect(Path(self.folder.name) / "outbox.sqlite", isolation_level=None)
        self.table = CommandTable(self.connection)

    @invariant()
    def nothing_was_done_twice(self) -> None:
        assert all(times == 1 for times in self.effects.values())

    def teardown(self) -> None:
        self.connection.close()
        self.folder.cleanup()


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
