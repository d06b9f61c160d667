"""The running gateway disturbed at random, seeded moments: killed, its broker killed or lying, its disk failing.

A round ends when the disturbances do and everything has had time to settle; then the cloud's store is counted against
what the station made, as after a power cut (gateway_judge).
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

from edge_gateway.tests.conftest import wait_for
from hil_tests.cuts.gateway_judge import Knowledge, Truth, count_in_store
from hil_tests.cuts.gateway_life import JOURNAL, Life, a_life
from hil_tests.cuts.table import Outcome
from simulators.disk.shim import Faults
from simulators.lying_broker import Lies

ROUNDS = 5
RECORDS = 700
DISTURBANCES = 4
SETTLES_WITHIN_S = 90.0
DISK_ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)

Disturb = Callable[[Life, random.Random], None]


def _kill_gateway(life: Life, chance: random.Random) -> None:
    life.kill()
    _pause(chance)
    life.start()


def _kill_broker(life: Life, chance: random.Random) -> None:
    life.broker.kill()
    _pause(chance)
    life.broker.start()


def _fail_disk(life: Life, chance: random.Random) -> None:
    """Let all writes fail, or some of them, for a while; now and then the gateway is killed meanwhile."""
    assert life.faults is not None
    life.faults.begin(chance.choice(DISK_ERRORS), chance.choice((1000, 300, 30)))
    life.station.add(20)
    _pause(chance)
    if chance.random() < 0.3:
        _kill_gateway(life, chance)
    life.faults.end()


def _nothing(_life: Life, chance: random.Random) -> None:
    _pause(chance)


DISTURBANCE: dict[str, Disturb] = {
    "gateway killed": _kill_gateway,
    "broker killed": _kill_broker,
    "broker lies": _nothing,
    "disk fails": _fail_disk,
}


def play_round(row: str, seed: int, folder: Path) -> Outcome:
    """Play one round of a row of DISTURBANCE and count."""
    chance = random.Random(f"{row} {seed}")
    lies = Lies(lose=0.3, double=0.2, hold=0.2, seed=seed) if row == "broker lies" else None
    faults = Faults(folder / "faults", seed) if row == "disk fails" else None
    with a_life(folder, lies=lies, faults=faults) as life:
        assert life.cloud is not None
        life.cloud.stores.set()
        life.station.new_journal(JOURNAL, RECORDS)
        life.start()
        for _ in range(DISTURBANCES):
            _until_some_more(life, chance)
            DISTURBANCE[row](life, chance)
            life.station.add(chance.randrange(1, 40))
        made = life.station.next_seq - 1
        try:
            wait_for(lambda: life.station.stored_through == made, "all acknowledged", SETTLES_WITHIN_S)
            wait_for(lambda: life.buffered() == 0, "an empty outbox", SETTLES_WITHIN_S)
            left = 0
        except AssertionError:
            left = life.buffered() + made - life.station.stored_through
    return count_in_store(folder / "cloud", Knowledge(), Truth(made), left, 0)


def _until_some_more(life: Life, chance: random.Random) -> None:
    """Wait until the station has been told of a few more records, as many as chance has it, or of all."""
    wanted = min(life.station.stored_through + chance.randrange(1, 250), life.station.next_seq - 1)
    wait_for(lambda: life.station.stored_through >= wanted, f"seq {wanted} stored", SETTLES_WITHIN_S)


def _pause(chance: random.Random) -> None:
    """Let up to half a second pass: what is disturbed goes on in its own time."""
    until_s = chance.random() * 0.5
    waited = iter(range(int(until_s / 0.02)))
    wait_for(lambda: next(waited, None) is None, "the pause", 60)
