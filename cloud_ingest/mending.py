"""A damaged chunk made again: counts and identities from raw records, everything else by the review that follows.

The damaged bytes are kept aside (`damaged_chunks`), so that nothing is lost that somebody may still read. What only an
archive has of its time is not made again.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import numpy as np

from cloud_ingest.archive import dated, raw_slices
from cloud_ingest.chunk_table import Chunk
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.columns import Observed, SeriesKey
from cloud_ingest.quality import Test
from cloud_ingest.store import Store
from firmware.record import FAIL


class Mended(NamedTuple):
    """What became of a damaged chunk: its rows, and how many of them raw records gave back. Derived rows are made by
    the review."""

    key: SeriesKey
    first: int
    last: int
    rows: int
    made_again: int


def damaged_chunks(store: Store) -> list[int]:
    """Return the ids of the chunks that cannot be read."""
    with store.transaction() as transaction:
        log = transaction.log
        return log.chunks.damaged() if isinstance(log, ChunkedLog) else []


def mend(store: Store, chunk_id: int) -> Mended | None:
    """Take a damaged chunk out, put what raw records say in its place, ask for the review; None: it is gone already."""
    with store.transaction() as transaction:
        log = transaction.log
        chunk = log.chunks.set_aside(chunk_id) if isinstance(log, ChunkedLog) else None
        if chunk is None or not isinstance(log, ChunkedLog):
            return None
        key = store.keys[chunk.series]
        rows = _from_raw(log.chunks.connection, key, chunk)
        log.touch(chunk)
        log.add(rows)
        transaction.to_review(key.station, chunk.first, chunk.last)
    return Mended(key, chunk.first, chunk.last, chunk.rows, len(rows.time))


def _from_raw(connection: sqlite3.Connection, key: SeriesKey, chunk: Chunk) -> Observed:
    """Return the observations of a series in the time of a chunk, as far as raw records are here."""
    refused = set(connection.execute("SELECT journal, seq FROM conflicts WHERE series = ?", (chunk.series,)))
    journals = connection.execute("SELECT id FROM journals WHERE station = ? ORDER BY id", (key.station,)).fetchall()
    found: list[tuple[int, int, int, int, int]] = []
    for (journal,) in journals:
        for records in raw_slices(connection, journal):
            time = dated(connection, journal, records)
            own = (records["sensor"] == key.sensor) & (records["parameter"] == key.parameter)
            own &= (time >= chunk.first) & (time <= chunk.last)
            columns = (time[own], records["seq"][own], records["count"][own], records["flag"][own])
            rows = zip(*(column.tolist() for column in columns), strict=True)
            found += [(at, journal, seq, count, flag) for at, seq, count, flag in rows if (journal, seq) not in refused]
    times, numbers, seqs, counts, flags = np.array(sorted(found), np.int64).reshape(-1, 5).T
    nothing = np.zeros(len(times), np.int64)
    return Observed(
        time=times,
        series=nothing + chunk.series,
        count=counts,
        value=np.full(len(times), np.nan),
        flag=flags.astype(np.uint8),
        journal=numbers,
        seq=seqs,
        calibration=nothing,
        failed=np.where(flags == FAIL, int(Test.STATION), 0),
    )
