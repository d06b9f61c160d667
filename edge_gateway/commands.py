"""`tram-gateway`: run the gateway, and ask where everything is."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import structlog
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.table import Table

from edge_gateway.configuration import GatewayConfiguration, load_configuration
from edge_gateway.direct.plans import direct_plans
from edge_gateway.direct.station import DirectPlan
from edge_gateway.errors import GatewayError
from edge_gateway.gateway import CommandSetup, run_gateway
from edge_gateway.host_clock import HostClock, newest_time_written
from edge_gateway.log_ring import LogRing
from edge_gateway.logs import LogFormat, set_up_log
from edge_gateway.outbox_file import open_file
from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.scan_command import command as scan_command
from edge_gateway.service_manager import ServiceManager
from edge_gateway.status import read_status
from edge_gateway.system_commands import doctor, install
from edge_gateway.traffic import Traffic
from edge_gateway.warning_commands import app as warning_app
from edge_gateway.warning_configuration import WarningSetup
from edge_gateway.warning_status import in_words
from edge_gateway.warning_works import read_warning_setup
from station_config.clock import Clock, clock_from_environment
from station_config.command_keys import load_public_folder
from station_config.errors import ConfigurationError, KeyRefused

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
LOCAL_TIME = ZoneInfo("Asia/Ho_Chi_Minh")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Carries records from the stations of its lines to the cloud, and loses none.\n\n"
    "Example: tram-gateway run --config /etc/tram/gateway.toml",
)
app.command()(install)
app.command()(doctor)
app.command("scan")(scan_command)
app.add_typer(warning_app, name="warning")
ConfigOption = Annotated[Path, typer.Option("--config", help="gateway.toml", metavar="FILE")]


@app.command()
def run(
    config: ConfigOption = Path("gateway.toml"),
    log_format: Annotated[
        LogFormat, typer.Option("--log", help="auto: for systemd's journal, or people on a terminal, else JSON")
    ] = LogFormat.auto,
) -> None:
    """Poll the stations, keep the outbox, publish, until SIGTERM or SIGINT.

    Example: tram-gateway run --config /etc/tram/gateway.toml
    """
    configuration, clock = _prepare(config)
    warning = _load_warning(configuration, clock)
    direct = _load_direct(configuration)
    recent = LogRing()
    commands = CommandSetup(_load_keys(configuration), recent.lines)
    set_up_log(log_format, os.environ, recent)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        service = ServiceManager.from_environment(os.environ, os.getpid())
        run_gateway(configuration, clock, stop, service, commands, warning, direct)
    except GatewayError as error:
        structlog.get_logger().error("the gateway cannot run", reason=str(error))
        raise typer.Exit(EXIT_FAILED) from None
    if commands.restart.is_set():
        structlog.get_logger().info("beginning anew, as a command asks")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  the command line it was started with


@app.command()
def status(
    config: ConfigOption = Path("gateway.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts")] = False,
    watch_s: Annotated[
        float | None, typer.Option("--watch", help="Show it again every so many seconds until Ctrl-C.", min=0.2)
    ] = None,
) -> None:
    """Show per station what is buffered, how old, how fast it comes and how many days are left.

    Works beside a running gateway and without one. Example: tram-gateway status --config gateway.toml --json
    """
    configuration, clock = _prepare(config)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    while True:
        found = _read(configuration, clock)
        if as_json:
            typer.echo(json.dumps(found, ensure_ascii=False))
        else:
            _show(found)
        if watch_s is None or stop.wait(watch_s):
            return


def _prepare(config: Path) -> tuple[GatewayConfiguration, Clock]:
    try:
        return load_configuration(config), clock_from_environment(os.environ)
    except (ConfigurationError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIGURATION) from None


def _load_warning(configuration: GatewayConfiguration, clock: Clock) -> WarningSetup | None:
    try:
        return read_warning_setup(configuration, clock.now())
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIGURATION) from None


def _load_direct(configuration: GatewayConfiguration) -> tuple[DirectPlan, ...]:
    try:
        return direct_plans(configuration)
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CONFIGURATION) from None


def _load_keys(configuration: GatewayConfiguration) -> dict[str, Ed25519PublicKey]:
    folder = configuration.commands.keys_dir
    try:
        return {} if folder is None else load_public_folder(folder)
    except KeyRefused as error:
        typer.echo(f"[commands] keys_dir: {error}", err=True)
        raise typer.Exit(EXIT_CONFIGURATION) from None


def _read(configuration: GatewayConfiguration, clock: Clock) -> dict[str, Any]:
    path = configuration.outbox_path
    with TemporaryDirectory() as folder:
        if not path.exists():  # before the first start all is said of an empty one: above all how long it will last
            path = Path(folder) / path.name
            open_file(path).close()
        return _read_file(configuration, clock, path)


def _read_file(configuration: GatewayConfiguration, clock: Clock, path: Path) -> dict[str, Any]:
    try:
        reader = OutboxReader(path)
        found = read_status(configuration, reader, clock.now(), {})
        found["traffic"] = Traffic(configuration.broker, reader.traffic()).as_status(clock.now())
        found["clock"] = asdict(HostClock(clock, configuration.clock_source, newest_time_written(reader)).verdict)
        reader.close()
    except sqlite3.Error as error:
        typer.echo(f"{path}: {error}; {_what_to_do(error)}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    # Whether the broker is reached is known to the running process alone.
    del found["online"]
    return found


def _what_to_do(error: sqlite3.Error) -> str:
    if "no such table" in str(error):
        return "an earlier version made this file: start `tram-gateway run`, it upgrades it and loses nothing"
    return "`tram-gateway run` sets a damaged file aside when it starts"


def _show(found: dict[str, Any]) -> None:
    console, outbox, dropped = Console(), found["outbox"], found["dropped"]
    table = Table(title=f"{found['gateway']}, {_local(found['time'])}")
    for heading in (
        "station",
        "state",
        "at the board",
        "stored",
        "committed",
        "buffered",
        "oldest",
        "per day",
        "days left",
        "dropped",
        "heard",
    ):
        table.add_column(heading)
    for name, station in found["stations"].items():
        table.add_row(
            name,
            "answers" if station["reachable"] else station["reason"],
            _text(None if station["next_seq"] is None else station["next_seq"] - 1),
            *(_text(station[key]) for key in ("stored_through", "committed_through", "buffered")),
            _local(station["oldest"]),
            f"{station['records_per_day']:.0f}",
            _text(station["days_left"]),
            _text(station["dropped"]),
            _local(station["last_contact"]),
        )
    console.print(table)
    for name, line in found["lines"].items():
        latency = line["latency_ms"]
        console.print(
            f"line {name}: {line['questions']} questions, {line['timeouts']} timeouts, "
            f"{line['crc_errors']} CRC errors, {line['late_answers']} late answers caught; "
            f"answers took {_text(latency['median'])} ms in the middle, "
            f"{_text(latency['p99'])} at 99 %, {latency['longest']} at most"
        )
    console.print(
        f"outbox: {outbox['buffered']} records, "
        f"{outbox['used_bytes'] / 1e6:.1f} of {outbox['max_bytes'] / 1e6:.0f} MB; "
        f"without the cloud it lasts {_text(outbox['days_left'])} days "
        + ("at the present rate" if outbox["records_per_day"] else f"at {outbox['expected_per_day']:.0f} records a day")
    )
    if outbox["bytes_for_max_age"] > outbox["max_bytes"]:
        console.print(
            f"for {outbox['max_age_days']:g} days it needs {outbox['bytes_for_max_age'] / 1e6:.0f} MB: "
            "raise [outbox] max_bytes if they shall be kept that long without the cloud"
        )
    if outbox["disk_free_bytes"] is not None and outbox["disk_free_bytes"] < outbox["max_bytes"] - outbox["used_bytes"]:
        console.print(f"the disk has {outbox['disk_free_bytes'] / 1e6:.0f} MB left, less than the outbox may grow")
    traffic, host_clock = found["traffic"], found["clock"]
    budget = "" if traffic["budget_bytes"] is None else f" of {traffic['budget_bytes'] / 1e6:.1f}"
    console.print(f"on the air today: {traffic['bytes_today'] / 1e6:.2f}{budget} MB both ways; {traffic['sending']}")
    console.print(
        f"this machine's clock {'is trusted' if host_clock['trusted'] else 'sets no station'}: {host_clock['reason']}"
    )
    kept = found["commands"]
    if any(kept.values()):
        console.print(f"commands: {kept['waiting']} wait, {kept['started']} under way, {kept['finished']} finished")
    for station, journal, first, last, reason in dropped["ranges"]:
        console.print(f"declared lost: {station} journal {journal:08x} records {first}..{last}: {reason}")
    for name in outbox["damaged_files"]:
        console.print(f"a damaged outbox was set aside: {name}")
    if found["warning"] is not None:
        for line in in_words(found["warning"], _local):
            console.print(line)


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _local(unix_s: int | None) -> str:
    return "-" if unix_s is None else datetime.fromtimestamp(unix_s, LOCAL_TIME).strftime("%Y-%m-%d %H:%M:%S")
