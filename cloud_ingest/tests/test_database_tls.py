"""The books' server on another machine: a real PostgreSQL with a certificate of its own, reached by another name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import URL, text

from cloud_ingest.certificate_authority import open_authority
from cloud_ingest.database import Database, changing, reading_engine, store_errors
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.tests.test_database_settings import load

NAME = "db.tram.test"
OURS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


class Server(Protocol):
    """The fixture's; see conftest.py at the top."""

    port: int

    def url(self, database: str) -> URL: ...

    def show_certificate(self, certificate: Path, key: Path) -> None: ...


def authority(folder: Path, name: str = NAME) -> tuple[Path, Path, Path]:
    """Return the files of an authority and of a server's certificate and key that it made."""
    now = time.time()
    made = open_authority(folder, "Sông Tiền", now)
    made.issue("database", folder / "server.crt", folder / "server.key", now_s=now, days=30, server=[name])
    (folder / "trusted.pem").write_bytes(made.certificate_pem)
    return folder / "trusted.pem", folder / "server.crt", folder / "server.key"


def books(folder: Path, server: Server, ca_file: Path) -> Database:
    """Return where the books are as cloud.toml says it: the name in it, and the address it has in this test."""
    at = server.url("postgres")
    place = f"postgresql://{at.username}@{NAME}:{server.port}/postgres?hostaddr=127.0.0.1"
    folder.mkdir()
    (folder / "database-password").write_text(f"{at.password}\n")
    keys = f'[store]\ndatabase = "{place}"\npassword_file = "database-password"\nca_file = "{ca_file}"\n'
    url = load(folder, keys).store.url()
    assert url is not None
    return Database(url)


def test_a_server_elsewhere_is_spoken_to_by_tls_or_not_at_all(own_postgres_server: Server, tmp_path: Path) -> None:
    server = own_postgres_server
    ca_file, certificate, key = authority(tmp_path / "ours")
    other_ca, *_ = authority(tmp_path / "strangers")

    with pytest.raises(StoreUnavailable, match="SSL"), changing(books(tmp_path / "plain", server, ca_file)):
        pytest.fail("a server without TLS was spoken to")

    server.show_certificate(certificate, key)
    found = books(tmp_path / "whole", server, ca_file)
    with changing(found) as writes:
        assert writes.scalar(text(OURS)) is True
    reads = reading_engine(found)
    with store_errors(), reads.connect() as connection:
        assert connection.scalar(text(OURS)) is True
    reads.dispose()

    wrong = books(tmp_path / "wrong", server, other_ca)
    with pytest.raises(StoreUnavailable, match="certificate verify failed"), changing(wrong):
        pytest.fail("a stranger's server was believed")

    _, certificate, key = authority(tmp_path / "ours", "another.tram.test")
    server.show_certificate(certificate, key)
    with pytest.raises(StoreUnavailable, match=f'does not match host name "{NAME}"'), changing(found):
        pytest.fail("another server's certificate was believed")
