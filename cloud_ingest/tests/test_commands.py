"""tram-cloud decode and audit, as people and scripts call them."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud_ingest.commands import app
from cloud_ingest.ingest import Ingest
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from cloud_ingest.tests.field import JOURNAL, NETWORK, T0, Cloud, batch, damaged, minutes, records_topic
from cloud_ingest.tests.test_ingest import Message
from firmware.record import EVENT_BOOT, EVENT_OVERWRITTEN, MISSING, Record
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

RECORDS = [
    Record(1, 5, 3, 0, EVENT_BOOT, 2),
    Record(2, T0, 2750, 1, 32, 2),
    Record(3, T0, MISSING, 1, 34, 9),
    Record(4, T0, 7, 1, 120, 2),
]


def tram_cloud(*arguments: str, given: bytes | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), input=given, env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_decode_prints_a_batch_for_people(tmp_path: Path) -> None:
    file = tmp_path / "batch.bin"
    file.write_bytes(batch(RECORDS))
    code, output = tram_cloud("decode", str(file))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "1234abcd" in line]
    assert code == 0
    assert cells == [
        ["1234abcd", "1", "boot + 5 s", "0", "boot", "3", "2"],
        ["1234abcd", "2", "2026-02-13T16:27:00+00:00", "1", "water_temperature", "27.50 Cel", "2"],
        ["1234abcd", "3", "2026-02-13T16:27:00+00:00", "1", "conductivity_25", "no value", "9"],
        ["1234abcd", "4", "2026-02-13T16:27:00+00:00", "1", "unknown (120)", "7", "2"],
    ]


def test_decode_reads_standard_input_and_writes_json() -> None:
    code, output = tram_cloud("decode", "-", "--json", given=batch(RECORDS))
    assert code == 0
    assert json.loads(output)[1] == {
        "journal": JOURNAL, "seq": 2, "time": T0, "count": 2750, "sensor": 1, "parameter": 32, "flag": 2,
    }  # fmt: skip


def test_decode_names_the_record_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "batch.bin"
    file.write_bytes(damaged(batch(minutes(2)), 1))
    code, output = tram_cloud("decode", str(file), "--json")
    unusable = [row for row in json.loads(output) if "unusable" in row]
    assert code == 1
    assert [(row["seq"], row["position"], row["unusable"]) for row in unusable] == [(2, 1, "CRC does not match")]


@pytest.mark.parametrize(
    ("given", "code", "says"), [(b"hello", 1, "5 bytes, a batch header has 10"), (None, 2, "No such file")]
)
def test_decode_refuses_what_is_no_batch(tmp_path: Path, given: bytes | None, code: int, says: str) -> None:
    if given is not None:
        (tmp_path / "file").write_bytes(given)
    assert tram_cloud("decode", str(tmp_path / "file"))[0] == code
    assert says in tram_cloud("decode", str(tmp_path / "file"))[1]


def stored(folder: Path, *payloads: bytes) -> str:
    """Store batches and return the path of the cloud.toml that leads to them."""
    config = Cloud(folder, 1).config
    (folder / "network.toml").write_text(NETWORK)
    registry = Registry(load_network(folder / "network.toml"), load_instruments(), load_parameters())
    with Store(folder / "state") as store:
        messages = [Message(records_topic("xuan-hoa"), payload) for payload in payloads]
        Ingest(store, registry).store_group(messages, T0)
    return str(config)


def test_audit_of_a_complete_journal_exits_0(tmp_path: Path) -> None:
    code, output = tram_cloud("audit", "--config", stored(tmp_path, batch(minutes(5))), "--json")
    assert code == 0
    assert json.loads(output) == [
        {"station": "xuan-hoa", "journal": JOURNAL, "stored": [[1, 10]], "set_aside": [], "overwritten": [],
         "declared_lost": [], "unexplained": [], "duplicates_received": 0, "conflicts": 0}
    ]  # fmt: skip


def test_audit_names_the_unexplained_and_exits_1(tmp_path: Path) -> None:
    config = stored(tmp_path, batch(minutes(5)), batch(minutes(5, first_seq=15)))
    code, output = tram_cloud("audit", "--config", config)
    assert code == 1
    assert "11–14" in output


def test_audit_takes_the_board_s_word_and_what_is_set_aside(tmp_path: Path) -> None:
    overwritten = Record(25, T0 + 600, 4, 0, EVENT_OVERWRITTEN, 2)
    config = stored(
        tmp_path, damaged(batch(minutes(5)), 2), batch([*minutes(5, first_seq=15, first_time_s=T0 + 300), overwritten])
    )
    code, output = tram_cloud("audit", "--config", config, "--json")
    account = json.loads(output)[0]
    assert code == 0
    assert (account["overwritten"], account["set_aside"], account["unexplained"]) == ([[11, 14]], [[3, 3]], [])


def test_audit_without_a_store_says_so(tmp_path: Path) -> None:
    code, output = tram_cloud("audit", "--config", str(Cloud(tmp_path, 1).config))
    assert code == 2
    assert "no store here yet" in output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"cloud\.toml:1: network: this key is missing"),
        ('network = "none.toml"\nstate_dir = "s"', r"none\.toml: cannot be read"),
        (
            'network = "network.toml"\nstate_dir = "s"\n[broker]\nprt = 1\n[http]\nport = "x"',
            r":4: broker\.prt: unknown",
        ),
        (
            'network = "network.toml"\nstate_dir = "s"\n[broker]\npassword_file = "no"',
            r"broker\.password_file: .* cannot",
        ),
    ],
)
def test_wrong_configuration_is_named_and_exits_2(tmp_path: Path, text: str, says: str) -> None:
    cloud = Cloud(tmp_path, 1)
    cloud.config.write_text(text)
    code, output = tram_cloud("run", "--config", str(cloud.config))
    assert code == 2
    assert re.search(says, output)


def test_a_taken_port_is_named_and_exits_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cloud = Cloud(tmp_path, 1, port=taken.getsockname()[1])
        code, output = tram_cloud("run", "--config", str(cloud.config))
    assert (code, "choose another [http] host or port" in output) == (2, True)
