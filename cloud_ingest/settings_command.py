"""`tram-cloud settings …`: the network and the rules that the cloud worked by, and since when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from cloud_ingest import settings_book
from cloud_ingest.configuration import load_configuration
from cloud_ingest.database import Database
from cloud_ingest.errors import ChangeRefused, CloudError
from cloud_ingest.places import database_of
from cloud_ingest.settings_book import Kind
from station_config.errors import StationConfigError
from station_config.network import load_network

FAILED, WRONG_USE = 1, 2

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]

settings = typer.Typer(help="The network and the rules that the cloud worked by, and since when.")


@settings.command("list")
def list_all(
    config: ConfigOption,
    kind: Annotated[Kind | None, typer.Option(help="network or rules [both]")] = None,
    as_json: JsonOption = False,
) -> None:
    """List every version with the time it came into force.

    Example: tram-cloud settings list --config cloud.toml --kind rules
    """
    with _opened(config) as (database, zone):
        found = settings_book.history(database, kind)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], ensure_ascii=False))
        return
    table = Table("id", "kind", "version", "in force from", "bytes")
    for one in found:
        since = datetime.fromtimestamp(one.in_force_from, UTC).astimezone(zone).isoformat(" ", "seconds")
        table.add_row(str(one.id), one.kind, one.version, since, f"{len(one.content.encode()):,}")
    Console().print(table if found else "nothing yet: tram-cloud run keeps the first at its start")


@settings.command("show")
def show(config: ConfigOption, number: Annotated[int, typer.Argument(help="its id", metavar="ID")]) -> None:
    """Print one version as it was kept: the network's file, or the rules with their levels.

    Example: tram-cloud settings show --config cloud.toml 3 > network-of-march.toml
    """
    with _opened(config) as (database, _):
        content = settings_book.one(database, number).content
    typer.echo(content, nl=not content.endswith("\n"))


@contextmanager
def _opened(config: Path) -> Iterator[tuple[Database, ZoneInfo]]:
    try:
        configuration = load_configuration(config)
        database = database_of(configuration)
        if not database.exists():
            _fail(f"{configuration.state_dir}: no store here yet; tram-cloud run makes it", WRONG_USE)
        yield database, ZoneInfo(load_network(configuration.network).timezone)
    except (StationConfigError, ChangeRefused) as error:
        _fail(str(error), WRONG_USE)
    except (CloudError, OSError) as error:
        _fail(str(error), FAILED)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
