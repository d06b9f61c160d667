"""How long the pieces of a compaction are: the time of a processor that each transaction takes from ingest.

Three stores with a day (or some hours) to pack: a station of 64 series every second, 200 stations of 20 series every
minute, one of them every minute with late rows all over a day that is packed already. The baseline of the same run:
one station's whole day read out of the log at once, which a piece did before.

python -m benchmarks.compaction --hours 2
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.columns import Observed, SeriesKey
from cloud_ingest.compaction import ROWS_REMEMBERED, Compaction
from cloud_ingest.store import Store

DAY0 = 20_000 * 86400
LATER = DAY0 + 10 * 86400
ROWS_AT_ONCE = 50_000
SEED = 1


@contextmanager
def a_store(stations: int, series: int) -> Iterator[tuple[Store, list[int]]]:
    """Lend a new store with so many stations of so many series, and the series' numbers."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Store(Path(name)) as store:
        with store.transaction() as transaction:
            keys = [SeriesKey(f"s{station:03}", 1, number) for station in range(stations) for number in range(series)]
            numbers = [transaction.series_number(key) for key in keys]
            transaction.journal_number("s000", 7)
        yield store, numbers


def fill(store: Store, numbers: list[int], times: np.ndarray[tuple[int], np.dtype[np.int64]], first_seq: int) -> int:
    """Store a noisy slow tide for all series at these times; return how many rows."""
    chance, series = np.random.default_rng(SEED), np.array(numbers)
    at_once = max(1, ROWS_AT_ONCE // len(series))
    for at in range(0, len(times), at_once):
        part = times[at : at + at_once]
        time_s, of = np.repeat(part, len(series)), np.tile(series, len(part))
        rows = len(time_s)
        count = np.rint(1000 * np.sin(time_s / 7000 + of) + chance.normal(0, 5, rows)).astype(np.int64)
        nothing = np.zeros(rows, np.int64)
        seq = first_seq + at * len(series) + np.arange(rows)
        with store.transaction() as transaction:
            transaction.log.add(
                Observed(
                    *(time_s, of, count, np.full(rows, np.nan), np.full(rows, 2, np.uint8)),
                    *(nothing + 1, seq, nothing, nothing),
                )
            )
    return len(times) * len(series)


def pack(store: Store) -> list[tuple[str, float]]:
    """Pack everything; return what each piece did, and for how many seconds of a processor."""
    work, found = Compaction(store), []
    while True:
        doing = _doing(work)
        begun = time.thread_time()
        more = work._piece(LATER)  # as `finish` does them
        found.append((doing, time.thread_time() - begun))
        if not more:
            return found


def _doing(work: Compaction) -> str:
    day = work._day
    if day is None:
        return "look"
    if day.gathered is not None:
        return "read" if day.gathered.following is not None else "pack"
    return "read" if day.left and day.packed.rows < ROWS_REMEMBERED else "remove"


def tell(name: str, store: Store, numbers: list[int], rows: int) -> None:
    """Print the pieces of a compaction, and the baseline."""
    begun = time.thread_time()
    with store.transaction() as transaction:
        transaction.log.logged(numbers[:20], DAY0, DAY0 + 86400)
    at_once = time.thread_time() - begun
    pieces = pack(store)
    with store.transaction() as transaction:
        assert isinstance(transaction.log, ChunkedLog)
        chunks, packed, size = transaction.log.chunks.size()
        assert transaction.log.log.oldest_time(0) is None, "something is left in the log"
    total = sum(taken for _, taken in pieces)
    print(f"{name}: {rows:,} rows in {len(pieces):,} pieces, {rows / total:,.0f} rows/s of a processor")
    print(f"  {chunks:,} chunks, {size / packed:.3f} B a row; 20 series read at once {1000 * at_once:.0f} ms")
    for what in ("look", "read", "pack", "remove"):
        taken = sorted(1000 * one for doing, one in pieces if doing == what)
        if taken:
            print(f"  {what:8}{len(taken):6} pieces: median {taken[len(taken) // 2]:6.1f} ms, longest {taken[-1]:6.1f},"
                  f" longest but one in a hundred {taken[-1 - len(taken) // 100]:6.1f}")  # fmt: skip


def main() -> None:
    """Print all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=24)
    options = parser.parse_args()
    span = options.hours * 3600
    with a_store(1, 64) as (store, numbers):
        tell("64 series every second", store, numbers, fill(store, numbers, np.arange(DAY0, DAY0 + span), 1))
    minutes = np.arange(DAY0, DAY0 + span, 60)
    with a_store(200, 20) as (store, numbers):
        tell("200 stations of 20 series every minute", store, numbers, fill(store, numbers, minutes, 1))
        late = fill(store, numbers[:20], minutes + 30, 1_000_000_000)
        tell("late rows for one of them", store, numbers, late)


if __name__ == "__main__":
    main()
