"""What SCADA reads of a station at the gateway: the station's own register map, filled from what was heard of it.

The map is firmware.registers, printed in firmware/REGISTERS.md. A live value is that of the newest record of its
channel; one that has grown old counts as none (flag 9), because whoever reads registers sees no time beside the value.
The clock is the gateway's. Where it does not know what a station would say (uptime, versions), 0 stands.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_gateway.contacts import Contact
from edge_gateway.slices import EARLIEST_BELIEVABLE_S, Slice
from firmware import registers
from firmware.record import (
    CLOCK_UNSET_BELOW,
    EVENT_BOOT,
    EVENT_CONFIGURATION,
    LAST_EVENT,
    MISSING,
    NO_VALUE,
    SIZE,
    Record,
    decode,
)
from station_config.clock import Clock
from station_config.parameters import load_parameters

Channel = tuple[int, int]
"""sensor, parameter code"""
NOTHING_BEHIND = struct.pack(">HHI", 0xFFFF, 0xFFFF, 0xFFFFFFFF)
MOST_CHANNELS = (registers.LIVE_END - registers.LIVE) // registers.LIVE_SIZE
OWN = 0  # the sensor that is the station itself
# Status registers that a station's own records tell: register -> (parameter of sensor 0, divisor: one decimal)
TOLD = {
    15: (EVENT_BOOT, 1),
    17: (18, 10),
    18: (EVENT_CONFIGURATION, 1),
    20: (22, 1),
    22: (19, 1),
    24: (20, 1),
    26: (21, 1),
}


@dataclass(frozen=True)
class _Heard:
    record: Record
    journal: int
    at: float  # host time when it came

    def is_older_than(self, other: _Heard) -> bool:
        mine, others = self.record, other.record
        if self.journal == other.journal:
            return bool(mine.seq < others.seq)
        return bool(max(mine.time, CLOCK_UNSET_BELOW) <= max(others.time, CLOCK_UNSET_BELOW))

    def age_s(self, now: float) -> float:
        return now - (self.at if self.record.time < CLOCK_UNSET_BELOW else self.record.time)


class LiveValues:
    """The newest record of each channel of each station. Any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: dict[str, dict[Channel, _Heard]] = {}
        self._lock = threading.Lock()

    def take(self, pieces: Sequence[Slice]) -> None:
        """Note the records of slices, in whatever order they come."""
        now = self._clock.now()
        with self._lock:
            for piece in pieces:
                station = self._heard.setdefault(piece.series.station, {})
                for at in range(0, len(piece.records), SIZE):
                    record = decode(piece.records, at)
                    heard = _Heard(record, piece.series.journal, now)
                    before = station.get((record.sensor, record.parameter))
                    if before is None or before.is_older_than(heard):
                        station[record.sensor, record.parameter] = heard

    def of(self, station: str) -> dict[Channel, _Heard]:
        """Return a station's channels as they are now."""
        with self._lock:
            return dict(self._heard.get(station, {}))


class StationImage:
    """One station's registers. `channels` in the order of its configuration; None where nobody knows it: by number."""

    def __init__(
        self,
        station: str,
        channels: Sequence[Channel] | None,
        live: LiveValues,
        contact: Callable[[], Contact],
        clock: Clock,
        stale_s: float,
    ) -> None:
        self.station = station
        self._channels = channels
        self._live = live
        self._contact = contact
        self._clock = clock
        self._stale_s = stale_s

    def read_input(self, first: int, count: int) -> list[int] | None:
        """Return input registers, None where there are none."""
        if first + count <= registers.INPUT_END:
            return self._filled(registers.INPUT, registers.INPUT_END, first, count)
        if first >= registers.LIVE and first + count <= registers.LIVE_END:
            image = self._live_image()
            begin = 2 * (first - registers.LIVE)
            return list(struct.unpack(f">{count}H", image[begin : begin + 2 * count]))
        return None

    def read_holding(self, first: int, count: int) -> list[int] | None:
        """Return holding registers, None where there are none: of those of a station only its clock."""
        if first + count > registers.HOLDING_END:
            return None
        return self._filled(registers.HOLDING, registers.HOLDING_END, first, count)

    def _filled(self, table: Sequence[tuple[int, int, object]], end: int, first: int, count: int) -> list[int]:
        image = bytearray(2 * end)
        values = self._input_values() if table is registers.INPUT else self._holding_values()
        for register, words, _ in table:
            registers.put_words(image, 2 * register, values.get(register, 0), words)
        return list(struct.unpack(f">{count}H", image[2 * first : 2 * (first + count)]))

    def _input_values(self) -> dict[int, int | str]:
        """Return what is known of the status block, by first register."""
        contact, heard, now = self._contact(), self._live.of(self.station), self._clock.now()
        return {
            0: registers.MAGIC,
            1: registers.MAP_VERSION,
            2: contact.journal or 0,
            4: contact.first_seq or 0,
            6: contact.next_seq or 0,
            8: contact.acknowledged or 0,
            10: max(0, int(now)),
            12: int(now >= EARLIEST_BELIEVABLE_S),
            40: self.station,
            **{register: _told(heard, code) // divisor for register, (code, divisor) in TOLD.items()},
        }

    def _holding_values(self) -> dict[int, int | str]:
        return {0: max(0, int(self._clock.now()))}

    def _live_image(self) -> bytes:
        heard, now = self._live.of(self.station), self._clock.now()
        known = sorted(channel for channel in heard if channel[0] != OWN and channel[1] > LAST_EVENT)
        channels = list(known if self._channels is None else self._channels)[:MOST_CHANNELS]
        blocks = [self._block(channel, heard.get(channel), now) for channel in channels]
        return b"".join([*blocks, NOTHING_BEHIND * (MOST_CHANNELS - len(blocks))])

    def _block(self, channel: Channel, heard: _Heard | None, now: float) -> bytes:
        value, flag = math.nan, NO_VALUE
        if heard is not None and heard.age_s(now) <= self._stale_s and heard.record.count != MISSING:
            value, flag = _in_units(heard.record), heard.record.flag
        return struct.pack(">BBHf", *channel, flag, value)


def _told(heard: Mapping[Channel, _Heard], code: int) -> int:
    """Return a count the station recorded of itself, 0 when nothing was heard."""
    said = heard.get((OWN, code))
    return 0 if said is None or said.record.count == MISSING else max(0, said.record.count)


def _in_units(record: Record) -> float:
    parameter = load_parameters().by_code.get(record.parameter)
    return math.nan if parameter is None else record.count / 10**parameter.decimals
