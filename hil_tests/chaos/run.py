"""One run: bring the world up, inject by plan, heal, let everything arrive, gather the evidence.

up ── faults by plan ── quiet: all healed ── journals read ── wait until all is stored ── evidence
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from hil_tests.chaos.evidence import Evidence, Injected, Rows
from hil_tests.chaos.gather import gather, read_journals
from hil_tests.chaos.truth import Key, Snapshot
from hil_tests.chaos.world import World
from simulators.faults.parts import Happened, Injector, Parts
from simulators.faults.plan import FaultPlan, draw

TICK_S = 0.05
STANDS_STILL_S = 0.3  # a pause of TICK_S that takes longer: the machine had no time for us
LOOK_S = 1.0
PATIENCE_S = 150.0  # longer than the longest pause anything makes between two tries
#: Our instruments have no brush. All other kinds that the world's parts can have are drawn.
NOT_HERE = frozenset({"instrument.wiper-parked-wrong"})
#: One who injects must not be held up for half a minute by one board.
MOST = {"board.brown-out": {"times": 6.0, "on": 300.0}}

Report = Callable[[str], None]


def quiet_s(seconds: float) -> float:
    """Return how long before the end the last fault is healed."""
    return min(120.0, max(15.0, 0.2 * seconds))


def plan_for(parts: Parts, seed: int, seconds: float, every_s: float) -> FaultPlan:
    """Draw the faults of a run; the same seed, length and world give the same plan."""
    wanted = sorted(set(parts.possible()) - NOT_HERE)
    drawn = draw(seed, seconds - quiet_s(seconds), parts.targets, every_s=every_s, wanted=wanted)
    return replace(drawn, injections=tuple(replace(one, parameters=_bounded(one)) for one in drawn.injections))


def _bounded(injection: Any) -> dict[str, float]:
    most = MOST.get(injection.kind, {})
    return {name: min(value, most.get(name, value)) for name, value in injection.parameters.items()}


class Watch:
    """Looks at the store's ledger again and again, and keeps what changed. Use as a context manager."""

    def __init__(self, world: World) -> None:
        self.snapshots: list[Snapshot] = []
        self.slowest_sync_s, self.highest_load = 0.0, 0.0
        self._world = world
        self._stop = threading.Event()
        self._url = f"http://127.0.0.1:{world.layout.ports.cloud}/api/v1/ledger"
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=5.0) as http:
            while not self._stop.wait(LOOK_S):
                self.slowest_sync_s = max(self.slowest_sync_s, _sync_s(self._world.layout.folder / "sync"))
                self.highest_load = max(self.highest_load, os.getloadavg()[0] / (os.cpu_count() or 1))
                try:
                    answer = http.get(self._url)
                    rows = answer.json() if answer.is_success else None
                except (httpx.HTTPError, ValueError):
                    continue
                if rows is not None:
                    self.look(rows)

    def look(self, rows: list[dict[str, Any]]) -> None:
        """Take one answer of the ledger in."""
        ranges = {(row["station"], row["journal"]): [tuple(one) for one in row["ranges"]] for row in rows}
        if not self.snapshots or ranges != self.snapshots[-1].ranges:
            self.snapshots.append(Snapshot(self._world.clock.now(), ranges))


def _sync_s(path: Path) -> float:
    """Return how long this disk takes to keep a record's worth of bytes."""
    began = time.monotonic()
    with path.open("wb") as file:
        file.write(bytes(256))
        file.flush()
        os.fsync(file.fileno())
    return time.monotonic() - began


@dataclass
class Play:
    """What is going on in a run."""

    world: World
    plan: FaultPlan
    seconds: float
    report: Report
    stood_still_s: float = 0.0

    def faults(self) -> list[tuple[float, Happened]]:
        """Inject until the plan is through and the quiet time over; return what happened, in bench time."""
        world, began = self.world, time.monotonic()
        happened: list[tuple[float, Happened]] = []

        def note(one: Happened) -> None:
            happened.append((world.clock.now(), one))
            self.report(str(one))

        injector = Injector(world.parts(), self.plan, note)
        pause, looked = threading.Event(), began
        while (elapsed := time.monotonic() - began) < self.seconds:
            self.stood_still_s += max(0.0, time.monotonic() - looked - STANDS_STILL_S)
            if elapsed >= self.seconds - quiet_s(self.seconds):
                injector.heal_all(elapsed)
            else:
                injector.tick(elapsed)
            world.supervise()
            looked = time.monotonic()
            pause.wait(TICK_S)
        injector.heal_all(self.seconds)
        return happened

    def until_none(self, left: Callable[[], int], patience_s: float) -> bool:
        """Wait until nothing is left, at most so long without its getting less; ended programs are started again."""
        pause, least, end = threading.Event(), None, time.monotonic() + patience_s
        while time.monotonic() < end:
            self.world.supervise()
            try:
                number = left()
            except httpx.HTTPError:
                number = None
            if number == 0:
                return True
            if number is not None and (least is None or number < least):
                least, end = number, time.monotonic() + patience_s
            pause.wait(LOOK_S)
        return False


def play(world: World, plan: FaultPlan, seconds: float, report: Report) -> Evidence:
    """Play a started world to its end and return the evidence. Raises SimulatorError."""
    evidence = Evidence()
    one = Play(world, plan, seconds, report)
    with Watch(world) as watch:
        evidence.injected, evidence.refused = _injected(one.faults())
        evidence.stood_still_s = one.stood_still_s
        world.wait_ready()
        report("reading the journals")
        evidence.journals = read_journals(world, evidence.trouble)
        report(f"waiting until {sum(map(len, evidence.journals.values()))} records are stored")
        if not one.until_none(lambda: _not_stored(world, evidence.journals), PATIENCE_S):
            evidence.trouble.append(f"not everything is stored, and nothing more has come for {PATIENCE_S:g} s")
        if not one.until_none(lambda: _waiting_messages(world), PATIENCE_S):
            evidence.trouble.append(f"messages wait, and none has gone for {PATIENCE_S:g} s")
        watch.look(world.api("/api/v1/ledger"))
    evidence.snapshots = watch.snapshots
    evidence.slowest_sync_s, evidence.highest_load = watch.slowest_sync_s, watch.highest_load
    gather(world, evidence)
    return evidence


def _injected(happened: Sequence[tuple[float, Happened]]) -> tuple[list[Injected], list[str]]:
    began: dict[int, float] = {}
    found, refused = [], []
    for at, one in happened:
        injection = one.injection
        if one.what == "began":
            began[id(injection)] = at
        elif one.what == "ended":
            found.append(
                Injected(injection.kind, injection.target, began[id(injection)], at, dict(injection.parameters))
            )
        else:
            refused.append(str(one))
    return found, refused


def _not_stored(world: World, journals: dict[Key, Rows]) -> int:
    ranges = {(row["station"], row["journal"]): row["ranges"] for row in world.api("/api/v1/ledger")}
    return sum(
        not any(first <= row[0] <= last for first, last in ranges.get(key, []))
        for key, rows in journals.items()
        for row in rows
    )


def _waiting_messages(world: World) -> int:
    alerts = world.api("/api/v1/alerts", limit=1000)["alerts"]
    return sum(delivery["status"] == "pending" for alert in alerts for delivery in alert["deliveries"])
