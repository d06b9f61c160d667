"""One pair of wires between two programs: what one end writes the other reads. More ends, and faults: lines.py.

with Wire(folder) as wire:
    BoardSettings(uarts={2: wire.ends["board"]}, ...)
    StationClient(wire.ends["gateway"], 11)
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import ExitStack
from pathlib import Path

from simulators.lines import CHUNK_BYTES, terminals

ENDS = ("gateway", "board")


class Wire:
    """Use as a context manager; `ends` are the paths of its terminals."""

    def __init__(self, folder: Path) -> None:
        self.ends = {end: folder / end for end in ENDS}
        self._folder = folder
        self._undo = ExitStack()

    def __enter__(self) -> Wire:
        fds = self._undo.enter_context(terminals(self._folder, list(ENDS)))
        told_to_stop, stop = os.pipe()
        carrier = threading.Thread(target=_carry, args=(fds["gateway"], fds["board"], told_to_stop), daemon=True)
        carrier.start()
        self._undo.callback(os.close, told_to_stop)
        self._undo.callback(carrier.join)
        self._undo.callback(os.close, stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()


def _carry(one: int, other: int, stop: int) -> None:
    while True:
        ready, _, _ = select.select([one, other, stop], [], [])
        if stop in ready:
            return
        for fd in ready:
            data = os.read(fd, CHUNK_BYTES)
            try:
                os.write(other if fd == one else one, data)
            except BlockingIOError:
                continue  # nobody reads at the other end
