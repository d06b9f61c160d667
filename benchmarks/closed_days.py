"""What closed days of a station take on disk, series by series: the way of its records, then the review, then chunks.

A station of the model estuary as a network has them: the conductivity probe, level sensor and weather station of
load.records (13 channels) and an oxygen probe, every minute, with noise of a size that is assumed, one spike in 2,000
values and a calibration of the conductivity with drift. What follows from them is derived by the product.

python -m benchmarks.closed_days --days 30
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.load.records import CHANNELS, GATEWAY, T0, Message, network
from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.compaction import Compaction
from cloud_ingest.database import DATABASE, Database
from cloud_ingest.decode import RECORD_DTYPE, crc16_of
from cloud_ingest.ingest import Ingest
from cloud_ingest.registry import Registry
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.store import Store
from cloud_ingest.topics import shard_of
from firmware.record import batch_header
from simulators.estuary import Estuary, Place
from simulators.history import observed
from simulators.world import StationSurroundings
from station_config.calibration import Calibration
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.oxygen import oxygen_saturation
from station_config.parameters import load_parameters

STATION = "s000"
BATCH = 600
COARSE_S = 600  # the model is asked so often, and straight lines drawn between
_OXYGEN = '  { number = 4, instrument = "yosemitech-y504", address = 4 },\n]\n'
_NOISE = {
    "water_temperature": 0.02,
    "conductivity_25": 0.015,
    "water_pressure": 5e-5,
    "oxygen_saturation": 0.3,
    "air_temperature": 0.05,
    "relative_humidity": 0.5,
    "air_pressure": 0.1,
    "wind_speed": 0.5,
    "wind_speed_of_gust": 0.8,
    "wind_from_direction": 12.0,
    "illuminance": 300.0,
}

Values = npt.NDArray[np.float64]


def truth(times: npt.NDArray[np.int64]) -> dict[str, Values]:
    """Return what good instruments of the station would show at these times, by parameter."""
    around = StationSurroundings(Place(STATION, 20.0, -3.0, 0.0), Estuary(1), 1)
    coarse = np.arange(times[0] - COARSE_S, times[-1] + 2 * COARSE_S, COARSE_S)
    rows = [observed(around, float(time)) for time in coarse]
    shown = {name: np.interp(times, coarse, [row[name] for row in rows]) for name in rows[0]}
    light = np.cos(2 * np.pi * ((times + 7 * 3600) % 86400 / 86400 - 0.65))
    full = oxygen_saturation(5.8 + 1.3 * light, shown["water_temperature"], 5.0, 1010.0)
    return {**shown, "oxygen_saturation": np.asarray(full)}


def counts(days: int, chance: np.random.Generator) -> tuple[npt.NDArray[np.int64], list[tuple[int, int, Values]]]:
    """Return times, and sensor, parameter and counts of each channel."""
    times = T0 - T0 % 86400 + 60 * np.arange(1, 1 + 1440 * days)
    shown, by_code = truth(times), load_parameters().by_code
    found = []
    for sensor, code in [*CHANNELS[:, :2].tolist(), (4, 32), (4, 39)]:
        parameter = by_code[code]
        values = shown.get(parameter.name, np.zeros(len(times)))
        noisy = values + chance.normal(0, _NOISE.get(parameter.name, 0.0), len(times))
        noisy = np.clip(noisy, parameter.valid_min, parameter.valid_max)
        if parameter.name in _NOISE:
            noisy[chance.random(len(times)) < 0.0005] *= 1.5
        found.append((sensor, code, np.rint(noisy * 10.0**parameter.decimals)))
    return times, found


def messages(days: int) -> Iterator[Message]:
    """Yield the station's batches."""
    times, channels = counts(days, np.random.default_rng(1))
    records = np.zeros((len(times), len(channels)), RECORD_DTYPE)
    records["version"], records["flag"], records["time"] = 1, 2, times[:, None]
    for at, (sensor, code, of) in enumerate(channels):
        records["sensor"][:, at], records["parameter"][:, at], records["count"][:, at] = sensor, code, of
    flat = records.reshape(-1)
    flat["seq"] = 1 + np.arange(len(flat))
    flat["crc"] = crc16_of(flat)
    topic = f"tram/v1/records/{shard_of(STATION)}/{GATEWAY}/{STATION}"
    for at in range(0, len(flat), BATCH):
        part = flat[at : at + BATCH]
        yield Message(topic, bytes(batch_header(7, len(part))) + part.tobytes())


def store_all(folder: Path, days: int) -> tuple[Store, Registry, float]:
    """Return a store with all of it stored, judged, summed up and packed, and the time by its clock."""
    (folder / "network.toml").write_text(network(1).removesuffix("]\n") + _OXYGEN)
    registry = Registry(load_network(folder / "network.toml"), load_instruments(), load_parameters())
    store, until_s = Store(folder), float(T0 + (days + 3) * 86400)
    store.__enter__()
    with CalibrationBook(Database.in_folder(folder)) as book:
        book.enter(
            Calibration(
                id=1,
                station=STATION,
                sensor=1,
                parameter="conductivity_25",
                valid_from=T0,
                entered_at=T0,
                valid_to=T0 + 20 * 86400,
                coefficients=(0.0, 1.0),
                drift_to=(0.0, 1.013),
                entered_by="bench",
            )
        )
    ingest, all_messages = Ingest(store, registry), list(messages(days))
    for at in range(0, len(all_messages), 20):
        ingest.store_group(all_messages[at : at + 20], until_s)
    Review(store, registry).finish()
    Rollups(store, registry).finish(until_s)
    return store, registry, until_s


def main() -> None:
    """Print bytes for each row by series, and of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        store, registry, until_s = store_all(Path(name), options.days)
        with store:
            Compaction(store).finish(until_s)
            _tell(Path(name), store, registry)


def _tell(folder: Path, store: Store, registry: Registry) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file.execute("VACUUM")
        pages = dict(file.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
        packed = dict(file.execute("SELECT series, sum(length(data)) FROM chunks GROUP BY series"))
        rows = dict(file.execute("SELECT series, sum(rows) FROM chunks GROUP BY series"))
    for number, key in sorted(store.keys.items(), key=lambda one: (one[1].sensor, one[1].parameter)):
        if number in rows:
            parameter = registry.vocabulary.by_code[key.parameter].name
            print(f"{key.sensor} {parameter:28}{rows[number]:10,} rows {packed[number] / rows[number]:7.3f} B each")
    total = sum(rows.values())
    print(f"{total:,} observations, {sum(packed.values()) / total:.3f} B each in chunks")
    for name, size in sorted(pages.items(), key=lambda one: -one[1])[:8]:
        print(f"{name:32}{size / total:8.3f} B for each observation")


if __name__ == "__main__":
    main()
