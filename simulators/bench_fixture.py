"""What the pytest fixtures do: read the options, bring a bench up and test its board, run timelines on it."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from simulators import demo
from simulators.bench import Bench
from simulators.bench_options import BenchOptions, Hardware
from simulators.disk import shim
from simulators.own_bench import STATION, OwnInstrument, known, shown, write_network
from simulators.relays import parse_relay
from simulators.self_test import Checked, self_test
from simulators.timeline import Timeline, Verdict, drive, judge
from simulators.timeline.bench_rig import BenchRig
from simulators.timeline.script import hardware_reasons
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing

VIRTUAL_SPEED, SPAN_S = 60.0, 7200.0
FACTS, TIMELINE = "tram_bench", "tram_timeline"


@dataclass(frozen=True)
class Wanted:
    """The options, parsed."""

    hardware: Hardware | None
    speed: float
    seed: int


def wanted(config: pytest.Config) -> Wanted:
    """Return the parsed options. Raises pytest.UsageError that names every fault."""
    given = {name: config.getoption(f"tram_{name}") for name in ("board", "bus", "uplink", "relay", "speed", "seed")}
    faults, ports = [], {name: given[name] for name in ("board", "bus", "uplink") if given[name]}
    missing = [name for name in ("board", "bus", "uplink") if name not in ports]
    if (ports or given["relay"]) and missing:
        faults.append(f"a real board needs all three ports; missing: {', '.join('--' + name for name in missing)}")
    faults += [f"--{name} {port}: there is no such port" for name, port in ports.items() if not Path(port).exists()]
    relay = speed = seed = None
    try:
        relay = parse_relay(given["relay"]) if given["relay"] else None
    except ValueError as error:
        faults.append(str(error))
    try:
        speed = float(given["speed"] or (1.0 if ports else VIRTUAL_SPEED))
        seed = int(given["seed"] or 1)
    except ValueError:
        faults.append("--speed and --seed are numbers")
    if speed is not None and not (math.isfinite(speed) and 1.0 <= speed <= 120.0):
        faults.append(f"--speed {speed:g}: 1 to 120")
    if faults or speed is None or seed is None:
        raise pytest.UsageError("\n".join(faults))
    hardware = Hardware(Path(ports["board"]), Path(ports["bus"]), Path(ports["uplink"]), relay) if ports else None
    return Wanted(hardware, speed, seed)


@contextmanager
def started(
    config: pytest.Config,
    factory: pytest.TempPathFactory,
    instruments: Sequence[OwnInstrument] = (),
    adapt: Callable[[BenchOptions], BenchOptions] = lambda options: options,
) -> Iterator[Bench]:
    """Bring a bench up, with a tested board; `adapt` may change what it is like.

    Skips where there can be no virtual board, unless CI=true.
    """
    options = wanted(config)
    if options.hardware is None:
        _need_virtual_board()
    folder = factory.mktemp("bench")
    wanted_bench = adapt(_bench_options(options, folder, instruments))
    with known(instruments, folder / "instruments"), Bench(wanted_bench, _say) as bench:
        began = time.monotonic()
        bench.start()
        checked = self_test(bench)
        bench.facts = _facts(bench, checked, time.monotonic() - began)
        yield bench


def _bench_options(options: Wanted, folder: Path, instruments: Sequence[OwnInstrument]) -> BenchOptions:
    plan = demo.plan_run(None, options.seed, SPAN_S)
    disks = _disks_can_fail()
    run, speed, seed = folder / "run", options.speed, options.seed
    if not instruments:
        return BenchOptions(
            run, plan, speed, seed, stations=(plan.station,), hardware=options.hardware, failing_disks=disks
        )
    network = folder / "network.toml"
    write_network(network, instruments)
    return BenchOptions(
        *(run, plan, speed, seed),
        stations=(STATION,),
        network=network,
        shown=shown(instruments),
        hardware=options.hardware,
        failing_disks=disks,
    )


def _need_virtual_board() -> None:
    try:
        build()
    except VirtualBoardMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no virtual board here: {error}")


def _disks_can_fail() -> bool:
    try:
        shim.build()
    except shim.ShimMissing:
        return False
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


def _facts(bench: Bench, checked: Sequence[Checked], seconds: float) -> dict[str, Any]:
    hardware = bench.options.hardware
    return {
        "board": "virtual" if hardware is None else str(hardware.board),
        "bus": "virtual" if hardware is None else str(hardware.bus),
        "relay": "virtual" if hardware is None else ("none" if hardware.relay is None else "yes"),
        "speed": bench.options.speed,
        "broker": bench.broker.kind,
        "flashed": bench.boards.flashed,
        "start_s": round(seconds, 1),
        "self_test": [asdict(one) for one in checked],
    }


def timeline_of(bench: Bench, node: pytest.Item) -> Timeline:
    """Return a timeline that runs on this bench, prints what it will do and what happened, and is in the report."""
    return Timeline(lambda written: _run(bench, node, written))


def _run(bench: Bench, node: pytest.Item, written: Timeline) -> Verdict:
    rig = BenchRig(bench)
    script = written.script(rig.place)
    if reasons := hardware_reasons(script, rig.parts):
        pytest.skip("; ".join(reasons))
    _print(f"{script}\n")
    verdict = judge(script.expectations, drive(script, rig, _print))
    _print(str(verdict))
    node.user_properties.append(
        (TIMELINE, json.dumps({"script": str(script), "end_s": script.end_s} | verdict.as_json()))
    )
    return verdict


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
