"""Files of columns that others made: spreadsheets saved as CSV, years of them. A map says what the columns are.

    table = read_columns(Path("years.csv.gz"), load_map("nerrs"))

Nothing in a file is guessed: a line whose time cannot be read, a second line for the same time and a cell that is no
number are counted, shown with their line and left out; the rest is used.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from cloud_ingest.errors import FileRefused
from station_config.parameters import load_parameters
from station_config.toml_config import Fault, Several, StrictModel, Table, load, repeated, rows

MAPS = "cloud_ingest.maps"
FAULTS_SHOWN = 20


class TimeColumn(StrictModel):
    """How times are written: a strptime format, "iso" or "unix" (seconds). Local times want their zone."""

    column: str
    format: str = "iso"
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"no time zone {name!r}; say for example Asia/Ho_Chi_Minh or UTC") from None
        return name


class FlagWords(StrictModel):
    """Regular expressions for the file's own flags; they must match at the flag's beginning."""

    good: str
    rejected: str

    @field_validator("good", "rejected")
    @classmethod
    def _compiles(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return text


class Column(StrictModel):
    """One column: its name in the file, our parameter, the instrument (columns of one instrument are judged together).

    The parameter's value is the cell times `scale` plus `offset`.
    """

    name: str
    parameter: str
    sensor: int = Field(default=1, ge=1, le=255)
    scale: float = 1.0
    offset: float = 0.0
    flag: str | None = None

    @field_validator("parameter")
    @classmethod
    def _known(cls, name: str) -> str:
        parameter = load_parameters().by_name.get(name)
        if parameter is None or parameter.kind == "event":
            raise ValueError(f"no measured parameter {name!r}; see station_config/parameters.toml")
        return name


class ColumnMap(StrictModel):
    """The whole map."""

    time: TimeColumn
    columns: Several[Column] = Field(alias="column", min_length=1)
    flags: FlagWords | None = None
    missing: Several[str] = ("", "NA", "NaN", "null", "-")
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', min_length=1, max_length=1)
    skip_lines: int = Field(default=0, ge=0)


@dataclass
class FileColumn:
    """One column of a table: values (NaN: none), which cells were no numbers, what the file says of each."""

    values: npt.NDArray[np.float64]
    unreadable: npt.NDArray[np.bool_]
    said_good: npt.NDArray[np.bool_] | None
    said_rejected: npt.NDArray[np.bool_] | None


@dataclass
class ColumnTable:
    """A file's usable lines, by ascending time, and what could not be used."""

    times: npt.NDArray[np.int64]
    columns: dict[str, FileColumn]
    lines: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)  # the first ones, with their lines


def map_names() -> list[str]:
    """Return the names of the maps that come with the program."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in resources.files(MAPS).iterdir() if entry.name.endswith(".toml")
    )


def load_map(name: str) -> ColumnMap:
    """Return a map: of a file, or of one that comes with the program by its name. Raises ConfigurationError."""
    path = Path(name)
    if name in map_names() and not path.exists():
        with resources.as_file(resources.files(MAPS) / f"{name}.toml") as shipped:
            return load(shipped, ColumnMap, check=_conflicts)
    return load(path, ColumnMap, check=_conflicts)


def read_columns(path: Path, column_map: ColumnMap) -> ColumnTable:
    """Return the file's columns. Raises FileRefused when it cannot be read or lacks a column; .gz is unpacked."""
    try:
        with _opened(path) as file:
            return _read(file, path, column_map)
    except (OSError, EOFError) as error:
        raise FileRefused(f"{path}: cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise FileRefused(f"{path}: not UTF-8 text (byte {error.start}); save it as CSV UTF-8") from None
    except csv.Error as error:
        raise FileRefused(f"{path}: not a table of columns: {error}") from None


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read(file: IO[str], path: Path, column_map: ColumnMap) -> ColumnTable:
    for _ in range(column_map.skip_lines):
        file.readline()
    reader = csv.reader(file, delimiter=column_map.delimiter, quotechar=column_map.quote, skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    positions = _positions(header, column_map, path)
    table = ColumnTable(np.zeros(0, np.int64), {})
    times, cells = _usable(reader, positions, column_map, table)
    order = np.argsort(np.array(times, np.int64), kind="stable")
    table.times = np.array(times, np.int64)[order]
    for column in column_map.columns:
        texts = [cells[index][positions[column.name]].strip() for index in order]
        said = None if column.flag is None else [cells[index][positions[column.flag]].strip() for index in order]
        table.columns[column.name] = _column(texts, said, column, column_map)
    return table


def _usable(
    reader: Iterable[list[str]], positions: dict[str, int], column_map: ColumnMap, table: ColumnTable
) -> tuple[list[int], list[list[str]]]:
    """Return the times and the cells of the lines that can be used; count and name the others."""
    at, zone = positions[column_map.time.column], ZoneInfo(column_map.time.timezone)
    times: list[int] = []
    cells: list[list[str]] = []
    seen: set[int] = set()
    widest = max(positions.values())
    for number, row in enumerate(reader, column_map.skip_lines + 2):
        if not any(cell.strip() for cell in row):
            continue
        table.lines += 1
        time_s, fault = None, f"only {len(row)} columns"
        if len(row) > widest:
            time_s, fault = _time(row[at].strip(), column_map.time.format, zone)
        if time_s is not None and time_s in seen:
            time_s, fault = None, f"a second line for {row[at].strip()}"
        if time_s is None:
            table.refused += 1
            if len(table.faults) < FAULTS_SHOWN:
                table.faults.append(f"line {number}: {fault}")
            continue
        seen.add(time_s)
        times.append(time_s)
        cells.append(row)
    return times, cells


def _time(text: str, form: str, zone: ZoneInfo) -> tuple[int | None, str]:
    try:
        if form == "unix":
            return int(float(text)), ""
        moment = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)  # noqa: DTZ007
        moment = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
        return int(moment.astimezone(UTC).timestamp()), ""
    except (ValueError, OverflowError):
        return None, f"{text[:40]!r} is no time of the form {form}"


def _column(texts: list[str], said: list[str] | None, column: Column, column_map: ColumnMap) -> FileColumn:
    values, unreadable = np.full(len(texts), np.nan), np.zeros(len(texts), np.bool_)
    missing = set(column_map.missing)
    for index, text in enumerate(texts):
        if text in missing:
            continue
        try:
            values[index] = float(text)
        except ValueError:
            unreadable[index] = True
    values[~np.isfinite(values)] = np.nan
    good = rejected = None
    if said is not None and column_map.flags is not None:
        good, rejected = _matches(said, column_map.flags.good), _matches(said, column_map.flags.rejected)
    return FileColumn(values * column.scale + column.offset, unreadable, good, rejected)


def _matches(texts: list[str], pattern: str) -> npt.NDArray[np.bool_]:
    compiled = re.compile(pattern)
    return np.fromiter((compiled.match(text) is not None for text in texts), np.bool_, len(texts))


def _positions(header: list[str], column_map: ColumnMap, path: Path) -> dict[str, int]:
    wanted = [column_map.time.column]
    for column in column_map.columns:
        wanted += [column.name] if column.flag is None else [column.name, column.flag]
    absent = [name for name in wanted if name not in header]
    if absent:
        raise FileRefused(
            f"{path}: no column {', '.join(map(repr, absent))}; the file has {', '.join(header[:40])}. Mend the map."
        )
    return {name: header.index(name) for name in wanted}


def _conflicts(data: Table) -> Iterator[Fault]:
    columns = list(rows(data, "column"))
    yield from repeated((((*path, "name"), row.get("name")) for path, row in columns), "this column")
    pairs = (((*path, "parameter"), (row.get("sensor", 1), row.get("parameter"))) for path, row in columns)
    yield from repeated(pairs, "this parameter of this sensor")
