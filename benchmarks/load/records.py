"""A network of like stations, and their records as batches: every channel once a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cloud_ingest.decode import RECORD_DTYPE, crc16_of
from cloud_ingest.topics import shard_of
from firmware.record import batch_header

NETWORK = Path(__file__).parents[2] / "simulators" / "demo_network.toml"
T0 = 1_771_000_020
GATEWAY = "gw"
# sensor, parameter, count: a conductivity probe, a level sensor, a weather station; 13 channels
CHANNELS = np.array(
    [
        *((1, 32, 2750), (1, 34, 12500), (2, 35, 300), (2, 32, 2740)),
        *((3, 64, 2900), (3, 65, 800), (3, 66, 101000), (3, 67, 300), (3, 68, 1800)),
        *((3, 69, 500), (3, 70, 100), (3, 71, 40000), (3, 72, 50)),
    ]
)
_STATION = """
[[stations]]
id = "{id}"
name_vi = "{id}"
name_en = "{id}"
latitude = 10.36
longitude = 106.42
river = "Tiền"
river_km = {km}
gateway = "gw"
address = {address}
sample_interval_s = 10
record_interval_s = 60
sensors = [
  {{ number = 1, instrument = "yosemitech-y520", address = 1 }},
  {{ number = 2, instrument = "keller-acculevel", address = 2, elevation_m = -{elevation} }},
  {{ number = 3, instrument = "ecowitt-wn90lp", address = 144 }},
]
"""


class Message(NamedTuple):
    """A batch on its topic."""

    topic: str
    payload: bytes


def station_ids(number: int) -> list[str]:
    """Return the ids of so many stations."""
    return [f"s{at:03d}" for at in range(number)]


def network(stations: int) -> str:
    """Return network.toml."""
    each = (
        _STATION.format(id=name, km=1.0 + at / 10, address=1 + at % 200, elevation=f"{2 + at % 9 / 10:.1f}")
        for at, name in enumerate(station_ids(stations))
    )
    return f'name = "Benchmark"\n[[gateways]]\nid = "{GATEWAY}"\n' + "".join(each)


def batch(first_seq: int, number: int) -> bytes:
    """Return a batch of one journal."""
    at = first_seq - 1 + np.arange(number)
    records = np.zeros(number, RECORD_DTYPE)
    records["version"], records["seq"], records["flag"] = 1, at + 1, 2
    records["time"] = T0 + 60 * (at // len(CHANNELS))
    records["sensor"], records["parameter"], records["count"] = CHANNELS[at % len(CHANNELS)].T
    records["crc"] = crc16_of(records)
    return bytes(batch_header(7, number)) + records.tobytes()


def messages(size: int, records: int, stations: int) -> Iterator[Message]:
    """Yield batches of `size`, station by station, `records` in all or a little fewer."""
    topics = [f"tram/v1/records/{shard_of(name)}/{GATEWAY}/{name}" for name in station_ids(stations)]
    for at in range(max(records // (size * stations), 1)):
        payload = batch(1 + at * size, size)
        for topic in topics:
            yield Message(topic, payload)
