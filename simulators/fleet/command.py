"""`tram-sim fleet`: how many stations one machine, or a cluster on it, carries."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from simulators.errors import SimulatorError
from simulators.fleet.patience import Patience
from simulators.fleet.plan import CHANNELS, FleetPlan, faults, network_toml
from simulators.fleet.report import Report, faults_of, show
from simulators.fleet.servers import Servers
from simulators.processes import BenchError, Program, Spawner, tail
from station_config.broker_link import BrokerLink

LOOK_S = 1.0

Between = Callable[[dict[str, Any]], None]  # called every LOOK_S with what the publisher told last


def command(
    stations: Annotated[int, typer.Option(min=1, max=100_000, help="How many stations.")] = 2000,
    minutes: Annotated[float, typer.Option(min=0.1, help="Field time of their records.")] = 60.0,
    speed: Annotated[float, typer.Option(min=0, help="Field time this much faster; 0: as fast as it goes.")] = 0.0,
    channels: Annotated[int, typer.Option(help="Records of a station at once.")] = len(CHANNELS),
    interval: Annotated[int, typer.Option(min=1, max=3600, help="Seconds from one to the next.")] = 60,
    gather: Annotated[int, typer.Option(min=1, help="Intervals in a batch; more when links come back.")] = 1,
    per_gateway: Annotated[int, typer.Option(help="Stations of a gateway.")] = 50,
    window: Annotated[int, typer.Option(min=1, help="Batches of a gateway not yet committed.")] = 20,
    late: Annotated[float, typer.Option(min=0, max=1, help="Share of batches that come 30 batches late.")] = 0.0,
    doubled: Annotated[float, typer.Option(min=0, max=1, help="Share of batches sent twice.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same records.")] = 1,
    workers: Annotated[int, typer.Option(min=0, max=16, help="Ingest workers on PostgreSQL and InfluxDB.")] = 0,
    broker: Annotated[str | None, typer.Option(help="HOST[:PORT] of a broker with a cloud behind it.")] = None,
    user: Annotated[str | None, typer.Option(help="With --broker: instead of each gateway's own name.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="With --broker.")] = None,
    tls: Annotated[bool | None, typer.Option(help="With --broker; default: off this machine.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="With --broker: whose certificates count.")] = None,
    write_network: Annotated[Path | None, typer.Option(help="Only write the network.toml of this fleet.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where everything goes and stays; else a new one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Publish what the gateways of a large fleet would, against the real broker and cloud, and count commit messages.

    Starts mosquitto and `tram-cloud run` here, or what --workers says. With --broker the cloud is another machine's:
    give it the network of --write-network, and start at the same seed in a new store. Exit code 1 when a record is
    lost or double.

    Example: tram-sim fleet --stations 2000 --minutes 60
    """
    console = Console(stderr=True)
    rounds = int(minutes * 60 / (interval * gather))
    plan = FleetPlan(
        stations, channels, interval, gather, rounds, per_gateway, speed, late, doubled, window, seed,
    )  # fmt: skip
    if wrong := list(faults(plan)):
        typer.echo("\n".join(wrong), err=True)
        raise typer.Exit(2)
    if write_network is not None:
        write_network.write_text(network_toml(plan), encoding="utf-8")
        return
    plan = plan if speed else _in_the_past(plan)
    where = folder or Path(tempfile.mkdtemp(prefix="fleet-"))
    progress = Progress(console, plan)
    try:
        if broker is None:
            report = here(plan, where, workers, progress)
        else:
            link = BrokerLink(hosts=(broker,), user=user, password_file=password_file, tls=tls, ca_file=ca_file)
            report = elsewhere(plan, where, link, progress)
    except SimulatorError as error:
        console.print(f"tram-sim fleet: {error}", highlight=False, markup=False)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        show(report, Console())
    if report.faults:
        raise typer.Exit(1)
    if folder is None:
        shutil.rmtree(where)


def _in_the_past(plan: FleetPlan) -> FleetPlan:
    """Return the plan with records of the time that has just passed, up to the last full minute."""
    start_s = int(time.time()) - plan.span_s - plan.interval_s
    return FleetPlan(**{**asdict(plan), "start_s": start_s - start_s % plan.interval_s})


class Progress:
    """Says every few seconds how far it is."""

    def __init__(self, console: Console, plan: FleetPlan) -> None:
        self._console, self._plan = console, plan
        self._said_s = time.monotonic()

    def say(self, text: str) -> None:
        """Say something at once."""
        self._console.print(text, highlight=False, markup=False)

    def take(self, line: dict[str, Any]) -> None:
        """Take what the publisher tells."""
        if time.monotonic() - self._said_s < 5.0:
            return
        self._said_s = time.monotonic()
        done, of = int(line["committed"]), self._plan.records
        self.say(f"{done:>14,} of {of:,} records committed ({done / of:.0%}), {line['waiting']} batches under way")


def here(plan: FleetPlan, folder: Path, workers: int, progress: Progress) -> Report:
    """Run against servers of our own. Raises SimulatorError."""
    against = f"{workers} ingest workers, PostgreSQL and InfluxDB" if workers else "one process with SQLite"
    with Servers(folder, plan, workers) as servers:
        progress.say(f"{plan.stations} stations on {len(plan.gateways)} gateways; starting broker and cloud")
        servers.start()

        patience = Patience()

        def between(line: dict[str, Any]) -> None:
            servers.look()
            servers.check()
            _wait_on(patience, line, servers.cpu_s())
            if line.get("warm"):
                servers.count_from_now()

        told = {"plan": asdict(plan), "broker": servers.broker_for_publisher(), "begin_s": servers.begin_s}
        result = publish(told, folder, progress, between)
        usage = servers.usage()
        stored = servers.metric("tram_records_stored_total")
        audit = servers.audit()
        servers.stop_cloud()
        report = Report.of(plan, result, usage, servers.disk_bytes(), against)
    report.faults += faults_of(plan, audit, None if workers else stored)
    return report


def elsewhere(plan: FleetPlan, folder: Path, link: BrokerLink, progress: Progress) -> Report:
    """Run against somebody else's broker and cloud: judged by commit messages alone. Raises SimulatorError."""
    host, port = link.addresses[0]
    passwords = {} if link.password_file is None else dict.fromkeys(
        [link.user] if link.user else plan.gateways, str(link.password_file)
    )  # fmt: skip
    broker = {
        "host": host,
        "port": port,
        "user": link.user,
        "passwords": passwords,
        "tls": link.uses_tls,
        "ca_file": None if link.ca_file is None else str(link.ca_file),
    }
    told = {"plan": asdict(plan), "broker": broker, "begin_s": time.time()}
    patience = Patience()
    result = publish(told, folder, progress, lambda line: _wait_on(patience, line, 0.0))
    return Report.of(plan, result, {}, {}, f"broker {link.addresses[0]}")


def _wait_on(patience: Patience, line: dict[str, Any], cpu_s: float) -> None:
    if line:
        patience.take(time.monotonic(), int(line["committed"]), int(line["waiting"]), cpu_s)


def publish(
    told: dict[str, Any], folder: Path, progress: Progress, between: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Run the publisher until it is through and return what it measured. Raises SimulatorError."""
    file, log = folder / "publisher.json", folder / "publisher.log"
    file.write_text(json.dumps(told), encoding="utf-8")
    log.unlink(missing_ok=True)
    spawner, pause = Spawner(), threading.Event()
    argv = [sys.executable, "-m", "simulators.fleet.publisher", str(file)]
    program = Program("publisher", argv, spawner, log, lambda: True, dict(os.environ))
    try:
        program.launch()
        while True:
            ended = not program.running
            last = _last_line(log)
            if "error" in last:
                raise BenchError(str(last["error"]))
            if "result" in last:
                found: dict[str, Any] = last["result"]
                return found
            if ended:
                raise BenchError(f"the publisher has ended: {tail(log)}")
            if last:
                progress.take(last)
            between(last)
            pause.wait(LOOK_S)
    finally:
        program.stop()
        spawner.close()


def _last_line(log: Path) -> dict[str, Any]:
    lines = [line for line in log.read_text(encoding="utf-8").split("\n")[:-1] if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return found
