"""Cut the power at every flash operation of a board and every disk write of a gateway: `make cuts`.

The tables:

  journal   append, rotation, acknowledging, overwriting, format, configuration change; each operation cut with nothing,
            half and all of it done, and with a second cut in the start after it
  update    firmware and configuration over the uplink, from the first chunk to the confirmation or the way back
  gateway   every call by which the gateway changes its state directory; unsynced writes kept, dropped, torn, reordered
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as PrintedTable

from hil_tests.cuts.gateway import GatewayCuts
from hil_tests.cuts.journal import JournalCuts
from hil_tests.cuts.table import SHOWN_FAULTS, Table, Tally, sample, try_all
from hil_tests.cuts.update import UpdateCuts
from simulators.disk import shim
from simulators.virtual_board.build import build
from simulators.virtual_board.errors import VirtualBoardMissing

TABLES: dict[str, type[Table]] = {"journal": JournalCuts, "update": UpdateCuts, "gateway": GatewayCuts}
ON_BOARDS = {"journal", "update"}
SAMPLED_PER_ROW = 12

stderr = Console(stderr=True)


def run(table: Table, folder: Path, boards: int, per_row: int | None, seed: int, progress: Progress) -> Tally:
    """Try all cuts of a table, or about `per_row` of each of its rows."""
    every = table.cuts(folder)
    cuts = every if per_row is None else sample(every, per_row, seed)
    task = progress.add_task(f"cuts {table.name}", total=len(cuts))
    return try_all(table, cuts, folder, boards, lambda: progress.advance(task))


def command(
    tables: Annotated[
        list[str] | None, typer.Argument(help=f"Which: {', '.join(TABLES)}. All when none is named.")
    ] = None,
    sampled: Annotated[bool, typer.Option("--sampled", help="A few cuts of each row instead of all.")] = False,
    per_row: Annotated[int, typer.Option(min=3, help="How many a few are.")] = SAMPLED_PER_ROW,
    seed: Annotated[int, typer.Option(help="Chooses which.")] = 1,
    boards: Annotated[int, typer.Option(min=1, help="How many boards at once.")] = os.cpu_count() or 2,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Cut the power of boards and gateways at every write; exit 1 when anything was lost.

    Example: python -m hil_tests.cuts journal --sampled
    """
    unknown = [name for name in tables or [] if name not in TABLES]
    if unknown:
        stderr.print(f"cuts: no table {', '.join(unknown)}; there are {', '.join(TABLES)}", markup=False)
        raise typer.Exit(2)
    try:
        if ON_BOARDS & set(tables or TABLES):
            build()
        if GatewayCuts.name in (tables or TABLES):
            shim.build()
    except (VirtualBoardMissing, shim.ShimMissing) as error:
        stderr.print(f"cuts: {error}", markup=False)
        raise typer.Exit(2) from None
    _silence()
    began, tallies = time.monotonic(), []
    with Progress(console=stderr, disable=not stderr.is_terminal) as progress:
        for name in tables or TABLES:
            with tempfile.TemporaryDirectory(prefix="tram-cuts-") as folder:
                tallies.append(run(TABLES[name](), Path(folder), boards, per_row if sampled else None, seed, progress))
    if as_json:
        sys.stdout.write(json.dumps([tally.as_json() for tally in tallies]) + "\n")
    else:
        for tally in tallies:
            show(tally, Console(width=None if sys.stdout.isatty() else 110))
        stderr.print(f"{time.monotonic() - began:.0f} s, {boards} boards at once, seed {seed}", markup=False)
    raise typer.Exit(0 if all(tally.is_clean for tally in tallies) else 1)


def _silence() -> None:
    """What gateways and Modbus say of thousands of cuts would drown the table."""

    def drop(_logger: object, _method: str, _event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


def show(tally: Tally, console: Console) -> None:
    """Print a table, its faults, and the one line that says it all."""
    printed = PrintedTable("", "cuts tried", *tally.counts)
    for row, tried in tally.tried.items():
        printed.add_row(row, str(tried), *(str(tally.found[row][name]) for name in tally.counts))
    console.print(printed)
    for fault in tally.faults[:SHOWN_FAULTS]:
        console.print(fault, markup=False)
    if len(tally.faults) > SHOWN_FAULTS:
        console.print(f"and {len(tally.faults) - SHOWN_FAULTS} faults more")
    console.print(tally.line(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(command)
