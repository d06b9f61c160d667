"""A real InfluxDB for the tests: Debian's 1.6 with users, behind nginx that gives it the writing of 1.8 and later.

    TRAM_TEST_INFLUX_URL, TRAM_TEST_INFLUX_BUCKET, TRAM_TEST_INFLUX_TOKEN_FILE, TRAM_TEST_INFLUX_ORG

make the same tests use another server. They write a measurement `observations`, under stations of their own names.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cloud_ingest.observation_settings import ObservationSettings
from cloud_ingest.tests.field import until
from station_config.free_ports import free_port
from station_config.influx_files import write_influxd, write_nginx

USER, PASSWORD = "tram", "mot-hai-ba"
ADMIN = ("admin", "bon-nam-sau")
OTHER_SERVER = "TRAM_TEST_INFLUX_URL"


def require(program: str) -> str:
    """Return where a program is; without it the test is skipped, and fails where CI promises it."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        reason = f"{program} is not installed: apt-get install {'influxdb' if program == 'influxd' else program}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class InfluxServer:
    """influxd and nginx on free ports of this machine; `kill` is kill -9 of influxd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._http, self.port = free_port(), free_port()
        self._influxd: subprocess.Popen[bytes] | None = None
        self._nginx: subprocess.Popen[bytes] | None = None
        self._token = folder / "token"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_influxd(self.folder, self._http, free_port())
        write_nginx(self.folder, self._http, self.port)
        self.start_influxd()
        self._nginx = subprocess.Popen(
            [require("nginx"), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.query(f"CREATE USER {ADMIN[0]} WITH PASSWORD '{ADMIN[1]}' WITH ALL PRIVILEGES", admin=False)
        self.query(f"CREATE USER {USER} WITH PASSWORD '{PASSWORD}'")
        self._token.write_text(f"{USER}:{PASSWORD}\n")
        until(lambda: _answers(self.port), "nginx")

    def start_influxd(self) -> None:
        with (self.folder / "influxd.log").open("ab") as log:
            self._influxd = subprocess.Popen(
                [require("influxd"), "run", "-config", str(self.folder / "influxd.conf")], stdout=log, stderr=log
            )
        until(lambda: _answers(self._http), "influxd")

    def kill(self) -> None:
        assert self._influxd is not None
        self._influxd.kill()
        self._influxd.wait()

    def pause(self) -> None:
        assert self._influxd is not None
        self._influxd.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._influxd is not None
        self._influxd.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._nginx is not None:
            self._nginx.terminate()  # killed, it would leave its workers behind
            self._nginx.wait(60)
        if self._influxd is not None:
            self._influxd.kill()
            self._influxd.wait()

    def query(self, text: str, *, admin: bool = True) -> httpx.Response:
        auth = httpx.BasicAuth(*ADMIN) if admin else None
        url = f"http://127.0.0.1:{self._http}/query"
        answer = httpx.post(url, data={"q": text}, auth=auth, trust_env=False, timeout=60)
        assert answer.status_code == 200, answer.text
        assert "error" not in answer.text, answer.text
        return answer

    def database(self, duration: str = "INF") -> ObservationSettings:
        """Return a new database of its own."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.query(f'CREATE DATABASE "{name}" WITH DURATION {duration}; GRANT ALL ON "{name}" TO {USER}')
        return ObservationSettings(url=self.url, bucket=name, token_file=self._token)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False, timeout=60).status_code == 204
    except httpx.TransportError:
        return False


@contextmanager
def an_influx_server(folder: Path) -> Iterator[InfluxServer]:
    require("influxd"), require("nginx")
    server = InfluxServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def other_server() -> ObservationSettings | None:
    """Return the server that the environment names, None when it names none."""
    url = os.environ.get(OTHER_SERVER)
    if url is None:
        return None
    token = os.environ.get("TRAM_TEST_INFLUX_TOKEN_FILE")
    return ObservationSettings(
        url=url,
        bucket=os.environ.get("TRAM_TEST_INFLUX_BUCKET", "tram-test"),
        org=os.environ.get("TRAM_TEST_INFLUX_ORG"),
        token_file=None if token is None else Path(token),
    )
