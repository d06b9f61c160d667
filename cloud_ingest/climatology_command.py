"""`tram-cloud climatology`: what is usual in each month, from the station's own history, as a proposal."""

from __future__ import annotations

import json
import os
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cloud_ingest.climatology import LEAST_HOURS, LEAST_YEARS, as_toml, hours_of, learnt
from cloud_ingest.columns import SeriesKey
from cloud_ingest.configuration import load_configuration
from cloud_ingest.errors import CloudError
from cloud_ingest.local_time import By
from cloud_ingest.places import opened_places
from cloud_ingest.queries import Aggregate, Sums, sensor_of, series_numbers
from cloud_ingest.registry import Registry
from station_config.clock import clock_from_environment
from station_config.errors import StationConfigError
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

FAILED, WRONG_USE = 1, 2
KINDS = ("gauge", "derived")


def climatology(
    station: Annotated[str, typer.Argument(help="the station's id", metavar="STATION")],
    parameter: Annotated[str, typer.Argument(help="salinity, water_temperature …", metavar="PARAMETER")],
    config: Annotated[Path, typer.Option("--config", help="cloud.toml", metavar="FILE")],
    since: Annotated[int, typer.Option("--since", help="the first year to look at")] = 2000,
    sensor: Annotated[int | None, typer.Option(help="the sensor's number [the lowest that has it]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for scripts")] = False,
) -> None:
    """Propose what is usual in each month, from the hours in the store that no test objected to.

    It prints lines for network.toml, to be read and changed by a person; nothing is in force before they are put there.

    Example: tram-cloud climatology xuan-hoa salinity --config cloud.toml --since 2021
    """
    try:
        configuration = load_configuration(config)
        registry = Registry(load_network(configuration.network), load_instruments(), load_parameters())
    except StationConfigError as error:
        _fail(str(error), WRONG_USE)
    known = load_parameters().by_name.get(parameter)
    if known is None or known.kind not in KINDS:
        _fail(f"{parameter!r} is no parameter with a usual range by month", WRONG_USE)
    now_s = int(clock_from_environment(os.environ).now())
    try:
        with (
            opened_places(configuration) as places,
            closing(places.reader(registry)) as reader,
            reader.snapshot() as moment,
        ):
            number = sensor_of(series_numbers(moment, station), station, known.code) if sensor is None else sensor
            key = SeriesKey(station, number, known.code)
            sums = _by_years(Sums(moment, registry, now_s), key, since, registry)
    except CloudError as error:
        _fail(str(error), FAILED)
    months = learnt(list(hours_of(sums, registry.zone)), known.decimals)
    if as_json:
        typer.echo(json.dumps([one._asdict() for one in months]))
    else:
        typer.echo(f"# proposed from the history of {station}, sensor {key.sensor}; to be read before it is used")
        typer.echo(as_toml(parameter, months))
    if all(one.suspect is None for one in months):
        _fail(f"no month has {LEAST_HOURS} hours of {LEAST_YEARS} years yet", FAILED)


def _by_years(sums: Sums, key: SeriesKey, since: int, registry: Registry) -> list[Aggregate]:
    found: list[Aggregate] = []
    for year in range(since, datetime.fromtimestamp(sums.now_s, registry.zone).year + 1):
        begin, end = (int(datetime(one, 1, 1, tzinfo=registry.zone).timestamp()) for one in (year, year + 1))
        found += sums.of(key, By.HOUR, (begin, min(end, sums.now_s)) if begin < sums.now_s else (begin, begin))
    return found


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
