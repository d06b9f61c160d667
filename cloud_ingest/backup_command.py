"""`tram-cloud backup` and `tram-cloud restore`."""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import make_url

from cloud_ingest import backup_files
from cloud_ingest.backup import Manifest, make
from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.errors import BackupRefused
from cloud_ingest.ledger import RangeSet
from station_config.errors import StationConfigError

FAILED, WRONG_USE = 1, 2

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]


def backup(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="a new folder, or a new file ending in .tar", metavar="DIR|FILE.tar")],
    as_json: JsonOption = False,
) -> None:
    """Back up every database of state_dir, while the service runs or not. Phone numbers are in it: keep it safe.

    Example: tram-cloud backup --config cloud.toml --out /media/disk/tram-2026-11-22.tar
    """
    try:
        configuration = load_configuration(config)
    except StationConfigError as error:
        _fail(str(error), WRONG_USE)
    if configuration.store.database is not None:
        _fail(_where_else(configuration), WRONG_USE)
    try:
        with backup_files.new_place(out) as folder:
            manifest = make(
                configuration.state_dir, folder, version("tram"), time.time(), _left_out(config, configuration)
            )
    except BackupRefused as error:
        _fail(str(error), FAILED)
    _tell(manifest, f"backed up to {out}", as_json=as_json)


def restore(
    source: Annotated[Path, typer.Argument(help="what tram-cloud backup made", metavar="DIR|FILE.tar")],
    into: Annotated[Path | None, typer.Option(help="the state_dir of cloud.toml, new or empty", metavar="DIR")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="count and hash everything against the manifest")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into a state directory, or only verify it; exit 1 when it is torn, altered or not whole.

    Example: tram-cloud restore tram-2026-11-22.tar --into /var/lib/tram-cloud --verify
    """
    if into is None and not verify:
        _fail("say --into DIR, or --verify, or both", WRONG_USE)
    if not source.exists():
        _fail(f"{source}: no such backup", WRONG_USE)
    try:
        manifest = backup_files.verify(source) if into is None else backup_files.restore(source, into, deep=verify)
    except BackupRefused as error:
        _fail(str(error), FAILED)
    done = "whole, as its manifest says" if into is None else f"restored into {into}; run tram-cloud audit now"
    _tell(manifest, f"{source}: {done}", as_json=as_json)


def _where_else(configuration: CloudConfiguration) -> str:
    """Return how a cluster is backed up: the books first, because more observations than they know of do no harm."""
    assert configuration.store.database is not None
    assert configuration.observations is not None, "the configuration was checked"
    shown = make_url(configuration.store.database).render_as_string(hide_password=True)
    return (
        f"books, alerts and commands are in PostgreSQL, {shown}: back them up there, pg_dump --format=custom, or a"
        " base backup with its WAL\n"
        f"then the observations, bucket {configuration.observations.bucket} of {configuration.observations.url}:"
        " influxd backup, or what that server has\n"
        "in this order: observations that the books do not know yet are taken again and found the same"
    )


def _left_out(config: Path, configuration: CloudConfiguration) -> list[str]:
    """Return what a new machine needs besides: configuration, and secrets, which no backup should carry."""
    texts = [f"{config} (configuration)", f"{configuration.network} (the network)"]
    if configuration.alerts is not None:
        texts.append(f"{configuration.alerts.rules} (alert rules)")
    broker = configuration.broker
    secrets = (broker.password_file, broker.ca_file, broker.cert_file, broker.key_file, configuration.commands.key_file)
    token = None if configuration.sms is None else configuration.sms.token_file
    texts += [f"{file} (secret or certificate)" for file in (*secrets, token) if file is not None]
    if configuration.observations is not None:
        where = f"bucket {configuration.observations.bucket} of {configuration.observations.url}"
        texts.append(f"{where} (observations: influxd backup; without it, tram-cloud restore has raw records only)")
        texts.append(f"{configuration.observations.token_file} (secret)")
    if configuration.commands.database is not None:
        shown = make_url(configuration.commands.database).render_as_string(hide_password=True)
        texts.append(f"{shown} (commands: back it up with the database's own tool)")
    return texts


def _tell(manifest: Manifest, text: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(manifest.model_dump(mode="json")))
        return
    table = Table("database", "schema", "bytes", "rows")
    for name, one in manifest.databases.items():
        table.add_row(name, str(one.schema_version or "–"), f"{one.bytes:,}", f"{sum(one.rows.values()):,}")
    Console().print(table)
    records = sum(one.records for one in manifest.journals)
    archived = sum(RangeSet(one.archived).count for one in manifest.journals)
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.made_at))
    typer.echo(text)
    typer.echo(f"{records:,} raw records of {len(manifest.journals)} journals, {archived:,} in archives; made {made}")
    typer.echo("\n".join(["not in it:", *(f"  {one}" for one in manifest.not_included)]))


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
