"""tram-cloud: ingest, store, API, page and alerts of a monitoring network."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from zoneinfo import ZoneInfo

import structlog
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from alerts.errors import AlertsError
from cloud_ingest.archive_command import archive
from cloud_ingest.ask_again_command import ask_again
from cloud_ingest.audit import account_for
from cloud_ingest.backup_command import backup, restore
from cloud_ingest.broker_command import broker_files
from cloud_ingest.chunked_log import LogStore
from cloud_ingest.climatology_command import climatology
from cloud_ingest.commanding.commands import app as command_app
from cloud_ingest.commanding.rollout_commands import app as rollout_app
from cloud_ingest.compact_command import compact
from cloud_ingest.configuration import load_configuration
from cloud_ingest.decode import as_dicts
from cloud_ingest.errors import CloudError
from cloud_ingest.import_command import import_file, list_imports
from cloud_ingest.layer_commands import calibration, recompute
from cloud_ingest.ledger import Range
from cloud_ingest.places import Places, database_of
from cloud_ingest.quality_command import qc
from cloud_ingest.query_command import query
from cloud_ingest.reading import Journal
from cloud_ingest.set_aside_command import set_aside
from cloud_ingest.settings_command import settings
from firmware.record import CLOCK_UNSET_BELOW, MISSING, RecordError
from station_config.clock import clock_from_environment
from station_config.errors import StationConfigError
from station_config.parameters import load_parameters

if TYPE_CHECKING:
    from cloud_ingest.roles import Role
    from cloud_ingest.service import Setup

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
app.command("broker-files")(broker_files)
app.add_typer(command_app, name="command")
app.add_typer(rollout_app, name="rollout")

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]

FAILED, WRONG_USE = 1, 2
LOCAL_TIME = ZoneInfo("Asia/Ho_Chi_Minh")
DECLARATIONS_SHOWN = 20
NEEDS_DATABASE = (
    "several processes need books in PostgreSQL, [store] database, and observations in an InfluxDB, [observations];"
    " tram-cloud run is one process that needs neither"
)

app.command()(qc)
app.command()(query)
app.command()(climatology)
app.command()(recompute)
app.command()(backup)
app.command()(archive)
app.command()(compact)
app.command()(restore)
app.command("ask-again")(ask_again)
app.command("import")(import_file)
app.command("imports")(list_imports)
app.add_typer(calibration, name="calibration")
app.add_typer(set_aside, name="set-aside")
app.add_typer(settings, name="settings")


@app.command()
def run(config: ConfigOption) -> None:
    """Take in what the gateways send, serve the API and the page, and send alerts, until SIGTERM or Ctrl-C.

    Example: tram-cloud run --config /etc/tram/cloud.toml
    """
    from cloud_ingest.roles import ALL_IN_ONE

    _serve(config, ALL_IN_ONE)


@app.command()
def serve(config: ConfigOption) -> None:
    """Serve the API and the page, send alerts and commands, while tram-cloud ingest takes the records in.

    Example: tram-cloud serve --config /etc/tram/cloud.toml
    """
    from cloud_ingest.roles import SERVING

    _serve(config, SERVING)


@app.command()
def ingest(
    config: ConfigOption,
    shards: Annotated[str, typer.Option(help="whose stations: 00 to 3f, such as 00-1f or 00-0f,30")],
) -> None:
    """Take in the records of some stations, beside other workers for the rest and tram-cloud serve.

    A station's shard stands in the topic of its records: tram/v1/records/SHARD/GATEWAY/STATION.

    Example: tram-cloud ingest --config /etc/tram/cloud.toml --shards 00-1f
    """
    from cloud_ingest import service
    from cloud_ingest.roles import ingesting
    from cloud_ingest.workers import parse_shards

    with _failing(ValueError, code=WRONG_USE):
        role = ingesting(parse_shards(shards))
    setup = _read_setup(config, role)
    _set_up_logging()
    with _failing(CloudError, StationConfigError, SQLAlchemyError, OSError, code=FAILED):
        service.run(setup, None, role)


def _serve(config: Path, role: Role) -> None:
    from cloud_ingest import service, serving  # the other commands start without the web server

    setup = _read_setup(config, role)
    try:
        listener = serving.listen(setup.configuration)
    except OSError as error:
        http = setup.configuration.http
        _fail(f"{http.host} port {http.port}: {error.strerror}; choose another [http] host or port", WRONG_USE)
    _set_up_logging()
    with listener, _failing(CloudError, AlertsError, StationConfigError, SQLAlchemyError, OSError, code=FAILED):
        service.run(setup, listener, role)


def _read_setup(config: Path, role: Role) -> Setup:
    from cloud_ingest import service

    with _failing(StationConfigError, ValueError, code=WRONG_USE):
        configuration = load_configuration(config)
        if role.shards is not None and configuration.store.database is None:
            _fail(f"{config}: {NEEDS_DATABASE}", WRONG_USE)
        return service.read_setup(configuration, clock_from_environment(os.environ))


@app.command()
def decode(
    file: Annotated[str, typer.Argument(help="a batch (TRB1), - for standard input", metavar="FILE|-")],
    as_json: JsonOption = False,
) -> None:
    """Print the records of one batch for people; exit 1 when a record in it cannot be used.

    Example: tram-station journal --port /dev/ttyUSB0 --out j.bin && tram-cloud decode j.bin
    """
    try:
        payload = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        _fail(f"{file}: {error.strerror}", WRONG_USE)
    with _failing(RecordError, code=FAILED):
        rows = as_dicts(payload)
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        _print_records(rows)
    if any("unusable" in row for row in rows):
        raise typer.Exit(FAILED)


@app.command()
def audit(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Account for every sequence number of every journal; exit 1 when one is missing without an explanation.

    Example: tram-cloud audit --config cloud.toml --json
    """
    with _failing(StationConfigError, code=WRONG_USE):
        configuration = load_configuration(config)
    if not database_of(configuration).exists():
        _fail(f"{configuration.state_dir}: no store here yet; tram-cloud run makes it", WRONG_USE)
    places = Places(configuration.state_dir, database_of(configuration), LogStore())  # no observation is asked for
    with _failing(CloudError, code=FAILED), closing(places.reader()) as reader:
        journals = reader.journals()
    report = [_account(journal) for journal in journals]
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print_audit(report)
    if any(entry["unexplained"] for entry in report):
        raise typer.Exit(FAILED)


def _account(journal: Journal) -> dict[str, Any]:
    account = account_for(journal.stored, journal.unusable, journal.overwritten, journal.declared)
    return {
        "station": journal.station,
        "journal": journal.journal,
        "stored": account.stored,
        "set_aside": account.set_aside,
        "overwritten": account.overwritten,
        "declared_lost": [one._asdict() for one in account.declared],
        "unexplained": account.unexplained,
        "duplicates_received": journal.duplicates,
        "conflicts": journal.conflicts,
    }


def _print_audit(report: list[dict[str, Any]]) -> None:
    headings = ("station", "journal", "stored", "set aside", "overwritten on the board", "declared lost", "unexplained")
    table = Table(*headings, title="Ledger")
    for entry in report:
        columns = ("stored", "set_aside", "overwritten", "declared", "unexplained")
        declared = [(one["first"], one["last"]) for one in _declarations(entry)]
        ranges = (_in_words(declared if key == "declared" else entry[key]) for key in columns)
        table.add_row(str(entry["station"]), f"{entry['journal']:08x}", *ranges)
    console = Console()
    console.print(table if report else "nothing has arrived yet")
    for entry in report:
        for one in _declarations(entry)[:DECLARATIONS_SHOWN]:
            said = datetime.fromtimestamp(one["at"], LOCAL_TIME).strftime("%Y-%m-%d %H:%M")
            numbers = _in_words([(one["first"], one["last"])])
            where = f"{entry['station']} {entry['journal']:08x} {numbers}"
            console.print(f"lost: {where}: {one['reason']} (said by {one['gateway']}, {said})", markup=False)


def _declarations(entry: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = entry["declared_lost"]
    return found


def _in_words(ranges: object) -> str:
    shown: list[Range] = ranges if isinstance(ranges, list) else []
    texts = [str(first) if first == last else f"{first}–{last}" for first, last in shown[:8]]
    return ", ".join([*texts, f"and {len(shown) - 8} more ranges"] if len(shown) > 8 else texts) or "–"


def _print_records(rows: list[dict[str, object]]) -> None:
    table = Table("journal", "seq", "time (UTC)", "sensor", "parameter", "value", "flag")
    for row in rows:
        journal = f"{row['journal']:08x}"
        if "unusable" in row:
            table.add_row(journal, str(row["seq"] or "?"), f"unusable: {row['unusable']}", "", "", str(row["data"]), "")
        else:
            table.add_row(journal, *_record_cells(row))
    Console().print(table)


def _record_cells(row: dict[str, object]) -> Iterator[str]:
    from datetime import UTC, datetime

    time_s, code, count = (int(str(row[key])) for key in ("time", "parameter", "count"))
    parameter = load_parameters().by_code.get(code)
    yield str(row["seq"])
    yield f"boot + {time_s} s" if time_s < CLOCK_UNSET_BELOW else datetime.fromtimestamp(time_s, UTC).isoformat()
    yield str(row["sensor"])
    yield parameter.name if parameter else f"unknown ({code})"
    if count == MISSING:
        yield "no value"
    elif parameter is None or parameter.kind == "event":
        yield str(count)
    else:
        yield f"{parameter.value(count):.{parameter.decimals}f} {parameter.unit}"
    yield str(row["flag"])


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.WARNING)
    console = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not console else _unchanged,
            structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _unchanged(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event


@contextmanager
def _failing(*errors: type[Exception], code: int) -> Iterator[None]:
    """Turn errors an operator can mend into their text and an exit code."""
    try:
        yield
    except errors as error:
        _fail(str(error), code)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
