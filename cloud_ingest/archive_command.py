"""`tram-cloud archive`: years that are seldom asked for, as Parquet."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from cloud_ingest.archive import Archiver
from cloud_ingest.archive_files import ArchiveManifest, is_archive, read_archive, read_back
from cloud_ingest.archive_removal import Removal, Removed
from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.database import DATABASE
from cloud_ingest.errors import BackupRefused, CloudError
from cloud_ingest.registry import Registry
from station_config.clock import clock_from_environment
from station_config.errors import StationConfigError
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

FAILED, WRONG_USE = 1, 2
YOUNGEST_REMOVED = timedelta(days=365)  # the quality review looks back 35 days, and late data comes for months

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]


def archive(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="a new folder, or the archive to go on with", metavar="DIR")],
    before: Annotated[
        str | None,
        typer.Option(help="what is older than this local day [retention.archive_after_years]", metavar="2024-01-01"),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="take it out of the store, once it was read back")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write old observations and raw records as Parquet, by station and month, and read them back.

    The store keeps everything unless --remove is said; its ledger never forgets what it took in. The service may run.

    Example: tram-cloud archive --config cloud.toml --before 2024-01-01 --out /media/disk/tram-until-2023 --remove
    """
    if find_spec("pyarrow") is None:
        _fail("pyarrow is not installed: it comes with the extra archive, pip install …/tram[archive]", FAILED)
    try:
        configuration = load_configuration(config)
        registry = Registry(load_network(configuration.network), load_instruments(), load_parameters())
        now_s = clock_from_environment(os.environ).now()
    except (StationConfigError, ValueError) as error:
        _fail(str(error), WRONG_USE)
    day = _day(before, configuration, datetime.fromtimestamp(now_s, registry.zone))
    if remove and day.timestamp() > now_s - YOUNGEST_REMOVED.total_seconds():
        _fail("--remove: only what is older than a year may go; archive without it, or name an earlier day", WRONG_USE)
    if configuration.observations is not None:
        _fail(
            f"observations are in {configuration.observations.url}: archive bucket {configuration.observations.bucket}"
            " there (influxd backup -portable, or an export of its measurement); raw records stay in the books",
            WRONG_USE,
        )
    database = configuration.state_dir / DATABASE
    if not database.exists():
        _fail(f"{configuration.state_dir}: no store here yet; tram-cloud run makes it", WRONG_USE)
    try:
        manifest = _archive(database, out, registry, int(day.timestamp()), now_s)
        removed = Removal(database, out, manifest).run(now_s) if remove else None
    except CloudError as error:
        _fail(str(error), FAILED)
    _tell(manifest, removed, out, as_json=as_json)


def _archive(database: Path, out: Path, registry: Registry, before: int, now_s: float) -> ArchiveManifest:
    """Write an archive, or take the one that is there for the same day; verify it by reading it back."""
    if not is_archive(out):
        Archiver(database, out, registry, before).write(version("tram"), now_s)
    manifest = read_archive(out)
    if manifest.before != before:
        raise BackupRefused(f"{out}: an archive of another day; name a new folder")
    for file in manifest.files:
        for _ in read_back(out, file):
            pass
    return manifest


def _day(text: str | None, configuration: CloudConfiguration, now: datetime) -> datetime:
    years = configuration.retention.archive_after_years
    zone = now.tzinfo
    assert isinstance(zone, ZoneInfo)
    if text is None:
        if years is None:
            _fail("say --before 2024-01-01, or archive_after_years under [retention] in cloud.toml", WRONG_USE)
        return datetime(now.year - years, 1, 1, tzinfo=zone)
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone)
    except ValueError:
        _fail(f"--before {text}: not a day like 2024-01-01", WRONG_USE)


def _tell(manifest: ArchiveManifest, removed: Removed | None, out: Path, *, as_json: bool) -> None:
    if as_json:
        gone = None if removed is None else vars(removed)
        typer.echo(json.dumps({**manifest.model_dump(mode="json"), "removed": gone}))
        return
    table = Table("station", "months", "observations", "records", "bytes")
    for station in sorted({one.station for one in manifest.files}):
        own = [one for one in manifest.files if one.station == station]
        months = sorted({one.month for one in own})
        sums = (sum(one.rows for one in own if one.kind == kind) for kind in ("observations", "records"))
        size = sum(one.bytes for one in own)
        table.add_row(station, f"{months[0]} to {months[-1]}", *(f"{number:,}" for number in sums), f"{size:,}")
    Console().print(table if manifest.files else "nothing is as old as that")
    typer.echo(f"written and read back: {out}")
    if removed is not None:
        typer.echo(f"taken out of the store: {removed.observations:,} observations, {removed.records:,} raw records")
        if removed.observations_kept:
            typer.echo(f"{removed.observations_kept:,} others are gone already, or differ by now and stay")


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
