"""VictoriaMetrics and InfluxDB 1.x as installed, started for a bench on their own ports, and how to ask them."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.processes import answers, process, wait_for
from station_config.free_ports import free_port

_INFLUXD = """reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
index-version = "tsi1"
query-log-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
[monitor]
store-enabled = false
"""


@contextmanager
def victoria(folder: Path) -> Iterator[tuple[int, int]]:
    """Run VictoriaMetrics with its data in this folder; return its port and process number."""
    port = free_port()
    argv = ["victoria-metrics", f"-storageDataPath={folder}/vm", f"-httpListenAddr=127.0.0.1:{port}"]
    with process([*argv, "-retentionPeriod=100y"], folder / "server.log") as server:
        wait_for(lambda: answers(port), argv[0])
        yield port, server.pid


@contextmanager
def influxd(folder: Path) -> Iterator[tuple[int, int]]:
    """Run InfluxDB without users, with its data in this folder; return its port and process number."""
    port, rpc = free_port(), free_port()
    configuration = folder / "influxdb.conf"
    configuration.write_text(_INFLUXD.format(folder=folder, port=port, rpc=rpc))
    with process(["influxd", "-config", str(configuration)], folder / "server.log") as server:
        wait_for(lambda: answers(port), "influxd", within_s=120)
        yield port, server.pid


def get(link: http.client.HTTPConnection, path: str) -> bytes:
    """Return an answer's body. Ends the bench when it is refused."""
    return _said(link, "GET", path, None)


def post(link: http.client.HTTPConnection, path: str, body: bytes) -> None:
    """Send a body. Ends the bench when it is refused."""
    _said(link, "POST", path, body)


def _said(link: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> bytes:
    link.request(method, path, body)
    answer = link.getresponse()
    said = answer.read()
    if answer.status >= 300:
        raise SystemExit(f"{path}: {answer.status} {said[:200]!r}")
    return said
