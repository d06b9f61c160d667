"""Old days on a real store: packed by and by, kept through power cuts, mended from raw records when damaged."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_ingest import compaction, schema
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.chunks import COLUMNS
from cloud_ingest.columns import Layer
from cloud_ingest.compaction import Compaction
from cloud_ingest.database import DATABASE, raw
from cloud_ingest.errors import ChunkDamaged
from cloud_ingest.mending import mend
from cloud_ingest.observations import NOBODY
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.scan_windows import beginning, read_window
from cloud_ingest.scans import Scans, empty_rows, joined, put_scans
from cloud_ingest.store import Store
from cloud_ingest.tests.field import EC25, T0, batch, minutes
from cloud_ingest.tests.test_commands import tram_cloud
from cloud_ingest.tests.test_ingest import SALINITY, Bench
from firmware.record import Record
from station_config.clock import BenchClock

LATER = T0 + 10 * 86400


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    with one.store:
        one.take(batch(minutes(300)), batch(minutes(100, 1001, T0 + 2 * 86400)), now_s=LATER)
        Review(one.store, one.registry).finish()
        Rollups(one.store, one.registry).finish(LATER)
        yield one
    one.reader.close()


def answers(bench: Bench) -> dict[int, Any]:
    return {code: bench.values(code) for code in (EC25, 32, SALINITY)}


def waiting(bench: Bench) -> int:
    (number,) = bench.rows("SELECT count(*) FROM scans")[0]
    assert isinstance(number, int)
    return number


def test_a_closed_day_is_packed_and_reads_as_before(bench: Bench) -> None:
    before = answers(bench)
    Compaction(bench.store).finish(T0 + 3600)
    assert bench.rows("SELECT count(*) FROM chunks") == [(0,)], "the day runs still"
    Compaction(bench.store).finish(LATER)
    assert waiting(bench) == 0
    assert answers(bench) == before
    assert bench.rows("SELECT count(*) FROM chunks") == [(4,)], "one for each series; the days of each together"


def test_a_day_waits_for_its_review(bench: Bench) -> None:
    bench.take(batch(minutes(3, 2001, T0 + 20_040)), now_s=LATER)
    Compaction(bench.store).finish(LATER)
    assert bench.rows("SELECT count(*) FROM chunks") == [(0,)]
    Review(bench.store, bench.registry).finish()
    Compaction(bench.store).finish(LATER)
    assert waiting(bench) == 0


def test_late_records_of_a_packed_day_are_merged_and_another_record_is_set_aside(bench: Bench) -> None:
    Compaction(bench.store).finish(LATER)
    outcome = bench.take(
        batch([Record(1, T0, 999, 1, EC25, 2), Record(2, T0 + 30, 13_000, 1, EC25, 2)], journal=9), now_s=LATER
    )
    assert outcome.counts.stored == 2
    assert bench.rows("SELECT seq FROM conflicts") == [(1,)]
    assert bench.values(EC25)[T0][0] == 12.5
    assert bench.values(EC25)[T0 + 30][0] == 13.0
    Review(bench.store, bench.registry).finish()
    before = answers(bench)
    Compaction(bench.store).finish(LATER)
    assert (waiting(bench), answers(bench)) == (0, before)


def break_a_chunk(bench: Bench, parameter: int = EC25) -> int:
    """Turn a bit of a chunk over, as a failing disk does."""
    with bench.store.transaction() as transaction:
        log: Any = transaction.log
        number, data = log.chunks.connection.execute(
            "SELECT chunks.id, data FROM chunks JOIN series ON series.id = chunks.series WHERE parameter = ?",
            (parameter,),
        ).fetchone()
        broken = bytearray(data)
        broken[len(broken) // 2] ^= 4
        log.chunks.connection.execute("UPDATE chunks SET data = ? WHERE id = ?", (bytes(broken), number))
    return int(number)


@pytest.mark.parametrize("parameter", [EC25, SALINITY])
def test_a_damaged_chunk_is_named_and_made_again_from_raw_records(bench: Bench, parameter: int) -> None:
    before = answers(bench)
    Compaction(bench.store).finish(LATER)
    number = break_a_chunk(bench, parameter)
    with pytest.raises(ChunkDamaged, match="checksum") as damaged:
        bench.values(parameter)
    assert damaged.value.chunk == number
    mended = mend(bench.store, number)
    assert mended is not None
    assert (mended.rows, mended.made_again) == (400, 400 if parameter == EC25 else 0)
    Review(bench.store, bench.registry).finish()
    Compaction(bench.store).finish(LATER)
    assert answers(bench) == before
    assert bench.rows("SELECT rows FROM damaged_chunks") == [(400,)]


def test_compact_packs_mends_and_gives_room_back(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BenchClock(time.time(), LATER, 1.0).as_environment().items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "cloud.toml"
    config.write_text('network = "network.toml"\nstate_dir = "."\n')
    code, output = tram_cloud("compact", "--config", str(config))
    assert (code, "the service runs" in output) == (1, True), output
    Compaction(bench.store).finish(LATER)
    break_a_chunk(bench)
    bench.store.close()
    code, output = tram_cloud("compact", "--config", str(config), "--repair", "--shrink", "--json")
    told = json.loads(output)
    assert (code, told["chunk_rows"], [one["made_again"] for one in told["mended"]]) == (0, 1200, [400]), output
    assert told["file_bytes"] < told["file_bytes_before"]


FRAME = 24 + 4096  # of SQLite's write-ahead log, after 32 bytes


def everything(store: Store) -> dict[int, bytes]:
    """All columns of all series, as bytes."""
    with store.transaction() as transaction:
        logged = transaction.log.logged(store.keys, 0, 1 << 40)
        return {number: b"".join(getattr(rows, name).tobytes() for name in COLUMNS) for number, rows in logged.items()}


def test_power_fails_at_any_commit_and_every_row_is_there_once_and_the_work_goes_on(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    before = everything(bench.store)
    assert bench.store._db is not None
    file = raw(bench.store._db)
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.execute("PRAGMA wal_autocheckpoint = 0")
    whole = (tmp_path / DATABASE).read_bytes()
    Compaction(bench.store).finish(LATER)
    written = (tmp_path / f"{DATABASE}-wal").read_bytes()
    states = set()
    for number, end in enumerate(commits(written)):
        folder = tmp_path / f"cut-{number}"
        folder.mkdir()
        (folder / DATABASE).write_bytes(whole)
        (folder / f"{DATABASE}-wal").write_bytes(written[: end + 1000])  # and some of the next write
        with Store(folder) as store:
            assert everything(store) == before, f"after commit {number}"
            with store.transaction() as transaction:
                log: Any = transaction.log
                states.add((log.chunks.size()[1], log.log.oldest_time(0)))
            Compaction(store).finish(LATER)
            assert everything(store) == before, f"after commit {number}, and all of the rest"
            assert in_chunks(store) == 1600, "each of 400 rows of four series once"
    assert len(states) > 10, "before, packed in part, packed and not yet out of the log, out in part"


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some dozen pieces for the rows of these tests."""
    for name, rows in (("READ_EFFORT", 2000), ("PACK_EFFORT", 1), ("REMOVE_EFFORT", 2000), ("ROWS_GATHERED", 500)):
        monkeypatch.setattr(compaction, name, rows)


def commits(wal: bytes) -> list[int]:
    """Return where the log as it was after each commit ends, and where it was empty: a frame that commits says so."""
    ends = range(32 + FRAME, len(wal) + 1, FRAME)
    return [32, *(end for end in ends if int.from_bytes(wal[end - FRAME + 4 : end - FRAME + 8], "big"))]


def in_chunks(store: Store) -> int:
    """Return how many rows chunks have; the log has none."""
    with store.transaction() as transaction:
        log: Any = transaction.log
        assert log.log.oldest_time(0) is None
        return int(log.chunks.size()[1])


def test_what_a_review_changed_in_a_packed_day_does_not_keep_later_days_in_the_log(bench: Bench) -> None:
    work = Compaction(bench.store)
    work.finish(T0 + 86400 + 86400)
    with bench.store.transaction() as transaction:
        for number in bench.store.keys:
            rows = transaction.log.logged([number], T0, T0 + 600)[number]
            changed = Layer(rows.time, rows.value, rows.calibration, rows.flag + np.uint8(1), rows.failed)
            transaction.log.put_layer(number, changed, derived=rows.journal[0] == NOBODY)
    before = answers(bench)
    assert waiting(bench) > 0
    work.finish(LATER)
    assert (waiting(bench), answers(bench)) == (0, before)


def test_what_an_archive_takes_out_between_two_pieces_never_comes_back(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    (number,) = (number for number, key in bench.store.keys.items() if key.parameter == EC25)
    left = dict(bench.values(EC25))
    work = Compaction(bench.store)
    with closing(schema.open_for_writing(tmp_path / DATABASE)) as other, other:
        other.execute(
            "INSERT INTO archives (digest, before, folder, made_at, observations) VALUES ('d', ?, '', 0, 0)", (LATER,)
        )
        for pieces in (1, 2, 3, 5, 8, 13, 21, 34):
            for _ in range(pieces):
                work.step(LATER, busy=True, clock_s=work._pace.next_s)
            gone = min(left)
            other.execute("BEGIN IMMEDIATE")
            ChunkedLog(other).remove(np.array([gone]), np.array([number]))
            other.execute("COMMIT")
            del left[gone]
    work.finish(LATER)
    assert bench.values(EC25) == left
    assert waiting(bench) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.sets(st.integers(0, 3), min_size=1), st.integers(0, 150))
def test_windows_have_each_row_once_and_none_is_larger_than_was_asked_for(
    effort: int, groups: set[int], last: int
) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE scans (time INTEGER NOT NULL, series_group INTEGER NOT NULL, rows BLOB NOT NULL,"
            " PRIMARY KEY (time, series_group)) WITHOUT ROWID"
        )
        time, series = (column.reshape(-1) for column in np.mgrid[0:100, 0:200:3])
        rows = empty_rows(len(time))
        rows["series"] = series
        put_scans(connection, Scans(time, rows))
        found: list[Scans] = []
        following: int | None = beginning(0)
        while following is not None:
            scans, then = read_window(connection, groups, following, last, effort)
            assert len(scans.time) <= max(effort, 0) + 64
            assert then is None or then > following
            found.append(scans)
            following = then
        wanted = (time <= last) & np.isin(series // 64, list(groups))
        together = joined(*found)
        assert together.time.tolist() == time[wanted].tolist()
        assert together.rows["series"].tolist() == series[wanted].tolist()


def test_after_it_found_nothing_it_looks_again_when_it_was_told_to(bench: Bench) -> None:
    work = Compaction(bench.store, look_every_s=10.0)
    work.finish(LATER)
    assert work.step(LATER, clock_s=100.0) == 0
    assert [work.is_due(clock_s) for clock_s in (105.0, 110.0)] == [False, True]
