"""Broker to commit message: records a second through mosquitto into the real `tram-cloud run`, durable in SQLite.

Beside it paho-mqtt that only acknowledges, and a naive pipeline, with the same publisher on the same cores. A record
counts when a commit message names it. Batches of 600, 13 and 1 records. `--backlog`: a day of 200 stations, and the
memory of the process meanwhile. `--alone`: the pipeline in this process, without a broker.

python -m benchmarks.ingest --size 600
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.load.processes import Watch, mosquitto, process, python, wait_for
from benchmarks.load.records import CHANNELS, T0, Message, messages, network
from cloud_ingest.ingest import Ingest
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from cloud_ingest.worker import GROUP_BYTES
from station_config.free_ports import free_port
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

RECORDS = {600: 1_500_000, 13: 600_000, 1: 60_000}
STATIONS = 50
DAY_STATIONS = 200
WITHIN_S = 300.0
LONGEST_BATCH = 0xFFFF


class Load(NamedTuple):
    """Batches of `size` records, `records` in all, of so many stations."""

    size: int
    records: int
    stations: int

    @property
    def exactly(self) -> int:
        """How many records the publisher sends: whole rounds over the stations."""
        per_round = self.size * self.stations
        return max(self.records // per_round, 1) * per_round

    @property
    def arguments(self) -> tuple[object, ...]:
        """Return the publisher's words."""
        return ("--size", self.size, "--records", self.records, "--stations", self.stations)


class Result(NamedTuple):
    """What a run came to."""

    seconds: float
    cpu_s: float
    memory_mib: tuple[float, float, float]
    written: int


class Commits:
    """Counts what commit messages name."""

    def __init__(self, port: int) -> None:
        self.records = 0
        self.last_s = 0.0
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "commits")
        self._client.on_connect = lambda client, *_: client.subscribe("tram/v1/commits/#", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._count
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._ready.wait(10)

    def close(self) -> None:
        """Say goodbye."""
        self._client.disconnect()
        self._client.loop_stop()

    def _count(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        ranges = json.loads(message.payload)["ranges"]
        self.records += sum(last - first + 1 for first, last in ranges)
        self.last_s = time.monotonic()


def ours(load: Load, folder: Path) -> Result:
    """Measure the product: until the last record's commit message."""
    port = free_port()
    (folder / "network.toml").write_text(network(load.stations))
    with mosquitto(folder) as broker:
        (folder / "cloud.toml").write_text(
            f'network = "network.toml"\nstate_dir = "state"\n[broker]\nport = {broker}\n[http]\nport = {port}\n'
        )
        argv = [sys.executable, "-m", "cloud_ingest.commands", "run", "--config", str(folder / "cloud.toml")]
        with (
            process(argv, folder / "cloud.log") as cloud,
            python("benchmarks.load.publisher", "--port", broker, *load.arguments, log=folder / "load.log") as source,
        ):
            wait_for(lambda: _healthy(port), f"the cloud, {folder / 'cloud.log'}")
            commits, watch = Commits(broker), Watch(cloud.pid)
            began_s = _go(source)
            _until(lambda: commits.records >= load.exactly, watch, "commit messages")
            commits.close()
            return Result(commits.last_s - began_s, watch.spent()[0], watch.memory(), watch.spent()[1])


def rival(kind: str, load: Load, folder: Path) -> Result:
    """Measure another subscriber: until it has all."""
    with mosquitto(folder) as broker:
        words = (kind, "--port", broker, "--records", load.exactly, "--folder", folder)
        with (
            python("benchmarks.load.subscribers", *words, log=folder / "rival.log") as subject,
            python("benchmarks.load.publisher", "--port", broker, *load.arguments, log=folder / "load.log") as source,
        ):
            watch = Watch(subject.pid)
            watch.look()
            began_s = _go(source)
            assert subject.stdout is not None
            ended_s = float(subject.stdout.readline())
            watch.look()
            return Result(ended_s - began_s, watch.spent()[0], watch.memory(), watch.spent()[1])


def _go(source: Any) -> float:
    source.stdin.write(b"go\n")
    source.stdin.flush()
    return float(source.stdout.readline())


def _healthy(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and bool(answer.json()["broker_connected"])


def _until(condition: Any, watch: Watch, what: str) -> None:
    def look() -> object:
        watch.look()
        return condition()

    wait_for(look, what, WITHIN_S)


def compare(load: Load) -> None:
    """Print a table of one size."""
    subjects = (("tram-cloud run", ours), ("paho, bare", _bare), ("naive pipeline", _naive))
    results = {}
    for name, measure in subjects:
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="bench-") as folder:
            results[name] = measure(load, Path(folder))
    print(f"\n{load.exactly:,} records in batches of {load.size}, {load.stations} stations")
    head = f"{'':16}{'records/s':>12}{'messages/s':>12}{'ours is':>9}{'CPU s per million':>19}"
    print(f"{head}{'resident MiB: start, middle, end':>35}{'bytes written each':>20}")
    for name, result in results.items():
        rate = load.exactly / result.seconds
        ratio = result.seconds / results["tram-cloud run"].seconds
        cpu = 1e6 * result.cpu_s / load.exactly
        memory = " ".join(f"{one:.0f}" for one in result.memory_mib)
        line = f"{name:16}{rate:12,.0f}{rate / load.size:12,.0f}{ratio:8.2f}x{cpu:19.2f}"
        print(f"{line}{memory:>35}{result.written / load.exactly:20.0f}", flush=True)


def _bare(load: Load, folder: Path) -> Result:
    return rival("bare", load, folder)


def _naive(load: Load, folder: Path) -> Result:
    return rival("naive", load, folder)


def backlog() -> None:
    """Print how a day of 200 stations is taken in."""
    load = Load(600, DAY_STATIONS * len(CHANNELS) * 1440, DAY_STATIONS)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="bench-") as folder:
        result = ours(load, Path(folder))
    each = load.exactly / result.seconds
    print(f"\na day of {load.stations} stations: {load.exactly:,} records in {result.seconds:.1f} s, {each:,.0f}/s")
    print(f"resident MiB at start, middle, end: {' '.join(f'{one:.0f}' for one in result.memory_mib)}")
    print(f"bytes written per record: {result.written / load.exactly:.0f}")
    print("WeeWX 5.5 stores 198 such rows of 13 values a second when it catches up (quoted, not run here)", flush=True)


def alone(load: Load) -> None:
    """Print records a second of the pipeline without a broker, in groups as large as it takes them under load."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="bench-") as name:
        folder = Path(name)
        (folder / "network.toml").write_text(network(load.stations))
        registry = Registry(load_network(folder / "network.toml"), load_instruments(), load_parameters())
        taken = list(_groups(messages(*load)))
        with Store(folder) as store:
            ingest = Ingest(store, registry)
            began_s, cpu_s = time.perf_counter(), time.process_time()
            stored = sum(ingest.store_group(group, T0 + 1e8).counts.stored for group in taken)
            elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    rates = f"{stored / elapsed_s:,.0f} records/s, {stored / cpu_s:,.0f} per CPU second"
    print(f"alone, {stored:,} records in batches of {load.size}, {load.stations} stations: {rates}", flush=True)


def _groups(source: Iterator[Message]) -> Iterator[list[Message]]:
    group: list[Message] = []
    size = 0
    for message in source:
        group.append(message)
        size += len(message.payload)
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _size(text: str) -> int:
    size = int(text)
    if not 1 <= size <= LONGEST_BATCH:
        raise argparse.ArgumentTypeError(f"a batch has 1 to {LONGEST_BATCH} records")
    return size


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=_size, action="append", help="records per batch; again for more (600, 13 and 1)")
    parser.add_argument("--records", type=int, help="how many in all")
    parser.add_argument("--stations", type=int, default=STATIONS)
    parser.add_argument("--backlog", action="store_true", help="a day of 200 stations")
    parser.add_argument("--alone", action="store_true", help="no broker, no rivals")
    options = parser.parse_args()
    if options.backlog:
        backlog()
        return
    for size in options.size or RECORDS:
        load = Load(size, options.records or RECORDS.get(size, 600_000), options.stations)
        (alone if options.alone else compare)(load)


if __name__ == "__main__":
    main()
