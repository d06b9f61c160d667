"""`tram-cloud import`: years of an office's spreadsheets as records, beside a running service or without one."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

from cloud_ingest.column_files import load_map
from cloud_ingest.commanding.output import ByOption, who
from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.errors import CloudError, FileRefused, StoreInUse
from cloud_ingest.import_book import BATCHES_AT_ONCE, ImportBook, ImportEntry, ImportState, Origin
from cloud_ingest.import_work import Imports
from cloud_ingest.imports import Import, read_import
from cloud_ingest.ingest import Ingest
from cloud_ingest.places import opened_places
from cloud_ingest.registry import Registry
from cloud_ingest.review import Review
from station_config.errors import StationConfigError
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

FAILED, WRONG_USE = 1, 2
LOOK_EVERY_S = 0.5
TRY_EVERY_S = 30.0  # whether the service is still there

ConfigOption = Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]


def import_file(
    file: Annotated[Path, typer.Argument(help="a CSV file, .gz too", metavar="FILE.csv")],
    config: ConfigOption,
    map_name: Annotated[str, typer.Option("--map", help="what its columns are", metavar="NAME|MAP.toml")],
    station: Annotated[str, typer.Option(help="the station it was measured at", metavar="ID")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be brought in")] = False,
    wait: Annotated[bool, typer.Option(help="until all of it is stored")] = True,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a file of columns in as a journal of its own. The same file again changes nothing; cut off, it goes on.

    While tram-cloud run is there, it stores the file in pieces between what gateways send; else this command does.

    Example: tram-cloud import salinity-2019.csv --config cloud.toml --map our-columns.toml --station xuan-hoa
    """
    try:
        configuration = load_configuration(config)
        network = load_network(configuration.network)
        brought = read_import(file, load_map(map_name), station)
    except (StationConfigError, FileRefused) as error:
        _fail(str(error), WRONG_USE)
    known = sorted(one.id for one in network.stations)
    if station not in known:
        _fail(f"no station {station!r} in the network; there are {', '.join(known)}", WRONG_USE)
    entry = None
    if not dry_run and len(brought.records):
        registry = Registry(network, load_instruments(), load_parameters())
        try:
            entry = _bring_in(configuration, registry, brought, _origin(file, map_name, by), wait=wait)
        except (CloudError, OSError) as error:
            _fail(str(error), FAILED)
    _tell(file, brought, entry, as_json=as_json)
    if not len(brought.records):
        _fail(f"{file}: not one value could be used; mend the map", FAILED)
    if entry is not None and entry.state is ImportState.FAILED:
        _fail(f"{file}: {entry.reason}", FAILED)


def list_imports(config: ConfigOption, as_json: JsonOption = False) -> None:
    """List what was brought in from files: who, when, which file, what became of it.

    Example: tram-cloud imports --config cloud.toml
    """
    try:
        configuration = load_configuration(config)
        with ImportBook(configuration.state_dir) as book:
            entries = book.entries()
    except StationConfigError as error:
        _fail(str(error), WRONG_USE)
    except CloudError as error:
        _fail(str(error), FAILED)
    if as_json:
        typer.echo(json.dumps([one._asdict() for one in entries], ensure_ascii=False))
        return
    for one in entries:
        when = datetime.fromtimestamp(one.at).astimezone().strftime("%Y-%m-%d %H:%M")
        typer.echo(
            f"{one.id}  {when}  {one.by_whom}  {one.station}  {one.file} (SHA-256 {one.sha256[:16]}, map {one.map})"
        )
        typer.echo(
            f"    {one.state}: {one.records:,} records, {one.stored:,} stored, {one.duplicates:,} were stored before"
        )
        if one.reason:
            typer.echo(f"    {one.reason}")


def _origin(file: Path, map_name: str, by: str | None) -> Origin:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Origin(who(by), file.name, digest, map_name)


def _bring_in(
    configuration: CloudConfiguration, registry: Registry, brought: Import, origin: Origin, *, wait: bool
) -> ImportEntry:
    configuration.state_dir.mkdir(parents=True, exist_ok=True)
    shown = Progress(console=Console(stderr=True), transient=True)
    with ImportBook(configuration.state_dir) as book, shown as progress:
        number = _hand_over(book, brought, origin, progress)
        task = progress.add_task("stored", total=brought.batches)
        tried_s = -TRY_EVERY_S
        while (entry := book.entry(number)).state is ImportState.WAITING:
            progress.update(task, completed=entry.taken)
            if time.monotonic() - tried_s >= TRY_EVERY_S:
                tried_s = time.monotonic()
                if _work_off(configuration, registry):
                    continue
                if not wait:
                    break
            time.sleep(LOOK_EVERY_S)
    return entry


def _hand_over(book: ImportBook, brought: Import, origin: Origin, progress: Progress) -> int:
    """Put the file's batches into the book, from where an earlier try ended."""
    number = book.begin(brought, origin, time.time()).id
    if book.entry(number).state is ImportState.ARRIVING:
        there = book.handed_over(number)
        task = progress.add_task("handed over", total=brought.batches, completed=there)
        messages = islice(brought.messages(), there, None)
        while group := list(islice(messages, BATCHES_AT_ONCE)):
            book.hand_over(number, there + 1, group)
            there += len(group)
            progress.update(task, completed=there)
        book.all_handed_over(number)
    return number


def _work_off(configuration: CloudConfiguration, registry: Registry) -> bool:
    """Store what waits, and judge it, where no service does; return False when one is there."""
    try:
        with opened_places(configuration) as places, places.store() as store:
            imports = Imports(configuration.state_dir, Ingest(store, registry), store.owns)
            while imports.step(time.time(), clock_s=0.0) is not None:
                pass
            imports.close()
            Review(store, registry).finish()
    except StoreInUse:
        return False
    return True


def _tell(file: Path, brought: Import, entry: ImportEntry | None, *, as_json: bool) -> None:
    found = {
        "import": entry.id if entry else None,
        "state": str(entry.state) if entry else None,
        "station": brought.station,
        "journal": brought.journal,
        "records": len(brought.records),
        "stored": entry.stored if entry else 0,
        "stored_before": entry.duplicates if entry else 0,
        "refused_cells": brought.refused_cells,
        "refused_lines": brought.refused_lines,
        "faults": brought.faults,
    }
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    what = "would be brought in"
    if entry is not None:
        what = f"{entry.stored} stored, {entry.duplicates} were stored before"
    if entry is not None and entry.state is ImportState.WAITING:
        what += "; the service goes on with it: tram-cloud imports shows how far it is"
    typer.echo(f"{file}: journal {brought.journal:08x}, {len(brought.records)} records, {what}")
    typer.echo(f"not used: {brought.refused_lines} lines, {brought.refused_cells} cells")
    for fault in brought.faults:
        typer.echo(f"  {fault}")


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
