"""A relay board on a pseudo-terminal: does what it is told in the maker's bytes, late or not at all if it shall.

with RelayBoard(folder, on_switch=lambda closed: …, kind="lcus") as board:
    LcusRelay(str(board.port)).switch(True)
"""

from __future__ import annotations

import os
import select
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Self

from firmware.record import crc16
from simulators.lines import terminals
from simulators.relays import LCUS_START

ORDER_BYTES, REQUEST_BYTES = 4, 8
WRITE_COIL, ON, OFF, DEVICE_FAILURE = 5, 0xFF00, 0x0000, 4


class RelayBoard:
    """One relay. `refuses`: it does nothing and, on Modbus, says so; `late_s`: it answers so much later."""

    def __init__(
        self, folder: Path, on_switch: Callable[[bool], None], kind: Literal["lcus", "modbus"] = "lcus", number: int = 1
    ) -> None:
        self.port = folder / "relay"
        self.refuses = False
        self.late_s = 0.0
        self.orders: list[bool] = []
        self._folder, self._on_switch, self._kind, self._number = folder, on_switch, kind, number
        self._undo = ExitStack()
        self._heard = b""
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self._fd = self._undo.enter_context(terminals(self._folder, ["relay"]))["relay"]
        told_to_stop, stop = os.pipe()
        thread = threading.Thread(target=self._serve, args=(told_to_stop,), name="relay board", daemon=True)
        thread.start()
        self._undo.callback(os.close, told_to_stop)
        self._undo.callback(thread.join)
        self._undo.callback(os.close, stop)
        self._undo.callback(self._stopped.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _serve(self, stop: int) -> None:
        while True:
            ready, _, _ = select.select([self._fd, stop], [], [])
            if stop in ready:
                return
            self._heard += os.read(self._fd, 256)
            while self._take():
                pass

    def _take(self) -> bool:
        """Take one order off what was heard, or a byte that begins none; return whether there may be more."""
        size = ORDER_BYTES if self._kind == "lcus" else REQUEST_BYTES
        if len(self._heard) < size:
            return False
        order = self._heard[:size]
        closed = self._lcus(order) if self._kind == "lcus" else self._modbus(order)
        self._heard = self._heard[1 if closed is None else size :]
        if closed is not None and not self.refuses:
            self.orders.append(closed)
            self._on_switch(closed)
        if closed is not None and self._kind == "modbus":
            self._answer(order)
        return True

    def _lcus(self, order: bytes) -> bool | None:
        good = order[0] == LCUS_START and order[1] == self._number and order[3] == sum(order[:3]) & 0xFF
        return bool(order[2]) if good and order[2] in (0, 1) else None

    def _modbus(self, order: bytes) -> bool | None:
        address, function, coil, value = struct.unpack(">BBHH", order[:6])
        good = crc16(order) == 0 and (address, function, coil) == (1, WRITE_COIL, self._number)
        return value == ON if good and value in (ON, OFF) else None

    def _answer(self, order: bytes) -> None:
        self._stopped.wait(self.late_s)
        body = bytes((order[0], WRITE_COIL | 0x80, DEVICE_FAILURE)) if self.refuses else order[:6]
        os.write(self._fd, body + crc16(body).to_bytes(2, "little"))
