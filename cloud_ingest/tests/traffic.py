"""Most of a day of several stations as the broker delivers it: seeded, with everything that goes wrong in the field.

Duplicates, late batches, a board that was swapped and whose successor measured the same minutes, clocks not yet set,
damaged records, unknown parameters, batches that never came and were declared lost, bytes that are no batch.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from cloud_ingest.tests.field import EC25, NETWORK, PRESSURE, WATER_TEMPERATURE, batch, damaged, records_topic
from firmware.record import EVENT_BOOT, EVENT_CLOCK_SET, Record

BEGIN = 1_771_038_000  # 2026-02-14 10:00 in Vietnam; midnight is within
MINUTES = 16 * 60
PRESENT = BEGIN + MINUTES * 60 + 600
WIND_SPEED, WIND_FROM, RAIN = 67, 68, 70
UNKNOWN_PARAMETER = 120
SWAPPED_AT, MEASURED_TWICE = 500, 7
BOOT_S = 300
BATCH = 60

STATIONS = ("xuan-hoa", "vam-kenh", "long-dinh", "my-hanh-a")  # shards on both halves
NETWORK_OF_FOUR = NETWORK + "".join(
    NETWORK.partition("[[stations]]")[2]
    .partition("[[stations]]")[0]
    .join(("[[stations]]", ""))
    .replace('id = "xuan-hoa"', f'id = "{name}"')
    .replace("address = 11", f"address = {address}")
    for name, address in (("long-dinh", 13), ("my-hanh-a", 14))
)


class Sent(NamedTuple):
    """A message on its way."""

    topic: str
    payload: bytes


@dataclass
class Board:
    """One board's journal."""

    station: str
    journal: int
    chance: random.Random
    records: list[Record] = field(default_factory=list)

    def add(self, time_s: int, count: int, sensor: int, parameter: int, flag: int = 2) -> None:
        self.records.append(Record(len(self.records) + 1, time_s, count, sensor, parameter, flag))

    def minute(self, time_s: int, at: int) -> None:
        chance = self.chance
        salt = 12_500 + round(6_000 * abs((at % 745) / 372 - 1)) + chance.randint(-40, 40)
        self.add(time_s, 2_800 + at % 97, 1, WATER_TEMPERATURE)
        if chance.random() < 0.98:
            self.add(time_s, 60_001 if chance.random() < 0.01 else salt, 1, EC25, 4 if chance.random() < 0.01 else 2)
        if at % 5 == 0:
            self.add(time_s, 1_400 + at % 31, 2, PRESSURE)
            self.add(time_s, chance.randint(0, 900), 9, WIND_SPEED)
            self.add(time_s, chance.randint(0, 359), 9, WIND_FROM)
            self.add(time_s, at // 7, 9, RAIN)

    def begin_without_a_clock(self, at: int) -> None:
        """Ten minutes from the boot until somebody tells the time."""
        boot_time_s = BEGIN + 60 * at - BOOT_S
        self.add(1, 1, 0, EVENT_BOOT)
        for minute in range(10):
            self.minute(BOOT_S + 60 * minute, at + minute)
        self.add(BEGIN + 60 * (at + 10), boot_time_s, 0, EVENT_CLOCK_SET)


def _station(station: str, number: int, seed: int) -> Iterator[tuple[float, Sent]]:
    """Yield (when it arrives, message)."""
    chance = random.Random(f"{seed} {station}")
    first = Board(station, 0x1000 + number, chance)
    second = Board(station, 0xF0000000 + number, chance)
    for at in range(SWAPPED_AT):
        first.minute(BEGIN + 60 * at, at)
    second.begin_without_a_clock(SWAPPED_AT - MEASURED_TWICE)
    for at in range(SWAPPED_AT - MEASURED_TWICE + 10, MINUTES):
        second.minute(BEGIN + 60 * at, at)
    first.add(BEGIN + 60 * SWAPPED_AT, 55, 1, UNKNOWN_PARAMETER)
    for board, begin in ((first, 0), (second, SWAPPED_AT)):
        batches = [board.records[at : at + BATCH] for at in range(0, len(board.records), BATCH)]
        per_batch = MINUTES / (len(batches) + 1)
        for at, records in enumerate(batches):
            yield from _fate(station, board, records, begin + at * per_batch / 2, at, chance)


def _fate(
    station: str, board: Board, records: list[Record], at: float, number: int, chance: random.Random
) -> Iterator[tuple[float, Sent]]:
    payload = batch(records, board.journal)
    one = Sent(records_topic(station), payload)
    if number == 5:
        yield at, _declared(station, board.journal, records)
        return
    if number == 7:
        yield at, Sent(one.topic, damaged(payload, 3))
        yield at + 200, one  # the gateway reads it again
    elif number == 9:
        yield at, Sent(one.topic, b"TRB1 and then nothing")
    yield at + (500 * chance.random() if chance.random() < 0.15 else 0), one
    if chance.random() < 0.15:
        yield at + 900 * chance.random(), one


def _declared(station: str, journal: int, records: list[Record]) -> Sent:
    said = {"station": station, "journal": journal, "reason": "outbox full"}
    lost = [[records[0].seq, records[-1].seq]]
    payload = {"id": f"loss-{station}-{journal:x}", "at": BEGIN, **said, "ranges": lost}
    return Sent("tram/v1/losses/gw-mytho", json.dumps(payload).encode())


def traffic(seed: int = 1, stations: tuple[str, ...] = STATIONS) -> list[Sent]:
    """Return all messages in the order of their arrival."""
    arriving = [one for number, station in enumerate(stations) for one in _station(station, number, seed)]
    arriving.sort(key=lambda one: one[0])
    return [message for _, message in arriving]
