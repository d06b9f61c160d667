"""Real ports without hardware: pseudo-terminals that stand for a board's console, two RS-485 adapters and a relay.

The board behind them is the virtual one; it has power while the relay is closed. With it the options of a real bench
can be tried on any machine:

    with PtyBench(folder, speed=60) as ports:
        subprocess.run(["tram-sim", "bench", "scenarios", *ports.options])
"""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from simulators.board import BoardSettings, VirtualBoard
from simulators.relay_board import RelayBoard
from simulators.wire import Wire


class PtyBench:
    """Use as a context manager. `switched` is what the relay was told, in order, after the power it begins with."""

    def __init__(self, folder: Path, speed: float) -> None:
        self.switched: list[bool] = []
        self._folder, self._speed = folder, speed
        self._orders: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        bus, uplink = (self._undo.enter_context(Wire(self._folder / name)) for name in ("bus", "uplink"))
        settings = BoardSettings(
            flash=self._folder / "flash",
            uarts={1: bus.ends["board"], 2: uplink.ends["board"]},
            console_link=self._folder / "console",
            rate=self._speed,
        )
        power = threading.Thread(target=self._power, args=(VirtualBoard(settings),), name="power")
        power.start()
        self._undo.callback(power.join)
        self._undo.callback(self._orders.put, None)
        self._orders.put(True)
        self._relay = self._undo.enter_context(RelayBoard(self._folder / "plug", self._switch, "modbus", 0))
        self._ports = {"board": settings.console_link, "bus": bus.ends["gateway"], "uplink": uplink.ends["gateway"]}
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def options(self) -> list[str]:
        """The options of `tram-sim bench` for these ports."""
        ports = [f"--{name}={port}" for name, port in self._ports.items()]
        return [*ports, f"--relay=modbus:{self._relay.port}#0", f"--speed={self._speed:g}"]

    def _switch(self, closed: bool) -> None:
        self.switched.append(closed)
        self._orders.put(closed)

    def _power(self, board: VirtualBoard) -> None:
        """Do what the relay says, from a thread that outlives the board: the kernel ends a board with its thread."""
        has_power = False
        while (wanted := self._orders.get()) is not None:
            if wanted and not has_power:
                board.start()
            elif not wanted:
                board.power_cut()
            has_power = wanted
        board.stop()
