"""`tram-gateway scan`: who is on a line, and what to write into gateway.toml."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from edge_gateway.configuration import GatewayConfiguration, LineConfiguration, load_configuration
from edge_gateway.direct.clients import RtuInstruments, TcpInstruments
from edge_gateway.direct.scan import STATION, Found, ScanClient, scan
from edge_gateway.endpoint import Framing
from edge_gateway.errors import LineUnavailable
from edge_gateway.station_link import access_line
from edge_gateway.tcp_client import TcpClient
from station_config.errors import ConfigurationError

EXIT_FAILED, EXIT_CONFIGURATION = 1, 2
FIRST, LAST = 1, 247
TIMEOUT_S = 0.3


class _WrongUse(Exception):
    """The options do not name one line; the text says what to give."""


def command(
    config: Annotated[Path | None, typer.Option("--config", help="gateway.toml", metavar="FILE")] = None,
    line: Annotated[str | None, typer.Option(help="The line of gateway.toml; may be left out when it has one.")] = None,
    port: Annotated[
        str | None, typer.Option(help="Instead of a line: /dev/ttyUSB0, tcp://HOST:502 or rtu+tcp://HOST:PORT.")
    ] = None,
    baud: Annotated[list[int] | None, typer.Option(help="Baud rates to try one after the other; repeatable.")] = None,
    parity: Annotated[str | None, typer.Option(help="N, E or O.")] = None,
    first: Annotated[int, typer.Option(min=1, max=255)] = FIRST,
    last: Annotated[int, typer.Option(min=1, max=255)] = LAST,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.02, max=60, help="Seconds to wait for each.")
    ] = TIMEOUT_S,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts")] = False,
) -> None:
    """Ask every address of a line who is there, and print what to add to gateway.toml.

    A silent address takes twice the timeout: all 247 two and a half minutes. The gateway must not run on the line
    meanwhile. Example: tram-gateway scan --port /dev/ttyUSB0 --baud 9600 --baud 19200 --last 32
    """
    try:
        configuration = None if config is None else load_configuration(config)
        lines = list(_lines(configuration, line, port, baud or [], parity, timeout_s))
    except (ConfigurationError, _WrongUse) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIGURATION) from None
    try:
        _refuse_beside_gateway(configuration, lines[0])
        done = [(each, _scan(each, range(first, last + 1), timeout_s)) for each in lines]
    except LineUnavailable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None
    (_print_json if as_json else _print)(done, configuration)


def _lines(
    configuration: GatewayConfiguration | None,
    name: str | None,
    port: str | None,
    bauds: list[int],
    parity: str | None,
    timeout_s: float,
) -> Iterator[LineConfiguration]:
    """Yield the line, once for each baud rate. Raises _WrongUse."""
    if port is not None:
        row: dict[str, Any] = {"name": "scan", "port": port}
    elif configuration is None:
        raise _WrongUse("say which line: --config gateway.toml, or --port /dev/ttyUSB0")
    else:
        row = _chosen(configuration, name).model_dump(exclude={"stations"})
    row |= {"timeout_s": timeout_s} | ({} if parity is None else {"parity": parity})
    speeds: list[dict[str, int]] = [{"baud": baud} for baud in bauds]
    for speed in speeds or [{}]:
        try:
            yield LineConfiguration.model_validate(row | speed)
        except ValidationError as error:
            texts = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
            raise _WrongUse("\n".join(texts)) from None


def _chosen(configuration: GatewayConfiguration, name: str | None) -> LineConfiguration:
    known = {line.name: line for line in configuration.lines}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name in known:
        return known[name]
    what = "which line? --line NAME" if name is None else f"there is no line {name!r}"
    raise _WrongUse(f"{what}; gateway.toml has {', '.join(known)}")


def _refuse_beside_gateway(configuration: GatewayConfiguration | None, line: LineConfiguration) -> None:
    """Raise LineUnavailable while the gateway polls this line: two who ask spoil each other's answers."""
    if configuration is None or all(known.port != line.port for known in configuration.lines):
        return
    try:
        with (configuration.state_dir / "gateway.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError:
        raise LineUnavailable(
            f"{line.port}: the gateway runs and polls this line; stop it first (systemctl stop tram-gateway), or have "
            "the cloud send it a bus scan, which goes beside the polling"
        ) from None


def _scan(line: LineConfiguration, addresses: range, timeout_s: float) -> list[Found]:
    access = access_line(line)
    access.client.open()
    client: ScanClient = (
        TcpInstruments(access.client, ())
        if isinstance(access.client, TcpClient)
        else RtuInstruments(access.transport, line.baud, timeout_s)
    )
    speed = "" if line.endpoint.framing is Framing.TCP else f" at {line.baud} 8{line.parity}{line.stop}"
    try:
        with _progress(f"{line.port}{speed}", len(addresses)) as tell:
            return list(scan(client, addresses, round(1000 * timeout_s), tell))
    finally:
        access.client.close()


@contextmanager
def _progress(what: str, number: int) -> Iterator[Any]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=number)
        yield lambda _address: progress.advance(task)


def _print_json(done: list[tuple[LineConfiguration, list[Found]]], configuration: GatewayConfiguration | None) -> None:
    scans = [
        {
            "port": line.port,
            **({} if line.endpoint.framing is Framing.TCP else {"baud": line.baud, "parity": line.parity}),
            "found": [found.as_json() for found in all_found],
            "toml": _toml(line, all_found, configuration),
        }
        for line, all_found in done
    ]
    typer.echo(json.dumps({"scans": scans}, ensure_ascii=False))


def _print(done: list[tuple[LineConfiguration, list[Found]]], configuration: GatewayConfiguration | None) -> None:
    console = Console()
    for line, all_found in done:
        title = line.port if line.endpoint.framing is Framing.TCP else f"{line.port}, {line.baud} baud"
        if not all_found:
            console.print(f"{title}: nobody answers; check power, the pair (A and B), addresses and baud rate")
            continue
        table = Table("address", "what is there", title=title)
        for found in all_found:
            table.add_row(str(found.address), found.in_words())
        console.print(table)
        toml = _toml(line, all_found, configuration)
        if toml:
            console.print("To be added to gateway.toml:\n")
            typer.echo(toml)


def _toml(line: LineConfiguration, all_found: Iterable[Found], configuration: GatewayConfiguration | None) -> str:
    """Return the tables of the stations gateway.toml does not have; the line's own when it does not have that."""
    known = set() if configuration is None else {station.id for station in configuration.stations}
    new = [found for found in all_found if found.kind == STATION and found.station not in known]
    if not new:
        return ""
    rows = [f'[[line.station]]\nid = "{found.station}"\naddress = {found.address}' for found in new]
    if configuration is not None and any(own.port == line.port for own in configuration.lines):
        return "\n".join(rows)
    settings = "" if line.endpoint.framing is Framing.TCP else f'baud = {line.baud}\nparity = "{line.parity}"\n'
    return "\n".join([f'[[line]]\nname = "line"\nport = "{line.port}"\n{settings}'.rstrip(), *rows])
