"""What the tests of every package may use: a real PostgreSQL, started by the test session, never the machine's own.

And what hypothesis does: every day the same inputs, whatever the machine's pace, so that a test fails because of a
change and not by luck; `make soak` runs all properties with inputs nobody has seen.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from station_config.free_ports import free_port

settings.register_profile("searching", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("everyday", settings.get_profile("searching"), derandomize=True, database=None)
settings.load_profile("everyday")

ADMINISTRATOR, PASSWORD = "tram_tests", "mot-hai-ba-bon"
NOBODY = ("postgres", "nobody")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
START_WITHIN_S = 90.0


class PostgresServer:
    """A server with a data directory of its own, on a free port; `kill` is kill -9, `start` after it recovers."""

    def __init__(self, programs: Path, folder: Path, fsync: bool) -> None:
        self._programs, self._folder = programs, folder
        self._data = folder / "data"
        self._settings = SETTINGS | {"fsync": "on" if fsync else "off", "unix_socket_directories": str(folder)}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def initialise(self) -> None:
        """Make the data directory."""
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            owner = next(one for one in pwd.getpwall() if one.pw_name in NOBODY)
            for path in (self._folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        who = (f"--username={ADMINISTRATOR}", f"--pwfile={password}")
        self._run("initdb", "-D", str(self._data), *options, *who)

    def start(self) -> None:
        """Start it and wait until it answers; after a kill, also until the old one's children are gone."""
        pause = threading.Event()
        for _ in range(int(START_WITHIN_S / 0.1)):
            if self._process is None or self._process.poll() is not None:
                self._process = self._spawn()
            if self._answers():
                return
            pause.wait(0.1)
        raise AssertionError((self._folder / "log").read_text())

    def show_certificate(self, certificate: Path, key: Path) -> None:
        """Begin again with TLS for who asks for it, by this certificate."""
        self.stop()
        for name, file in (("ssl_cert_file", certificate), ("ssl_key_file", key)):
            own = self._folder / name
            shutil.copy(file, own)
            own.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(own, self._folder.stat().st_uid, self._folder.stat().st_gid)
            self._settings[name] = str(own)
        self._settings["ssl"] = "on"
        self.start()

    def kill(self) -> None:
        """Kill it as a power cut would end it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it, whoever is connected."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(60)

    def url(self, database: str) -> URL:
        """Return where a database is, and how to get in."""
        return URL.create(
            "postgresql+psycopg", ADMINISTRATOR, PASSWORD, host="127.0.0.1", port=self.port, database=database
        )

    @contextmanager
    def database(self) -> Iterator[URL]:
        """A database with nothing in it."""
        name = f"tram_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Do something as its administrator."""
        engine = create_engine(self.url("postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        ends_with_us = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
        server = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*ends_with_us, *server], stdout=log, stderr=log, user=self._user, group=self._group
            )

    def _answers(self) -> bool:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", self.port)):
                return False
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            user=self._user,
            group=self._group,
        )
        assert done.returncode == 0, done.stderr

    @property
    def _user(self) -> int | None:
        """PostgreSQL refuses to run as root."""
        return self._folder.stat().st_uid if os.geteuid() == 0 else None

    @property
    def _group(self) -> int | None:
        return self._folder.stat().st_gid if os.geteuid() == 0 else None


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        reason = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return (found[-1] if found else Path(str(on_path))).parent


@contextmanager
def _server(*, fsync: bool) -> Iterator[PostgresServer]:
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="tram-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(programs, Path(folder), fsync)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server, started by the first test that asks for one. Nobody kills this one."""
    with _server(fsync=False) as server:
        yield server


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """A server to be killed, stopped and starved."""
    with _server(fsync=True) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[URL]:
    """A database with nothing in it, in the session's server."""
    with postgres_server.database() as url:
        yield url
