"""Our store, packed as closed days are: asked in process, through the real `tram-cloud run`, and while it takes in."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.load.processes import mosquitto, process, python, wait_for
from benchmarks.load.records import CHANNELS, network
from benchmarks.stores import asking
from benchmarks.stores.engines import DAY_OF_TEN, LATEST, YEAR_DAILY, YEAR_RAW, Points
from benchmarks.stores.observations import (
    ASKED,
    BEGIN,
    DAYS,
    END,
    RATE_OF_CHANGE,
    STATIONS,
    SUSPECT,
    Plan,
    keys,
    rows_of,
)
from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.database import DATABASE
from cloud_ingest.local_time import By
from cloud_ingest.observations import Logged
from cloud_ingest.queries import LayerName, Sums, layer, layers_of, newest
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from cloud_ingest.rollups import Rollups
from cloud_ingest.store import Store
from station_config.free_ports import free_port
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

NETWORK, STATE = "network.toml", "state"
SERIES_AT_ONCE = 10
MOST_POINTS = 600_000
LONG_S = 900  # batches arrive no longer than this


class Size(NamedTuple):
    """What the file is: bytes of it for each row, and of that in chunks."""

    file: float
    chunks: float


def registry_in(folder: Path) -> Registry:
    """Return what is known of the stations, and write it as network.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NETWORK).write_text(network(STATIONS))
    return Registry(load_network(folder / NETWORK), load_instruments(), load_parameters())


def fill(folder: Path, plan: Plan, registry: Registry) -> None:
    """Pack all observations, and sum up the series that are asked for a year."""
    (folder / STATE).mkdir()
    with Store(folder / STATE) as store:
        for at in range(0, len(keys()), SERIES_AT_ONCE):
            _pack(store, plan, registry, range(at, min(at + SERIES_AT_ONCE, len(keys()))))
        with store.transaction() as transaction:
            transaction.mark_all_rollups([store.series[key] for key in keys()[: plan.asked]])
        Rollups(store, registry).finish(END + 86400 * DAYS)
    with closing(sqlite3.connect(folder / STATE / DATABASE)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _pack(store: Store, plan: Plan, registry: Registry, numbers: Sequence[int]) -> None:
    with store.transaction() as transaction:
        assert isinstance(transaction.log, ChunkedLog)
        for at in numbers:
            key = keys()[at]
            number = transaction.series_number(key)
            rows = _logged(at, plan.days(at))
            transaction.log.chunks.merge(number, rows)
            value = int(rows.count[-1]) / float(registry.scale[key.parameter])
            transaction.put_latest(number, END, value, int(rows.flag[-1]))


def _logged(at: int, days: int) -> Logged:
    rows = rows_of(at, days)
    nothing = np.zeros(len(rows.time), np.int64)
    return Logged(
        time=rows.time,
        count=rows.counts,
        value=np.full(len(rows.time), np.nan),
        calibration=nothing,
        flag=rows.flag,
        failed=np.where(rows.flag == SUSPECT, RATE_OF_CHANGE, 0),
        journal=nothing + 1,
        seq=1 + 20 * np.arange(len(rows.time)) + at % 20,
    )


def size(folder: Path, plan: Plan) -> Size:
    """Return what is on disk."""
    with closing(sqlite3.connect(folder / STATE / DATABASE)) as file:
        packed = file.execute("SELECT sum(length(data)) FROM chunks").fetchone()[0]
    return Size((folder / STATE / DATABASE).stat().st_size / plan.rows, packed / plan.rows)


def in_process(folder: Path, plan: Plan, registry: Registry, times: int) -> dict[str, asking.Times]:
    """Ask a reader in this process; its answers are columns."""
    year, day = (BEGIN + 1, END), (END - 86400 + 1, END)
    with closing(Reader(folder / STATE, registry.scale)) as reader, reader.snapshot() as moment:
        sums = Sums(moment, registry, END)
        asked, ten = keys()[: plan.asked], keys()[:ASKED]
        questions: dict[str, Sequence[Callable[[], object]]] = {
            YEAR_RAW: [partial(layer, moment, registry, key, year, LayerName.FLAGGED) for key in asked],
            YEAR_DAILY: [partial(sums.of, key, By.DAY, (BEGIN, END)) for key in asked],
            LATEST: [partial(newest, moment)],
            DAY_OF_TEN: [partial(layers_of, moment, registry, ten, day, LayerName.FLAGGED)],
        }
        return asking.in_process(questions, times)


def over_http(folder: Path, registry: Registry, plan: Plan, times: int) -> tuple[dict[str, asking.Times], Points]:
    """Ask `tram-cloud run`."""
    questions = _questions(registry, plan)
    with _running(folder) as (port, pid, _):
        link = asking.Link(port)
        got = {name: json.loads(link.get(paths[0])) for name, paths in questions.items()}
        link.close()
        points = {
            YEAR_RAW: len(got[YEAR_RAW]["values"]),
            YEAR_DAILY: len(got[YEAR_DAILY]["buckets"]),
            LATEST: len(got[LATEST]),
            DAY_OF_TEN: sum(len(one["values"]) for one in got[DAY_OF_TEN]["series"]),
        }
        return asking.over_http(port, pid, questions, times), points


def while_ingesting(
    folder: Path, registry: Registry, plan: Plan, times: int, per_second: int
) -> tuple[dict[str, asking.Times], float]:
    """Ask `tram-cloud run` while so many batches a second arrive; return the times, and how many records a second were
    stored meanwhile."""
    with _running(folder) as (port, pid, broker):
        words = ("--port", broker, "--size", len(CHANNELS), "--stations", STATIONS, "--per-second", per_second)
        records = per_second * len(CHANNELS) * LONG_S
        with python("benchmarks.load.publisher", *words, "--records", records, log=folder / "load.log") as source:
            assert source.stdin is not None
            source.stdin.write(b"go\n")
            source.stdin.flush()
            wait_for(lambda: _stored(port), "the first batch")
            before, began_s = _stored(port), time.monotonic()
            found = asking.over_http(port, pid, _questions(registry, plan), times)
            rate = (_stored(port) - before) / (time.monotonic() - began_s)
    return found, rate


def _questions(registry: Registry, plan: Plan) -> Mapping[str, Sequence[str]]:
    def name(code: int) -> str:
        parameter = registry.parameter(code)
        assert parameter is not None
        return parameter.name

    year, day = f"from={BEGIN + 1}&to={END}", f"from={END - 86400 + 1}&to={END}"
    asked = [(key.station, name(key.parameter), key.sensor) for key in keys()[: plan.asked]]
    ten = "&".join(f"of={key.station}/{key.sensor}/{name(key.parameter)}" for key in keys()[:ASKED])
    return {
        YEAR_RAW: [
            f"/api/v1/stations/{station}/series/{parameter}?sensor={sensor}&{year}&limit={MOST_POINTS}"
            for station, parameter, sensor in asked
        ],
        YEAR_DAILY: [
            f"/api/v1/stations/{station}/aggregates/{parameter}?sensor={sensor}&by=day&from={BEGIN}&to={END}"
            for station, parameter, sensor in asked
        ],
        LATEST: ["/api/v1/latest"],
        DAY_OF_TEN: [f"/api/v1/series?{ten}&{day}"],
    }


@contextmanager
def _running(folder: Path) -> Iterator[tuple[int, int, int]]:
    """Run the service on a copy of the store; yield its port, its process and the broker's port."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as name, mosquitto(Path(name)) as broker:
        copy = Path(name)
        shutil.copytree(folder / STATE, copy / STATE)
        (copy / "cloud.toml").write_text(
            f'network = "../{NETWORK}"\nstate_dir = "state"\n[broker]\nport = {broker}\n[http]\nport = {port}\n'
        )
        argv = [sys.executable, "-m", "cloud_ingest.commands", "run", "--config", str(copy / "cloud.toml")]
        with process(argv, folder / "cloud.log") as cloud:
            wait_for(lambda: _healthy(port), f"the cloud, {folder / 'cloud.log'}", within_s=120)
            yield port, cloud.pid, broker


def _healthy(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and bool(answer.json()["broker_connected"])


def _stored(port: int) -> int:
    """Return how many records there are, but for those the store was filled with."""
    journals = httpx.get(f"http://127.0.0.1:{port}/api/v1/ledger", trust_env=False, timeout=60).json()
    return sum(int(one["stored"]) for one in journals)
