"""[store] and [commands] of cloud.toml: where a PostgreSQL database is, how it is trusted, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud_ingest.configuration import CloudConfiguration, load_configuration
from cloud_ingest.tests.field import NETWORK
from station_config.errors import ConfigurationError

OUTSIDE = '[observations]\nurl = "http://127.0.0.1:8086"\nbucket = "tram"\n'


def load(folder: Path, tables: str) -> CloudConfiguration:
    (folder / "network.toml").write_text(NETWORK)
    (folder / "password").write_text("bí mật\n")
    (folder / "empty").write_text("")
    file = folder / "cloud.toml"
    file.write_text(f'network = "network.toml"\nstate_dir = "state"\n{tables}{OUTSIDE}')
    return load_configuration(file)


def test_without_a_database_everything_lies_in_state_dir(tmp_path: Path) -> None:
    configuration = load(tmp_path, "")
    assert (configuration.store.url(), configuration.commands.url()) == (None, None)


def test_a_server_on_this_machine_is_asked_for_no_certificate(tmp_path: Path) -> None:
    url = load(
        tmp_path, '[store]\ndatabase = "postgresql://tram@localhost/tram"\npassword_file = "password"\n'
    ).store.url()
    assert url is not None
    assert (url.drivername, url.password, dict(url.query)) == ("postgresql+psycopg", "bí mật", {})
    socket = load(tmp_path, '[store]\ndatabase = "postgresql:///tram?host=/var/run/postgresql"\n').store.url()
    assert socket is not None
    assert "sslmode" not in socket.query


def test_a_server_elsewhere_is_checked_whole(tmp_path: Path) -> None:
    url = load(tmp_path, '[store]\ndatabase = "postgresql+psycopg://tram@db.example.org/tram"\n').store.url()
    assert url is not None
    assert dict(url.query) == {"sslmode": "verify-full", "sslrootcert": "system", "gssencmode": "disable"}


@pytest.mark.parametrize("query", ["hostaddr=10.0.0.5", "host=db.example.org", "host=localhost&host=db.example.org"])
def test_a_server_elsewhere_is_no_local_one_by_another_name(tmp_path: Path, query: str) -> None:
    url = load(tmp_path, f'[store]\ndatabase = "postgresql://tram@localhost/tram?{query}"\n').store.url()
    assert url is not None
    assert url.query["sslmode"] == "verify-full"


def test_commands_may_be_elsewhere(tmp_path: Path) -> None:
    configuration = load(
        tmp_path,
        '[commands]\ndatabase = "postgresql://office@localhost/commands"\n'
        '[store]\ndatabase = "postgresql://tram@localhost/tram"\n',
    )
    found = [configuration.store.url(), configuration.commands.url()]
    assert [one.database for one in found if one] == ["tram", "commands"]


def test_all_faults_are_told_at_once_with_their_lines_and_no_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(
            tmp_path,
            '[store]\ndatabase = "postgresql://tram:hush@db.example.org/tram?sslmode=require"\n'
            'password_file = "empty"\nca_file = "nowhere.pem"\n'
            '[commands]\ndatabase = "mysql://office@localhost/commands"\nrepeat_s = 0\n',
        )
    told = [re.sub(r"^.*cloud.toml:", "", line) for line in str(error.value).splitlines()]
    assert [line.split(": ")[:2] for line in told] == [
        ["4", "store.database"],
        ["4", "store.database"],
        ["5", "store.password_file"],
        ["6", "store.ca_file"],
        ["8", "commands.database"],
        ["9", "commands.repeat_s"],
    ]
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ('database = "postgresql://tram@localhost"', "which database"),
        ('database = "tram"', "not the URL of a database"),
        ('database = "postgresql://localhost/tram?options=-csynchronous_commit%3Doff"', "the service sets its own"),
        ('password_file = "password"', "without database this is for nothing"),
        ('database = "postgresql://tram@localhost/tram"\nca_file = "password"', "no TLS is asked for"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, table: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        load(tmp_path, f"[store]\n{table}\n")


def test_books_in_postgresql_want_their_observations_outside_too(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(NETWORK)
    file = tmp_path / "cloud.toml"
    file.write_text(
        'network = "network.toml"\nstate_dir = "state"\n[store]\ndatabase = "postgresql://tram@localhost/tram"\n'
    )
    with pytest.raises(ConfigurationError, match=r"cloud.toml:4: store.database: .*see \[observations\]"):
        load_configuration(file)
