"""Times the ingest pipeline alone: decode, deduplicate, check, derive, durable SQLite; no broker.

python -m benchmarks.ingest --size 600 --records 300000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cloud_ingest.decode import RECORD_DTYPE, crc16_of
from cloud_ingest.ingest import Ingest
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from cloud_ingest.topics import shard_of
from cloud_ingest.worker import GROUP_BYTES
from firmware.record import batch_header
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

NETWORK = Path(__file__).parents[1] / "simulators" / "demo_network.toml"
T0 = 1_771_000_020
# sensor, parameter, count: a conductivity probe, a level sensor, a weather station, the board
CHANNELS = np.array(
    [
        *((1, 32, 2750), (1, 34, 12500), (2, 35, 30000), (2, 32, 2740)),
        *((3, 64, 2900), (3, 65, 800), (3, 66, 101000), (3, 67, 300), (3, 68, 1800)),
        *((3, 69, 500), (3, 70, 100), (3, 71, 40000), (3, 72, 50), (0, 16, 12500)),
    ]
)


class Message(NamedTuple):
    """A batch on its topic."""

    topic: str
    payload: bytes


def batch(first_seq: int, number: int) -> bytes:
    """Return a batch of one journal: every channel once a minute."""
    at = first_seq - 1 + np.arange(number)
    records = np.zeros(number, RECORD_DTYPE)
    records["version"], records["seq"], records["flag"] = 1, at + 1, 2
    records["time"] = T0 + 60 * (at // len(CHANNELS))
    records["sensor"], records["parameter"], records["count"] = CHANNELS[at % len(CHANNELS)].T
    records["crc"] = crc16_of(records)
    return bytes(batch_header(7, number)) + records.tobytes()


def groups(messages: list[Message]) -> Iterator[list[Message]]:
    """Yield the messages in groups as large as ingest takes them under load."""
    group: list[Message] = []
    size = 0
    for message in messages:
        group.append(message)
        size += len(message.payload)
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def main() -> None:
    """Print records per second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=600, help="records per batch")
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to be measured")
    options = parser.parse_args()
    registry = Registry(load_network(NETWORK), load_instruments(), load_parameters())
    stations = list(registry.stations)
    rounds = max(options.records // (options.size * len(stations)), 1)
    messages = [
        Message(f"tram/v1/records/{shard_of(station)}/gw/{station}", batch(1 + at * options.size, options.size))
        for at in range(rounds)
        for station in stations
    ]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, Store(Path(folder)) as store:
        ingest = Ingest(store, registry)
        start, cpu = time.perf_counter(), time.process_time()
        stored = sum(ingest.store_group(group, T0 + 1e8).counts.stored for group in groups(messages))
        elapsed_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    rates = f"{stored / elapsed_s:,.0f} records/s, {stored / cpu_s:,.0f} per CPU second"
    print(f"{stored} records in batches of {options.size}: {rates}")


if __name__ == "__main__":
    main()
