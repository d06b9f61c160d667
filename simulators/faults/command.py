"""`tram-sim faults`: the kinds of faults there are, and plans made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from simulators.faults.catalogue import SCOPES, FaultRefused, Kind, kinds, like
from simulators.faults.plan import draw

_TARGETS = {
    "bus": ["xuan-hoa"],
    "instrument": ["xuan-hoa/1"],
    "board": ["xuan-hoa"],
    "link": ["link"],
    "gateway": ["gateway"],
    "broker": ["broker"],
    "cloud": ["cloud"],
    "people": ["phone"],
}


def command(
    scope: Annotated[str | None, typer.Argument(help=f"Only those of one part: {', '.join(SCOPES)}.")] = None,
    seed: Annotated[int | None, typer.Option(help="Print a random plan of this seed instead of the list.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long the plan is.")] = 600.0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds from one fault of the plan to the next.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """List every kind of fault that tests, timelines and chaos can inject, or print a plan of them.

    Examples: tram-sim faults bus, tram-sim faults --seed 7 --seconds 600
    """
    try:
        chosen = _of(scope)
        if seed is None:
            _print_kinds(chosen, as_json)
        else:
            plan = draw(seed, seconds, _TARGETS, every_s=every, wanted=list(chosen))
            typer.echo(json.dumps(plan.as_json()) if as_json else str(plan))
    except FaultRefused as error:
        typer.echo(f"tram-sim faults: {error}", err=True)
        raise typer.Exit(2) from None


def _of(scope: str | None) -> Mapping[str, Kind]:
    if scope is not None and scope not in SCOPES:
        raise FaultRefused(f"no part {scope!r}; {like(scope, dict.fromkeys(SCOPES))}")
    return {id_: one for id_, one in kinds().items() if scope in (None, one.scope)}


def _print_kinds(chosen: Mapping[str, Kind], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([{"id": id_, **one.model_dump()} for id_, one in chosen.items()], ensure_ascii=False))
        return
    table = Table("fault", "what it does", "parameters", "on hardware", title_justify="left")
    for id_, one in chosen.items():
        table.add_row(id_, one.what, _parameters(one), one.hardware or f"skipped: {one.no_hardware}")
    Console().print(table)


def _parameters(one: Kind) -> str:
    return "\n".join(f"{p.name} {p.lowest:g} … {p.highest:g} {p.unit} ({p.usual:g})" for p in one.parameters)
