"""Records per second into observations kept in an InfluxDB, by batch size, against the same lines only posted.

    python -m benchmarks.influx --batches 1,13,600,10000

Ours: identity looked after, books committed to SQLite after the server has said "stored". Baseline: lines made before
the clock starts, posted to the same server on one connection.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

from cloud_ingest.columns import Observed, SeriesKey
from cloud_ingest.influx_codec import beginning, observed_lines
from cloud_ingest.influx_observations import InfluxStore
from cloud_ingest.observation_settings import ObservationSettings
from cloud_ingest.store import Store
from cloud_ingest.tests.influx_server import an_influx_server

BEGIN = 1_771_000_000
SERIES = 50
JOURNAL = 7


def batch(number: int, size: int) -> Observed:
    """Return `size` observations of SERIES series, minute after minute; those of one number follow those before it."""
    rows = np.arange(number * size, (number + 1) * size)
    none = np.zeros(size, np.int64)
    return Observed(
        time=BEGIN + 60 * (rows // SERIES),
        series=1 + rows % SERIES,
        count=rows % 3_000_000,
        value=(rows % 3_000_000) / 1000.0,
        flag=np.ones(size, np.uint8),
        journal=none + 1,
        seq=rows + 1,
        calibration=none,
        failed=none,
    )


def ours(settings: ObservationSettings, folder: Path, size: int, batches: int) -> float:
    """Return records per second through the store, one transaction for each batch. The database has to be empty."""
    place = InfluxStore(settings)
    with Store(folder, place) as store:
        with store.transaction() as transaction:
            keys = [SeriesKey("bench", sensor, 34) for sensor in range(SERIES)]
            numbers = np.array([transaction.series_number(key) for key in keys], np.int64)
            journal = transaction.journal_number("bench", JOURNAL)
        plain = [batch(number, size) for number in range(batches)]
        made = [replace(one, series=numbers[one.series - 1], journal=one.journal * journal) for one in plain]
        begun = time.perf_counter()
        for rows in made:
            with store.transaction() as transaction:
                transaction.log.add(rows)
        spent_s = time.perf_counter() - begun
    place.close()
    return size * batches / spent_s


def bare(settings: ObservationSettings, size: int, batches: int) -> float:
    """Return records per second of lines that are only posted. The database has to be empty."""
    beginnings = {1 + sensor: beginning(SeriesKey("bench", sensor, 34)) for sensor in range(SERIES)}
    fresh = np.ones(size, np.bool_)
    made = ["\n".join(observed_lines(batch(number, size), beginnings, int, fresh)) for number in range(batches)]
    url = f"{settings.root}/api/v2/write?bucket={settings.bucket}&precision=s&org=-"
    headers = {"Authorization": f"Token {settings.token()}"}
    with httpx.Client(headers=headers, trust_env=False) as client:
        begun = time.perf_counter()
        for body in made:
            client.post(url, content=body).raise_for_status()
        return size * batches / (time.perf_counter() - begun)


def main() -> None:
    """Print both for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,13,600,10000", help="sizes, with commas between")
    parser.add_argument("--records", type=int, default=200_000, help="at most, for each size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, an_influx_server(Path(name) / "server") as server:
        for size in (int(one) for one in options.batches.split(",")):
            batches = max(1, min(options.records // size, 2_000))
            rate = ours(server.database(), Path(name) / f"state-{size}", size, batches)
            baseline = bare(server.database(), size, batches)
            told = f"{rate:>10,.0f} records/s; bare post {baseline:>10,.0f}; ratio {rate / baseline:.2f}"
            print(f"batches of {size:>6,}: {told}", flush=True)


if __name__ == "__main__":
    main()
