"""The command line of `tram-cloud rollout`: firmware for one station, for some, for all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cloud_ingest.commanding.book import CommandBook, RolloutOrder
from cloud_ingest.commanding.ordering import OrderRefused, Ticket, make_rollout, parse_duration
from cloud_ingest.commanding.output import (
    FAILED,
    ByOption,
    ConfigOption,
    JsonOption,
    KeyOption,
    local,
    opened_office,
    out,
    print_json,
    print_orders,
    who,
)
from cloud_ingest.commanding.policy import RolloutState
from cloud_ingest.errors import CommandUnknown
from station_config.image import summary

app = typer.Typer(help="Bring a firmware to stations in waves; it halts itself on failures.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(help="the rollout's id, or how it begins", metavar="ID")]


@app.command()
def start(
    config: ConfigOption,
    image: Annotated[Path, typer.Option(help="an image of tram-station image", metavar="FILE")],
    stations: Annotated[str, typer.Option(help="which, in this order: a,b,c")] = "",
    everywhere: Annotated[bool, typer.Option("--all", help="all stations of the network")] = False,
    first: Annotated[int, typer.Option(min=1, help="how many stations go first")] = 1,
    then: Annotated[int, typer.Option(min=1, help="how many in each wave after that")] = 5,
    failures_allowed: Annotated[int, typer.Option(min=0, help="halts when more stations than this have failed")] = 0,
    expires: Annotated[str, typer.Option(help="no station is begun after this: 2h, 7d")] = "7d",
    by: ByOption = None,
    key_file: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign one command for each station; the running service sends them wave by wave.

    Example: tram-cloud rollout start --config cloud.toml --image firmware-0.2.0.trf --all --first 1 --then 5
    """
    with opened_office(config) as (office, book):
        network = office.network()
        named = [name.strip() for name in stations.split(",") if name.strip()]
        if bool(named) == everywhere:
            raise OrderRefused("say --stations a,b,… or --all")
        version = _version(image)
        ticket = Ticket(who(by), office.clock.now(), parse_duration(expires))
        chosen = [station.id for station in network.stations] if everywhere else named
        envelopes = make_rollout(image, chosen, network, ticket, office.key(key_file))
        rollout = book.start_rollout(envelopes, version, (first, then), failures_allowed, who(by))
        _print(book, rollout, as_json)


@app.command("list")
def list_rollouts(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show all rollouts, the newest first.

    Example: tram-cloud rollout list --config cloud.toml
    """
    with opened_office(config) as (_, book):
        found = book.rollouts()
    if as_json:
        print_json([rollout._asdict() for rollout in found])
        return
    table = Table("id", "firmware", "started", "by", "state", "why", title="Rollouts")
    for one in found:
        table.add_row(one.id[:8], one.version, local(one.started_at), one.by, one.state, one.reason)
    out.print(table if found else "no rollouts yet")


@app.command()
def show(rollout_id: IdArgument, config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show a rollout and each of its stations.

    Example: tram-cloud rollout show 3f2a --config cloud.toml
    """
    with opened_office(config) as (_, book):
        _print(book, _find(book, rollout_id), as_json)


@app.command()
def halt(rollout_id: IdArgument, config: ConfigOption, by: ByOption = None, as_json: JsonOption = False) -> None:
    """Begin no further station. What is under way at a station goes on to its end.

    Example: tram-cloud rollout halt 3f2a --config cloud.toml
    """
    _change(rollout_id, config, by, as_json, RolloutState.HALTED)


@app.command()
def resume(rollout_id: IdArgument, config: ConfigOption, by: ByOption = None, as_json: JsonOption = False) -> None:
    """Go on with a halted rollout; the failures so far are forgiven, their stations stay as they are.

    Example: tram-cloud rollout resume 3f2a --config cloud.toml
    """
    _change(rollout_id, config, by, as_json, RolloutState.RUNNING)


def _change(rollout_id: str, config: Path, by: str | None, as_json: bool, state: RolloutState) -> None:
    with opened_office(config) as (_, book):
        found = _find(book, rollout_id)
        if found.state is RolloutState.DONE:
            typer.echo(f"rollout {found.id[:8]} is done", err=True)
            raise typer.Exit(FAILED)
        book.change_rollout(found.id, state, f"{state} by {who(by)}", who(by))
        _print(book, book.find_rollout(found.id), as_json)


def _version(image: Path) -> str:
    try:
        return ".".join(map(str, summary(image.read_bytes()).version))
    except OSError as error:
        raise OrderRefused(f"{image}: cannot be read: {error.strerror}") from None


def _find(book: CommandBook, beginning: str) -> RolloutOrder:
    found = [one for one in book.rollouts() if one.id.startswith(beginning)]
    if len(found) != 1:
        raise CommandUnknown(f"{len(found)} rollouts begin with {beginning}; tram-cloud rollout list shows them")
    return found[0]


def _print(book: CommandBook, rollout: RolloutOrder, as_json: bool) -> None:
    orders = book.newest(100_000, rollout.id)
    if as_json:
        stations = [
            {"station": one.station, "state": one.state, "command": one.id, "result": one.result} for one in orders
        ]
        print_json({**rollout._asdict(), "stations": stations})
        return
    title = f"Rollout {rollout.id[:8]}, firmware {rollout.version}: {rollout.state} ({rollout.reason})"
    print_orders(orders, title)
