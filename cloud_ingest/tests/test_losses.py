"""What gateways declare lost, from the message to the account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud_ingest.audit import Account, account_for
from cloud_ingest.commands import app
from cloud_ingest.gateway_messages import GatewayMessages
from cloud_ingest.ingest import Ingest, Outcome
from cloud_ingest.losses import LossTaker
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from cloud_ingest.tests.field import JOURNAL, NETWORK, T0, batch, minutes, records_topic
from cloud_ingest.tests.place import Place, in_a_file
from station_config.instruments import load_instruments
from station_config.network import load_network
from station_config.parameters import load_parameters

NOW = T0 + 86400.0
GATEWAY = "gw-mytho"


class Message(NamedTuple):
    topic: str
    payload: bytes


class Desk:
    """A store that takes records and declarations."""

    def __init__(self, folder: Path, place: Place) -> None:
        (folder / "network.toml").write_text(NETWORK)
        (folder / "cloud.toml").write_text('network = "network.toml"\nstate_dir = "state"\n')
        self.store = Store(folder / "state", place.observations, place.database)
        registry = Registry(load_network(folder / "network.toml"), load_instruments(), load_parameters())
        self.ingest = Ingest(self.store, registry, GatewayMessages({"losses": LossTaker(self.store).take}))
        self.reader = Reader(folder / "state", np.full(256, np.nan), place.observations, place.database)

    def declare(self, *ranges: tuple[int, int], message_id: object = "one", **changes: object) -> Outcome:
        said = {"station": "xuan-hoa", "journal": JOURNAL, "reason": "outbox full", "ranges": ranges, **changes}
        payload = json.dumps({"id": message_id, "at": NOW, **said}).encode()
        return self.ingest.store_group([Message(f"tram/v1/losses/{GATEWAY}", payload)], NOW)

    def take(self, first: int, number: int) -> None:
        """Take the records of `number` minutes, two each."""
        self.ingest.store_group([Message(records_topic("xuan-hoa"), batch(minutes(number, first_seq=first)))], NOW)

    def account(self) -> Account:
        (journal,) = self.reader.journals()
        return account_for(journal.stored, journal.unusable, journal.overwritten, journal.declared)

    def lost(self) -> list[tuple[int, int, str]]:
        return [(one.first, one.last, one.gateway) for one in self.account().declared]


@pytest.fixture
def desk(tmp_path: Path, place: Place) -> Iterator[Desk]:
    one = Desk(tmp_path, place)
    with one.store:
        yield one
    one.reader.close()


def test_a_declared_loss_explains_what_is_missing_and_is_committed(desk: Desk) -> None:
    desk.take(11, 2)

    outcome = desk.declare((1, 10))

    assert json.loads(outcome.commits[0][1]) == {"messages": ["one"]}
    assert (desk.lost(), desk.account().unexplained) == ([(1, 10, GATEWAY)], [])


def test_the_same_declaration_twice_changes_nothing(desk: Desk) -> None:
    desk.declare((1, 10))
    desk.declare((1, 10))

    assert desk.lost() == [(1, 10, GATEWAY)]


def test_a_loss_that_grew_is_one(desk: Desk) -> None:
    desk.declare((1, 10))
    desk.declare((1, 24), message_id="two")

    assert desk.lost() == [(1, 24, GATEWAY)]


def test_a_record_that_arrives_after_all_is_stored_and_the_declaration_shrinks(desk: Desk) -> None:
    desk.declare((1, 10))
    desk.take(3, 2)

    assert (desk.account().stored, desk.lost()) == ([(3, 6)], [(1, 2, GATEWAY), (7, 10, GATEWAY)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranges": [(5, 4)]},
        {"ranges": []},
        {"station": "Xuân Hòa"},
        {"journal": -1},
        {"reason": ""},
    ],
)
def test_a_declaration_that_says_nothing_sensible_is_set_aside_and_acknowledged(
    desk: Desk, wrong: dict[str, object]
) -> None:
    outcome = desk.declare((1, 2), **wrong)

    assert (desk.reader.set_aside(), json.loads(outcome.commits[0][1])) == (1, {"messages": ["one"]})


@in_a_file
def test_audit_shows_who_said_so_and_is_content(desk: Desk, tmp_path: Path) -> None:
    desk.take(11, 2)
    desk.declare((1, 10))

    for_people = CliRunner().invoke(app, ["audit", "--config", str(tmp_path / "cloud.toml")], env={"COLUMNS": "160"})
    for_scripts = CliRunner().invoke(app, ["audit", "--config", str(tmp_path / "cloud.toml"), "--json"])

    assert (for_people.exit_code, for_scripts.exit_code) == (0, 0)
    assert "outbox full (said by gw-mytho" in for_people.stdout
    assert json.loads(for_scripts.stdout)[0]["declared_lost"] == [
        {"first": 1, "last": 10, "reason": "outbox full", "gateway": GATEWAY, "at": int(NOW)}
    ]
