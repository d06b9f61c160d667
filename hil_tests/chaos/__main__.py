"""`make chaos MINUTES=10 SEED=1`: everything at once, everything broken, every record accounted for."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hil_tests.chaos.evidence import Evidence
from hil_tests.chaos.judge import Verdict, judge
from hil_tests.chaos.layout import FULL, TINY, Layout, Ports, Shape, begin_of
from hil_tests.chaos.run import plan_for, play
from hil_tests.chaos.table import show
from hil_tests.chaos.world import World
from simulators.answer_log import read_answers
from simulators.errors import SimulatorError
from simulators.site import free_ports

EVIDENCE, VERDICT, PLAN = "evidence.json.gz", "verdict.json", "plan.txt"
SPAN_AFTER_S = 600.0  # real: how long the river is looked at behind the end, while everything arrives


def command(
    minutes: Annotated[float, typer.Option(min=0.5, max=24 * 60, help="How long, real time.")] = 10.0,
    seed: Annotated[int, typer.Option(help="What is broken when; the same seed gives the same plan.")] = 0,
    speed: Annotated[float, typer.Option(min=1, max=200, help="How many times as fast as the river.")] = 60.0,
    every_s: Annotated[float, typer.Option("--every", min=0.2, help="Seconds from one fault to the next.")] = 4.0,
    tiny: Annotated[bool, typer.Option(help="Three stations, one gateway.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where everything goes; else a new folder.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the folder also when all is well.")] = False,
    again: Annotated[Path | None, typer.Option("--judge", help="Judge the folder of an earlier run again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Break everything by a seeded plan, let it heal, and account for every record, value and alert.

    20 stations (14 boards with real MicroPython, 6 without a board), 3 gateways, mosquitto, cloud, phones; takes
    MINUTES and about two more. Exit code 1 when anything is not explained; the folder is then kept. Seed 0 takes
    a new one.
    Example: python -m hil_tests.chaos --minutes 10 --seed 7
    """
    console = Console(stderr=as_json)
    try:
        verdict = (
            judged_again(again)
            if again
            else run(minutes, seed, speed, every_s, TINY if tiny else FULL, folder, keep, console)
        )
    except SimulatorError as error:
        console.print(f"chaos cannot go on: {error}", highlight=False)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(verdict.as_json()))
    show(verdict, console)
    raise typer.Exit(1 if verdict.faults else 0)


def run(
    minutes: float,
    seed: int,
    speed: float,
    every_s: float,
    shape: Shape,
    folder: Path | None,
    keep: bool,
    console: Console,
) -> Verdict:
    """Run and judge. Raises SimulatorError when the bench itself fails."""
    seed = seed or time.time_ns() % 1_000_000
    where = folder or Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    where.mkdir(parents=True, exist_ok=True)
    layout = lay_out(where, shape, seed, speed, 60.0 * minutes)
    console.print(f"seed {seed}, folder {where}", highlight=False)
    began = time.monotonic()

    def report(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s[/dim] {text}", highlight=False)

    with World(layout, report) as world:
        world.start()
        plan = plan_for(world.parts(), seed, 60.0 * minutes, every_s)
        (where / PLAN).write_text(f"{plan}\n", encoding="utf-8")
        quiet = 60 * minutes - plan.span_s
        report(f"all is up; {len(plan.injections)} faults in {plan.span_s:.0f} s, then {quiet:.0f} s of quiet")
        evidence = play(world, plan, 60.0 * minutes, report)
    evidence.about = about(layout, minutes, every_s)
    evidence.save(where / EVIDENCE)
    report("judging")
    verdict = judge(layout, evidence, read_answers(layout.answers))
    (where / VERDICT).write_text(json.dumps(verdict.as_json()), encoding="utf-8")
    if verdict.faults or keep or folder:
        tiny = " --tiny" if shape == TINY else ""
        words = f"--minutes {minutes:g} --seed {seed} --speed {speed:g} --every {every_s:g}{tiny}"
        console.print(f"all logs: {where}\nagain: python -m hil_tests.chaos {words}", highlight=False)
    else:
        shutil.rmtree(where)
    return verdict


def lay_out(folder: Path, shape: Shape, seed: int, speed: float, seconds: float) -> Layout:
    """Return a run on paper, on ports that are free now."""
    broker, phone, cloud, *links = free_ports(3 + shape.gateways)
    ports = Ports(broker, phone, cloud, {f"gw-{at}": port for at, port in enumerate(links, 1)})
    return Layout(folder, shape, seed, speed, begin_of(seed), seconds * speed, ports)


def about(layout: Layout, minutes: float, every_s: float) -> dict[str, object]:
    """Return what a run was, to be judged again by."""
    return {
        "seed": layout.seed,
        "minutes": minutes,
        "speed": layout.speed,
        "every_s": every_s,
        "shape": asdict(layout.shape),
    }


def judged_again(folder: Path) -> Verdict:
    """Judge an earlier run's folder."""
    evidence = Evidence.load(folder / EVIDENCE)
    told = evidence.about
    layout = lay_out(folder, Shape(**told["shape"]), told["seed"], told["speed"], 60.0 * told["minutes"])
    return judge(layout, evidence, read_answers(layout.answers))


if __name__ == "__main__":
    typer.run(command)
