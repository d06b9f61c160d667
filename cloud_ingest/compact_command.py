"""`tram-cloud compact`: closed days into chunks now, damaged chunks made again, room given back."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

from cloud_ingest import schema
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.compaction import Compaction
from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.errors import ChunkDamaged, CloudError, StoreInUse
from cloud_ingest.mending import Mended, damaged_chunks, mend
from cloud_ingest.places import opened_places
from cloud_ingest.schema import sqlite_errors
from cloud_ingest.store import Store
from station_config.clock import clock_from_environment
from station_config.errors import StationConfigError

FAILED, WRONG_USE = 1, 2


@dataclass(frozen=True)
class _Done:
    rows: int
    mended: list[Mended]
    chunks: int
    chunk_rows: int
    chunk_bytes: int


def compact(
    config: Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")],
    repair: Annotated[
        bool, typer.Option("--repair", help="read every chunk; make damaged ones again from raw")
    ] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="give free pages back to the disk (needs as much room)")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for scripts")] = False,
) -> None:
    """Pack closed days that the quality review has settled; the running service does it by itself.

    What becomes free in the file is used again by what comes next; --shrink makes the file smaller.

    Example: tram-cloud compact --config cloud.toml --repair --shrink
    """
    try:
        configuration = load_configuration(config)
        now_s = clock_from_environment(os.environ).now()
    except (StationConfigError, ValueError) as error:
        _fail(str(error), WRONG_USE)
    if configuration.observations is not None:
        _fail(f"observations are in {configuration.observations.url}, which packs its own", WRONG_USE)
    try:
        done, before, after = _compact(configuration, now_s, repair=repair, shrink=shrink)
    except StoreInUse:
        _fail("the service runs, and packs closed days by itself; stop it for --repair and --shrink", FAILED)
    except CloudError as error:
        _fail(str(error), FAILED)
    _tell(done, before, after, as_json=as_json)


def _compact(configuration: CloudConfiguration, now_s: float, *, repair: bool, shrink: bool) -> tuple[_Done, int, int]:
    with opened_places(configuration) as places, Progress(transient=True, console=Console(stderr=True)) as progress:
        file = places.database.file
        if file is None or not file.exists():
            _fail(f"{configuration.state_dir}: no SQLite store here; tram-cloud run makes it", WRONG_USE)
        before = file.stat().st_size
        with places.store() as store:
            mended = [one for number in (damaged_chunks(store) if repair else ()) if (one := mend(store, number))]
            done = _packed(store, now_s, progress, mended)
            if shrink:
                with sqlite_errors(), closing(schema.open_for_writing(file)) as connection:
                    connection.execute("VACUUM")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return done, before, file.stat().st_size


def _packed(store: Store, now_s: float, progress: Progress, mended: list[Mended]) -> _Done:
    work = Compaction(store)
    task = progress.add_task("packing", total=None)

    def told(rows: int, day: int) -> None:
        progress.update(task, description=f"{datetime.fromtimestamp(day).astimezone():%Y-%m-%d}: {rows:,} rows packed")

    while True:
        try:
            work.finish(now_s, told)
        except ChunkDamaged as error:
            if error.chunk is None or (one := mend(store, error.chunk)) is None:
                raise
            mended.append(one)
            continue
        with store.transaction() as transaction:
            assert isinstance(transaction.log, ChunkedLog)
            return _Done(work.rows_packed, mended, *transaction.log.chunks.size())


def _tell(done: _Done, before: int, after: int, *, as_json: bool) -> None:
    if as_json:
        told = {
            "rows_packed": done.rows,
            "chunks": done.chunks,
            "chunk_rows": done.chunk_rows,
            "chunk_bytes": done.chunk_bytes,
            "file_bytes_before": before,
            "file_bytes": after,
            "mended": [one._asdict() | {"key": one.key._asdict()} for one in done.mended],
        }
        typer.echo(json.dumps(told))
        return
    for one in done.mended:
        typer.echo(
            f"{one.key.station} sensor {one.key.sensor} parameter {one.key.parameter}: of a damaged chunk of {one.rows}"
            f" rows {one.made_again} are made again from raw records; tram-cloud run makes their layers"
        )
    typer.echo(f"{done.rows:,} rows packed")
    if done.chunk_rows:
        each = done.chunk_bytes / done.chunk_rows
        typer.echo(f"{done.chunk_rows:,} rows are in {done.chunks:,} chunks, {each:.2f} bytes each")
    typer.echo(f"the file has {after / 1e6:,.1f} MB ({before / 1e6:,.1f} before)")


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
