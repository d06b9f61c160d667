"""`tram-cloud backup` and `tram-cloud restore`."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy.engine import make_url

from cloud_ingest import backup_files, observation_copy
from cloud_ingest.backup import Manifest, make
from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.database import DATABASE
from cloud_ingest.errors import BackupRefused, CloudError
from cloud_ingest.ledger import RangeSet
from cloud_ingest.places import opened_places
from cloud_ingest.registry import Registry
from station_config.errors import StationConfigError
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

FAILED, WRONG_USE = 1, 2

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]


def backup(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="a new folder, or a new file ending in .tar", metavar="DIR|FILE.tar")],
    only_observations: Annotated[
        bool, typer.Option("--observations", help="only these, where the books are in PostgreSQL")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Back up every database of state_dir, while the service runs or not, and the observations where an InfluxDB has
    them. Phone numbers are in it: keep it safe.

    Example: tram-cloud backup --config cloud.toml --out /media/disk/tram-2026-11-22.tar
    """
    configuration = _configuration(config)
    elsewhere = configuration.observations is not None
    if configuration.store.database is not None and not only_observations:
        _fail(_by_hand(config, configuration), WRONG_USE)
    if only_observations and configuration.store.database is None:
        _fail("--observations: the books are in state_dir, and belong to them: leave it out", WRONG_USE)
    try:
        with backup_files.new_place(out) as folder:
            manifest = make(
                None if only_observations else configuration.state_dir,
                folder,
                version("tram"),
                time.time(),
                _left_out(config, configuration),
                (lambda folder: _copy_observations(configuration, folder)) if elsewhere else None,
            )
    except CloudError as error:
        _fail(str(error), FAILED)
    _tell(manifest, f"backed up to {out}", as_json=as_json)


def restore(
    source: Annotated[Path, typer.Argument(help="what tram-cloud backup made", metavar="DIR|FILE.tar")],
    into: Annotated[Path | None, typer.Option(help="the state_dir of cloud.toml, new or empty", metavar="DIR")] = None,
    config: Annotated[
        Path | None, typer.Option(help="cloud.toml: into its state_dir, observations into its InfluxDB", metavar="FILE")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="count and hash everything against the manifest")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into a state directory, or only verify it; exit 1 when it is torn, altered or not whole.

    Observations go into the InfluxDB of cloud.toml, and each is read back; killed, the same command goes on.

    Example: tram-cloud restore tram-2026-11-22.tar --into /var/lib/tram-cloud --verify
    """
    if (into is None) == (config is None) and not (verify and into is None):
        _fail("say --into DIR or --config cloud.toml, or --verify, or one of the first and --verify", WRONG_USE)
    if not source.exists():
        _fail(f"{source}: no such backup", WRONG_USE)
    configuration = None if config is None else _configuration(config)
    try:
        if configuration is not None:
            manifest, place = _restore_by(source, configuration), str(config)
        elif into is not None:
            manifest, place = backup_files.restore(source, into, deep=verify), str(into)
        else:
            manifest, place = backup_files.verify(source), ""
    except CloudError as error:
        _fail(str(error), FAILED)
    done = f"restored into {place}; run tram-cloud audit now" if place else "whole, as its manifest says"
    _tell(manifest, f"{source}: {done}", as_json=as_json)


def _restore_by(source: Path, configuration: CloudConfiguration) -> Manifest:
    """Put everything where a configuration keeps it. Raises CloudError."""
    if configuration.observations is None:
        return backup_files.restore(source, configuration.state_dir, deep=True)

    def elsewhere(folder: Path) -> None:
        if not (folder / observation_copy.FILE).exists():
            raise BackupRefused(f"{source}: no observations are in it as a file of their own")
        scale = Registry(load_network(configuration.network), load_instruments(), load_parameters()).scale
        with opened_places(configuration) as places, _shown("written and read back") as told:
            observation_copy.put_back(folder / observation_copy.FILE, places.observations, scale, told)

    if configuration.store.database is None:
        return backup_files.restore(source, configuration.state_dir, deep=True, elsewhere=elsewhere)
    with backup_files.verified(source) as (manifest, folder):
        if DATABASE in manifest.databases:
            raise BackupRefused(f"{source}: has books of SQLite, and the configuration's are in PostgreSQL")
        elsewhere(folder)
        return manifest


def _copy_observations(configuration: CloudConfiguration, folder: Path) -> None:
    with opened_places(configuration) as places, closing(places.reader()) as reader:  # noqa: SIM117
        with reader.snapshot() as moment, _shown("copied") as told:
            observation_copy.copy_observations(moment, folder / observation_copy.FILE, told)


@contextmanager
def _shown(done: str) -> Iterator[observation_copy.Told]:
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("observations", total=None)
        yield lambda rows: progress.update(task, description=f"{rows:,} observations {done}")


def _configuration(config: Path) -> CloudConfiguration:
    try:
        return load_configuration(config)
    except StationConfigError as error:
        _fail(str(error), WRONG_USE)


def _by_hand(config: Path, configuration: CloudConfiguration) -> str:
    """Return how a cluster is backed up: the books first, because more observations than they know of do no harm."""
    settings = {"books": configuration.store, "commands": configuration.commands}
    dumps, restores = [], []
    for name, one in settings.items():
        url = one.url()
        if url is None or (name != "books" and one.database == configuration.store.database):
            continue
        of = shlex.quote(url.set(drivername="postgresql")._replace(password=None).render_as_string())
        secret = f'PGPASSWORD="$(head -n 1 {shlex.quote(str(one.password_file))})" ' if one.password_file else ""
        dumps.append(f"  {secret}pg_dump --format=custom --no-owner --file={name}.dump {of}")
        restores.append(f"  {secret}pg_restore --no-owner --exit-on-error --dbname={of} {name}.dump")
    return "\n".join(
        (
            "books, alerts and commands are in PostgreSQL, whose own tool copies them as they are at one moment:",
            *dumps,
            "then the observations: those that the books do not know yet are taken again and found the same:",
            f"  tram-cloud backup --config {shlex.quote(str(config))} --observations --out observations.tar",
            "back, into empty databases, while no service runs:",
            *restores,
            f"  tram-cloud restore observations.tar --config {shlex.quote(str(config))} --verify",
        )
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
        texts.append(f"{configuration.observations.token_file} (secret)")
    if configuration.store.database is not None:
        shown = make_url(configuration.store.database).render_as_string(hide_password=True)
        texts.append(f"{shown} (books, alerts and commands: pg_dump)")
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
