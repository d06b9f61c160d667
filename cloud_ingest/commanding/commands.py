"""The command line of `tram-cloud command`."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError

from cloud_ingest.commanding.book import CommandBook, Order
from cloud_ingest.commanding.ordering import OrderRefused, Ticket, Wish, make_command, parse_duration
from cloud_ingest.commanding.output import (
    FAILED,
    ByOption,
    ConfigOption,
    JsonOption,
    KeyOption,
    Office,
    explained,
    local,
    opened_office,
    out,
    print_json,
    print_orders,
    told,
    who,
)
from cloud_ingest.commanding.policy import State
from cloud_ingest.errors import CommandUnknown
from station_config.clock import Clock
from station_config.command import KINDS, Envelope, sign
from station_config.command_keys import generate

LOOK_EVERY_S = 0.2
NOBODY_EXPIRES_IT_S = 60.0

app = typer.Typer(help="Have gateways and stations do something, and see what came of it.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(help="the command's id, or how it begins", metavar="ID")]


@app.command()
def keygen(path: Annotated[Path, typer.Option("--out", help="name of the key; .pem and .pub.pem are added")]) -> None:
    """Make the key pair commands are signed with. The public half goes onto the gateways.

    Example: tram-cloud command keygen --out /etc/tram-cloud/office-2026
    """
    private, public = (path.with_name(path.name + end) for end in (".pem", ".pub.pem"))
    with explained():
        made = generate(private, public)
    out.print(f"key {made}")
    out.print(f"{private} signs commands: keep it secret; name it in cloud.toml, [commands] key_file")
    out.print(f"{public} goes into keys_dir of every gateway that shall obey it; they read it when they start")


@app.command()
def send(
    kind: Annotated[str, typer.Argument(help=", ".join(KINDS), metavar="KIND")],
    config: ConfigOption,
    gateway: Annotated[str | None, typer.Option(help="for which gateway [the station's]")] = None,
    station: Annotated[str | None, typer.Option(help="for which station; logs and reboot take the gateway")] = None,
    line: Annotated[str | None, typer.Option(help="bus-scan: which line")] = None,
    first: Annotated[int, typer.Option(help="bus-scan: first address")] = 1,
    last: Annotated[int, typer.Option(help="bus-scan: last address")] = 247,
    sensor: Annotated[int | None, typer.Option(help="calibration-mode: the sensor's number")] = None,
    on: Annotated[bool | None, typer.Option("--on/--off", help="calibration-mode: begins or ends")] = None,
    file: Annotated[
        Path | None, typer.Option(help="configuration: a station.json [made from the network]", metavar="FILE")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="firmware: an image of tram-station image", metavar="FILE")] = None,
    expires: Annotated[str, typer.Option(help="not carried out after this: 90s, 15m, 2h, 7d")] = "1h",
    by: ByOption = None,
    key_file: KeyOption = None,
    only_sign: Annotated[
        Path | None, typer.Option("--only-sign", help="write the signed command here, send nothing", metavar="FILE")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="until there is a result; exit 1 unless it is done")] = False,
    as_json: JsonOption = False,
) -> None:
    """Order something. The running service publishes it, again and again until a result is there or it has expired.

    Example: tram-cloud command send read-now --config cloud.toml --station xuan-hoa --wait
    """
    wish = Wish(kind, gateway, station, line, first, last, sensor, on, file, image)
    with opened_office(config) as (office, book):
        envelope = _signed(office, wish, who(by), expires, key_file)
        if only_sign is not None:
            only_sign.write_bytes(envelope.encode() + b"\n")
            out.print(f"{only_sign}: send it with tram-cloud command submit, where the service's database is")
            return
        _follow(book, book.order(envelope, who(by)), office.clock if wait else None, as_json)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="a command of `send --only-sign`", metavar="FILE")],
    config: ConfigOption,
    by: ByOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="until there is a result; exit 1 unless it is done")] = False,
    as_json: JsonOption = False,
) -> None:
    """Order what was signed on another machine, where the key is. The gateway checks the signature.

    Example: tram-cloud command submit read-now.json --config cloud.toml
    """
    with opened_office(config) as (office, book):
        try:
            envelope = Envelope.model_validate_json(file.read_bytes())
            _follow(book, book.order(envelope, who(by)), office.clock if wait else None, as_json)
        except OSError as error:
            raise OrderRefused(f"{file}: {error.strerror}") from None
        except ValidationError:
            raise OrderRefused(f"{file}: no signed command; tram-cloud command send --only-sign makes one") from None
        except IntegrityError:
            raise CommandUnknown(f"{file}: this command has been ordered already") from None


@app.command("list")
def list_commands(
    config: ConfigOption,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="how many, the newest first")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Show the newest commands and what came of them.

    Example: tram-cloud command list --config cloud.toml
    """
    with opened_office(config) as (_, book):
        orders = book.newest(limit)
    if as_json:
        print_json([order.as_json() for order in orders])
    else:
        print_orders(orders, "Commands")


@app.command()
def show(command_id: IdArgument, config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show one command with its whole result.

    Example: tram-cloud command show 3f2a --config cloud.toml
    """
    with opened_office(config) as (_, book):
        _print(_find(book, command_id), as_json)


@app.command()
def cancel(command_id: IdArgument, config: ConfigOption, by: ByOption = None, as_json: JsonOption = False) -> None:
    """Publish a command no more. A gateway that has it already may still carry it out, and then its result counts.

    Example: tram-cloud command cancel 3f2a --config cloud.toml
    """
    with opened_office(config) as (_, book):
        found = _find(book, command_id)
        state = book.cancel(found.id, who(by))
        _print(book.find(found.id), as_json)
    if state is not State.CANCELLED:
        raise typer.Exit(FAILED)


@app.command()
def history(
    config: ConfigOption,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="how many, the newest first")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show who did what, when, and what came of it. Nothing here is ever changed or removed.

    Example: tram-cloud command history --config cloud.toml
    """
    with opened_office(config) as (_, book):
        entries = book.history(limit)
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        detail = json.dumps(entry["detail"], ensure_ascii=False)
        out.print(f"{local(entry['at'])}  {entry['who']}: {entry['what']} {entry['subject']} {detail}", markup=False)


def _signed(office: Office, wish: Wish, by: str, expires: str, key_file: Path | None) -> Envelope:
    ticket = Ticket(by, office.clock.now(), parse_duration(expires))
    return sign(make_command(wish, office.network(), ticket), office.key(key_file))


def _find(book: CommandBook, beginning: str) -> Order:
    if len(beginning) == 32:
        return book.find(beginning)
    found = [order for order in book.newest(10_000) if order.id.startswith(beginning)]
    if len(found) != 1:
        raise CommandUnknown(f"{len(found)} commands begin with {beginning}; tram-cloud command list --json shows ids")
    return found[0]


def _follow(book: CommandBook, order: Order, clock: Clock | None, as_json: bool) -> None:
    """Print an order; with a clock after its end, with exit 1 when it did not end well."""
    pause, shown = threading.Event(), order.state
    while clock is not None and not order.state.is_over:
        pause.wait(LOOK_EVERY_S)
        order = book.find(order.id)
        if order.state is not shown and not as_json:
            typer.echo(f"{order.id[:8]}: {order.state}", err=True)
        shown = order.state
        if clock.now() > order.expires_at + NOBODY_EXPIRES_IT_S:
            typer.echo("it has expired and nobody has noted that; does tram-cloud run run?", err=True)
            break
    _print(order, as_json)
    if clock is not None and order.state is not State.DONE:
        raise typer.Exit(FAILED)


def _print(order: Order, as_json: bool) -> None:
    if as_json:
        print_json(order.as_json())
        return
    out.print(
        f"{order.id}  {order.kind} for {order.station or order.gateway}, by {order.by}: {order.state}", markup=False
    )
    out.print(f"  ordered {local(order.issued_at)}, not after {local(order.expires_at)}", markup=False)
    if order.result is not None:
        out.print(f"  {told(order)}".rstrip(), markup=False)
        for key, value in (order.result.get("details") or {}).items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            out.print(f"  {key}: {text}", markup=False)
