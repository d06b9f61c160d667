"""The store alone: rows a second in durable transactions of 1,000, a moment of 1,000 series each, one connection.

Beside our log of observations: bare executemany into SQLite with the same key (time, series; WAL, synchronous=FULL),
InfluxDB and VictoriaMetrics with line protocol over HTTP, as far as they are installed. What goes in is made before the
clock starts: numpy columns, tuples, lines. Ours keeps identity, count, value, calibration, flag and failed tests of a
row, and marks its day for the sums; the others keep a value and a flag. Then the first batches are sent again.

python -m benchmarks.store --rows 300000
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.stores import servers
from cloud_ingest.columns import Observed, SeriesKey
from cloud_ingest.store import Store

SERIES = 1000
STATIONS = 50
BEGIN = 1_771_000_020
AGAIN = 20  # batches

Counts = npt.NDArray[np.int64]


class Measured(NamedTuple):
    """What storing came to; `rows` there after the first batches were sent once more, None where not asked."""

    rows_per_s: float
    written_per_row: float | None
    rows: int | None


def _counts(batches: int) -> Counts:
    return np.random.default_rng(1).integers(1000, 30000, (batches, SERIES))


def ours(counts: Counts, folder: Path) -> Measured:
    """Measure the log of observations."""
    with Store(folder) as store:
        with store.transaction() as transaction:
            numbers = np.array(
                [
                    transaction.series_number(SeriesKey(f"s{at % STATIONS:03d}", 1, 20 + at // STATIONS))
                    for at in range(SERIES)
                ]
            )
        numbers.sort()
        batches = [_observed(at, numbers, of) for at, of in enumerate(counts)]
        written, began_s = _written(), time.perf_counter()
        for batch in batches:
            with store.transaction() as transaction:
                transaction.log.add(batch)
        elapsed_s = time.perf_counter() - began_s
        with store.transaction() as transaction:
            for batch in batches[:AGAIN]:
                assert transaction.log.add(batch).all()
        with store.transaction() as transaction:
            there = transaction.log.counts(numbers.tolist(), 0, BEGIN + 60 * len(counts))
    rows = sum(number for number, _ in there.values())
    return Measured(counts.size / elapsed_s, (_written() - written) / counts.size, rows)


def _observed(at: int, numbers: Counts, counts: Counts) -> Observed:
    zeros, ones = np.zeros(SERIES, np.int64), np.ones(SERIES, np.int64)
    times = np.full(SERIES, BEGIN + 60 * at)
    seqs = np.arange(SERIES) + at * SERIES
    return Observed(times, numbers, counts, counts / 1000.0, ones.astype(np.uint8), ones, seqs, zeros, zeros)


def bare(counts: Counts, folder: Path) -> Measured:
    """Measure executemany."""
    batches = [
        [(BEGIN + 60 * at, number, one / 1000.0, 1) for number, one in enumerate(of.tolist())]
        for at, of in enumerate(counts)
    ]
    database = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE v (time, series, value, flag, PRIMARY KEY (time, series)) WITHOUT ROWID")
    written, began_s = _written(), time.perf_counter()
    _insert(database, batches)
    elapsed_s = time.perf_counter() - began_s
    _insert(database, batches[:AGAIN])
    rows = database.execute("SELECT count(*) FROM v").fetchone()[0]
    database.close()
    return Measured(counts.size / elapsed_s, (_written() - written) / counts.size, rows)


def _insert(database: sqlite3.Connection, batches: list[list[tuple[int, int, float, int]]]) -> None:
    for batch in batches:
        database.execute("BEGIN")
        database.executemany("INSERT OR IGNORE INTO v VALUES (?, ?, ?, ?)", batch)
        database.execute("COMMIT")


def influxdb(counts: Counts, folder: Path) -> Measured:
    """Measure InfluxDB 1.x."""
    with servers.influxd(folder) as (port, pid):
        link = http.client.HTTPConnection("127.0.0.1", port)
        servers.post(link, "/query?q=CREATE+DATABASE+b", b"")
        return _lines(link, "/write?db=b&precision=s", 1, counts, pid)


def victoria_metrics(counts: Counts, folder: Path) -> Measured:
    """Measure VictoriaMetrics."""
    with servers.victoria(folder) as (port, pid):
        return _lines(http.client.HTTPConnection("127.0.0.1", port), "/write?precision=ms", 1000, counts, pid)


def _lines(link: http.client.HTTPConnection, path: str, per_s: int, counts: Counts, pid: int) -> Measured:
    names = [f"v,station=s{at % STATIONS:03d},parameter=p{at // STATIONS}" for at in range(SERIES)]
    bodies = []
    for at, of in enumerate(counts):
        time_s = (BEGIN + 60 * at) * per_s
        lines = (f"{name} value={one / 1000.0},flag=1 {time_s}" for name, one in zip(names, of.tolist(), strict=True))
        bodies.append("\n".join(lines).encode())
    server = psutil.Process(pid)
    written, began_s = server.io_counters().write_bytes, time.perf_counter()
    for body in bodies:
        servers.post(link, path, body)
    elapsed_s = time.perf_counter() - began_s
    return Measured(counts.size / elapsed_s, (server.io_counters().write_bytes - written) / counts.size, None)


def _written() -> int:
    return psutil.Process().io_counters().write_bytes


SUBJECTS: dict[str, tuple[Callable[[Counts, Path], Measured], str | None]] = {
    "ours (log, SQLite)": (ours, None),
    "executemany, SQLite": (bare, None),
    "InfluxDB /write": (influxdb, "influxd"),
    "VictoriaMetrics /write": (victoria_metrics, "victoria-metrics"),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="as many thousands as there are whole")
    parser.add_argument("--repeat", type=int, default=1, help="the best of so many")
    options = parser.parse_args()
    counts = _counts(max(options.rows // SERIES, AGAIN))
    found: dict[str, Measured] = {}
    for name, (measure, program) in SUBJECTS.items():
        if program is not None and shutil.which(program) is None:
            print(f"{name}: {program} is not installed")
            continue
        for _ in range(options.repeat):
            with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="bench-") as folder:
                one = measure(counts, Path(folder))
            if name not in found or one.rows_per_s > found[name].rows_per_s:
                found[name] = one
    mine = found["ours (log, SQLite)"]
    print(f"\n{counts.size:,} rows in batches of {SERIES:,}")
    print(f"{'':24}{'rows/s':>12}{'ours is':>9}{'bytes written each':>20}{'rows there, some sent twice':>29}")
    for name, one in found.items():
        there = "not asked" if one.rows is None else f"{one.rows:,}"
        ratio = mine.rows_per_s / one.rows_per_s
        print(f"{name:24}{one.rows_per_s:12,.0f}{ratio:8.2f}x{one.written_per_row or 0:20.0f}{there:>29}", flush=True)


if __name__ == "__main__":
    main()
