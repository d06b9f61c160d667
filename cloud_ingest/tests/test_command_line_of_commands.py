"""`tram-cloud command` and `tram-cloud rollout` as a person and a script meet them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cloud_ingest.commands import app
from cloud_ingest.store import Store
from station_config.network import load_network

NETWORK = Path(__file__).parents[2] / "simulators" / "demo_network.toml"


class Office:
    """A folder with cloud.toml and a key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(NETWORK, folder / "network.toml")
        (folder / "cloud.toml").write_text(
            'network = "network.toml"\nstate_dir = "cloud"\n[commands]\nkey_file = "office.pem"\n'
        )
        assert self.run("command", "keygen", "--out", str(folder / "office")).exit_code == 0

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    def say(self, *words: str) -> Result:
        return self.run(*words, "--config", str(self.folder / "cloud.toml"))

    def ask(self, *words: str) -> Any:
        done = self.say(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_an_order_is_listed_shown_and_cancelled_by_the_beginning_of_its_id(office: Office) -> None:
    order = office.ask("command", "send", "read-now", "--station", "xuan-hoa", "--by", "lan")
    listed = office.ask("command", "list")
    cancelled = office.ask("command", "cancel", order["id"][:8], "--by", "hoa")
    history = office.ask("command", "history")

    assert (order["gateway"], order["state"], [one["id"] for one in listed]) == ("gw-go-cong", "waiting", [order["id"]])
    assert (cancelled["state"], [entry["who"] for entry in history]) == ("cancelled", ["hoa", "lan"])
    assert office.say("command", "cancel", order["id"]).exit_code == 0
    assert "read-now for xuan-hoa, by lan: cancelled" in office.say("command", "show", order["id"]).stdout
    assert "cancelled" in office.say("command", "list").stdout
    assert "command ordered" in office.say("command", "history").stdout


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("command", "send", "shell"), 2, "no kind of command"),
        (("command", "send", "read-now"), 2, "say --gateway"),
        (("command", "send", "read-now", "--station", "xuan-hoa", "--expires", "soon"), 2, "no duration"),
        (("command", "send", "read-now", "--station", "xuan-hoa", "--expires", "15d"), 2, "at most 14 days"),
        (("command", "show", "abc"), 1, "0 commands begin with abc"),
        (("command", "submit", "nowhere.json"), 2, "nowhere.json"),
        (("rollout", "start", "--image", "nowhere.trf"), 2, "say --stations"),
        (("rollout", "start", "--image", "nowhere.trf", "--all"), 2, "nowhere.trf"),
        (("rollout", "halt", "abc"), 1, "0 rollouts begin with abc"),
    ],
)
def test_what_cannot_be_done_is_said_in_words_with_an_exit_code(
    office: Office, words: tuple[str, ...], code: int, text: str
) -> None:
    done = office.say(*words)

    assert (done.exit_code, text in done.output) == (code, True), done.output


def test_a_key_that_others_may_read_signs_nothing(office: Office) -> None:
    (office.folder / "office.pem").chmod(0o640)
    done = office.say("command", "send", "read-now", "--station", "xuan-hoa")

    assert (done.exit_code, "chmod 600" in done.output) == (1, True)


def test_a_rollout_holds_one_signed_command_for_each_station_in_order(office: Office) -> None:
    # The head of an image is all that is looked at here; boards check the rest.
    (office.folder / "new.trf").write_bytes(b"TRF1" + bytes([14, 0, 6, 0, 2, 0, 0, 0, 0, 0]))
    image = str(office.folder / "new.trf")
    started = office.ask("rollout", "start", "--image", image, "--stations", "hoa-binh,xuan-hoa", "--by", "lan")
    doubled = office.say("rollout", "start", "--image", image, "--stations", "hoa-binh,hoa-binh")
    halted = office.ask("rollout", "halt", started["id"][:8], "--by", "hoa")
    resumed = office.ask("rollout", "resume", started["id"][:8], "--by", "hoa")

    assert started["version"] == "0.2.0"
    assert [(one["station"], one["state"]) for one in started["stations"]] == [
        ("hoa-binh", "held"),
        ("xuan-hoa", "held"),
    ]
    assert (doubled.exit_code, halted["state"], resumed["state"]) == (2, "halted", "running")
    assert "0.2.0" in office.say("rollout", "list").stdout
    assert "hoa-binh" in office.say("rollout", "show", started["id"]).stdout


def test_the_image_is_not_printed_with_the_command(office: Office) -> None:
    (office.folder / "new.trf").write_bytes(b"TRF1" + bytes(2000))
    office.ask("command", "send", "firmware", "--station", "xuan-hoa", "--image", str(office.folder / "new.trf"))
    (shown,) = office.ask("command", "list")

    assert set(shown["arguments"]) == {"station", "sha256"}


def test_a_gateway_is_asked_again_for_what_no_ledger_of_this_store_has(office: Office, tmp_path: Path) -> None:
    """Signed where the key is; every station of the network, or the one that was named."""
    with Store(tmp_path / "cloud") as store, store.transaction() as transaction:
        journal = transaction.journal_number("xuan-hoa", 0x1234)
        for first, last in ((1, 100), (201, 210)):
            transaction.ledger(journal).add(first, last)
    done = office.say("ask-again", "--only-sign", str(tmp_path / "signed"))
    assert done.exit_code == 0, done.output
    stations = {one.id for one in load_network(NETWORK).stations}
    files = {file.name for file in (tmp_path / "signed").iterdir()}
    assert files == {f"read-again-{station}.json" for station in stations}
    command = json.loads(json.loads((tmp_path / "signed" / "read-again-xuan-hoa.json").read_text())["command"])
    assert command["arguments"]["in_cloud"] == [{"journal": 0x1234, "ranges": [[1, 100], [201, 210]]}]
    (order,) = office.ask("ask-again", "--station", "xuan-hoa", "--by", "lan")
    assert (order["kind"], order["gateway"], order["state"]) == ("read-again", "gw-go-cong", "waiting")
    assert office.say("ask-again", "--station", "nowhere").exit_code == 2
