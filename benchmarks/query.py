"""Times questions on a store of fifty million rows: in process, the best of a few, and what it takes on disk.

The data set is a year of minutes of a hundred series and one day of nine hundred more: a daily wave with noise, two
decimals, one row in 500 suspect. It is packed by the product's own code, as closed days are.

python -m benchmarks.query --series 100 --days 365 --others 900
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.load.records import NETWORK
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.columns import SeriesKey
from cloud_ingest.database import DATABASE
from cloud_ingest.local_time import By
from cloud_ingest.observations import Logged
from cloud_ingest.queries import LayerName, Sums, layer, newest
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from cloud_ingest.rollups import Rollups
from cloud_ingest.store import Store
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

BEGIN = 1_735_664_400  # 2025-01-01 00:00 in Vietnam
EVERY_S = 60
PARAMETER = 34
SERIES_AT_ONCE = 10


def rows_of(number: int, first_s: int, days: int, noise: float) -> Logged:
    """Return minutes of a daily wave of a series."""
    random = np.random.default_rng(number)
    rows = days * 86400 // EVERY_S
    time_s = first_s + EVERY_S * np.arange(1, rows + 1)
    wave = 2000 + 500 * np.sin(2 * np.pi * time_s / 86400 + number) + random.normal(0, noise, rows)
    nothing = np.zeros(rows, np.int64)
    suspect = random.random(rows) < 0.002
    return Logged(
        time=time_s,
        count=np.rint(wave).astype(np.int64),
        value=np.full(rows, np.nan),
        calibration=nothing,
        flag=np.where(suspect, 3, 1).astype(np.uint8),
        failed=np.where(suspect, 4, 0),
        journal=nothing + 1,
        seq=1 + 20 * np.arange(rows) + number % 20,
    )


def fill(store: Store, series: int, days: int, others: int, noise: float) -> int:
    """Pack a year (days) of some series and the last day of others; return how many rows."""
    keys = [SeriesKey(f"s{at // 20}", at % 20, PARAMETER) for at in range(series + others)]
    until, stored = BEGIN + days * 86400, 0
    for at in range(0, len(keys), SERIES_AT_ONCE):
        with store.transaction() as transaction:
            assert isinstance(transaction.log, ChunkedLog)
            for place, key in enumerate(keys[at : at + SERIES_AT_ONCE], start=at):
                number = transaction.series_number(key)
                own_days = days if place < series else 1
                rows = rows_of(number, until - own_days * 86400, own_days, noise)
                transaction.log.chunks.merge(number, rows)
                transaction.put_latest(number, until, int(rows.count[-1]) / 1000, int(rows.flag[-1]))
                stored += len(rows.time)
    return stored


def best_ms(question: Callable[[], object], times: int) -> tuple[float, float]:
    """Return the shortest of a few runs, and the least time of a processor, which other work does not lengthen."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter(), time.process_time()
        question()
        taken.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return 1000 * min(wall for wall, _ in taken), 1000 * min(cpu for _, cpu in taken)


def ask(folder: Path, registry: Registry, days: int, times: int) -> None:
    """Print how long each question takes."""
    span = (BEGIN, BEGIN + days * 86400)
    day = (span[1] - 86400 + 1, span[1])
    keys = [SeriesKey("s0", at, PARAMETER) for at in range(10)]
    with closing(Reader(folder, registry.scale)) as reader, reader.snapshot() as moment:
        sums = Sums(moment, registry, span[1])
        questions: dict[str, Callable[[], object]] = {
            "a year raw": lambda: layer(moment, registry, keys[0], span, LayerName.FLAGGED),
            "a year daily": lambda: sums.of(keys[0], By.DAY, span),
            "a year hourly": lambda: sums.of(keys[0], By.HOUR, span),
            "latest of all": lambda: newest(moment),
            "24 h of 10": lambda: [layer(moment, registry, key, day, LayerName.FLAGGED) for key in keys],
        }
        for name, question in questions.items():
            wall_ms, cpu_ms = best_ms(question, times)
            print(f"{name:>16}: {wall_ms:9.2f} ms, {cpu_ms:9.2f} ms of a processor", flush=True)


def main() -> None:
    """Fill a store, make rollups, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=100, help="with all days")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--others", type=int, default=900, help="series with the last day only")
    parser.add_argument("--noise", type=float, default=20.0, help="of the counts, standard deviation")
    parser.add_argument("--rolled-up", type=int, default=10, help="series whose hours and days are summed up")
    parser.add_argument("--times", type=int, default=9, help="runs of each question")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to be measured")
    options = parser.parse_args()
    registry = Registry(load_network(NETWORK), load_instruments(), load_parameters())
    with tempfile.TemporaryDirectory(dir=options.folder) as name, Store(Path(name)) as store:
        begun = time.perf_counter()
        rows = fill(store, options.series, options.days, options.others, options.noise)
        print(f"{rows:,} rows packed in {time.perf_counter() - begun:.0f} s", flush=True)
        with closing(sqlite3.connect(Path(name) / DATABASE)) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            packed = file.execute("SELECT sum(length(data)), count(*) FROM chunks").fetchone()
        size = (Path(name) / DATABASE).stat().st_size
        print(f"{size / rows:.3f} bytes of file for each, {packed[0] / rows:.3f} in {packed[1]:,} chunks", flush=True)
        begun = time.perf_counter()
        with store.transaction() as transaction:
            transaction.mark_all_rollups(sorted(store.keys)[: options.rolled_up])
        pieces = Rollups(store, registry).finish(BEGIN + 2 * options.days * 86400)
        print(f"{pieces} pieces of rollups made in {time.perf_counter() - begun:.0f} s", flush=True)
        ask(Path(name), registry, options.days, options.times)


if __name__ == "__main__":
    main()
