"""A PostgreSQL database in cloud.toml: under [store] for everything in SQL, under [commands] where those are elsewhere.

database = "postgresql://tram@db.example.org/tram"
password_file = "database-password"   # its first line; never in the URL
ca_file = "ca.pem"                    # who signed the server's certificate; without it whom this machine trusts

A server on another machine is asked for its certificate and its name (sslmode=verify-full).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import Field
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from station_config.broker_link import LOCAL_HOSTS
from station_config.errors import ConfigurationError
from station_config.toml_config import Fault, KeyPath, StrictModel, Table

FilePath = Path
DRIVERS = ("postgresql", "postgresql+psycopg")
WHOLE_TLS = "verify-full"
SYSTEMS_OWN = "system"  # what libpq calls the authorities this machine trusts


class DatabaseSettings(StrictModel):
    """Where a database is; nowhere of its own without `database`."""

    database: str | None = None
    password_file: FilePath | None = Field(default=None, strict=False)
    ca_file: FilePath | None = Field(default=None, strict=False)

    def url(self) -> URL | None:
        """Return the URL with its password and its TLS. Raises ConfigurationError when the password cannot be read."""
        if self.database is None:
            return None
        url = make_url(self.database).set(drivername=DRIVERS[1])
        if self.password_file is not None:
            url = url.set(password=_first_line(self.password_file))
        tls = {"sslmode": WHOLE_TLS, "sslrootcert": str(self.ca_file or SYSTEMS_OWN), "gssencmode": "disable"}
        return url if _is_local(url) else url.update_query_dict(tls)  # Kerberos would be taken instead of TLS

    def anchored(self, folder: Path) -> Self:
        """Return it with absolute paths; relative ones are meant from `folder`."""
        files = {name: getattr(self, name) for name in ("password_file", "ca_file")}
        return self.model_copy(update={name: folder / path for name, path in files.items() if path is not None})


def database_faults(data: Table, name: str, folder: Path) -> Iterator[Fault]:
    """Yield what contradicts itself in the database of table `name`, and what is wrong with its files."""
    table = data.get(name)
    if not isinstance(table, dict):
        return
    if isinstance(table.get("database"), str):
        yield from _url_faults(table, (name, "database"))
    elif "database" not in table:
        for key in sorted({"password_file", "ca_file"} & table.keys()):
            yield Fault((name, key), "without database this is for nothing; remove it, or name the database")
    if isinstance(table.get("password_file"), str):
        try:
            _first_line(folder / table["password_file"])
        except ConfigurationError as error:
            yield Fault((name, "password_file"), str(error))
    if isinstance(table.get("ca_file"), str):
        try:
            ssl.create_default_context(cafile=str(folder / table["ca_file"]))
        except OSError as error:
            yield Fault((name, "ca_file"), f"cannot be used: {error.strerror or error}")


def _url_faults(table: Table, at: KeyPath) -> Iterator[Fault]:
    try:
        url = make_url(table["database"])
    except (ArgumentError, ValueError):
        yield Fault(at, "not the URL of a database: write postgresql://user@host/name")
        return
    if url.drivername not in DRIVERS:
        yield Fault(at, "only PostgreSQL: write postgresql://user@host/name; SQLite lies in state_dir without this")
        return
    if not url.database:
        yield Fault(at, "which database? write postgresql://user@host/name")
    if url.password is not None or "password" in url.query:
        yield Fault(at, "a password is shown with every URL: take it out, into password_file")
    if "options" in url.query:
        yield Fault(at, "options: the service sets its own; ALTER ROLE … SET keeps yours")
    if "service" in url.query:
        yield Fault(at, "service: name the host here; what another file says of it would not be checked")
    if not _is_local(url) and url.query.get("sslmode", WHOLE_TLS) != WHOLE_TLS:
        yield Fault(at, "sslmode: a server on another machine is checked whole; remove it, and name its ca_file")
    if _is_local(url) and "ca_file" in table:
        yield Fault((at[0], "ca_file"), "the server is on this machine: no TLS is asked for; remove this")


def _is_local(url: URL) -> bool:
    hosts = [url.host] if url.host else []
    for name in ("host", "hostaddr"):
        named = url.query.get(name, ())
        hosts += [one if one in LOCAL_HOSTS else one.split(":")[0] for one in _each(named)]
    return all(host in LOCAL_HOSTS or host.startswith("/") for host in hosts)


def _each(named: str | tuple[str, ...]) -> tuple[str, ...]:
    return (named,) if isinstance(named, str) else named


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from None
    if not lines or not lines[0]:
        raise ConfigurationError(f"{file} is empty; its first line is the password")
    return lines[0]
