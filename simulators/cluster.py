"""The servers of a cluster on this machine, as programs that can be killed: PostgreSQL, InfluxDB, nginx before it.

Debian's InfluxDB is 1.6; nginx gives it the writing of 1.8 and later (station_config/influxdb).
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from simulators.processes import BenchError
from station_config.influx_files import write_influxd, write_nginx

READY_S = 60.0
DATABASE, USER = "tram", "tram"
NOBODY = ("postgres", "nobody")
POSTGRES_SETTINGS = {"listen_addresses": "127.0.0.1", "shared_buffers": "32MB", "max_connections": "80"}
Run = Callable[[str, list[str], Callable[[], bool]], None]


def programs() -> dict[str, str]:
    """Return where the servers' programs are. Raises BenchError that says what to install."""
    initdb = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = {"initdb": str(initdb[-1]) if initdb else shutil.which("initdb")}
    found |= {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("influxd", "nginx")}
    if missing := [name for name, path in found.items() if path is None]:
        raise BenchError(f"{', '.join(missing)} not installed: apt-get install postgresql influxdb nginx-light")
    return {name: str(path) for name, path in found.items()}


@dataclass
class Cluster:
    """Where the servers are, with passwords made for this run. `ports`: postgres, influx's two, nginx."""

    folder: Path
    ports: tuple[int, int, int, int]
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    @property
    def toml(self) -> str:
        """Return what cloud.toml says of them."""
        return f"""[store]
database = "postgresql://{USER}@127.0.0.1:{self.ports[0]}/{DATABASE}"
password_file = "{self.folder / "database-password"}"
[observations]
url = "http://127.0.0.1:{self.ports[3]}"
bucket = "{DATABASE}"
token_file = "{self.folder / "influx-token"}"
"""

    def start(self, run: Run) -> None:
        """Make data directories and start everything by `run(name, argv, ready)`. Raises BenchError."""
        known = programs()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start_postgres(Path(known["initdb"]), run)
        self._start_influx(known, run)

    def _start_postgres(self, initdb: Path, run: Run) -> None:
        folder = self.folder / "postgres"
        folder.mkdir(exist_ok=True)
        _write_secret(self.folder / "database-password", self.password)
        password = folder / "password"
        _write_secret(password, self.password)
        owner = _somebody_else()
        if owner is not None:
            for path in (folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            _let_through(folder)
        data, port = folder / "data", self.ports[0]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", f"--username={USER}"]
        made = [*_as(owner), str(initdb), "-D", str(data), *options, f"--pwfile={password}"]
        done = subprocess.run(made, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise BenchError(f"initdb failed: {done.stderr[-1000:]}")
        settings = POSTGRES_SETTINGS | {"unix_socket_directories": str(folder)}
        argv = [*_as(owner), str(initdb.with_name("postgres")), "-D", str(data), "-p", str(port)]
        argv += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        run("postgres", argv, self._postgres_answers)
        with self._connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.ports[0],
            dbname=database,
            user=USER,
            password=self.password,
            autocommit=True,
            connect_timeout=2,
        )

    def _postgres_answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _start_influx(self, known: dict[str, str], run: Run) -> None:
        folder, (_, rpc, http, front) = self.folder / "influx", self.ports
        folder.mkdir(exist_ok=True)
        influxd_file, nginx_file = write_influxd(folder, http, rpc), write_nginx(folder, http, front)
        run("influxd", [known["influxd"], "run", "-config", str(influxd_file)], lambda: _pings(http))
        self._ask(f"CREATE USER {USER} WITH PASSWORD '{self.password}' WITH ALL PRIVILEGES", known=False)
        self._ask(f"CREATE DATABASE {DATABASE}", known=True)
        _write_secret(self.folder / "influx-token", f"{USER}:{self.password}")
        argv = [known["nginx"], "-p", str(folder), "-c", str(nginx_file), "-e", "stderr"]
        run("nginx", argv, lambda: _pings(front))

    def _ask(self, text: str, *, known: bool) -> None:
        auth = httpx.BasicAuth(USER, self.password) if known else None
        url = f"http://127.0.0.1:{self.ports[2]}/query"
        httpx.post(url, data={"q": text}, auth=auth, trust_env=False).raise_for_status()


def _write_secret(path: Path, secret: str) -> None:
    path.touch(mode=0o600)
    path.write_text(f"{secret}\n", encoding="utf-8")


def _pings(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False).status_code == 204
    except httpx.TransportError:
        return False


def _somebody_else() -> pwd.struct_passwd | None:
    """Return who runs PostgreSQL, which refuses to run as root; None where we are not root."""
    if os.geteuid() != 0:
        return None
    return next(one for one in pwd.getpwall() if one.pw_name in NOBODY)


def _as(owner: pwd.struct_passwd | None) -> list[str]:
    if owner is None:
        return []
    who = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    return ["setpriv", *who, "--pdeathsig", "TERM"]  # whoever changes user loses the signal that was set before


def _let_through(folder: Path) -> None:
    """Let another user reach a folder of his under one that mkdtemp made for us alone."""
    for parent in _own_parents(folder):
        parent.chmod(parent.stat().st_mode | 0o011)


def _own_parents(folder: Path) -> Iterator[Path]:
    return (one for one in folder.parents if one.stat().st_uid == os.geteuid() and not one.stat().st_mode & 0o001)
