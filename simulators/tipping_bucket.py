"""A tipping bucket: rain of the simulated weather, or by order, as a contact on a board's pin.

    rain (mm since the year began) -> a tip each per_tip_mm -> the contact closes for a tenth of a second, and bounces

The bucket tips in real time, because the board's debounce is real: what falls faster than it can tip waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from simulators.board import drive_pin
from station_config.clock import Clock

OPEN, CLOSED = 1, 0
_CLOSED_S = 0.10
_REST_S = 0.15  # before it can tip again: longer than any debounce
_BOUNCES_S = (0.001, 0.002, 0.002, 0.003)  # how long the contact keeps each level, once moved
_LOOK_S = 0.05


class TippingBucket:
    """One bucket. `rain_mm` is asked with bench time; `pins` is the FIFO of the board."""

    def __init__(
        self, pins: Path, pin: int, per_tip_mm: float, rain_mm: Callable[[float], float], clock: Clock
    ) -> None:
        self.pin = pin
        self.tips = 0  # since it stands there; those that nobody counted included
        self._pins = pins
        self._per_tip_mm = per_tip_mm
        self._rain_mm = rain_mm
        self._clock = clock
        self._fallen_mm = rain_mm(clock.now())
        self._held_mm = 0.0

    def pour(self, millimetres: float) -> None:
        """Let so much rain fall into it at once."""
        self._held_mm += millimetres

    async def run(self) -> None:
        """Tip until cancelled."""
        while True:
            self._collect()
            if self._held_mm < self._per_tip_mm * (1 - 1e-9):
                await asyncio.sleep(_LOOK_S)
                continue
            self._held_mm -= self._per_tip_mm
            await self._tip()

    def _collect(self) -> None:
        fallen_mm = self._rain_mm(self._clock.now())
        self._held_mm += max(0.0, fallen_mm - self._fallen_mm)  # at New Year the count begins again
        self._fallen_mm = fallen_mm

    async def _tip(self) -> None:
        await self._move(CLOSED)
        await asyncio.sleep(_CLOSED_S)
        await self._move(OPEN)
        await asyncio.sleep(_REST_S)
        self.tips += 1

    async def _move(self, level: int) -> None:
        """Change the contact's level, as metal does: there and back some times."""
        now = level
        for pause_s in _BOUNCES_S:
            self._drive(now)
            now = OPEN + CLOSED - now
            await asyncio.sleep(pause_s)
        self._drive(level)

    def _drive(self, level: int) -> None:
        try:
            drive_pin(self._pins, self.pin, level)
        except OSError:  # the board is off, or not there yet: nobody counts
            return
