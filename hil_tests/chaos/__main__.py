"""`make chaos MINUTES=10 SEED=1`: everything at once, everything broken, every record accounted for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hil_tests.chaos.evidence import Evidence
from hil_tests.chaos.judge import Verdict, judge
from hil_tests.chaos.layout import FULL, TINY, Layout, Ports, Shape, Store, begin_of
from hil_tests.chaos.run import plan_for, play
from hil_tests.chaos.table import as_markdown, show
from hil_tests.chaos.world import World
from simulators.answer_log import read_answers
from simulators.errors import SimulatorError
from station_config.free_ports import free_ports

EVIDENCE, VERDICT, PLAN = "evidence.json.gz", "verdict.json", "plan.txt"


def command(
    minutes: Annotated[float, typer.Option(min=0.5, max=24 * 60, help="How long, real time.")] = 10.0,
    seed: Annotated[int, typer.Option(help="What is broken when; the same seed gives the same plan.")] = 0,
    speed: Annotated[float, typer.Option(min=1, max=200, help="How many times as fast as the river.")] = 60.0,
    every_s: Annotated[float, typer.Option("--every", min=0.2, help="Seconds from one fault to the next.")] = 4.0,
    tiny: Annotated[bool, typer.Option(help="Three stations, one gateway.")] = False,
    store: Annotated[Store, typer.Option(help="SQLite; or workers, PostgreSQL, InfluxDB.")] = "cluster",
    folder: Annotated[Path | None, typer.Option(help="Where everything goes; else a new folder.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the folder also when all is well.")] = False,
    again: Annotated[Path | None, typer.Option("--judge", help="Judge the folder of an earlier run again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    markdown: Annotated[bool, typer.Option(help="Print the table as docs/reliability.md has it.")] = False,
) -> None:
    """Break everything by a seeded plan, let it heal, and account for every record, value and alert.

    20 stations (14 boards with real MicroPython, 6 without a board), 3 gateways, mosquitto, cloud, phones; takes
    MINUTES and about two more. Exit code 1 when anything is not explained; the folder is then kept. Seed 0 takes
    a new one.
    Example: python -m hil_tests.chaos --minutes 10 --seed 7
    """
    console = Console(stderr=as_json or markdown)
    try:
        wanted = Wanted(minutes, seed, speed, every_s, TINY if tiny else FULL, store, folder, keep)
        verdict = judged_again(again) if again else run(wanted, console)
    except SimulatorError as error:
        console.print(f"chaos cannot go on: {error}", highlight=False)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(verdict.as_json()))
    if markdown:
        typer.echo(as_markdown(verdict))
    show(verdict, console)
    raise typer.Exit(1 if verdict.faults else 0)


@dataclass(frozen=True)
class Wanted:
    """A run as asked for; `folder` None: a new one, kept only with `keep` or when something is not explained."""

    minutes: float
    seed: int
    speed: float = 60.0
    every_s: float = 4.0
    shape: Shape = FULL
    store: Store = "sqlite"
    folder: Path | None = None
    keep: bool = False

    @property
    def words(self) -> str:
        """What to type for the same run."""
        tiny = " --tiny" if self.shape == TINY else ""
        numbers = f"--minutes {self.minutes:g} --seed {self.seed} --speed {self.speed:g} --every {self.every_s:g}"
        return f"python -m hil_tests.chaos {numbers} --store {self.store}{tiny}"


def run(wanted: Wanted, console: Console, gateway: Sequence[str] = ()) -> Verdict:
    """Run and judge; `gateway` is another program than ours. Raises SimulatorError when the bench itself fails."""
    wanted = replace(wanted, seed=wanted.seed or time.time_ns() % 1_000_000)
    where = wanted.folder or Path(tempfile.mkdtemp(prefix=f"chaos-{wanted.seed}-"))
    where.mkdir(parents=True, exist_ok=True)
    seconds = 60.0 * wanted.minutes
    layout = lay_out(where, wanted.shape, wanted.seed, wanted.speed, seconds, wanted.store)
    console.print(f"seed {wanted.seed}, folder {where}", highlight=False)
    began = time.monotonic()

    def report(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s[/dim] {text}", highlight=False)

    with World(layout, report, gateway) as world:
        world.start()
        plan = plan_for(world.parts(), wanted.seed, seconds, wanted.every_s)
        (where / PLAN).write_text(f"{plan}\n", encoding="utf-8")
        quiet = seconds - plan.span_s
        report(f"all is up; {len(plan.injections)} faults in {plan.span_s:.0f} s, then {quiet:.0f} s of quiet")
        evidence = play(world, plan, seconds, report)
    evidence.about = about(wanted)
    evidence.save(where / EVIDENCE)
    report("judging")
    verdict = judge(layout, evidence, read_answers(layout.answers))
    (where / VERDICT).write_text(json.dumps(verdict.as_json()), encoding="utf-8")
    if verdict.faults or wanted.keep or wanted.folder:
        console.print(f"all logs: {where}\nagain: {wanted.words}", highlight=False)
    else:
        shutil.rmtree(where)
    return verdict


def lay_out(folder: Path, shape: Shape, seed: int, speed: float, seconds: float, store: Store = "sqlite") -> Layout:
    """Return a run on paper, on ports that are free now."""
    broker, phone, cloud, postgres, rpc, influx, front, *links = free_ports(7 + shape.gateways)
    of_links = {f"gw-{at}": port for at, port in enumerate(links, 1)}
    ports = Ports(broker, phone, cloud, of_links, (postgres, rpc, influx, front))
    return Layout(folder, shape, seed, speed, begin_of(seed), seconds * speed, ports, store)


def about(wanted: Wanted) -> dict[str, object]:
    """Return what a run was, to be judged again by."""
    names = ("seed", "minutes", "speed", "every_s", "store")
    machine = {"commit": _commit(), "cores": os.cpu_count(), "load": round(os.getloadavg()[2], 1)}
    return {**{name: getattr(wanted, name) for name in names}, "shape": asdict(wanted.shape), **machine}


def _commit() -> str | None:
    """Return which commit this is, None outside of a repository."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def judged_again(folder: Path) -> Verdict:
    """Judge an earlier run's folder."""
    evidence = Evidence.load(folder / EVIDENCE)
    told = evidence.about
    layout = lay_out(folder, Shape(**told["shape"]), told["seed"], told["speed"], 60.0 * told["minutes"])
    return judge(layout, evidence, read_answers(layout.answers))


if __name__ == "__main__":
    typer.run(command)
