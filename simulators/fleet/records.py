"""The records of a whole fleet for one round, in one go: what stations would have measured, as their bytes.

The layout and the checksum are written here a second time on purpose: what decodes them in the cloud is under test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from firmware.record import NOT_EVALUATED, SIZE, VERSION, batch_header, crc16
from simulators.fleet.plan import CHANNELS, FleetPlan

_BODY_BYTES = SIZE - 2
_DTYPE = np.dtype(
    [
        ("version", "u1"),
        ("seq", "<u4"),
        ("time", "<u4"),
        ("count", "<i4"),
        ("sensor", "u1"),
        ("parameter", "u1"),
        ("flag", "u1"),
        ("crc", "<u2"),
    ]
)
_CRC_STEP = np.array([crc16(bytes((byte,)), 0) for byte in range(256)], np.uint16)


class Fleet:
    """Makes the batches; the same plan gives the same bytes, in whatever order rounds are asked for."""

    def __init__(self, plan: FleetPlan) -> None:
        self._plan = plan
        self._channels = CHANNELS[: plan.channels]
        shape = (plan.stations, plan.gather, plan.channels)
        blank = np.zeros(shape, _DTYPE)
        blank["version"], blank["flag"] = VERSION, NOT_EVALUATED
        blank["sensor"] = [channel.sensor for channel in self._channels]
        blank["parameter"] = [channel.parameter for channel in self._channels]
        self._blank = blank
        self._phases = np.random.default_rng(plan.seed).uniform(0, 2 * math.pi, (plan.stations, 1, 1))
        self._headers = [bytes(batch_header(plan.journal(at), plan.batch_records)) for at in range(plan.stations)]

    def round(self, number: int) -> Iterator[bytes]:
        """Yield one batch for each station."""
        plan = self._plan
        records = self._blank.copy()
        interval = number * plan.gather + np.arange(plan.gather)
        times = plan.start_s + (interval + 1) * plan.interval_s
        records["time"] = times[:, None]
        records["seq"] = 1 + interval[:, None] * plan.channels + np.arange(plan.channels)
        records["count"] = self._counts(number, times)
        flat = records.reshape(-1)
        flat["crc"] = _crc(flat)
        raw, size = flat.tobytes(), SIZE * plan.batch_records
        return (header + raw[at * size : (at + 1) * size] for at, header in enumerate(self._headers))

    def _counts(self, number: int, times: NDArray[np.int64]) -> NDArray[np.int64]:
        base, amplitude, period, noise = np.array([channel[2:] for channel in self._channels]).T
        wave = np.sin(2 * math.pi * times[:, None] / period + self._phases)
        jitter = np.random.default_rng((self._plan.seed, number)).standard_normal(wave.shape)
        counts: NDArray[np.int64] = np.rint(base + amplitude * wave + noise * jitter).astype(np.int64)
        return counts


def _crc(records: NDArray[np.void]) -> NDArray[np.uint16]:
    """Return the CRC-16/MODBUS of the first 16 bytes of each record, column by column."""
    columns = np.ascontiguousarray(records.view(np.uint8).reshape(-1, SIZE)[:, :_BODY_BYTES].T)
    crc = np.full(len(records), 0xFFFF, np.uint16)
    for column in columns:
        crc = (crc >> 8) ^ _CRC_STEP[(crc & 0xFF) ^ column]
    return crc
