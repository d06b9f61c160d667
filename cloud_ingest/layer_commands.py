"""`tram-cloud calibration …` and `tram-cloud recompute`: what persons change of the layers, and making them again."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.database import Database
from cloud_ingest.errors import CloudError, StoreInUse
from cloud_ingest.places import Places, database_of, opened_places
from cloud_ingest.recompute import Recompute
from cloud_ingest.registry import Registry
from cloud_ingest.settings_book import Kind, history, network_of
from station_config.calibration import Calibration
from station_config.errors import StationConfigError
from station_config.instruments import load_instruments
from station_config.network import Network, load_network
from station_config.parameters import load_parameters

FAILED, WRONG_USE = 1, 2

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]
StationOption = Annotated[str | None, typer.Option("--station", help="this station only", metavar="ID")]

calibration = typer.Typer(help="What an instrument's values mean: records that change values and never counts.")


@calibration.command("add")
def add(
    config: ConfigOption,
    station: Annotated[str, typer.Option(help="the station's id")],
    sensor: Annotated[int, typer.Option(help="the sensor's number")],
    parameter: Annotated[str, typer.Option(help="conductivity, ph …")],
    begin: Annotated[str, typer.Option("--from", help="2026-03-01T08:00, in the network's time")],
    coefficients: Annotated[str, typer.Option(help="from the constant up: offset,gain or c0,c1,c2")],
    end: Annotated[str | None, typer.Option("--to", help="until when, if not until the next record")] = None,
    drift_to: Annotated[str | None, typer.Option(help="coefficients at --to: a drift, prorated in time")] = None,
    by: Annotated[str | None, typer.Option(help="who calibrated [this computer's user]")] = None,
    note: Annotated[str, typer.Option(help="standards, lots, as found and as left")] = "",
    as_json: JsonOption = False,
) -> None:
    """Enter a calibration record; a running service uses it at once and makes the past again.

    Example: tram-cloud calibration add --config cloud.toml --station xuan-hoa --sensor 1 --parameter conductivity_25
    --from 2026-03-01T08:00 --coefficients 0.02,1.013 --note "1413 uS/cm lot 22-117"
    """
    configuration, network = _configured(config)
    with _failing():
        record = _record(
            network,
            station=station,
            sensor=sensor,
            parameter=parameter,
            valid_from=_moment(begin, network),
            valid_to=None if end is None else _moment(end, network),
            coefficients=_numbers(coefficients),
            drift_to=None if drift_to is None else _numbers(drift_to),
            entered_by=by or getpass.getuser(),
            note=note,
        )
        with CalibrationBook(_database(configuration)) as book:
            entered = book.enter(record)
    typer.echo(entered.model_dump_json() if as_json else f"calibration {entered.id} entered")


@calibration.command("list")
def list_records(config: ConfigOption, station: StationOption = None, as_json: JsonOption = False) -> None:
    """Show all records, withdrawn ones too.

    Example: tram-cloud calibration list --config cloud.toml --station xuan-hoa
    """
    configuration, network = _configured(config)
    with _failing(), CalibrationBook(_database(configuration)) as book:
        records = [record for record in book.records() if station in (None, record.station)]
    if as_json:
        typer.echo(json.dumps([record.model_dump() for record in records], ensure_ascii=False))
        return
    table = Table("id", "station", "sensor", "parameter", "from", "to", "coefficients", "drift to", "by", "note")
    for record in records:
        withdrawn = " (withdrawn)" if record.withdrawn_at is not None else ""
        table.add_row(
            f"{record.id}{withdrawn}",
            *(record.station, str(record.sensor), record.parameter),
            *(_local(record.valid_from, network), _local(record.valid_to, network)),
            *(str(list(record.coefficients)), "" if record.drift_to is None else str(list(record.drift_to))),
            *(record.entered_by, record.note),
        )
    Console().print(table if records else "no calibration has been entered yet")


@calibration.command("withdraw")
def withdraw(config: ConfigOption, number: Annotated[int, typer.Argument(help="the record's id")]) -> None:
    """Have a record count no more; it stays in the list, and what was known when can still be asked.

    Example: tram-cloud calibration withdraw --config cloud.toml 7
    """
    configuration, _ = _configured(config)
    with _failing(), CalibrationBook(_database(configuration)) as book:
        book.withdraw(number, int(time.time()))
    typer.echo(f"calibration {number} is withdrawn")


def recompute(
    config: ConfigOption,
    station: StationOption = None,
    check: Annotated[bool, typer.Option("--check", help="change nothing; exit 1 when anything differs")] = False,
    as_of: Annotated[
        str | None,
        typer.Option(help="calibrations and network as known on this date (2026-03-01); with --out", metavar="DATE"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the layers here as CSV and change nothing")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make values, derived quantities and flags again from what records said.

    While the service runs it is asked to do so; otherwise it is done here.

    Example: tram-cloud recompute --config cloud.toml --check
    """
    configuration, network = _configured(config)
    if (as_of is None) != (out is None):
        _fail("--as-of and --out go together: the layers of another date are written to a file", WRONG_USE)
    if as_of is not None:
        network = _network_as_of(configuration, network, _moment(as_of, network))
    registry = Registry(network, load_instruments(), load_parameters())
    with _failing(), opened_places(configuration) as places, places.recompute(registry) as work:
        if out is not None and as_of is not None:
            rows = work.write(out, station, _moment(as_of, network))
            typer.echo(json.dumps({"rows": rows}) if as_json else f"{out}: {rows} rows as of {as_of}")
            return
        if check:
            _report(work.check(station), work.check_rollups(station), as_json)
            return
        if not _recomputed_here(places, work, station):
            asked = work.ask(station)
            typer.echo(json.dumps({"asked": asked}) if as_json else f"the service makes {asked} stations again")
            return
    typer.echo(json.dumps({"recomputed": True}) if as_json else "all layers are made again")


def _recomputed_here(places: Places, work: Recompute, station: str | None) -> bool:
    """Do it, and return False when the store is another process's."""
    if work.is_for_workers():
        return False
    try:
        with places.store() as store, Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("stations", total=None)
            work.run(store, station, lambda done, of: progress.update(task, completed=done, total=of))
    except StoreInUse:
        return False
    return True


def _report(layers: dict[str, int], rollups: dict[str, int], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"layers": layers, "rollups": rollups}))
    else:
        for one, rows in layers.items():
            typer.echo(f"{one}: {rows} rows differ")
        for one, rows in rollups.items():
            typer.echo(f"{one}: {rows} hours and days differ from the log: recompute --station {one} mends them")
        if not layers and not rollups:
            typer.echo("every layer is what its counts lead to, every hour and day what its layers lead to")
    if layers or rollups:
        raise typer.Exit(FAILED)


def _configured(config: Path) -> tuple[CloudConfiguration, Network]:
    with _failing():
        configuration = load_configuration(config)
        return configuration, load_network(configuration.network)


def _network_as_of(configuration: CloudConfiguration, network: Network, at: int) -> Network:
    """Return the network that was in force; today's, and a word about it, where that is older than its record."""
    with _failing():
        versions = [one for one in history(_database(configuration), Kind.NETWORK) if one.in_force_from <= at]
        if versions:
            return network_of(versions[-1])
    typer.echo("the network of that date was not kept: today's is used", err=True)
    return network


def _database(configuration: CloudConfiguration) -> Database:
    database = database_of(configuration)
    if not database.exists():
        _fail(f"{configuration.state_dir}: no store here yet; tram-cloud run makes it", WRONG_USE)
    return database


def _record(network: Network, **fields: object) -> Calibration:
    stations = {station.id for station in network.stations}
    if fields["station"] not in stations:
        _fail(f"no station {fields['station']!r} in the network; there are {', '.join(sorted(stations))}", WRONG_USE)
    if fields["parameter"] not in load_parameters().by_name:
        _fail(f"no parameter {fields['parameter']!r}; see station_config/parameters.toml", WRONG_USE)
    try:
        return Calibration.model_validate({**fields, "id": 1, "entered_at": int(time.time())})
    except ValidationError as error:
        faults = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        _fail(faults, WRONG_USE)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        _fail(f"{text!r}: numbers with commas between them, such as 0.02,1.013", WRONG_USE)


def _moment(text: str, network: Network) -> int:
    from zoneinfo import ZoneInfo

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        _fail(f"{text!r} is no time; write 2026-03-01 or 2026-03-01T08:00", WRONG_USE)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(network.timezone))).timestamp())


def _local(time_s: int | None, network: Network) -> str:
    from zoneinfo import ZoneInfo

    if time_s is None:
        return ""
    return datetime.fromtimestamp(time_s, UTC).astimezone(ZoneInfo(network.timezone)).isoformat(" ", "minutes")


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except StationConfigError as error:
        _fail(str(error), WRONG_USE)
    except (CloudError, OSError) as error:
        _fail(str(error), FAILED)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
