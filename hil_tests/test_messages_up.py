"""What goes up and is no record, over a real broker: gateway's outbox and uplink here, the cloud's ingest there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_ingest.configuration import BrokerSettings
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.gateway_messages import GatewayMessage, MessageRefused, decode_message
from edge_gateway.messages import UpMessage, encode_message
from hil_tests.both_sides import GATEWAY, NOW, Broker, Chain, chain, impatient, needs_mosquitto, until

pytestmark = needs_mosquitto


class Desk:
    """Takes results at the cloud: what was kept, by id, and how often each came."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, GatewayMessage]] = {}
        self.came: Counter[str] = Counter()
        self.disk_full = False

    def take(self, gateway: str, message: GatewayMessage) -> None:
        self.came[message.id] += 1
        if self.disk_full:
            raise StoreUnavailable("the disk is full")
        if "command" not in message.body:
            raise MessageRefused("it names no command")
        self.kept.setdefault(message.id, (gateway, message))


class Scene(NamedTuple):
    """The broker, both sides, and who takes results at the cloud."""

    broker: Broker
    both: Chain
    desk: Desk


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    broker, desk = Broker(tmp_path), Desk()
    broker.start()
    gateway, cloud = impatient(port=broker.port), BrokerSettings(port=broker.port)
    with chain(tmp_path, gateway, cloud, {"results": desk.take}) as both:
        yield Scene(broker, both, desk)
    broker.kill()


def test_a_result_reaches_its_handler_and_leaves_the_outbox(scene: Scene) -> None:
    ids = scene.both.say(50, text="Độ mặn")
    scene.both.committed()

    assert list(scene.desk.kept) == ids
    assert scene.desk.kept[ids[7]] == (GATEWAY, GatewayMessage(ids[7], NOW + 7, {"command": "c7", "text": "Độ mặn"}))


def test_a_broker_killed_between_publish_and_commit_loses_no_message(scene: Scene) -> None:
    scene.desk.disk_full = True
    ids = scene.both.say(100)
    until(lambda: len(scene.desk.came) > 0, "the first arrival")
    scene.broker.kill()
    more = scene.both.say(20)
    scene.desk.disk_full = False
    scene.broker.start()
    scene.both.committed(deadline_s=60)

    assert set(scene.desk.kept) == set(ids + more)


def test_what_the_cloud_cannot_store_yet_is_not_committed_and_comes_again(scene: Scene) -> None:
    scene.desk.disk_full = True
    ids = scene.both.say(3)
    until(lambda: sum(scene.desk.came.values()) >= 3, "several attempts")
    waited = scene.both.waiting()
    scene.desk.disk_full = False
    scene.both.committed()

    assert waited == 3
    assert set(scene.desk.kept) == set(ids)


def test_a_commit_message_that_is_lost_makes_a_duplicate_that_changes_nothing(scene: Scene) -> None:
    ids = scene.both.say(5)
    scene.both.committed()
    first = dict(scene.desk.kept)
    for at, one in enumerate(ids):  # the gateway never heard of it and says it again
        scene.both.outbox.write(lambda store, at=at, one=one: store.enqueue("results", {"command": f"c{at}"}, NOW, one))  # type: ignore[misc]
    scene.both.committed()

    assert all(scene.desk.came[one] >= 2 for one in ids)
    assert scene.desk.kept == first


@pytest.mark.parametrize(
    ("kind", "says"), [("results", "it names no command"), ("losses", "nothing here takes losses")]
)
def test_what_can_never_be_used_is_set_aside_and_acknowledged(scene: Scene, kind: str, says: str) -> None:
    scene.both.outbox.write(lambda store: store.enqueue(kind, {"anything": 1}, NOW, "odd-1"))
    scene.both.committed()
    aside = scene.both.query("SELECT topic, reason FROM set_aside")

    assert aside == [(f"tram/v1/{kind}/{GATEWAY}", says)]


def test_commands_are_handed_over_as_they_came(scene: Scene) -> None:
    until(lambda: scene.both.uplink.counters.connections and scene.both.subscriber.connected, "both connections")
    scene.both.subscriber.publish(f"tram/v1/commands/{GATEWAY}", b"\x00 not ours to read", qos=1)
    scene.both.subscriber.publish("tram/v1/commands/another", b"not for us", qos=1)
    scene.both.subscriber.publish(f"tram/v1/commands/{GATEWAY}", b"second", qos=1)
    until(lambda: len(scene.both.commands) == 2, "the commands")

    assert scene.both.commands == [b"\x00 not ours to read", b"second"]


#: No database keeps NUL: the gateway writes ␀ for it (outbox_store), so that the cloud need not refuse the message.
TOLD = st.characters(exclude_characters="\0", codec="utf-8")


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(
        st.text(TOLD, max_size=8).filter(lambda key: key not in ("id", "at")), st.text(TOLD) | st.integers() | st.none()
    ),
)
def test_the_cloud_reads_what_the_gateway_writes(message_id: str, at: float, body: dict[str, object]) -> None:
    written = encode_message(UpMessage(message_id, "results", json.dumps(body), at))

    assert decode_message(written) == GatewayMessage(message_id, at, body)


def test_a_nul_that_a_station_said_is_shown_and_stops_no_message(scene: Scene) -> None:
    scene.both.say(1, text="a\0b", lines=["\0", {"c\0": "\\u0000"}])
    scene.both.committed()

    assert scene.both.query("SELECT topic, reason FROM set_aside") == []
