"""How fast a station's backlog comes in over the uplink: three stations on one pair at 9600 baud, the real gateway.

The stations are virtual boards that write twelve records a minute. The first one has been away from the gateway: its
clock runs fast until its journal holds `--records`, then all three run in real time on a line that carries 960
characters a second (simulators.lines), with `tram-gateway run` at its end; there is no broker, so the outbox keeps all.

What is measured is records per second while the backlog lasts. From that follows how long the backlog of 24 hours
takes, during which new records go on coming; beside it stands what the protocol's arithmetic allows at most.

python -m benchmarks.backlog --records 3000
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edge_gateway.outbox_reader import OutboxReader
from simulators.board import BoardSettings, VirtualBoard
from simulators.errors import SimulatorError
from simulators.virtual_board.build import build
from station_config.board import board_configuration, encode
from station_config.flash import board_files, flash
from station_config.network import load_network

NETWORK = Path(__file__).parents[1] / "simulators" / "demo_network.toml"
STATIONS = {"vam-kenh": 11, "hoa-binh": 12, "xuan-hoa": 13}
BAUD = 9600
PARAMETERS = 12
DAY_RECORDS = PARAMETERS * 24 * 60
FAST = 900.0  # how many times as fast the clock of the station with the backlog runs while it makes it
SETTLE_S = 15.0
DEADLINE_S = 600.0

# The arithmetic of one fetch (FC 23): characters of question and answer, and what both sides wait on the way.
RECORDS_PER_FETCH = 13
FETCH_CHARACTERS = 25 + 5 + 18 * RECORDS_PER_FETCH
BITS_PER_CHARACTER = 10
QUIET_S = 0.015 + 4 * 11 / BAUD  # the gateway's: after an answer, before a question
# Each turn of 2 s asks for a status (8 + 60 characters); then each other station has a turn: a status, a fetch of a few
# records now and then.
TURN_S = 2.0
STATUS_CHARACTERS = 8 + 5 + 2 * 28


def bound_records_per_s(other_stations: int) -> float:
    """Return what the line allows when nobody thinks: no latency of the station, no missed question."""
    fetch_s = FETCH_CHARACTERS * BITS_PER_CHARACTER / BAUD + QUIET_S
    status_s = STATUS_CHARACTERS * BITS_PER_CHARACTER / BAUD + QUIET_S
    return RECORDS_PER_FETCH / fetch_s * (TURN_S - status_s) / (TURN_S + other_stations * status_s)


def drain_minutes(records_per_s: float, backlog: int = DAY_RECORDS) -> float:
    """Return how long a backlog takes at this rate, with new records coming all the while."""
    return backlog / (records_per_s - PARAMETERS / 60) / 60


class Rig:
    """The lines, the boards and the gateway in one folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        lines = {"uplink": ["gateway", *STATIONS], "none": ["a", *(f"bus-{station}" for station in STATIONS)]}
        configuration = {"dir": str(folder / "lines"), "socket": str(folder / "lines.sock"), "baud": BAUD}
        (folder / "lines.json").write_text(json.dumps({**configuration, "lines": lines}))
        lines_process = self.start(sys.executable, "-m", "simulators.lines", "--config", str(folder / "lines.json"))
        assert lines_process.stdout is not None
        lines_process.stdout.readline()

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Run a program until the end of the bench."""
        return self._stack.enter_context(_program(list(argv)))

    def settings(self, station: str, rate: float) -> BoardSettings:
        """Return a board's settings; its instruments' line has no instruments on it."""
        uarts = {1: self._folder / "lines" / "none" / f"bus-{station}"}
        if rate == 1.0:
            uarts[2] = self._folder / "lines" / "uplink" / station
        return BoardSettings(flash=self._folder / f"{station}.flash", uarts=uarts, rate=rate)

    def flash(self, station: str) -> None:
        """Put firmware and configuration on a board: twelve parameters a minute, no health records."""
        content = board_configuration(load_network(NETWORK), station)
        content["health_every"] = 0
        fields = [fields for sensor in content["sensors"] for read in sensor["reads"] for fields in [read["fields"]]]
        while sum(map(len, fields)) > PARAMETERS:
            max(fields, key=len).pop()
        with VirtualBoard(self.settings(station, 60.0)) as board:
            board.console.wait_for(">>> ")
            flash(str(board.console_path), board_files(encode(content)))

    def make_backlog(self, station: str, records: int) -> None:
        """Let a station run fast and alone until it holds so many records."""
        with VirtualBoard(self.settings(station, FAST)):
            threading.Event().wait(records / PARAMETERS * 60 / FAST + 2.0)

    def run_gateway(self) -> Path:
        """Start `tram-gateway run`; return its outbox."""
        stations = "".join(f'[[line.station]]\nid = "{name}"\naddress = {at}\n' for name, at in STATIONS.items())
        (self._folder / "gateway.toml").write_text(
            f'id = "gw"\nstate_dir = "state"\npoll_interval_s = 1.0\n[broker]\nport = 9\n[[line]]\nname = "uplink"\n'
            f'port = "{self._folder}/lines/uplink/gateway"\nbaud = {BAUD}\n{stations}'
        )
        gateway = Path(sys.executable).with_name("tram-gateway")
        self.start(str(gateway), "run", "--config", str(self._folder / "gateway.toml"))
        return self._folder / "state" / "outbox.sqlite"


@contextmanager
def _program(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1], env=dict(os.environ)
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        if process.stdout:
            process.stdout.close()


def stored(outbox: Path) -> dict[str, int]:
    """Return how far each station is stored in the gateway's outbox."""
    if not outbox.exists():
        return {}
    reader = OutboxReader(outbox)
    try:
        return {state.series.station: state.stored_through for state in reader.series()}
    finally:
        reader.close()


def _wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        if time.monotonic() > deadline:
            raise SimulatorError(f"the backlog does not move within {DEADLINE_S:.0f} s")
        threading.Event().wait(0.1)


def measure(records: int) -> dict[str, Any]:
    """Make a backlog and let it drain; return the figures. Raises SimulatorError."""
    build()
    late = next(iter(STATIONS))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rig = Rig(folder, stack)
        for station in STATIONS:
            rig.flash(station)
        rig.make_backlog(late, records)
        for station in STATIONS:
            stack.enter_context(VirtualBoard(rig.settings(station, 1.0))).console.wait_for("next_seq=")
        outbox = rig.run_gateway()
        _wait_for(lambda: stored(outbox).get(late, 0) > 0.1 * records)  # the first turn, clocks set, is left out
        first, began = stored(outbox), time.monotonic()
        _wait_for(lambda: stored(outbox)[late] >= 0.9 * records)
        seconds, last = time.monotonic() - began, stored(outbox)
    rate = (last[late] - first[late]) / seconds
    return {
        "records": last[late] - first[late],
        "seconds": round(seconds, 1),
        "records_per_s": round(rate, 1),
        "bound_records_per_s": round(bound_records_per_s(len(STATIONS) - 1), 1),
        "day_records": DAY_RECORDS,
        "day_minutes": round(drain_minutes(rate), 1),
        "bound_minutes": round(drain_minutes(bound_records_per_s(len(STATIONS) - 1)), 1),
        "others_stored": {name: last.get(name, 0) - first.get(name, 0) for name in STATIONS if name != late},
    }


def main() -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=3000, help="of backlog to make and drain")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        found = measure(options.records)
    except SimulatorError as error:
        print(f"backlog: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{found['records']} records of one station in {found['seconds']} s: {found['records_per_s']} records/s")
    print(f"the line allows at most {found['bound_records_per_s']} records/s beside two other stations")
    print(
        f"24 hours of {PARAMETERS} parameters a minute, {DAY_RECORDS} records: {found['day_minutes']} minutes "
        f"(extrapolated; the bound is {found['bound_minutes']}); meanwhile the others stored {found['others_stored']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
