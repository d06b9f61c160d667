"""Wrong values that Modbus clients store on a bad line, side by side: ours on the board and on the gateway, and others.

Instruments whose registers name themselves (simulators.bad_bus) answer late, lost, doubled, damaged and mixed up. Every
client polls them as fast as it can, each on lines of its own, all at once:

    board      firmware.bus on MicroPython, the virtual board
    gateway    edge_gateway.line_client
    pymodbus   its ModbusSerialClient with its own retries (3) and the same timeout
    umodbus    micropython-modbus 2.3.7 of PyPI on the virtual board; its timeout, 208 ms, cannot be set

A poll is a question that went out, with all its retries; `held` counts questions that our clients did not ask, because
a late answer to another could have been taken for theirs. Ours must store no wrong value: otherwise the exit code is 1.

python -m benchmarks.late_answers --polls 100000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest

from benchmarks.clients import on_boards as boards
from edge_gateway.configuration import LineConfiguration
from edge_gateway.errors import LinkError
from edge_gateway.line_client import LineClient
from edge_gateway.transport import make_transport
from simulators.bad_bus import INSTRUMENTS, LENGTH, REGISTERS, BadBus, Badness
from simulators.errors import SimulatorError
from simulators.lines import terminals

BAUD = 115200
TIMEOUT_S = 0.04
OURS = ("board", "gateway")
SHARE_OF_OTHERS = 0.1  # of our polls: their wrong values show in fewer
LANES = {"board": 8, "gateway": 8, "pymodbus": 2, "umodbus": 4}


@dataclass
class Result:
    """What one client came to, over all its lines."""

    client: str
    polls: int = 0
    values: int = 0
    wrong: int = 0
    missed: int = 0
    held: int = 0
    questions: int = 0
    late_caught: int = 0
    seconds: float = 0.0

    def add(self, lane: dict[str, Any], seconds: float) -> None:
        """Add one line's counts."""
        for name, value in lane.items():
            setattr(self, name, getattr(self, name) + value)
        self.seconds = max(self.seconds, seconds)


class Buses:
    """All the bad lines, in a thread of their own."""

    def __init__(self, folder: Path, seed: int, badness: Badness) -> None:
        self._folder, self._seed, self._badness = folder, seed, badness
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="buses")
        self._stack = ExitStack()
        self._buses: dict[str, BadBus] = {}

    def __enter__(self) -> Buses:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for bus in self._buses.values():
            self._loop.call_soon_threadsafe(bus.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._stack.close()

    def add(self, name: str, timeout_s: float) -> Path:
        """Make a line and return the client's port on it."""
        fds = self._stack.enter_context(terminals(self._folder / name, ["client"]))
        asyncio.run_coroutine_threadsafe(self._start(name, fds["client"], timeout_s), self._loop).result()
        return self._folder / name / "client"

    async def _start(self, name: str, fd: int, timeout_s: float) -> None:
        self._buses[name] = BadBus(fd, timeout_s, 1000 * self._seed + len(self._buses), self._badness)
        self._buses[name].start()

    def happened(self, prefix: str) -> Counter[str]:
        """Return what happened on the lines whose name begins so."""
        return sum((bus.counters for name, bus in self._buses.items() if name.startswith(prefix)), Counter())


def ask_by_gateway(port: str, polls: int) -> dict[str, int]:
    """Poll with the gateway's client; return the counts."""
    line = LineConfiguration.model_validate(
        {"name": "bench", "port": port, "baud": BAUD, "timeout_s": TIMEOUT_S, "station": [{"id": "x", "address": 1}]}
    )
    client, count = LineClient(make_transport(line), line.timeout_s, line.baud), Counter[str]()
    client.open()
    for address, register in _round(count, polls):
        counters = client.counters(address)
        held = counters.held
        try:
            answer = client.ask(ReadHoldingRegistersRequest(dev_id=address, address=register, count=LENGTH), retries=1)
        except LinkError:
            count["held" if counters.held > held else "missed"] += 1
            time.sleep(0.001)
            continue
        _judge(count, answer.registers[0], address, register)
    client.close()
    count["questions"] = sum(client.counters(address).questions for address in INSTRUMENTS)
    count["late_caught"] = sum(client.counters(address).late_answers for address in INSTRUMENTS)
    return count


def ask_by_pymodbus(port: str, polls: int) -> dict[str, int]:
    """Poll with pymodbus as it comes; return the counts."""
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    client, count = ModbusSerialClient(port, baudrate=BAUD, timeout=TIMEOUT_S), Counter[str]()
    client.connect()
    for address, register in _round(count, polls):
        try:
            answer = client.read_holding_registers(register, count=LENGTH, device_id=address)
        except ModbusException:
            count["missed"] += 1
            continue
        if answer.isError() or not answer.registers:
            count["missed"] += 1
            continue
        _judge(count, answer.registers[0], address, register)
    client.close()  # type: ignore[no-untyped-call]  # pymodbus gives it no types
    return count


def _round(count: Counter[str], polls: int) -> Iterator[tuple[int, int]]:
    """Yield instrument and register, in turn, until there were so many polls."""
    while True:
        for address in INSTRUMENTS:
            for register in REGISTERS:
                count["polls"] = count["values"] + count["missed"]
                if count["polls"] >= polls:
                    return
                yield address, register


def _judge(count: Counter[str], name: int, address: int, register: int) -> None:
    count["values"] += 1
    count["wrong"] += name != address << 8 | register


@contextmanager
def _worker(client: str, port: Path, polls: int) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "benchmarks.late_answers", "--worker", client, str(port), "--polls", str(polls)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def measure(polls: dict[str, int], lanes: dict[str, int], seed: int, badness: Badness) -> dict[str, Result]:
    """Run all clients in `polls` at once; return what they came to. Raises SimulatorError without a virtual board."""
    results = {client: Result(client) for client in polls}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = {client: boards.image(folder, client) for client in polls if client in boards.PROGRAMS}
        buses = stack.enter_context(Buses(folder, seed, badness))
        waiting = []
        for client, number in polls.items():
            share = -(-number // lanes[client])
            timeout_s = boards.UMODBUS_TIMEOUT_S if client == "umodbus" else TIMEOUT_S
            for lane in range(lanes[client]):
                port = buses.add(f"{client}-{lane}", timeout_s)
                if client in images:
                    run = stack.enter_context(boards.running(images[client], port, lane, share, TIMEOUT_S))
                    waiting.append((client, run.result))
                else:
                    process = stack.enter_context(_worker(client, port, share))
                    waiting.append((client, partial(_told, process)))
        began = time.monotonic()
        _collect(waiting, results, began)
        for client, result in results.items():
            result.questions = buses.happened(client)["questions"]
    return results


def _told(process: subprocess.Popen[str]) -> Any:
    return json.loads(process.communicate()[0])


def _collect(waiting: list[tuple[str, Any]], results: dict[str, Result], began: float) -> None:
    def take(client: str, result: Any) -> None:
        lane = result()
        with lock:
            results[client].add(lane, time.monotonic() - began)

    lock = threading.Lock()
    threads = [threading.Thread(target=take, args=entry) for entry in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def show(results: dict[str, Result]) -> None:
    """Print the table."""
    heads = ("client", "polls", "values", "wrong", "missed", "held", "questions", "late caught", "seconds")
    print("".join(f"{head:>12}" for head in heads))
    for r in results.values():
        row = (r.client, r.polls, r.values, r.wrong, r.missed, r.held, r.questions, r.late_caught)
        print("".join(f"{value:>12}" for value in row) + f"{r.seconds:>12.0f}")


def main() -> int:
    """Run the benchmark, or one client of it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polls", type=int, default=100_000, help="of each of our clients; a tenth of the others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clients", default="board,gateway,pymodbus,umodbus")
    parser.add_argument("--worker", nargs=2, metavar=("CLIENT", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        ask = {"gateway": ask_by_gateway, "pymodbus": ask_by_pymodbus}[options.worker[0]]
        print(json.dumps(ask(options.worker[1], options.polls)))
        return 0
    clients = options.clients.split(",")
    polls = {name: options.polls if name in OURS else int(options.polls * SHARE_OF_OTHERS) for name in clients}
    try:
        results = measure(polls, LANES, options.seed, Badness())
    except SimulatorError as error:
        print(f"late-answers: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([vars(result) for result in results.values()]))
    else:
        show(results)
    return 1 if any(results[name].wrong for name in OURS if name in results) else 0


if __name__ == "__main__":
    sys.exit(main())
