"""Our gateway and thingsboard-gateway (PyPI) side by side: what each loses, doubles, takes and carries at most.

Both poll the same kind of Modbus TCP source and publish to a mosquitto, in the same run and on the same machine:

loss     a life of each: kill -9 while it streams; the broker away; the broker away and kill -9 meanwhile. A reading
         that the source gave out and that never arrives is lost. ThingsBoard's three storages each. Ours polls stations
         with a journal, as it does in the field; ThingsBoard reads registers, one question each: it knows no other way.
load     CPU and memory at 500 readings a second.
most     the rate that arrives when there is always more to read.

What arrives twice: ours names every record, so ingest stores it once; ThingsBoard's has device, name and time.
thingsboard-gateway is installed with pip into ~/.cache/tram, never into the project's environment.

python -m benchmarks.gateway --rivals tram,memory,sqlite,file --outage 20
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.gateways.arrival import Arrival, Broker, Unavailable
from benchmarks.gateways.rivals import RIVALS, Load, Rival, provide_thingsboard
from station_config.free_ports import free_ports

STEADY = {"lines": 5, "devices": 50, "values": 10, "period_s": 1.0}
MOST = {"lines": 4, "devices": 100, "values": 10, "period_s": 0.1}
RATE_OF_A_STATION = 10.0
ALWAYS_MORE = 1e12
FIRST_ARRIVAL_S = 120.0
LAST_ARRIVAL_S = 90.0
SETTLE_S = 10.0


@dataclass
class Life:
    """What became of the readings of one gateway, over all its accidents; and what it took while all was well."""

    gateway: str
    made: int = 0
    lost_kill: int = 0
    lost_outage: int = 0
    lost_outage_and_kill: int = 0
    arrived_again: int = 0
    per_s: float = 0.0
    cpu_percent: float = 0.0
    cpu_percent_per_1000: float = 0.0
    rss_mib: float = 0.0
    pss_mib: float = 0.0


@dataclass
class Most:
    """What a gateway carries at most."""

    gateway: str
    per_s: float
    cpu_percent: float
    cpu_percent_per_1000: float
    rss_mib: float


class Rig:
    """Source, broker, arrival and one gateway."""

    def __init__(self, folder: Path, rival: type[Rival], load: dict[str, Any], rate: float, stack: ExitStack) -> None:
        ports = free_ports(load["lines"] + 1)
        self._source = stack.enter_context(source(ports[1:], rate)).process
        self.broker = Broker(folder, ports[0])
        stack.callback(self.broker.kill)
        self.broker.start()
        self.arrival = Arrival(ports[0])
        stack.callback(self.arrival.close)
        self.gateway = rival(
            folder / "gateway", ports[0], Load(ports[1:], load["devices"], load["values"], load["period_s"])
        )
        stack.callback(self.gateway.kill)
        self.gateway.start()
        if not self.arrival.wait_until(lambda: self.arrival.received > 0, FIRST_ARRIVAL_S):
            raise Unavailable(f"{rival.name}: nothing arrived within {FIRST_ARRIVAL_S:.0f} s")
        wait(SETTLE_S)

    def count(self, command: str = "count") -> dict[str, Any]:
        """Return what the source gave out so far; "stop" stops it."""
        assert self._source.stdin is not None
        assert self._source.stdout is not None
        self._source.stdin.write(command + "\n")
        self._source.stdin.flush()
        counted: dict[str, Any] = json.loads(self._source.stdout.readline())
        return counted

    def wait_for_the_rest(self, count: dict[str, Any]) -> None:
        """Wait until all has arrived that was given out until `count`, or nothing of it comes any more."""
        ends_at = time.monotonic() + LAST_ARRIVAL_S
        missing, since = -1, time.monotonic()
        while missing != 0 and time.monotonic() < ends_at and time.monotonic() - since < 3 * SETTLE_S:
            if (now := self.gateway.missing(count, self.arrival)) != missing:
                missing, since = now, time.monotonic()
            wait(1.0)


def live(rival: type[Rival], outage_s: float, steady_s: float) -> Life:
    """Lead a gateway through all its accidents; return what became of the readings."""
    life = Life(rival.name)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        rig = Rig(Path(folder), rival, STEADY, RATE_OF_A_STATION, stack)
        _measure(rig, steady_s, life)
        counts = []
        rig.gateway.kill()
        rig.gateway.start()
        _wait_for_news(rig)
        counts.append(rig.count())
        rig.broker.kill()
        wait(outage_s)
        rig.broker.start()
        _wait_for_news(rig)
        counts.append(rig.count())
        rig.broker.kill()
        wait(outage_s / 2)
        rig.gateway.kill()
        rig.gateway.start()
        wait(outage_s / 2)
        rig.broker.start()
        _wait_for_news(rig)
        counts.append(rig.count("stop"))
        rig.wait_for_the_rest(counts[-1])
        missing = [rig.gateway.missing(count, rig.arrival) for count in counts]
        life.made = rig.gateway.made(counts[-1])
        # What was under way at the kill was given out before it, so the first accident counts from the beginning.
        life.lost_kill, life.lost_outage, life.lost_outage_and_kill = (
            after - before for before, after in pairwise([0, *missing])
        )
        life.arrived_again = rig.arrival.received - rig.arrival.distinct
    return life


def carry(rival: type[Rival], seconds: float) -> Most:
    """Let a gateway carry as much as it can; return how much that was."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        rig = Rig(Path(folder), rival, MOST, ALWAYS_MORE, stack)
        life = Life(rival.name)
        _measure(rig, seconds, life)
    return Most(rival.name, life.per_s, life.cpu_percent, life.cpu_percent_per_1000, life.rss_mib)


def wait(seconds: float) -> None:
    """Let time pass."""
    threading.Event().wait(seconds)


def _measure(rig: Rig, seconds: float, life: Life) -> None:
    """Note CPU, memory and rate over a span; readings count once, however often they came."""
    cpu_s, arrived, began = rig.gateway.cpu_s(), rig.arrival.distinct, time.monotonic()
    wait(seconds)
    lasted_s = time.monotonic() - began
    life.per_s = (rig.arrival.distinct - arrived) / lasted_s
    life.cpu_percent = 100 * (rig.gateway.cpu_s() - cpu_s) / lasted_s
    life.cpu_percent_per_1000 = 1000 * life.cpu_percent / life.per_s if life.per_s else float("nan")
    life.rss_mib, life.pss_mib = rig.gateway.memory_mib()


def _wait_for_news(rig: Rig) -> None:
    """Wait until something arrives again, then let it settle."""
    arrived = rig.arrival.distinct
    rig.arrival.wait_until(lambda: rig.arrival.distinct > arrived, FIRST_ARRIVAL_S)
    wait(SETTLE_S)


@dataclass
class Started:
    """The source as a process."""

    process: subprocess.Popen[str]
    serial_ports: list[str]


@contextmanager
def source(ports: list[int], rate: float, serial_lines: int = 0, most: int = 200_000) -> Iterator[Started]:
    """Run the source of readings; its stations hold `most` records each at the end."""
    lines = ["--ports", ",".join(map(str, ports)), "--serial", str(serial_lines)]
    argv = [sys.executable, "-m", "benchmarks.gateways.source", *lines, "--rate", str(rate), "--most", str(most)]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Started(process, json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def show(lives: list[Life], mosts: list[Most]) -> None:
    """Print both tables."""
    heads = ("readings", "lost: kill -9", "broker away", "both", "arrived again", "CPU %", "per 1000/s", "RSS", "PSS")
    print(f"{'':20}" + "".join(f"{head:>15}" for head in heads))
    for life in lives:
        row: list[object] = [life.made, life.lost_kill, life.lost_outage, life.lost_outage_and_kill, life.arrived_again]
        figures = (life.cpu_percent, life.cpu_percent_per_1000, life.rss_mib, life.pss_mib)
        print(
            f"{life.gateway:20}" + "".join(f"{cell:>15}" for cell in [*row, *(f"{figure:.1f}" for figure in figures)])
        )
    if mosts:
        print(f"\n{'at most':20}{'readings/s':>15}{'CPU %':>15}{'per 1000/s':>15}{'RSS':>15}")
    for most in mosts:
        figures = (most.per_s, most.cpu_percent, most.cpu_percent_per_1000, most.rss_mib)
        print(f"{most.gateway:20}" + "".join(f"{figure:>15,.1f}" for figure in figures))
    print("\nCPU in per cent of one core, memory in MiB; readings that arrived, each counted once")


def main() -> int:
    """Run what was asked for; return the exit code: 1 when ours lost a reading."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", default=",".join(RIVALS), help="of: " + ", ".join(RIVALS))
    parser.add_argument("--outage", type=float, default=20.0, metavar="SECONDS", help="the broker is away")
    parser.add_argument("--seconds", type=float, default=30.0, help="to measure CPU and rate over")
    parser.add_argument("--only", choices=("loss", "most"), help="one of the two tables")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.rivals.split(",")
    if unknown := set(names) - set(RIVALS):
        parser.error(f"no such rivals: {', '.join(sorted(unknown))}")
    try:
        if set(names) - {"tram"}:
            provide_thingsboard()
        lives = [live(RIVALS[name], options.outage, options.seconds) for name in names if options.only != "most"]
        mosts = [carry(RIVALS[name], options.seconds) for name in names if options.only != "loss"]
    except Unavailable as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"loss": [asdict(life) for life in lives], "most": [asdict(most) for most in mosts]}))
    else:
        show(lives, mosts)
    ours = [life for life in lives if life.gateway == "tram-gateway"]
    return 1 if any(life.lost_kill or life.lost_outage or life.lost_outage_and_kill for life in ours) else 0


if __name__ == "__main__":
    sys.exit(main())
