"""A backup of a store whose observations an InfluxDB keeps, and back into an empty one, by the commands people type."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import URL

from cloud_ingest import observation_copy
from cloud_ingest.calibrations import CalibrationBook
from cloud_ingest.chunk_table import ChunkTable
from cloud_ingest.database import Database
from cloud_ingest.influx_observations import InfluxStore
from cloud_ingest.observation_settings import ObservationSettings
from cloud_ingest.reading import Reader
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.tests.answers import everything
from cloud_ingest.tests.field import EC25, T0, batch, damaged, minutes
from cloud_ingest.tests.influx_server import InfluxServer
from cloud_ingest.tests.place import Place
from cloud_ingest.tests.test_commands import tram_cloud
from cloud_ingest.tests.test_ingest import Bench
from firmware.record import MISSING, Record
from station_config.calibration import Calibration

SPAN = (T0 - 86400, T0 + 10 * 86400)
LATER = T0 + 20 * 86400
CALIBRATION = Calibration(
    id=1,
    station="xuan-hoa",
    sensor=1,
    parameter="conductivity_25",
    valid_from=T0 + 6000,
    entered_at=T0,
    coefficients=(0.02, 1.013),
    entered_by="Tư",
)


class Site:
    """A cloud.toml of its own, its folder and its database in the server."""

    def __init__(self, folder: Path, settings: ObservationSettings) -> None:
        self.state, self.config = folder / "state", folder / "cloud.toml"
        folder.mkdir()
        self.observations = InfluxStore(settings)
        (folder / "network.toml").write_text(Bench.NETWORK)
        self.config.write_text(
            'network = "network.toml"\nstate_dir = "state"\n[observations]\n'
            f'url = "{settings.url}"\nbucket = "{settings.bucket}"\ntoken_file = "{settings.token_file}"\n'
        )

    def answers(self, bench: Bench, database: Database | None = None) -> dict[str, object]:
        with closing(Reader(self.state, bench.registry.scale, self.observations, database)) as reader:
            return everything(reader, bench.registry, SPAN, LATER)


@pytest.fixture
def sites(influx_server: InfluxServer, tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    one, other = (Site(tmp_path / name, influx_server.database()) for name in ("here", "there"))
    yield one, other
    one.observations.close()
    other.observations.close()


@pytest.fixture
def bench(sites: tuple[Site, Site]) -> Bench:
    """Two days and a week between: calibrated, derived, judged, one record without a value, one that cannot be read."""
    here, _ = sites
    here.state.mkdir()
    one = Bench(here.state, Place(here.observations))
    with one.store:
        with CalibrationBook(one.database) as book:
            book.enter(CALIBRATION)
        nothing = Record(2001, T0 + 90, MISSING, 1, EC25, 9)
        one.take(batch(minutes(200)), batch(minutes(50, 1001, T0 + 7 * 86400)), now_s=LATER)
        one.take(batch([nothing]), damaged(batch(minutes(3, 3001, T0 + 8 * 86400)), 2), now_s=LATER)
        Review(one.store, one.registry).finish()
        Rollups(one.store, one.registry).finish(LATER)
    one.reader.close()
    return one


def backed_up(site: Site, name: str = "backup.tar") -> Path:
    target = site.config.parent / name
    code, output = tram_cloud("backup", "--config", str(site.config), "--out", str(target))
    assert code == 0, output
    return target


def test_a_restored_store_gives_every_answer_it_gave_before(bench: Bench, sites: tuple[Site, Site]) -> None:
    here, there = sites
    before = here.answers(bench)
    target = backed_up(here)
    code, output = tram_cloud("restore", str(target), "--verify", "--json")
    assert (code, sorted(json.loads(output)["databases"])) == (0, ["observations.sqlite", "store.sqlite"]), output
    code, output = tram_cloud("restore", str(target), "--config", str(there.config), "--verify")
    assert code == 0, output
    assert there.answers(bench) == before
    assert [file.name for file in there.state.glob("*.sqlite")] == ["store.sqlite"]


def test_a_restore_that_was_interrupted_is_done_again_and_layers_are_those_of_the_backup(
    bench: Bench, sites: tuple[Site, Site], tmp_path: Path
) -> None:
    here, there = sites
    before = here.answers(bench)
    target = backed_up(here, "backup")
    half = tmp_path / "half.sqlite"
    shutil.copyfile(target / observation_copy.FILE, half)
    with closing(sqlite3.connect(half)) as file, file:
        chunks = ChunkTable(file)
        file.execute("DELETE FROM chunks WHERE series = (SELECT max(series) FROM chunks)")
        (chunk,) = chunks.overlapping_all(file.execute("SELECT min(series) FROM chunks").fetchone()[0])
        rows = chunks.read(chunk)
        chunks.replace(chunk, replace(rows, flag=rows.flag + np.uint8(1)))
    observation_copy.put_back(half, there.observations, bench.registry.scale)
    code, output = tram_cloud("restore", str(target), "--config", str(there.config))
    assert code == 0, output
    assert there.answers(bench) == before


def test_a_database_that_has_another_record_is_refused_and_nothing_is_put_in_place(
    bench: Bench, sites: tuple[Site, Site], tmp_path: Path
) -> None:
    here, there = sites
    target = backed_up(here)
    (tmp_path / "third").mkdir()
    third = Bench(tmp_path / "third", Place(there.observations))
    with third.store:
        third.take(batch([Record(1, T0, 999, 1, EC25, 2)], journal=9))
    third.reader.close()
    code, output = tram_cloud("restore", str(target), "--config", str(there.config))
    assert (code, "other records" in output, list(there.state.glob("*.sqlite"))) == (1, True, []), output


def test_rows_that_are_not_what_was_copied_are_found_out(bench: Bench, sites: tuple[Site, Site]) -> None:
    file = backed_up(sites[0], "backup") / observation_copy.FILE
    assert observation_copy.faults(file) == []
    with closing(sqlite3.connect(file)) as copy, copy:
        copy.execute("DELETE FROM chunks WHERE id = 1")
    (said,) = observation_copy.faults(file)
    assert "other rows" in said


def test_what_needs_an_influxdb_is_not_put_into_a_folder_alone(bench: Bench, sites: tuple[Site, Site]) -> None:
    target = backed_up(sites[0])
    alone = sites[0].config.parent / "alone"
    code, output = tram_cloud("restore", str(target), "--into", str(alone))
    assert (code, "--config" in output, list(alone.iterdir())) == (1, True, []), output
    code, output = tram_cloud("backup", "--config", str(sites[0].config), "--observations", "--out", str(alone))
    assert code == 2, output


def test_the_lines_that_backup_says_for_books_in_postgresql_are_all_there_is_to_do(
    sites: tuple[Site, Site], postgres_server: Any, tmp_path: Path
) -> None:
    here, there = sites
    with postgres_server.database() as here_url, postgres_server.database() as there_url:
        one, other = in_postgresql(here, here_url), in_postgresql(there, there_url)
        here.state.mkdir()
        bench = Bench(here.state, one)
        with bench.store:
            bench.take(batch(minutes(100)), now_s=LATER)
            Review(bench.store, bench.registry).finish()
            Rollups(bench.store, bench.registry).finish(LATER)
        bench.reader.close()
        before = here.answers(bench, one.database)
        for line in lines(here, "pg_dump", "--observations"):
            run(line, tmp_path)
        for line in lines(there, "pg_restore", "tram-cloud restore"):
            run(line, tmp_path)
        assert there.answers(bench, other.database) == before


def in_postgresql(site: Site, url: URL) -> Place:
    """Have the books of a site in PostgreSQL."""
    (site.config.parent / "password").write_text(f"{url.password}\n")
    with site.config.open("a") as config:
        config.write(f'[store]\ndatabase = "postgresql://{url.username}@{url.host}:{url.port}/{url.database}"\n')
        config.write('password_file = "password"\n')
    return Place(site.observations, Database(url))


def lines(site: Site, *of: str) -> list[str]:
    """Return what `backup` says has to be typed."""
    code, said = tram_cloud("backup", "--config", str(site.config), "--out", str(site.config.parent / "no"))
    assert code == 2, said
    return [line for what in of for line in said.splitlines() if line.startswith("  ") and what in line]


def run(line: str, folder: Path) -> None:
    """Type a line that a command has said."""
    words = shlex.split(line)
    if words[0] == "tram-cloud":
        code, output = tram_cloud(*(word.replace("observations.tar", str(folder / "o.tar")) for word in words[1:]))
        assert code == 0, output
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # of the server that the test has
    environment = os.environ | {"PATH": ":".join([*map(str, programs[-1:]), os.environ["PATH"]])}
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
