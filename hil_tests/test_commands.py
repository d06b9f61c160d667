"""Commands from the office to real boards, by the whole chain; and everybody who must not give any."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_tests.command_chain import GATEWAY, CommandChain
from hil_tests.workshop import Workshop, configuration, prepare
from simulators.broker import BrokerMissing
from simulators.lines import Lines
from simulators.processes import tail
from station_config.command import OfStationOrGateway, Reboot, new_id, sign

FIRST, SECOND, THIRD = "vam-kenh", "hoa-binh", "xuan-hoa"
BOOT = 2  # the first was in the workshop


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return prepare(tmp_path_factory.mktemp("workshop"))


def chain_of(folder: Path, workshop: Workshop, *stations: str) -> CommandChain:
    try:
        return CommandChain(folder, workshop, stations)
    except BrokerMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture
def chain(workshop: Workshop, tmp_path: Path) -> Iterator[CommandChain]:
    with chain_of(tmp_path, workshop, FIRST, SECOND) as chain:
        yield chain


def reboot_of(chain: CommandChain, station: str | None = FIRST, **changes: Any) -> Reboot:
    now = int(chain.clock.now())
    fields: dict[str, Any] = {
        "id": new_id(),
        "gateway": GATEWAY,
        "issued_at": now,
        "expires_at": now + 86_400,
        "by": "somebody",
    }
    return Reboot(**(fields | changes), arguments=OfStationOrGateway(station=station))


def boot_of(chain: CommandChain, station: str = FIRST) -> int:
    return int(chain.send("read-now", "--station", station)["result"]["details"]["boot"])


def test_the_office_reads_sets_the_clock_fetches_logs_and_looks_who_is_on_the_line(chain: CommandChain) -> None:
    read = chain.send("read-now", "--station", FIRST)
    clock = chain.send("set-clock", "--station", FIRST)
    logs = chain.send("logs", "--station", FIRST)
    own = chain.send("logs", "--gateway", GATEWAY)
    scan = chain.send("bus-scan", "--gateway", GATEWAY, "--line", "radio", "--first", "10", "--last", "13")
    restarted = chain.send("reboot", "--gateway", GATEWAY)

    assert {one["state"] for one in (read, clock, logs, own, scan, restarted)} == {"done"}, tail(
        chain.folder / "gateway.log"
    )
    assert read["result"]["details"]["version"] == "0.1.0"
    assert "the gateway runs" in own["result"]["details"]["log"]
    assert [one["station"] for one in scan["result"]["details"]["found"]] == [FIRST, SECOND]
    assert restarted["result"]["details"] == {"restarted": True}
    assert chain.gateway.running


def test_who_ordered_what_and_what_came_of_it_stands_in_the_audit(chain: CommandChain) -> None:
    order = chain.send("calibration-mode", "--station", FIRST, "--sensor", "9", "--on")
    entries = [entry for entry in chain.cloud_command("command", "history") if entry["subject"] == order["id"]]

    assert order["result"]["reason"] == "the station refuses: bad argument"
    assert [(entry["who"], entry["what"]) for entry in reversed(entries)] == [
        ("lan", "command ordered"),
        ("tram-cloud run", "command published"),
        (f"gateway {GATEWAY}", "command answered"),
        (f"gateway {GATEWAY}", "command answered"),
    ]


def test_a_configuration_is_taken_and_a_broken_one_refused(chain: CommandChain) -> None:
    (chain.folder / "good.json").write_bytes(configuration(FIRST, record_s=120))
    (chain.folder / "bad.json").write_bytes(configuration(FIRST, record_s=65))
    good = chain.send("configuration", "--station", FIRST, "--file", str(chain.folder / "good.json"))
    bad = chain.send("configuration", "--station", FIRST, "--file", str(chain.folder / "bad.json"))
    foreign = chain.send("configuration", "--station", SECOND, "--file", str(chain.folder / "good.json"))

    assert (good["state"], bad["state"], foreign["state"]) == ("done", "failed", "failed")
    assert bad["result"]["reason"] == "the station refuses: bad configuration"
    assert "of station 'vam-kenh' at address 11" in foreign["result"]["reason"]


def test_a_file_crosses_a_line_that_loses_and_damages(chain: CommandChain) -> None:
    boot_of(chain)  # the line is up
    lines = Lines(chain.folder / "lines.sock")
    for fault in ("drop", "corrupt"):
        lines.set_fault("radio", fault, 0.05)
    content = configuration(FIRST, record_s=120, journal={"segment_records": 64, "max_bytes": 65536})
    (chain.folder / "good.json").write_bytes(content + b" " * 4000)
    order = chain.send("configuration", "--station", FIRST, "--file", str(chain.folder / "good.json"), wait=False)
    chain.wait(lambda: "applying" in progress_of(chain), "the whole file to be there", 120)
    lines.clear("radio")  # a trial takes 22 s here, which is too short for a bad line
    found = chain.outcome(order)

    assert found["state"] == "done", found["result"]
    assert found["result"]["details"]["bytes"] == len(content) + 4000


def test_firmware_reaches_a_station_while_the_records_of_all_go_on(chain: CommandChain, workshop: Workshop) -> None:
    (chain.folder / "new.trf").write_bytes(workshop.image("0.2.0"))
    order = chain.send("firmware", "--station", FIRST, "--image", str(chain.folder / "new.trf"), wait=False)
    chain.wait(lambda: any(row["state"] == "started" for row in chain.gateway_rows()), "the transfer to begin")
    before = chain.ledger().get(SECOND, {"stored": 0})["stored"]
    arrived: list[tuple[str, int]] = []  # on a fast machine the transfer may end before the next record is due

    def looked() -> bool:
        arrived.append((chain.gateway_rows()[-1]["state"], chain.ledger().get(SECOND, {"stored": 0})["stored"]))
        return arrived[-1][0] == "finished" or arrived[-1][1] > before

    chain.wait(looked, "records of the other station, or the end of the transfer")
    found = chain.outcome(order)
    chain.wait(lambda: chain.ledger()[SECOND]["stored"] > before, "records of the other station", 10)

    assert found["state"] == "done", found["result"]
    details = found["result"]["details"]
    assert (details["before"]["version"], details["after"]["version"]) == ("0.1.0", "0.2.0")
    for station in (FIRST, SECOND):
        chain.wait(lambda: chain.all_arrived(station), f"all records of {station}")  # noqa: B023  waited for at once


def test_a_rollout_halts_itself_when_a_station_fails(workshop: Workshop, tmp_path: Path) -> None:
    shutil.copytree(workshop.folder, tmp_path / "workshop")
    without_keys = Workshop(tmp_path / "workshop")
    without_keys.flash_station(SECOND, keys=False)
    with chain_of(tmp_path, without_keys, FIRST, SECOND, THIRD) as chain:
        (tmp_path / "new.trf").write_bytes(workshop.image("0.2.0"))
        words = ("--image", str(tmp_path / "new.trf"), "--stations", f"{FIRST},{SECOND},{THIRD}", "--by", "lan")
        rollout = chain.cloud_command("rollout", "start", *words, "--first", "1", "--then", "1")

        chain.wait(lambda: chain.book.newest(3, rollout["id"])[0].state == "accepted", "the first wave")
        chain.cloud.kill()
        chain.cloud.start()
        chain.wait(lambda: chain.book.find_rollout(rollout["id"]).state == "halted", "the rollout to halt", 120)
        halted = chain.cloud_command("rollout", "show", rollout["id"])
        read = chain.send("read-now", "--station", THIRD)

        assert [one["state"] for one in halted["stations"]] == ["done", "failed", "held"]
        assert halted["reason"] == f"1 failed, 0 allowed: {SECOND}: failed, the station refuses: no key"
        assert read["result"]["details"]["version"] == "0.1.0"


def test_what_is_not_a_command_of_the_office_for_this_gateway_now_does_nothing_and_is_counted(
    chain: CommandChain,
) -> None:
    chain.gateway_commands()  # it is there
    replayed = chain.signed(reboot_of(chain))
    chain.publish(replayed)
    chain.wait(lambda: [row["state"] for row in chain.gateway_rows()] == ["finished"], "the first to be carried out")
    now = int(chain.clock.now())
    stranger = Ed25519PrivateKey.generate()
    changed = json.loads(chain.signed(reboot_of(chain)))
    changed["command"] = changed["command"].replace("somebody", "everyone")
    payloads = [
        replayed,
        sign(reboot_of(chain), stranger).encode(),
        json.dumps(changed).encode(),
        chain.signed(reboot_of(chain, issued_at=now - 90_000, expires_at=now - 10)),
        chain.signed(reboot_of(chain, gateway="gw-mytho")),
        chain.signed(reboot_of(chain, station="cho-lach")),
        chain.signed(reboot_of(chain, issued_at=now - 90_000, expires_at=now + 90_000)),
        b"reboot, please",
    ]
    for payload in payloads:
        chain.publish(payload)
    chain.wait(lambda: chain.gateway_commands()["received"] == 1 + len(payloads), "all of them to be judged")
    counted = chain.gateway_commands()

    assert counted["refused"] == {
        "unknown key": 1,
        "bad signature": 1,
        "expired": 1,
        "for another gateway": 1,
        "not here": 1,
        "not known": 1,
        "malformed": 1,
    }
    assert (counted["accepted"], counted["repeated"]) == (1, 1)
    assert boot_of(chain) == BOOT + 1


def test_a_gateway_killed_in_the_middle_of_a_restart_restarts_the_station_once(chain: CommandChain) -> None:
    boot_of(chain)  # the line is up
    for times, moment in enumerate(("kept", "started", "boot noted", "finished"), start=1):
        order = chain.send("reboot", "--station", FIRST, wait=False)
        chain.wait(lambda: has_come(chain, order["id"], moment), f"the command to be {moment}")  # noqa: B023
        chain.gateway.kill()
        chain.gateway.start()

        assert chain.outcome(order)["state"] == "done"
        assert boot_of(chain) == BOOT + times


def has_come(chain: CommandChain, command: str, moment: str) -> bool:
    """Whether the gateway's table shows that a command is this far."""
    rows = [row for row in chain.gateway_rows() if row["id"] == command]
    if not rows or moment == "kept":
        return bool(rows)
    if moment == "boot noted":
        return "boot" in json.loads(rows[0]["progress"] or "{}")
    return rows[0]["state"] in ("finished", moment)


def test_a_gateway_killed_again_and_again_during_an_update_updates_once(
    chain: CommandChain, workshop: Workshop
) -> None:
    (chain.folder / "new.trf").write_bytes(workshop.image("0.2.0"))
    order = chain.send("firmware", "--station", FIRST, "--image", str(chain.folder / "new.trf"), wait=False)
    for noted in ("before", "applying", "boot"):
        chain.wait(lambda: noted in json.loads(progress_of(chain) or "{}"), f"{noted} to be noted")  # noqa: B023
        chain.gateway.kill()
        chain.gateway.start()
    found = chain.outcome(order)

    assert found["state"] == "done", found["result"]
    details = found["result"]["details"]
    assert (details["before"]["version"], details["after"]["version"]) == ("0.1.0", "0.2.0")
    assert details["after"]["boot"] == BOOT + 1
    chain.wait(lambda: chain.all_arrived(FIRST), "all its records")


def progress_of(chain: CommandChain) -> str:
    rows = chain.gateway_rows()
    return str(rows[-1]["progress"] or "") if rows else ""


def test_a_command_signed_on_another_machine_is_sent_by_one_without_the_key(chain: CommandChain) -> None:
    path = str(chain.folder / "read.json")
    sending = ("command", "send", "read-now", "--station", FIRST, "--by", "lan", "--expires", "10d")
    chain.cloud_command(*sending, "--only-sign", path, check=False)
    chain.key_file.rename(chain.folder / "elsewhere.pem")
    unsigned = chain.cloud_command(*sending, check=False)
    found = chain.cloud_command("command", "submit", path, "--by", "hoa", "--wait")
    again = chain.cloud_command("command", "submit", path, check=False)

    assert (unsigned["code"], "office.pem" in unsigned["error"]) == (1, True)
    assert (found["state"], found["by"]) == ("done", "lan")
    assert (again["code"], "ordered already" in again["error"]) == (1, True)
