"""The book of commands: what persons order, what gateways tell, waves of firmware, and the audit of it all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DatabaseError, IntegrityError

from alerts.schema import open_database, sqlite_url
from cloud_ingest.commanding import schema
from cloud_ingest.commanding.book import CommandBook
from cloud_ingest.commanding.ordering import OrderRefused, Ticket, Wish, make_command, parse_duration
from cloud_ingest.commanding.policy import (
    Member,
    Rollout,
    RolloutState,
    State,
    Step,
    next_wave,
    repeat_after_s,
)
from cloud_ingest.commanding.publisher import Publisher
from cloud_ingest.errors import StoreRefused
from cloud_ingest.gateway_messages import GatewayMessage, MessageRefused
from station_config.command import Envelope, OfStation, ReadNow, new_id, sign
from station_config.network import load_network

OFFICE = Ed25519PrivateKey.generate()
NOW = 1_780_000_000
NETWORK = Path(__file__).parents[2] / "simulators" / "demo_network.toml"
GATEWAY = "gw-go-cong"
STATIONS = ("vam-kenh", "hoa-binh", "xuan-hoa")


class Wall:
    """A clock set by hand."""

    time: float = NOW

    def now(self) -> float:
        return self.time


class Broker:
    """What was published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes) -> None:
        self.sent.append((topic, payload))


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL | str:
    """Where an empty database is."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "commands.sqlite")
    found: URL = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def book(url: URL | str, wall: Wall) -> Iterator[CommandBook]:
    engine = open_database(url)
    book = CommandBook(engine, wall)
    book.prepare()
    yield book
    engine.dispose()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def publisher(book: CommandBook, broker: Broker) -> Publisher:
    return Publisher(book, broker.publish, lambda: True, repeat_s=1000.0)


def signed(station: str = "xuan-hoa", lasts_s: int = 600) -> Envelope:
    command = ReadNow(
        id=new_id(),
        gateway=GATEWAY,
        issued_at=NOW,
        expires_at=NOW + lasts_s,
        by="lan",
        arguments=OfStation(station=station),
    )
    return sign(command, OFFICE)


def told(command: str, outcome: str, reason: str = "", **details: object) -> GatewayMessage:
    body = {"command": command, "outcome": outcome, "reason": reason, "details": details}
    return GatewayMessage(command, float(NOW), body)


def test_an_order_is_published_until_there_is_a_result_and_no_more(
    book: CommandBook, publisher: Publisher, broker: Broker
) -> None:
    envelope = signed()
    order = book.order(envelope, "lan")
    publisher.work()
    publisher.work()
    again = Publisher(book, broker.publish, lambda: True, repeat_s=1000.0)  # the service was restarted
    again.work()
    publisher.take(GATEWAY, told(order.id, "accepted"))
    publisher.take(GATEWAY, told(order.id, "done", version="0.1.0"))
    publisher.take(GATEWAY, told(order.id, "failed", "it was another one"))
    again.work()

    assert broker.sent == [(f"tram/v1/commands/{GATEWAY}", envelope.encode())] * 2
    found = book.find(order.id)
    assert (found.state, found.result and found.result["details"]) == (State.DONE, {"version": "0.1.0"})


def test_nothing_is_published_while_the_broker_is_away(book: CommandBook, broker: Broker) -> None:
    book.order(signed(), "lan")
    Publisher(book, broker.publish, lambda: False, repeat_s=1.0).work()

    assert broker.sent == []


def test_a_command_expires_here_too_and_a_result_that_comes_after_all_counts(
    book: CommandBook, publisher: Publisher, broker: Broker, wall: Wall
) -> None:
    order = book.order(signed(), "lan")
    wall.time = NOW + 601
    publisher.work()
    expired = book.find(order.id).state
    publisher.take(GATEWAY, told(order.id, "done"))

    assert (expired, book.find(order.id).state, broker.sent) == (State.EXPIRED, State.DONE, [])


def test_a_cancelled_command_is_not_published(book: CommandBook, publisher: Publisher, broker: Broker) -> None:
    order = book.order(signed(), "lan")
    state = book.cancel(order.id, "hoa")
    publisher.work()

    assert (state, broker.sent) == (State.CANCELLED, [])


@pytest.mark.parametrize(
    ("gateway", "message"),
    [
        (GATEWAY, told("f" * 32, "done")),
        ("gw-earlier", None),
        (GATEWAY, GatewayMessage("x", 1.0, {"command": "f" * 32, "outcome": "perhaps", "reason": ""})),
        (GATEWAY, GatewayMessage("x", 1.0, {})),
    ],
    ids=["unknown", "another gateway's", "no outcome", "empty"],
)
def test_a_result_of_nothing_ordered_there_is_set_aside(
    book: CommandBook, publisher: Publisher, gateway: str, message: GatewayMessage | None
) -> None:
    order = book.order(signed(), "lan")
    with pytest.raises(MessageRefused):
        publisher.take(gateway, message or told(order.id, "done"))

    assert book.find(order.id).state is State.WAITING


def test_the_audit_is_only_ever_added_to(book: CommandBook, url: URL | str) -> None:
    book.order(signed(), "lan")
    engine = create_engine(url)
    for change in ("UPDATE command_audit SET who = 'nobody'", "DELETE FROM command_audit"):
        with pytest.raises(DatabaseError, match="only ever added"), engine.begin() as connection:
            connection.execute(text(change))
    engine.dispose()

    assert [(entry["who"], entry["what"]) for entry in book.history(10)] == [("lan", "command ordered")]


def test_the_same_signed_command_is_ordered_once(book: CommandBook) -> None:
    envelope = signed()
    book.order(envelope, "lan")
    with pytest.raises(IntegrityError):
        book.order(envelope, "lan")


def test_tables_of_a_later_version_are_left_alone(book: CommandBook, url: URL | str) -> None:
    engine = open_database(url)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO command_migrations VALUES ({len(schema.MIGRATIONS) + 1}, 'later')"))
    with pytest.raises(StoreRefused, match="install that version"):
        schema.migrate(engine)
    engine.dispose()


# Rollouts


def started(book: CommandBook, first: int = 1, then: int = 1, allowed: int = 0) -> tuple[str, list[str]]:
    envelopes = [signed(station) for station in STATIONS]
    rollout = book.start_rollout(envelopes, "0.2.0", (first, then), allowed, "lan")
    return rollout.id, [order.id for order in book.newest(10, rollout.id)]


def states(book: CommandBook, rollout: str) -> list[State]:
    return [order.state for order in book.newest(10, rollout)]


def test_a_wave_goes_only_when_the_last_one_is_confirmed(
    book: CommandBook, publisher: Publisher, broker: Broker
) -> None:
    rollout, ids = started(book)
    seen = []
    for command in ids:
        publisher.work()
        publisher.work()
        seen.append(states(book, rollout))
        publisher.take(GATEWAY, told(command, "done"))
    publisher.work()

    assert [len([one for one in row if one is State.WAITING]) for row in seen] == [1, 1, 1]
    assert len(broker.sent) == 3
    assert book.find_rollout(rollout).state is RolloutState.DONE


def test_a_rollout_halts_itself_and_goes_on_when_somebody_says_so(book: CommandBook, publisher: Publisher) -> None:
    rollout, ids = started(book)
    publisher.work()
    publisher.take(GATEWAY, told(ids[0], "failed", "the station refuses: no key"))
    publisher.work()
    halted = book.find_rollout(rollout)
    publisher.work()
    untouched = states(book, rollout)[1:]
    book.change_rollout(rollout, RolloutState.RUNNING, "resumed", "hoa")
    publisher.work()

    assert (halted.state, halted.reason) == (
        RolloutState.HALTED,
        "1 failed, 0 allowed: vam-kenh: failed, the station refuses: no key",
    )
    assert untouched == [State.HELD, State.HELD]
    assert states(book, rollout) == [State.FAILED, State.WAITING, State.HELD]
    assert [entry["what"] for entry in reversed(book.history(20))][-3:-1] == ["rollout running", "wave released"]


def test_a_halted_rollout_begins_no_station(book: CommandBook, publisher: Publisher, broker: Broker) -> None:
    rollout, _ = started(book)
    book.change_rollout(rollout, RolloutState.HALTED, "wait", "hoa")
    publisher.work()

    assert broker.sent == []


def test_stations_that_were_not_reached_before_the_end_of_the_rollout_halt_it(
    book: CommandBook, publisher: Publisher, wall: Wall
) -> None:
    rollout, _ = started(book)
    publisher.work()
    wall.time = NOW + 601
    publisher.work()

    assert book.find_rollout(rollout).state is RolloutState.HALTED


MEMBERS = st.lists(st.tuples(st.sampled_from(list(State)), st.booleans()), min_size=1, max_size=8)


@given(MEMBERS, st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_no_wave_goes_beside_another_nor_after_too_many_failures(
    found: list[tuple[State, bool]], first: int, then: int, allowed: int
) -> None:
    members = [Member(f"station-{at}", state, "", forgiven) for at, (state, forgiven) in enumerate(found)]
    wave = next_wave(Rollout(RolloutState.RUNNING, first, then, allowed, members))
    under_way = {State.WAITING, State.ACCEPTED} & {state for state, _ in found}

    assert wave.reason
    if wave.step is Step.RELEASE:
        assert not under_way
        assert sum(member.has_failed for member in members) <= allowed
        assert 1 <= len(wave.stations) <= max(first, then)
        assert {member.state for member in members if member.station in wave.stations} == {State.HELD}
    if wave.step is Step.FINISH:
        assert State.HELD not in {state for state, _ in found}


def test_one_that_is_not_answered_is_asked_less_and_less_often() -> None:
    assert [repeat_after_s(times, False, 30.0) for times in (1, 2, 3, 9)] == [30.0, 60.0, 120.0, 300.0]
    assert repeat_after_s(1, True, 30.0) == 900.0


# What a person says


@pytest.mark.parametrize(
    ("wish", "text_"),
    [
        (Wish("shell", station="xuan-hoa"), "no kind of command"),
        (Wish("read-now"), "say --gateway"),
        (Wish("read-now", gateway=GATEWAY), "--station is missing"),
        (Wish("read-now", station="cho-lach"), "no station cho-lach"),
        (Wish("read-now", gateway="gw-earlier", station="xuan-hoa"), "is read by gw-go-cong"),
        (Wish("bus-scan", gateway=GATEWAY), "--line is missing"),
        (Wish("bus-scan", gateway=GATEWAY, line="radio", first=9, last=3), "last is below first"),
        (Wish("calibration-mode", station="xuan-hoa", sensor=1), "--on or --off"),
        (Wish("firmware", station="xuan-hoa", image=Path("/nowhere.trf")), "cannot be read"),
    ],
)
def test_what_cannot_be_ordered_is_said_in_words(wish: Wish, text_: str) -> None:
    with pytest.raises(OrderRefused, match=text_):
        make_command(wish, load_network(NETWORK), Ticket("lan", NOW, 600))


def test_a_configuration_is_made_from_the_network_when_no_file_is_named() -> None:
    command: Any = make_command(
        Wish("configuration", station="xuan-hoa"), load_network(NETWORK), Ticket("lan", NOW, 600)
    )

    assert (command.gateway, b'"station":"xuan-hoa"' in command.arguments.data) == (GATEWAY, True)


@pytest.mark.parametrize(("words", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604_800)])
def test_durations(words: str, seconds: int) -> None:
    assert parse_duration(words) == seconds


@pytest.mark.parametrize("words", ["", "7", "0s", "-1h", "1w", "1h30m"])
def test_what_is_no_duration(words: str) -> None:
    with pytest.raises(OrderRefused):
        parse_duration(words)
