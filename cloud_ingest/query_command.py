"""`tram-cloud query`: a series from the store, by layers or summed over local time; no service is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from cloud_ingest.columns import SeriesKey
from cloud_ingest.computed.answer import Computed
from cloud_ingest.computed.quantities import Quantity, compute
from cloud_ingest.computed.rows import as_data, computed_rows, partial_note
from cloud_ingest.configuration import load_configuration
from cloud_ingest.csv_answers import Row, aggregate_rows, csv_text, points_rows
from cloud_ingest.errors import CloudError, QuestionRefused
from cloud_ingest.local_time import By
from cloud_ingest.places import database_of, opened_places
from cloud_ingest.quality import Test
from cloud_ingest.queries import LayerName, Points, Sums, layer, sensor_of, series_numbers
from cloud_ingest.registry import Registry
from station_config.clock import clock_from_environment
from station_config.errors import StationConfigError
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import Parameter, load_parameters

FAILED, WRONG_USE = 1, 2


def query(
    config: Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")],
    station: Annotated[str, typer.Argument(help="the station's id", metavar="STATION")],
    parameter: Annotated[str, typer.Argument(help="salinity, rain_total, wind_from_direction …", metavar="PARAMETER")],
    begin: Annotated[str, typer.Option("--from", help="2026-03-01 or 2026-03-01T08:00, in the network's time")],
    end: Annotated[str | None, typer.Option("--to", help="until when, midnight of a date [now]")] = None,
    by: Annotated[By | None, typer.Option(help="sum up by this; without it every value is printed")] = None,
    sensor: Annotated[int | None, typer.Option(help="the sensor's number [the lowest that has it]")] = None,
    layer_name: Annotated[LayerName, typer.Option("--layer", help="of single values")] = LayerName.FLAGGED,
    suspect: Annotated[bool, typer.Option("--suspect", help="sum up values of flag 3 too")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV for spreadsheets")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for scripts")] = False,
) -> None:
    """Print a series: its values, or what they come to by local minutes, hours, days or months.

    Flags 1 and 2 count, 4 and 9 never. What ends at 00:00 belongs to the day before.

    Computed when asked for (--by day unless said): reference_evapotranspiration, rain_intensity_computed,
    water_quality_index.

    Example: tram-cloud query --config cloud.toml xuan-hoa salinity --by day --from 2026-03-01 --to 2026-04-01 --csv
    """
    if as_csv and as_json:
        _fail("--csv or --json, not both", WRONG_USE)
    with _failing():
        configuration = load_configuration(config)
        registry = Registry(load_network(configuration.network), load_instruments(), load_parameters())
    known = None if parameter in set(Quantity) else _known(registry, parameter)
    now_s = int(clock_from_environment(os.environ).now())
    span = (_moment(begin, registry), now_s if end is None else _moment(end, registry))
    if not database_of(configuration).exists():
        _fail(f"{configuration.state_dir}: no store here yet; tram-cloud run makes it", WRONG_USE)
    with (
        _failing(),
        opened_places(configuration) as places,
        closing(places.reader(registry)) as reader,
        reader.snapshot() as moment,
    ):
        numbers = series_numbers(moment, station)
        if station not in registry.stations and not numbers:
            _fail(f"no station {station!r}; there are {', '.join(sorted(registry.stations))}", WRONG_USE)
        if known is None:
            sums = Sums(moment, registry, now_s)
            answer = compute(sums, numbers, station, Quantity(parameter), by or By.DAY, span, suspect=suspect)
            _print_computed(answer, registry, as_csv=as_csv, as_json=as_json)
            return
        key = SeriesKey(station, sensor_of(numbers, station, known.code) if sensor is None else sensor, known.code)
        if by is None:
            points = layer(moment, registry, key, span, layer_name)
            rows = points_rows(points, layer_name, known.unit, registry.zone)
            found: list[dict[str, object]] = list(_as_dicts(points))
        else:
            answers = Sums(moment, registry, now_s).of(key, by, span, suspect=suspect)
            rows = aggregate_rows(answers, known.unit, registry.zone)
            found = [one._asdict() for one in answers]
    if as_json:
        head = {"station": station, "parameter": known.name, "unit": known.unit, "sensor": key.sensor}
        typer.echo(json.dumps({**head, "by": by, "rows": found}))
    elif as_csv:
        typer.echo(csv_text(rows), nl=False)
    else:
        _print(f"{station} {known.name} (sensor {key.sensor})", rows, empty=not found)


def _print_computed(answer: Computed, registry: Registry, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(as_data(answer), ensure_ascii=False))
        return
    if as_csv:
        typer.echo(csv_text(computed_rows(answer, registry)), nl=False)
        return
    whole = replace(answer, partial=False)  # said below, not in every row
    _print(f"{answer.station} {answer.quantity}", computed_rows(whole, registry), empty=not answer.values)
    if answer.partial:
        typer.echo(partial_note(answer))
    for one in answer.inputs:
        typer.echo(f"from {one.parameter} [{one.unit}] of sensor {one.sensor}: {one.use}")
    step = "" if answer.resolution is None else f"; least step {answer.resolution:g} {answer.unit}"
    typer.echo(f"{answer.method}{step}; {answer.demands}; {answer.source}")


def _as_dicts(points: Points) -> Iterator[dict[str, object]]:
    for time, value, flag, failed, calibration in zip(*(column.tolist() for column in points), strict=True):
        shown = None if value != value else value
        names = list(Test(failed).names)
        yield {"time": time, "value": shown, "flag": flag, "failed": names, "calibration": calibration}


def _print(title: str, rows: Iterable[Row], *, empty: bool) -> None:
    """Print for people: local times, and no column of UTC."""
    if empty:
        typer.echo(f"{title}: nothing in this time")
        return
    headings, *lines = rows
    shown = [at for at, heading in enumerate(headings) if not str(heading).endswith("_utc")]
    table = Table(*(str(headings[at]).removesuffix("_local").replace("_", " ") for at in shown), title=title)
    for line in lines:
        table.add_row(*("–" if line[at] is None else _short(line[at]) for at in shown))
    Console().print(table)


def _short(cell: object) -> str:
    text = str(cell)
    return text[:16].replace("T", " ") if len(text) == 25 and text[10] == "T" else text


def _known(registry: Registry, name: str) -> Parameter:
    parameter = registry.vocabulary.by_name.get(name)
    if parameter is None or parameter.kind == "event":
        _fail(f"no parameter {name!r}; see station_config/parameters.toml", WRONG_USE)
    return parameter


def _moment(text: str, registry: Registry) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        _fail(f"{text!r} is no time; write 2026-03-01 or 2026-03-01T08:00", WRONG_USE)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=registry.zone)).timestamp())


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except (StationConfigError, QuestionRefused) as error:
        _fail(str(error), WRONG_USE)
    except (CloudError, OSError) as error:
        _fail(str(error), FAILED)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
