"""What `tram-cloud command` and `tram-cloud rollout` share: opening the book, printing, errors as exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from cloud_ingest.commanding.book import CommandBook, Order
from cloud_ingest.commanding.database import open_book
from cloud_ingest.commanding.ordering import OrderRefused, os_user
from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.errors import CloudError
from station_config.clock import Clock, clock_from_environment
from station_config.command_keys import load_private
from station_config.errors import ConfigurationError, StationConfigError
from station_config.network import Network, load_network

FAILED, WRONG_USE = 1, 2
LOCAL_TIME = ZoneInfo("Asia/Ho_Chi_Minh")
ID_CHARACTERS_SHOWN = 8

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]
ByOption = Annotated[str | None, typer.Option("--by", help="who wants it, for the audit [the user logged in]")]
KeyOption = Annotated[
    Path | None, typer.Option("--key-file", help="the key that signs [[commands] key_file]", metavar="FILE")
]

out = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Office:
    """What an order needs."""

    configuration: CloudConfiguration
    clock: Clock

    def network(self) -> Network:
        """Return the network. Raises ConfigurationError."""
        return load_network(self.configuration.network)

    def key(self, file: Path | None) -> Ed25519PrivateKey:
        """Return the key that signs. Raises OrderRefused, KeyRefused."""
        found = file or self.configuration.commands.key_file
        if found is None:
            raise OrderRefused("no key to sign with: [commands] key_file in cloud.toml, or --key-file")
        return load_private(found)


@contextmanager
def explained() -> Iterator[None]:
    """Print what an operator can mend, and leave with the exit code that scripts look at."""
    try:
        yield
    except (ConfigurationError, OrderRefused, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_USE) from None
    except (CloudError, StationConfigError, SQLAlchemyError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None


@contextmanager
def opened_office(config: Path) -> Iterator[tuple[Office, CommandBook]]:
    """Yield configuration, clock and book; errors end the program in words."""
    with explained():
        office = Office(load_configuration(config), clock_from_environment(os.environ))
        with open_book(office.configuration, office.clock) as book:
            yield office, book


def who(by: str | None) -> str:
    """Return who is acting."""
    return by or os_user()


def local(unix_s: float | None) -> str:
    """Return a time for people."""
    return "–" if unix_s is None else datetime.fromtimestamp(unix_s, LOCAL_TIME).strftime("%Y-%m-%d %H:%M:%S")


def print_json(data: Any) -> None:
    """Print one JSON document on a line."""
    typer.echo(json.dumps(data, ensure_ascii=False))


def print_orders(orders: list[Order], title: str) -> None:
    """Print commands as a table."""
    table = Table("id", "kind", "for", "by", "ordered", "state", "what came of it", title=title)
    for order in orders:
        table.add_row(
            order.id[:ID_CHARACTERS_SHOWN],
            order.kind,
            order.station or order.gateway,
            order.by,
            local(order.issued_at),
            order.state,
            told(order),
        )
    out.print(table if orders else "no commands yet")


def told(order: Order) -> str:
    """Return what came of a command, in one line."""
    if order.result is None:
        return ""
    reason = str(order.result.get("reason") or "")
    details = order.result.get("details") or {}
    if order.kind == "firmware" and "after" in details:
        return f"{details['before']['version']} → {details['after']['version']} {reason}".rstrip()
    return reason
