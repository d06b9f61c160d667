"""tram-station: what a technician does with a station board on the desk, offline, on any laptop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from station_config.board import board_configuration, encode
from station_config.errors import ConfigurationError
from station_config.image_commands import app as image_app
from station_config.instruments import load_instruments
from station_config.instruments.frames import FRAMES, find_frame_faults
from station_config.network import Network, load_network
from station_config.output import JsonOption, err, explained, out, print_json
from station_config.parameters import load_parameters
from station_config.thresholds import load_thresholds

if TYPE_CHECKING:
    from station_config.journal import Written

app = typer.Typer(
    name="tram-station",
    help="Prepare, flash and read out Trạm station boards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(image_app)

PortOption = Annotated[
    str, typer.Option("--port", help="Serial port of the board's USB console, e.g. /dev/ttyUSB0 or COM3.")
]
NetworkOption = Annotated[Path, typer.Option("--network", help="The network's TOML file.")]


@app.command()
def flash(
    port: PortOption,
    network: NetworkOption,
    station: Annotated[str, typer.Option("--station", help="Id of the station this board will be.")],
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key", help="Public key of firmware updates; without, those on the board stay. May be repeated."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put the firmware and a station's configuration on a board, check both, and see it start.

    The journal on the board stays. Example:
    tram-station flash --port /dev/ttyUSB0 --network network.toml --station xuan-hoa
    """
    with explained():
        from station_config.flash import board_files
        from station_config.flash import flash as flash_board

        known = load_network(network)
        if known.station(station).hardware == "gateway":
            raise ConfigurationError(f"station {station} has no board: its gateway asks the instruments itself")
        configuration = encode(board_configuration(known, station))
        keys = _board_keys(key) if key else None
        with _progress(as_json) as report:
            done = flash_board(port, board_files(configuration, keys), report)
    if as_json:
        print_json(done.as_json())
        return
    started = done.started
    out.print(f"[green]ok[/green] {started.station} runs firmware {started.version} on {done.machine}")
    out.print(
        f"   {len(done.written)} files written ({done.bytes_written} bytes), {len(done.unchanged)} were already there, "
        f"{len(done.removed)} removed; {done.seconds:.1f} s"
    )
    out.print(f"   journal {started.journal}, next record {started.next_seq}")


@app.command()
def journal(
    port: PortOption,
    out: Annotated[Path, typer.Option("--out", help="Batch file to write.")],
    no_restart: Annotated[bool, typer.Option("--no-restart", help="Leave the board at its prompt afterwards.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read all records a board still holds into a batch file, over its console. The station pauses meanwhile.

    Example: tram-station journal --port /dev/ttyUSB0 --out xuan-hoa.trb
    """
    with explained():
        from station_config.journal import read_journal, write_batches

        with _progress(as_json) as report:
            read = read_journal(port, restart=not no_restart, report=report)
        written = write_batches(read, out)
    if as_json:
        print_json(written.as_json())
    else:
        _show_journal(written)
    if written.restarted is False:
        err.print("tram-station: the records are safe, but the station was not seen starting again", style="red")
        raise typer.Exit(1)


@app.command()
def check(network: NetworkOption, as_json: JsonOption = False) -> None:
    """Check a network's file, and all we know of instruments, parameters and thresholds, without a board.

    Every fault is named with its file and line. Example: tram-station check --network network.toml
    """
    with explained():
        vocabulary, instruments, thresholds = load_parameters(), load_instruments(), load_thresholds()
        frame_faults = find_frame_faults(FRAMES, instruments)
        if frame_faults:
            raise ConfigurationError("\n".join(frame_faults))
        checked = load_network(network)
        sizes = {station.id: len(encode(board_configuration(checked, station.id))) for station in checked.stations}
    if as_json:
        stations = [
            {"id": s.id, "sensors": len(s.sensors), "configuration_bytes": sizes[s.id]} for s in checked.stations
        ]
        print_json({"network": checked.name, "stations": stations, "instruments": sorted(instruments)})
        return
    out.print(_stations_table(checked, sizes))
    out.print(f"{len(vocabulary.by_name)} parameters, {len(instruments)} instruments, {len(thresholds)} threshold rows")
    out.print("[green]ok[/green] no faults found")


@app.command()
def ports(as_json: JsonOption = False) -> None:
    """List this computer's serial ports. Example: tram-station ports"""
    from station_config.console import list_ports

    found = list_ports()
    if as_json:
        print_json({"ports": found})
        return
    for entry in found:
        out.print(f"{entry['port']}  {entry['description']}  [dim]{entry['usb']}[/dim]")
    if not found:
        out.print("no serial port found; is the board plugged in?")
        raise typer.Exit(1)


def _board_keys(paths: list[Path]) -> bytes:
    from station_config.keys import board_keys, load_public

    return board_keys(load_public(path) for path in paths)


def _show_journal(written: Written) -> None:
    where = ", ".join(written.files) or "no file: the journal is empty"
    out.print(
        f"[green]ok[/green] {written.records} records of journal {written.journal} ({written.station}) in {where}"
    )
    if written.records:
        out.print(f"   seq {written.first_seq} to {written.last_seq}")
    if written.damaged:
        out.print(f"   [yellow]{written.damaged} records on the flash are damaged and were left out[/yellow]")


def _stations_table(network: Network, sizes: dict[str, int]) -> Table:
    table = Table(title=network.name, title_justify="left")
    for heading in ("station", "gateway", "address", "instruments (number: model @ bus address)", "station.json"):
        table.add_column(heading)
    for s in network.stations:
        sensors = "\n".join(f"{n.number}: {n.instrument} @ {n.address}" for n in s.sensors)
        table.add_row(f"{s.id}\n{s.name_vi}", s.gateway, str(s.address), sensors, f"{sizes[s.id]} bytes")
    return table


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows how far we are: a bar on a terminal, nothing elsewhere."""
    if quiet or not err.is_terminal:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("connecting", total=None)

        def report(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total or None)

        yield report


if __name__ == "__main__":
    app()
