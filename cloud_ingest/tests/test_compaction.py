"""Old days on a real store: packed by and by, kept through power cuts, mended from raw records when damaged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_ingest import compaction
from cloud_ingest.chunks import COLUMNS
from cloud_ingest.compaction import Compaction
from cloud_ingest.database import DATABASE, raw
from cloud_ingest.errors import ChunkDamaged
from cloud_ingest.mending import mend
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
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


def test_power_fails_at_any_write_and_every_row_is_in_the_log_or_in_a_chunk(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rows in (("READ_EFFORT", 700), ("PACK_EFFORT", 1), ("REMOVE_EFFORT", 700), ("ROWS_GATHERED", 500)):
        monkeypatch.setattr(compaction, name, rows)
    before = everything(bench.store)
    assert bench.store._db is not None
    file = raw(bench.store._db)
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.execute("PRAGMA wal_autocheckpoint = 0")
    whole = (tmp_path / DATABASE).read_bytes()
    Compaction(bench.store).finish(LATER)
    written = (tmp_path / f"{DATABASE}-wal").read_bytes()
    frames = (len(written) - 32) // FRAME
    states = set()
    for frame in range(0, frames + 1, max(frames // 30, 1)):
        folder = tmp_path / f"cut-{frame}"
        folder.mkdir()
        (folder / DATABASE).write_bytes(whole)
        (folder / f"{DATABASE}-wal").write_bytes(written[: 32 + frame * FRAME + 1000])  # and some of the next
        with Store(folder) as store:
            assert everything(store) == before, f"after {frame} of {frames} writes"
            with store.transaction() as transaction:
                log: Any = transaction.log
                states.add((log.chunks.size()[1], log.log.oldest_time(0)))
    assert len(states) > 3, "before, packed in part, packed and not yet out of the log, out in part"
