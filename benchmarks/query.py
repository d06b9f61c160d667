"""Times questions on a store of some million rows against plain SQL on the same file: in process, the best of a few.

python -m benchmarks.query --series 60 --days 365
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.load.records import NETWORK
from cloud_ingest.columns import Observed, SeriesKey
from cloud_ingest.database import DATABASE
from cloud_ingest.local_time import By
from cloud_ingest.queries import LayerName, Sums, layer, newest
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from cloud_ingest.rollups import Rollups
from cloud_ingest.store import Store
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

BEGIN = 1_735_664_400  # 2025-01-01 00:00 in Vietnam
EVERY_S = 600
PARAMETER = 34
LATEST = 1000
DAYS_AT_ONCE = 5
_MERGED = "SELECT time, coalesce(value, count / 1000.0), flag FROM log WHERE series = ? AND time > ? AND time <= ?"
_BY_DAY = (
    "SELECT (time - 1 + 25200) / 86400, count(*), avg(coalesce(value, count / 1000.0)), min(coalesce(value, count /"
    " 1000.0)), max(coalesce(value, count / 1000.0)), sum(flag = 1) FROM log WHERE series = ? AND time > ? AND"
    " time <= ? AND flag IN (1, 2) GROUP BY 1"
)
_NEWEST = "SELECT series, max(time), count, flag FROM log GROUP BY series"


def fill(store: Store, series: int, days: int) -> int:
    """Store a value of each series every ten minutes; return how many rows."""
    random = np.random.default_rng(1)
    with store.transaction() as transaction:
        numbers = np.array([transaction.series_number(SeriesKey(f"s{at}", 1, PARAMETER)) for at in range(LATEST)])
        for number in numbers.tolist():
            transaction.put_latest(number, BEGIN + days * 86400, 12.5, 1)
    per_day = 86400 // EVERY_S
    for day in range(0, days, DAYS_AT_ONCE):
        moments = BEGIN + day * 86400 + EVERY_S * np.arange(1, DAYS_AT_ONCE * per_day + 1)
        rows = len(moments) * series
        columns = {
            "time": np.repeat(moments, series),
            "series": np.tile(numbers[:series], len(moments)),
            "count": random.integers(1000, 30000, rows),
            "seq": np.arange(rows) + rows * day,
        }
        zeros, ones = np.zeros(rows, np.int64), np.ones(rows, np.uint8)
        value = np.full(rows, np.nan)
        with store.transaction() as transaction:
            transaction.log.add(
                Observed(value=value, flag=ones, journal=zeros + 1, calibration=zeros, failed=zeros, **columns)
            )
    return series * days * per_day


def best_ms(question: Callable[[], object], times: int) -> float:
    """Return the shortest of a few runs."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        question()
        taken.append(time.perf_counter() - begun)
    return 1000 * min(taken)


def compare(folder: Path, registry: Registry, days: int, times: int) -> None:
    """Print how long each question takes, ours and in plain SQL."""
    span = (BEGIN, BEGIN + days * 86400)
    key = SeriesKey("s0", 1, PARAMETER)
    with (
        closing(Reader(folder, registry.scale)) as reader,
        closing(sqlite3.connect(folder / DATABASE)) as plain,
        reader.snapshot() as moment,
    ):
        sums = Sums(moment, registry, span[1])
        one = (1, *span)
        asked: list[tuple[str, Callable[[], object], str, tuple[int, ...]]] = [
            ("raw", lambda: layer(moment, registry, key, span, LayerName.FLAGGED), _MERGED, one),
            ("daily", lambda: sums.of(key, By.DAY, span), _BY_DAY, one),
            ("hourly", lambda: sums.of(key, By.HOUR, span), _BY_DAY.replace("86400", "3600"), one),
            (f"latest of {LATEST:,}", lambda: newest(moment), _NEWEST, ()),
        ]
        for name, ours, query, values in asked:
            found_ms = best_ms(ours, times)
            plain_ms = best_ms(partial(_plain, plain, query, values), 2)
            print(f"{name:>16}: {found_ms:9.2f} ms; plain SQL on the log {plain_ms:9.1f} ms", flush=True)


def _plain(connection: sqlite3.Connection, query: str, values: tuple[int, ...]) -> object:
    return connection.execute(query, values).fetchall()


def main() -> None:
    """Fill a store, make its rollups, ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=60)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--times", type=int, default=5, help="runs of each question")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to be measured")
    options = parser.parse_args()
    registry = Registry(load_network(NETWORK), load_instruments(), load_parameters())
    with tempfile.TemporaryDirectory(dir=options.folder) as name, Store(Path(name)) as store:
        begun = time.perf_counter()
        rows = fill(store, options.series, options.days)
        filled = time.perf_counter()
        pieces = Rollups(store, registry).finish(BEGIN + 2 * options.days * 86400)
        made_s = time.perf_counter() - filled
        print(f"{rows:,} rows, {options.days} days, stored in {filled - begun:.0f} s")
        print(f"rollups of all made in {made_s:.0f} s, {1000 * made_s / pieces:.0f} ms a piece", flush=True)
        compare(Path(name), registry, options.days, options.times)


if __name__ == "__main__":
    main()
