"""`tram-sim bench`: scenarios on a virtual or a real board, with a report. It is pytest, with short options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

SCENARIOS = Path("hil_tests/test_chain.py")
EVERY_FAULT = Path(__file__).with_name("every_fault.py")
_FAILED, _NOT_RUN = 1, 2


def command(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Test files or folders; this repository's chain without any.")
    ] = None,
    board: Annotated[str | None, typer.Option(help="Console of a real board; without, it is virtual.")] = None,
    bus: Annotated[str | None, typer.Option(help="RS-485 adapter at which the bench plays the instruments.")] = None,
    uplink: Annotated[str | None, typer.Option(help="RS-485 adapter at which the gateway asks the board.")] = None,
    relay: Annotated[str | None, typer.Option(help="The board's plug: PORT, lcus:PORT#1, modbus:PORT#0.")] = None,
    speed: Annotated[float | None, typer.Option(help="Bench time against real time: 60, with a real board 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same river and noise.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for report.html and junit.xml.")] = None,
    select: Annotated[str | None, typer.Option("-k", help="Only scenarios with these words in their names.")] = None,
    every_fault: Annotated[bool, typer.Option("--every-fault", help="Every kind of fault in turn; a table.")] = False,
) -> None:
    """Run scenarios: flash, self-test, scenarios, report. Exit 0: all passed, 1: not, 2: nothing could be run.

    Examples:

        tram-sim bench --report bench-report

        tram-sim bench --every-fault --seed 1                 # -k "gateway or cloud" for some of them

        tram-sim bench my_probe/ --board /dev/ttyUSB0 --bus /dev/ttyUSB1 --uplink /dev/ttyUSB2 --relay /dev/ttyUSB3
    """
    if every_fault and paths:
        typer.echo("tram-sim bench: --every-fault has its own scenarios; name no files with it", err=True)
        raise typer.Exit(_NOT_RUN)
    chosen = [EVERY_FAULT] if every_fault else paths or [SCENARIOS]
    if absent := [str(path) for path in chosen if not path.exists()]:
        typer.echo(f"tram-sim bench: not there: {', '.join(absent)}; name a test file or folder", err=True)
        raise typer.Exit(_NOT_RUN)
    options = {
        "board": board, "bus": bus, "uplink": uplink, "relay": relay, "speed": speed, "seed": seed, "report": report,
    }  # fmt: skip
    given = [f"--tram-{name}={value}" for name, value in options.items() if value is not None]
    table = ["-p", "simulators.fault_table"] if every_fault else []
    words = ["-v", "-s", *table, *(["-k", select] if select else []), *given, *map(str, chosen)]
    code = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words], check=False).returncode
    raise typer.Exit({0: 0, 1: _FAILED}.get(code, _NOT_RUN))


if __name__ == "__main__":
    typer.run(command)
