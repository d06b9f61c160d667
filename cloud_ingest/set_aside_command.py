"""`tram-cloud set-aside …`: what arrived and could not be used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from cloud_ingest.configuration import load_configuration
from cloud_ingest.errors import ChangeRefused, CloudError
from cloud_ingest.places import database_of
from cloud_ingest.set_aside import Aside, Shelf
from station_config.errors import StationConfigError

FAILED, WRONG_USE = 1, 2

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]

set_aside = typer.Typer(help="What arrived and could not be used: kept with its reason.")


@set_aside.command("list")
def list_all(
    config: ConfigOption,
    limit: Annotated[int, typer.Option(min=1, max=20_000, help="how many of the newest")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what is set aside, the newest first.

    Example: tram-cloud set-aside list --config cloud.toml
    """
    with _shelf(config) as shelf:
        found, forgotten = shelf.all(limit), shelf.forgotten()
    if as_json:
        typer.echo(json.dumps({"set_aside": [_plain(one) for one in found], "forgotten": forgotten}))
        return
    table = Table("id", "first came", "times", "topic", "bytes", "reason")
    for one in found:
        row = (str(one.id), _local(one.received_at), str(one.times), one.topic, str(len(one.data)), one.reason)
        table.add_row(*row, style="dim" if one.retry else "")
    Console().print(table if found else "nothing is set aside")
    if forgotten:
        typer.echo(f"{forgotten} older ones had to go: too many were set aside")


@set_aside.command("show")
def show(
    config: ConfigOption,
    number: Annotated[int, typer.Argument(help="its id", metavar="ID")],
    out: Annotated[Path | None, typer.Option(help="write the bytes here, for tram-cloud decode")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one with its bytes.

    Example: tram-cloud set-aside show --config cloud.toml 12 --out twelve.bin
    """
    with _shelf(config) as shelf:
        one = shelf.one(number)
    if out is not None:
        try:
            out.write_bytes(one.data)
        except OSError as error:
            _fail(f"{out}: cannot be written: {error.strerror}", FAILED)
    if as_json:
        typer.echo(json.dumps(_plain(one)))
        return
    typer.echo(f"{one.id}: {one.topic}, first {_local(one.received_at)}, {one.times} times\n{one.reason}")
    for at in range(0, min(len(one.data), 512), 16):
        line = one.data[at : at + 16]
        typer.echo(f"{at:06x}  {line.hex(' '):47}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in line)}")


@set_aside.command("retry")
def retry(
    config: ConfigOption,
    number: Annotated[int | None, typer.Argument(help="its id", metavar="ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="all of them")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have the service try again: what can be used now leaves the list, the rest stays with its reason.

    Example: tram-cloud set-aside retry --config cloud.toml --all
    """
    if (number is None) != everything:
        _fail("name one by its id, or say --all", WRONG_USE)
    with _shelf(config) as shelf:
        asked = shelf.ask_for_retry(number)
    typer.echo(json.dumps({"asked": asked}) if as_json else f"{asked} will be tried again by tram-cloud run")


@contextmanager
def _shelf(config: Path) -> Iterator[Shelf]:
    try:
        configuration = load_configuration(config)
        database = database_of(configuration)
        if not database.exists():
            _fail(f"{configuration.state_dir}: no store here yet; tram-cloud run makes it", WRONG_USE)
        with Shelf(database) as shelf:
            yield shelf
    except (StationConfigError, ChangeRefused) as error:
        _fail(str(error), WRONG_USE)
    except CloudError as error:
        _fail(str(error), FAILED)


def _plain(one: Aside) -> dict[str, Any]:
    return {**asdict(one), "data": one.data.hex()}


def _local(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).astimezone().isoformat(" ", "seconds")


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
