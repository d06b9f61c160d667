"""`tram-cloud qc`: quality control of any file of columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.console import Console
from rich.table import Table

from cloud_ingest.errors import FileRefused
from station_config.errors import StationConfigError

FAILED, WRONG_USE = 1, 2


def qc(
    file: Annotated[Path, typer.Argument(help="a CSV file, .gz too", metavar="FILE.csv")],
    map_name: Annotated[
        str, typer.Option("--map", help="a map file, or a map that comes with the program", metavar="NAME|MAP.toml")
    ],
    tests: Annotated[
        Path | None, typer.Option(help="thresholds of your own, in the form of station_config/quality.toml")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write values, flags and failed tests here, as CSV")] = None,
    timezone: Annotated[str, typer.Option(help="whose months a climatology means")] = "Asia/Ho_Chi_Minh",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for scripts")] = False,
) -> None:
    """Check a file of columns by the QARTOD tests: flags out, and a score where the file has flags of its own.

    The map says which column is which parameter; `nerrs` and `cdmo` come with the program.

    Example: tram-cloud qc salinity-2019.csv --map our-columns.toml --out flags.csv
    """
    from cloud_ingest.column_files import load_map, read_columns
    from cloud_ingest.quality_file import check_table, report, write_flags
    from station_config.quality import read_tests

    try:
        column_map = load_map(map_name)
        own = read_tests(tests) if tests is not None else {}
        zone = ZoneInfo(timezone)
    except StationConfigError as error:
        _fail(str(error), WRONG_USE)
    except (ZoneInfoNotFoundError, ValueError):
        _fail(f"no time zone {timezone!r}; say for example Asia/Ho_Chi_Minh", WRONG_USE)
    try:
        table = read_columns(file, column_map)
    except FileRefused as error:
        _fail(str(error), WRONG_USE)
    checked = check_table(table, column_map, own, zone)
    if out is not None:
        try:
            write_flags(out, table, checked)
        except OSError as error:
            _fail(f"{out}: cannot be written: {error.strerror}", FAILED)
    found = report(table, checked)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        _print(file, found)
    if not found["used"]:
        _fail(f"{file}: not one line could be used; mend the map's [time]", FAILED)


def _print(file: Path, found: dict[str, Any]) -> None:
    console = Console()
    table = Table("column", "good", "suspect", "fail", "missing", "not evaluated", "recall", "false alarms")
    for name, column in found["columns"].items():
        flags, score = column["flags"], column.get("score", {})
        numbers = (flags[key] for key in ("good", "suspect", "fail", "missing", "not_evaluated"))
        table.add_row(name, *map(str, numbers), _percent(score.get("recall")), _percent(score.get("false_alarms")))
    console.print(table)
    for name, column in found["columns"].items():
        failed = ", ".join(f"{test} {number}" for test, number in column["failed_tests"].items())
        console.print(f"{name}: {failed or 'no test failed'}", highlight=False, markup=False)
    console.print(f"{file}: {found['used']} of {found['lines']} lines used", highlight=False)
    for fault in found["faults"]:
        console.print(f"  {fault}", highlight=False, markup=False)
    if found["refused"] > len(found["faults"]):
        console.print(f"  and {found['refused'] - len(found['faults'])} more lines", highlight=False)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
