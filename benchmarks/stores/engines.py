"""Stores as one installs them: filled once, asked over HTTP (plain SQL in process).

Each has the same observations: value and flag. A question is what one would send to get that answer with one request.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import orjson

from benchmarks.stores import asking, servers
from benchmarks.stores.observations import ASKED, BEGIN, END, SERIES, Plan, keys, rows_of, weeks
from cloud_ingest.registry import Registry

YEAR_RAW, YEAR_DAILY, LATEST, DAY_OF_TEN = "a year raw", "a year daily", f"latest of {SERIES:,}", f"24 h of {ASKED}"
COMPLETE = "complete"
LINES = 20_000  # of a batch
MS = 1000
Points = Mapping[str, int]  # of each answer


class Engine(Protocol):
    """A store that is measured beside ours."""

    @property
    def name(self) -> str:
        """Return what it is called in the table."""

    @property
    def program(self) -> str | None:
        """Return what has to be installed."""

    def fill(self, folder: Path, plan: Plan, registry: Registry) -> None:
        """Put all observations there."""

    def measure(self, folder: Path, plan: Plan, times: int) -> tuple[dict[str, asking.Times], Points]:
        """Ask; return how long it took, and how many points the answers had."""


class VictoriaMetrics:
    """VictoriaMetrics: import by columns, export of raw samples, sums without its cache of answers."""

    name = "VictoriaMetrics, HTTP"
    program = "victoria-metrics"

    def fill(self, folder: Path, plan: Plan, registry: Registry) -> None:
        """Put all observations there, a series at a time."""
        with servers.victoria(folder) as (port, _):
            link = http.client.HTTPConnection("127.0.0.1", port)
            for number, key in enumerate(keys()):
                rows = rows_of(number, plan.days(number))
                labels = {"station": key.station, "sensor": str(key.sensor), "parameter": str(key.parameter)}
                for name, column in (("value", rows.counts / registry.scale[key.parameter]), ("flag", rows.flag)):
                    line = {"metric": {"__name__": name} | labels, "values": column, "timestamps": rows.time * MS}
                    servers.post(link, "/api/v1/import", orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY))
            servers.get(link, "/internal/force_flush")

    def measure(self, folder: Path, plan: Plan, times: int) -> tuple[dict[str, asking.Times], Points]:
        """Ask."""
        with servers.victoria(folder) as (port, pid):
            questions = self._questions(plan)
            link = http.client.HTTPConnection("127.0.0.1", port)
            got = {name: servers.get(link, paths[0]) for name, paths in questions.items()}
            sums, latest = (json.loads(got[name])["data"]["result"] for name in (YEAR_DAILY, LATEST))
            points = {
                YEAR_RAW: len(json.loads(got[YEAR_RAW])["values"]),
                YEAR_DAILY: len(sums[0]["values"]),
                LATEST: len(latest),
                DAY_OF_TEN: sum(len(json.loads(line)["values"]) for line in got[DAY_OF_TEN].splitlines()),
            }
            return asking.over_http(port, pid, questions, times), points

    def _questions(self, plan: Plan) -> dict[str, Sequence[str]]:
        def of(number: int) -> str:
            station, sensor, parameter = keys()[number]
            return f'value{{station="{station}",sensor="{sensor}",parameter="{parameter}"}}'

        first = keys()[0]
        ten = "|".join(one.station for one in keys()[:ASKED])
        several = f'value{{station=~"{ten}",sensor="{first.sensor}",parameter="{first.parameter}"}}'
        year, day = f"start={BEGIN + 1}&end={END}", f"start={END - 86400 + 1}&end={END}"
        daily = f"start={BEGIN + 86400}&end={END}&step=86400&nocache=1"
        return {
            YEAR_RAW: [f"/api/v1/export?match[]={quote(of(at))}&{year}" for at in range(plan.asked)],
            YEAR_DAILY: [
                f"/api/v1/query_range?query={quote(f'rollup({of(at)}[1d])')}&{daily}" for at in range(plan.asked)
            ],
            LATEST: [f"/api/v1/query?query=value&time={END}&nocache=1"],
            DAY_OF_TEN: [f"/api/v1/export?match[]={quote(several)}&{day}"],
        }


class Influx:
    """InfluxDB 1.x: line protocol week by week, InfluxQL."""

    name = "InfluxDB, HTTP"
    program = "influxd"

    def fill(self, folder: Path, plan: Plan, registry: Registry) -> None:
        """Put all observations there."""
        with servers.influxd(folder) as (port, _):
            link = http.client.HTTPConnection("127.0.0.1", port)
            servers.post(link, "/query?q=CREATE+DATABASE+b", b"")
            waiting: list[str] = []
            for number, rows in weeks(plan):
                station, sensor, parameter = keys()[number]
                head = f"v,station={station},sensor={sensor},parameter={parameter} value="
                columns = (rows.counts / registry.scale[parameter], rows.flag, rows.time)
                for value, flag, time in zip(*(one.tolist() for one in columns), strict=True):
                    waiting.append(f"{head}{value},flag={flag}i {time}")
                if len(waiting) >= LINES:
                    servers.post(link, "/write?db=b&precision=s", "\n".join(waiting).encode())
                    waiting.clear()
            servers.post(link, "/write?db=b&precision=s", "\n".join(waiting).encode())

    def measure(self, folder: Path, plan: Plan, times: int) -> tuple[dict[str, asking.Times], Points]:
        """Ask."""
        with servers.influxd(folder) as (port, pid):
            questions = self._questions(plan)
            link = http.client.HTTPConnection("127.0.0.1", port)
            got = {name: json.loads(servers.get(link, paths[0])) for name, paths in questions.items()}
            points = {name: _influx_points(answer) for name, answer in got.items()}
            return asking.over_http(port, pid, questions, times), points

    def _questions(self, plan: Plan) -> dict[str, Sequence[str]]:
        def of(number: int) -> str:
            station, sensor, parameter = keys()[number]
            return f"station='{station}' AND sensor='{sensor}' AND parameter='{parameter}'"

        def path(query: str) -> str:
            return f"/query?db=b&epoch=s&q={quote(query)}"

        ten = " OR ".join(f"station='{one.station}'" for one in keys()[:ASKED])
        first = keys()[0]
        several = f"({ten}) AND sensor='{first.sensor}' AND parameter='{first.parameter}'"
        year = f"time > {BEGIN}s AND time <= {END}s"
        day = f"time > {END - 86400}s AND time <= {END}s"
        sums = "SELECT mean(value), min(value), max(value), count(value) FROM v"
        shift = (BEGIN + 1) % 86400  # a day ends with its last second
        return {
            YEAR_RAW: [path(f"SELECT value FROM v WHERE {of(at)} AND {year}") for at in range(plan.asked)],
            YEAR_DAILY: [
                path(f"{sums} WHERE {of(at)} AND {year} GROUP BY time(1d,{shift}s)") for at in range(plan.asked)
            ],
            LATEST: [path(f"SELECT last(value) FROM v WHERE {day} GROUP BY station,sensor,parameter")],
            DAY_OF_TEN: [path(f"SELECT value FROM v WHERE {several} AND {day} GROUP BY station")],
        }


class PlainSql:
    """SQLite with one row for each observation, clustered by series and time; in process, tuples."""

    name = "plain SQL, in process"
    program = None

    def fill(self, folder: Path, plan: Plan, registry: Registry) -> None:
        """Put all observations there."""
        with _file(folder) as file:
            file.execute("CREATE TABLE v (series, time, value, flag, PRIMARY KEY (series, time)) WITHOUT ROWID")
            file.execute("CREATE TABLE series (id INTEGER PRIMARY KEY, station, sensor, parameter)")
            for number, key in enumerate(keys()):
                rows = rows_of(number, plan.days(number))
                columns = (rows.time, rows.counts / registry.scale[key.parameter], rows.flag)
                file.execute("BEGIN")
                file.execute("INSERT INTO series VALUES (?, ?, ?, ?)", (number, *key))
                file.executemany(
                    f"INSERT INTO v VALUES ({number}, ?, ?, ?)", zip(*(one.tolist() for one in columns), strict=True)
                )
                file.execute("COMMIT")

    def measure(self, folder: Path, plan: Plan, times: int) -> tuple[dict[str, asking.Times], Points]:
        """Ask."""
        with _file(folder) as file:
            questions = self._questions(plan, file)
            points = {name: len(ways[0]()) for name, ways in questions.items()}
            return asking.in_process(questions, times), points

    def _questions(self, plan: Plan, file: sqlite3.Connection) -> dict[str, Sequence[Callable[[], list[Any]]]]:
        def asked(query: str, *words: object) -> Callable[[], list[Any]]:
            return lambda: file.execute(query, words).fetchall()

        raw = "SELECT time, value, flag FROM v WHERE series = ? AND time > ? AND time <= ?"
        sums = (
            f"SELECT (time - 1 - {BEGIN}) / 86400, count(*), avg(value), min(value), max(value) FROM v"
            " WHERE series = ? AND time > ? AND time <= ? AND flag < 3 GROUP BY 1"
        )
        latest = (
            "SELECT station, sensor, parameter, time, value, flag FROM series CROSS JOIN v ON v.series = series.id"
            " AND time = (SELECT max(time) FROM v WHERE series = series.id)"
        )
        numbers = ", ".join(map(str, range(ASKED)))
        ten = f"SELECT series, time, value, flag FROM v WHERE series IN ({numbers}) AND time > ? AND time <= ?"
        return {
            YEAR_RAW: [asked(raw, at, BEGIN, END) for at in range(plan.asked)],
            YEAR_DAILY: [asked(sums, at, BEGIN, END) for at in range(plan.asked)],
            LATEST: [asked(latest)],
            DAY_OF_TEN: [asked(ten, END - 86400, END)],
        }


def filled(name: str, fill: Callable[[Path], None], cache: Path, plan: Plan) -> Path:
    """Return the folder with a store's data, filled now or by an earlier run."""
    folder = cache / f"{name}-{plan.whole}"
    if not (folder / COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began_s = time.perf_counter()
        fill(folder)
        took_s = time.perf_counter() - began_s
        print(f"{name}: {plan.rows:,} rows in {took_s:.0f} s, {plan.rows / took_s:,.0f}/s", flush=True)
        (folder / COMPLETE).touch()
    return folder


@contextmanager
def _file(folder: Path) -> Iterator[sqlite3.Connection]:
    file = sqlite3.connect(folder / "plain.sqlite", isolation_level=None)
    try:
        yield file
    finally:
        file.close()


def _influx_points(answer: Any) -> int:
    series = answer["results"][0]["series"]
    return sum(sum(any(one is not None for one in row[1:]) for row in one["values"]) for one in series)
