"""What the gateway takes of a Pi's memory: 30 stations on serial lines, at speed, an outbox that fills and empties.

The real `tram-gateway run` polls stations that always have more records, on terminals that talk Modbus RTU. First
there is no broker, until the outbox holds `--records`; then the broker comes, and all goes up while the stations go on.
Memory is noted every few seconds: what is printed is the most of each phase, resident (RSS) and as its share (PSS,
where shared pages count in part). The exit code is 1 when a phase took more than 80 MB.

python -m benchmarks.gateway_memory --records 1000000 --minutes 10
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.gateway import source, wait
from benchmarks.gateways.arrival import Arrival, Broker, Unavailable
from edge_gateway.outbox_reader import OutboxReader
from station_config.free_ports import free_ports

LINES, STATIONS = 3, 30
MOST_MB = 80.0
LOOK_S = 2.0
FILL_DEADLINE_S = 3600.0
ALWAYS_MORE = 1e12
BAUD = 115200


@dataclass
class Phase:
    """The most a phase took."""

    name: str
    seconds: float = 0.0
    records: int = 0
    rss_mb: float = 0.0
    pss_mb: float = 0.0

    def note(self, process: psutil.Popen) -> None:
        """Look at the process."""
        memory = process.memory_full_info()
        self.rss_mb = max(self.rss_mb, memory.rss / 1e6)
        self.pss_mb = max(self.pss_mb, memory.pss / 1e6)


def configuration(broker_port: int, ports: list[str]) -> str:
    """Return a gateway.toml."""
    parts = [f'id = "gw-bench"\nstate_dir = "state"\n[broker]\nport = {broker_port}\nretry_max_s = 2\n']
    for line, port in enumerate(ports):
        parts.append(f'[[line]]\nname = "line-{line}"\nport = "{port}"\nbaud = {BAUD}\n')
        for address in range(1, STATIONS // LINES + 1):
            parts.append(f'[[line.station]]\nid = "station-{line}-{address}"\naddress = {address}\n')
    return "".join(parts)


def measure(records: int, minutes: float) -> list[Phase]:
    """Fill and empty the outbox; return what each phase took."""
    filling, emptying = Phase(f"filling to {records:,} records, no broker"), Phase("emptying, stations go on")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        started = stack.enter_context(source([], ALWAYS_MORE, serial_lines=LINES, most=records // STATIONS * 4))
        (broker_port,) = free_ports(1)
        (folder / "gateway.toml").write_text(configuration(broker_port, started.serial_ports))
        run = "from edge_gateway.commands import app; app()"
        argv = [sys.executable, "-c", run, "run", "--config", str(folder / "gateway.toml"), "--log", "json"]
        log = stack.enter_context((folder / "log").open("wb"))
        process = psutil.Popen(argv, stderr=log, cwd=Path(__file__).parents[1])
        stack.callback(process.wait)
        stack.callback(process.kill)
        _watch(process, filling, lambda: _buffered(folder) >= records, FILL_DEADLINE_S)
        filling.records = _buffered(folder)
        broker = Broker(folder, broker_port)
        stack.callback(broker.kill)
        broker.start()
        arrival = Arrival(broker_port)
        stack.callback(arrival.close)
        _watch(process, emptying, lambda: False, 60 * minutes)
        emptying.records = arrival.distinct
    return [filling, emptying]


def _watch(process: psutil.Popen, phase: Phase, is_over: Callable[[], bool], at_most_s: float) -> None:
    began = time.monotonic()
    while time.monotonic() - began < at_most_s and not is_over():
        if process.poll() is not None:
            raise Unavailable(f"the gateway ended with {process.returncode}")
        phase.note(process)
        wait(LOOK_S)
    phase.seconds = time.monotonic() - began


def _buffered(folder: Path) -> int:
    try:
        reader = OutboxReader(folder / "state" / "outbox.sqlite")
    except sqlite3.Error:  # it is not there yet
        return 0
    try:
        return sum(state.buffered for state in reader.series())
    except sqlite3.Error:
        return 0
    finally:
        reader.close()


def main() -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000, help="in the outbox before the broker comes")
    parser.add_argument("--minutes", type=float, default=10.0, help="at speed, with the broker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        phases = measure(options.records, options.minutes)
    except Unavailable as error:
        print(f"gateway-memory: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(phase) for phase in phases]))
    else:
        print(f"{STATIONS} stations on {LINES} lines{'seconds':>31}{'records':>12}{'RSS MB':>9}{'PSS MB':>9}")
        for phase in phases:
            row = f"{phase.seconds:>12.0f}{phase.records:>12,}{phase.rss_mb:>9.1f}{phase.pss_mb:>9.1f}"
            print(f"{phase.name:42}{row}")
    return 1 if any(phase.rss_mb > MOST_MB for phase in phases) else 0


if __name__ == "__main__":
    sys.exit(main())
