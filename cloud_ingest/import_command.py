"""`tram-cloud import`: years of an office's spreadsheets as records."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.progress import Progress

from cloud_ingest.column_files import load_map
from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.errors import CloudError, FileRefused
from cloud_ingest.imports import Import, read_import
from cloud_ingest.ingest import Ingest
from cloud_ingest.registry import Registry
from cloud_ingest.review import Review
from cloud_ingest.set_aside import Message
from cloud_ingest.store import Store
from station_config.errors import StationConfigError
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

FAILED, WRONG_USE = 1, 2
BATCHES_IN_ONE_TRANSACTION = 25


def import_file(
    file: Annotated[Path, typer.Argument(help="a CSV file, .gz too", metavar="FILE.csv")],
    config: Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")],
    map_name: Annotated[str, typer.Option("--map", help="what its columns are", metavar="NAME|MAP.toml")],
    station: Annotated[str, typer.Option(help="the station it was measured at", metavar="ID")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be brought in")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for scripts")] = False,
) -> None:
    """Bring a file of columns in as a journal of its own. The same file again changes nothing; cut off, it goes on.

    Needs the store to itself: stop tram-cloud run meanwhile, the brokers and gateways keep what comes.

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
    registry = Registry(network, load_instruments(), load_parameters())
    try:
        stored, duplicates = (0, 0) if dry_run else _store(configuration, registry, brought)
    except CloudError as error:
        _fail(str(error), FAILED)
    _tell(file, brought, stored, duplicates, dry_run=dry_run, as_json=as_json)
    if not len(brought.records):
        _fail(f"{file}: not one value could be used; mend the map", FAILED)


def _store(configuration: CloudConfiguration, registry: Registry, brought: Import) -> tuple[int, int]:
    stored = duplicates = 0
    with Store(configuration.state_dir) as store, Progress(transient=True) as progress:
        ingest = Ingest(store, registry)
        task = progress.add_task("records", total=len(brought.records))
        for group in _groups(brought.messages()):
            counts = ingest.store_group(group, time.time()).counts
            stored, duplicates = stored + counts.stored, duplicates + counts.duplicates
            progress.advance(task, counts.received)
        if stored:
            progress.add_task("quality control", total=None)
            Review(store, registry).finish()
    return stored, duplicates


def _groups(messages: Iterator[Message]) -> Iterator[list[Message]]:
    while group := list(islice(messages, BATCHES_IN_ONE_TRANSACTION)):
        yield group


def _tell(file: Path, brought: Import, stored: int, duplicates: int, *, dry_run: bool, as_json: bool) -> None:
    found = {
        "station": brought.station,
        "journal": brought.journal,
        "records": len(brought.records),
        "stored": stored,
        "stored_before": duplicates,
        "refused_cells": brought.refused_cells,
        "refused_lines": brought.refused_lines,
        "faults": brought.faults,
    }
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    what = "would be brought in" if dry_run else f"{stored} stored, {duplicates} were stored before"
    typer.echo(f"{file}: journal {brought.journal:08x}, {len(brought.records)} records, {what}")
    typer.echo(f"not used: {brought.refused_lines} lines, {brought.refused_cells} cells")
    for fault in brought.faults:
        typer.echo(f"  {fault}")


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
