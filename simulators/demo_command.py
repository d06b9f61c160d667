"""The command line of the demo: options in, progress on stderr, the verdict or the page's address on stdout."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvicorn
from rich.console import Console
from rich.table import Table

from simulators import demo
from simulators.bench import Bench
from simulators.bench_options import BenchOptions
from simulators.check import Verdict
from simulators.errors import SimulatorError
from simulators.front import front_door
from simulators.panel_state import GatewayWatch, PanelState
from simulators.replay import read_series

MAX_SPEED = 120.0
DEFAULT_CHECK_S = 120.0


def command(
    check: Annotated[bool, typer.Option("--check", help="Pull every plug by a timetable, judge, exit 0 or 1.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Real seconds to run; --check alone takes 120.")] = None,
    speed: Annotated[float, typer.Option(help="Bench time runs this much faster than real time.")] = 60.0,
    replay: Annotated[
        Path | None, typer.Option(help="Play a measured series (NERRS file) instead of the model.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same river, weather and noise.")] = 1,
    broker: Annotated[
        Literal["auto", "mosquitto", "embedded"], typer.Option(help="auto: mosquitto if installed.")
    ] = "auto",
    port: Annotated[int, typer.Option(help="Port of the page; a free one if it is taken.")] = 8600,
    directory: Annotated[Path, typer.Option(help="For the run's files and logs; an earlier run is removed.")] = Path(
        ".demo"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Run the whole chain on this machine: instruments, boards, gateway, broker, cloud, phone.

    Examples:

        tram-sim demo                                     a page to look at; Ctrl-C ends it

        tram-sim demo --check --seconds 120 --speed 60    two hours of field time, every plug pulled, a verdict

        tram-sim demo --replay gndblwq2021.csv            a measured series through the same instruments
    """
    screen = Console(stderr=True)
    if not 1.0 <= speed <= MAX_SPEED:
        raise typer.BadParameter(f"{speed:g} is not between 1 and {MAX_SPEED:g}", param_hint="--speed")
    run_s = seconds if seconds is not None else (DEFAULT_CHECK_S if check else None)
    if run_s is not None and run_s <= 0:
        raise typer.BadParameter(f"{run_s:g} is not above 0", param_hint="--seconds")
    try:
        series = read_series(replay) if replay else None
        plan = demo.plan_run(series, seed, run_s * speed if run_s else None)
        screen.print(f"plan: {plan.reason}")
        options = BenchOptions(directory.absolute(), plan, speed, seed, replay and replay.absolute(), broker)
        with stopped_by_signals() as stop, Bench(options, lambda text: screen.print(text, style="dim")) as bench:
            demo.bring_up(bench, series)
            if check:
                assert run_s is not None
                verdict = demo.run_check(bench, run_s, series, stop)
            else:
                look_at(bench, port, run_s, stop, screen)
                return
    except SimulatorError as error:
        screen.print(f"[red]error:[/] {error}", highlight=False)
        raise typer.Exit(1) from error
    show(verdict, as_json)
    raise typer.Exit(1 if verdict.faults else 0)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set, so that every process of the run is ended in order."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def look_at(bench: Bench, port: int, seconds: float | None, stop: threading.Event, screen: Console) -> None:
    """Serve the page until Ctrl-C, SIGTERM or the end of `seconds`."""
    watch = GatewayWatch(bench)
    listener = _listen(port)
    server = uvicorn.Server(uvicorn.Config(front_door(bench, PanelState(bench, watch)), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="front-door")
    thread.start()
    now = datetime.fromtimestamp(bench.clock.now(), UTC)
    screen.print(
        f"bench time {now:%Y-%m-%d %H:%M} UTC, {bench.clock.rate:g} times real time; logs in {bench.site.directory}"
    )
    sys.stdout.write(f"\n  http://127.0.0.1:{listener.getsockname()[1]}/\n\n")
    sys.stdout.flush()
    screen.print("Ctrl-C ends the demo.")
    stop.wait(seconds)
    server.should_exit = True
    thread.join(10.0)
    watch.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def show(verdict: Verdict, as_json: bool) -> None:
    """Print the verdict on stdout."""
    if as_json:
        sys.stdout.write(json.dumps(verdict.as_json(), indent=1, ensure_ascii=False) + "\n")
        return
    counts, alerting = verdict.counts, verdict.alerting
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "records made": counts.made,
        "stored": counts.stored,
        "lost": counts.lost,
        "duplicated": counts.duplicated,
        "stored with another content": counts.different,
        "alert": f"{'raised' if alerting.raised else 'NOT raised'}, {'cleared' if alerting.cleared else 'NOT cleared'}",
        "messages on the phone": len(alerting.messages),
        "crossing to SMS": _seconds(alerting.crossing_to_sms_s, f" bench, of which {alerting.dwell_s:g} s dwell"),
        "rule fulfilled to SMS": _seconds(alerting.after_dwell_to_sms_real_s, " real"),
        "plugs pulled": ", ".join(f"{plug} {number}x" for plug, number in verdict.plugs_pulled.items()),
        "broker": verdict.broker,
        "bench hours": f"{verdict.bench_hours:.2f}",
    }
    if verdict.salinity_error is not None:
        rows["salinity against the file"] = (
            f"largest difference {verdict.salinity_error:.3f} over {verdict.salinity_compared} minutes"
        )
    for name, value in rows.items():
        table.add_row(name, str(value))
    screen = Console()
    screen.print(table)
    for text in alerting.messages:
        screen.print(f"  SMS: {text}", highlight=False)
    for fault in verdict.faults:
        screen.print(f"[red]fault:[/] {fault}", highlight=False)
    screen.print("[red]check failed[/]" if verdict.faults else "[green]check passed[/]")


def _seconds(value: float | None, what: str) -> str:
    return "-" if value is None else f"{value:.1f} s{what}"
