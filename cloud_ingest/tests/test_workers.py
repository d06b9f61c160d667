"""Several processes that share the records: the same database as one, whatever happens to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import URL
from typer.testing import CliRunner

from cloud_ingest.columns import SeriesKey
from cloud_ingest.commands import app
from cloud_ingest.configuration import load_configuration
from cloud_ingest.places import Places, opened_places
from cloud_ingest.registry import Registry
from cloud_ingest.review import Review
from cloud_ingest.review_spans import Depth
from cloud_ingest.roles import ingesting
from cloud_ingest.rollups import Rollups
from cloud_ingest.tests.answers import differences, everything
from cloud_ingest.tests.field import Broker, batch, minute, records_topic
from cloud_ingest.tests.influx_server import InfluxServer
from cloud_ingest.tests.traffic import BEGIN, MINUTES, NETWORK_OF_FOUR, PRESENT, STATIONS, traffic
from cloud_ingest.topics import shard_of
from cloud_ingest.workers import (
    ALL_SHARDS,
    WorkerSaid,
    WorkersState,
    parse_shards,
    problems,
    shards_in_words,
)
from station_config.clock import BenchClock
from station_config.free_ports import free_port
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

SPAN = (BEGIN - 3600, BEGIN + 60 * MINUTES + 3600)
LAST_JOURNAL = 0xEEEE
NOW = 1_790_000_000


@given(st.sets(st.sampled_from(sorted(ALL_SHARDS)), min_size=1))
def test_shards_are_read_as_they_are_written(shards: set[str]) -> None:
    assert parse_shards(shards_in_words(shards)) == shards


@pytest.mark.parametrize("words", ["", "00-7f", "1f-00", "0", "00-1f-2f", "00;01", "0g"])
def test_shards_that_are_none_are_refused_with_words(words: str) -> None:
    with pytest.raises(ValueError, match="00 to 3f"):
        parse_shards(words)


def said(name: str, shards: str, ago_s: int = 0, lag_s: float = 0.0, trouble: str = "") -> WorkerSaid:
    return WorkerSaid(name, shards, NOW - ago_s, lag_s, 3, trouble)


def told(owned: str, *workers: WorkerSaid) -> str:
    return "; ".join(problems(WorkersState(list(workers), parse_shards(owned), NOW)))


def test_health_says_which_shards_nobody_takes_and_who_had_them() -> None:
    assert told("00-3f", said("low", "00-1f"), said("high", "20-3f")) == ""
    gone = told("00-1f", said("low", "00-1f"), said("high", "20-3f", ago_s=100))
    assert gone.startswith("nobody takes in shards 20-3f: start tram-cloud ingest --shards")
    assert "high until" in gone
    assert "low" not in gone


def test_health_says_what_a_worker_waits_for_and_when_one_is_silent() -> None:
    assert told("00-3f", said("one", "00-3f", lag_s=45)) == "worker one: messages have been waiting for 45 s"
    assert told("00-3f", said("one", "00-3f", trouble="disk full")) == "worker one: disk full"
    assert "worker one has said nothing since" in told("00-3f", said("one", "00-3f", ago_s=60))
    assert told("00-3f", said("old", "00-1f", ago_s=60), said("new", "00-3f")) == ""


class Process:
    """A real `tram-cloud` of some role."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._command = [sys.executable, "-m", "cloud_ingest.commands", *words, "--config", str(folder / "cloud.toml")]
        self._environment = dict(os.environ) | BenchClock(time.time(), PRESENT, 1.0).as_environment()
        self._log = folder / f"{words[0]}{words[-1]}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stderr=log)

    def require_alive(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(60) == 0, self._log.read_text()

    def once(self) -> tuple[int, str]:
        done = subprocess.run(self._command, env=self._environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr


def within(seconds: float, condition: Callable[[], bool], processes: Iterable[Process]) -> None:
    """Wait until it is so; fail at the deadline, or when a process is gone."""
    pause, deadline_s = threading.Event(), time.monotonic() + seconds
    while not condition():
        for process in processes:
            process.require_alive()
        assert time.monotonic() < deadline_s, f"not within {seconds} s"
        pause.wait(0.1)


class Site:
    """A folder with a configuration, and the store it names."""

    def __init__(self, folder: Path, broker: Broker, extra: str = "") -> None:
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        (folder / "network.toml").write_text(NETWORK_OF_FOUR)
        (folder / "cloud.toml").write_text(
            f'network = "network.toml"\nstate_dir = "state"\n[broker]\nport = {broker.port}\n'
            f"[http]\nport = {self.port}\n{extra}"
        )
        self.registry = Registry(load_network(folder / "network.toml"), load_instruments(), load_parameters())

    def health(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = httpx.get(
                f"http://127.0.0.1:{self.port}/health", trust_env=False, timeout=60
            ).json()
        except httpx.TransportError:
            return {"status": "away", "problems": []}
        return found

    def is_well(self) -> bool:
        return bool(self.health()["status"] == "ok")

    def answers(self) -> dict[str, object]:
        """Settle what the processes left, and ask everything."""
        with opened_places(load_configuration(self.folder / "cloud.toml")) as places:
            with places.store() as store:
                Review(store, self.registry).finish()
                Rollups(store, self.registry).finish(PRESENT + 86400)
            return self._ask(places)

    def _ask(self, places: Places) -> dict[str, object]:
        reader = places.reader(self.registry)
        found = everything(reader, self.registry, SPAN, PRESENT)
        reader.close()
        return found

    def has_the_last(self) -> bool:
        ledger = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/ledger", trust_env=False, timeout=60).json()
        return {one["station"] for one in ledger if one["journal"] == LAST_JOURNAL} == set(STATIONS)


@pytest.fixture
def sites(tmp_path: Path, broker: Broker, postgres_url: URL, influx_server: InfluxServer) -> tuple[Site, Site]:
    observations = influx_server.database()
    of = postgres_url
    where = URL.create("postgresql", of.username, host=of.host, port=of.port, database=of.database)
    secret = tmp_path / "password"
    secret.write_text(f"{postgres_url.password}\n")
    cluster = (
        f'[store]\ndatabase = "{where.render_as_string()}"\npassword_file = "{secret}"\n'
        f'[observations]\nurl = "{observations.url}"\nbucket = "{observations.bucket}"\n'
        f'token_file = "{observations.token_file}"\n'
    )
    return Site(tmp_path / "one", broker), Site(tmp_path / "many", broker, cluster)


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for one in started:
        one.kill()


def test_two_workers_over_split_shards_give_the_same_database_as_one(
    sites: tuple[Site, Site], broker: Broker, processes: list[Process]
) -> None:
    one, many = sites
    alone, serving = Process(one.folder, "run"), Process(many.folder, "serve")
    low = Process(many.folder, "ingest", "--shards", "00-1f")
    high = Process(many.folder, "ingest", "--shards", "20-3f")
    with ExitStack() as stack:
        for process in (alone, low, high, serving):
            stack.callback(process.kill)
            process.start()
        gateway = mqtt.Client(CallbackAPIVersion.VERSION2, "gateway")
        gateway.max_queued_messages_set(0)
        gateway.connect("127.0.0.1", broker.port)
        gateway.loop_start()
        stack.callback(gateway.loop_stop)
        everybody = (alone, low, high, serving)
        within(90, lambda: one.is_well() and many.is_well(), everybody)
        messages = traffic()
        portions = [messages[at : at + 30] for at in range(0, len(messages), 30)]
        for number, portion in enumerate(portions):
            if number == 2:
                low.kill()
            sent = [gateway.publish(*message, qos=1) for message in portion]
            sent[-1].wait_for_publish(20)
            if number == 1:
                within(30, lambda: len(many.health()["workers"]) == 2, everybody)
            if number == 4:
                within(30, lambda: "nobody takes in shards 00-1f" in str(many.health()["problems"]), (high, serving))
                low.start()
        for station in STATIONS:
            last = batch(minute(1, PRESENT - 60, sensor=7), LAST_JOURNAL)
            gateway.publish(records_topic(station), last, qos=1).wait_for_publish(20)
        within(90, lambda: one.has_the_last() and many.has_the_last(), everybody)
        within(30, many.is_well, everybody)
        for process in (serving, low, high, alone):
            process.stop()
    expected = one.answers()
    assert differences(expected, many.answers()) == []
    assert len(expected) > 100


def test_shards_that_another_worker_has_are_refused_with_words(
    sites: tuple[Site, Site], processes: list[Process]
) -> None:
    single, many = sites
    with opened_places(load_configuration(many.folder / "cloud.toml")) as places, places.store({"0e", "0f"}):
        code, text = Process(many.folder, "ingest", "--shards", "0f-1f").once()
        assert code == 1
        assert "shards 0f are another process's" in text
    code, text = Process(single.folder, "ingest", "--shards", "00-1f").once()
    assert (code, "books in PostgreSQL" in text) == (2, True)
    code, text = Process(many.folder, "ingest", "--shards", "00-7f").once()
    assert (code, "00 to 3f" in text) == (2, True)


def test_recompute_asks_running_workers_and_takes_no_shard_from_one_that_starts(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, many = sites

    def refused(*_: object) -> None:
        pytest.fail("it takes shards")

    command = ["recompute", "--config", str(many.folder / "cloud.toml"), "--json"]
    with (
        opened_places(load_configuration(many.folder / "cloud.toml")) as places,
        places.store({shard_of("xuan-hoa")}) as store,
    ):
        with store.transaction() as transaction:
            transaction.series_number(SeriesKey("xuan-hoa", 1, 34))
        with monkeypatch.context() as patched:
            patched.setattr(Places, "store", refused)
            done = CliRunner().invoke(app, command)
        assert (done.exit_code, json.loads(done.stdout)) == (0, {"asked": 1})
        with store.transaction() as transaction:
            assert [span.station for span in transaction.waiting_spans(Depth.SETTLE)] == ["xuan-hoa"]
    assert json.loads(CliRunner().invoke(app, command).stdout) == {"recomputed": True}


def test_a_worker_subscribes_to_its_shards_and_to_losses() -> None:
    role = ingesting(parse_shards("0e-0f"))
    assert role.interest.client_id == "tram-ingest-0e-0f"
    assert role.interest.topics == ("tram/v1/records/0e", "tram/v1/records/0f", "tram/v1/losses")
    assert json.dumps(ingesting(ALL_SHARDS).interest.topics) == '["tram/v1/records", "tram/v1/losses"]'
