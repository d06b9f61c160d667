"""What comes by MQTT, on both sides: commits, commands, batches, statuses, results, losses, warnings."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud_ingest import topics
from cloud_ingest.errors import TopicError
from cloud_ingest.gateway_messages import GatewayMessage, GatewayMessages, MessageRefused, Unreadable
from cloud_ingest.gateway_messages import decode_message as cloud_decode
from cloud_ingest.ingest import Ingest
from cloud_ingest.losses import LossTaker
from cloud_ingest.overview import overview
from cloud_ingest.reading import Reader
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store
from cloud_ingest.tests.field import NETWORK, batch, minutes, records_topic
from cloud_ingest.tests.test_warnings_taken import PAYLOAD as WARNING
from cloud_ingest.warnings_taken import WarningTaker
from edge_gateway import messages
from edge_gateway.endpoint import parse_port
from edge_gateway.errors import MessageInvalid
from edge_gateway.messages import CommitFault, UpMessage
from hil_tests.fuzz import scratch
from hil_tests.fuzz.graft import GRAFTED, json_of, seeds_of
from hil_tests.fuzz.target import Target
from hil_tests.fuzz.targets.records import batch_of
from station_config import command as commands
from station_config.command import Reason
from station_config.instruments import load_instruments
from station_config.network import Network
from station_config.parameters import load_parameters
from station_config.toml_config import parse

NOW = 1_780_000_000
GATEWAY = "gw-mytho"
COMMIT = {"station": "xuan-hoa", "journal": 0x1234ABCD, "ranges": [[1, 600], [700, 701]]}
MESSAGES = {"messages": ["e-1", "e-2"]}
LOSSES = {"id": "l-1", "at": 1780000000.5, "station": "xuan-hoa", "journal": 1, "reason": "full", "ranges": [[1, 5]]}
RESULT = {"id": "r-1", "at": 1780000000.5, "command": 32 * "a", "outcome": "accepted", "reason": "", "details": {}}
STATUS = {"online": True, "time": NOW, "outbox": {"records": 5, "oldest": NOW}, "stations": [{"id": "xuan-hoa"}]}


def _commit(data: bytes) -> None:
    said = messages.decode_commit(json_of(COMMIT if len(data) % 2 else MESSAGES, data))
    if isinstance(said, messages.CommittedMessages):
        again = b"".join(topics.message_commits(said.ids[: topics.IDS_PER_COMMIT]))
        assert not said.ids or messages.decode_commit(again) == said or len(said.ids) > topics.IDS_PER_COMMIT
        return
    few = said.ranges[: topics.RANGES_PER_COMMIT]
    for again in topics.commit_messages(said.series.station, said.series.journal, few):
        assert messages.decode_commit(again) == said._replace(ranges=few)


def _up(data: bytes) -> None:
    """Send what a gateway may enqueue; the cloud reads the same."""
    body = json_of({"station": "xuan-hoa", "reason": "x", "ranges": [[1, 2]]}, data)
    with suppress(ValueError, RecursionError):
        plain = json.loads(body)
        if isinstance(plain, dict) and not plain.keys() & {"id", "at"}:
            text = json.dumps(plain, separators=(",", ":"), allow_nan=False)
            message = UpMessage("m-1", messages.KINDS[len(data) % 3], text, NOW + 0.25)
            messages.check_message(message)
            said = cloud_decode(messages.encode_message(message))
            assert (said.id, said.at) == ("m-1", message.at)
            assert json.loads(json.dumps(dict(said.body))) == plain


@cache
def _key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def _command(data: bytes) -> None:
    """Judge a command: as it is, or its text signed by the office."""
    payload = data
    if data[:1] in (b"\xfe", GRAFTED):
        text = json_of(_plain_command(), data if data[:1] == GRAFTED else data[1:])
        with suppress(UnicodeDecodeError):
            payload = _signed(text.decode())
    for now in (None, NOW + 5.0, NOW + 1e9):
        verdict = commands.verify(payload, {commands.key_id(_key().public_key()): _key().public_key()}, GATEWAY, now)
        if verdict.command is not None:
            assert commands.parse_text(commands.command_text(verdict.command)) == verdict.command
            assert verdict.command.gateway == GATEWAY
        if data[:1] not in (b"\xfe", GRAFTED, b"{"):
            assert verdict.reason in (Reason.MALFORMED, Reason.UNKNOWN_KEY, Reason.BAD_SIGNATURE, Reason.TOO_LONG)


def _signed(text: str) -> bytes:
    import base64

    signature = _key().sign(b"tram-command-1\0" + text.encode())
    key = commands.key_id(_key().public_key())
    return json.dumps({"command": text, "key": key, "signature": base64.b64encode(signature).decode()}).encode()


@cache
def _plain_command() -> dict[str, Any]:
    import hashlib

    content = '{"version":1}'
    return {"kind": "configuration", "id": 32 * "a", "gateway": GATEWAY, "issued_at": NOW, "expires_at": NOW + 60,
            "by": "office", "arguments": {"station": "xuan-hoa", "content": content,
                                          "sha256": hashlib.sha256(content.encode()).hexdigest()}}  # fmt: skip


class _Arrived(NamedTuple):
    topic: str
    payload: bytes


class _Taken:
    """The alerts' side of warnings: what it is given must go into a database."""

    def take(self, _gateway: str, warning: Any) -> None:
        assert 0 <= warning.time <= 0xFFFFFFFF


class _Cloud:
    """The whole ingest over a store in memory's file system."""

    def __init__(self) -> None:
        folder = scratch.emptied("store")
        network = parse(NETWORK, Network, "network.toml")
        self.registry = Registry(network, load_instruments(), load_parameters())
        self.store = Store(folder).__enter__()
        taken: Any = _Taken()
        handlers = {
            "losses": LossTaker(self.store).take,
            "warnings": WarningTaker(taken, lambda: None).take,
            "results": _result,
        }
        self.ingest = Ingest(self.store, self.registry, GatewayMessages(handlers))
        self.reader = Reader(folder, self.registry.scale)
        self.inputs = 0

    def close(self) -> None:
        self.reader.close()
        self.store.__exit__(None, None, None)


def _result(_gateway: str, message: GatewayMessage) -> None:
    from cloud_ingest.commanding.publisher import _Result

    with suppress(ValueError):
        json.dumps(_Result.model_validate(dict(message.body)).model_dump(), allow_nan=False)
        return
    raise MessageRefused("not a result")


_clouds: dict[int, _Cloud] = {}


@atexit.register
def _close() -> None:
    if (cloud := _clouds.get(os.getpid())) is not None:
        cloud.close()


def _cloud() -> _Cloud:
    """Return this process's cloud; after so many inputs a new one, so that what grows is not the store."""
    pid = os.getpid()
    cloud = _clouds.get(pid)
    if cloud is None or cloud.inputs > 100:
        if cloud is not None:
            cloud.close()
        _clouds.clear()
        cloud = _clouds[pid] = _Cloud()
    cloud.inputs += 1
    return cloud


_TOPICS = (
    records_topic("xuan-hoa"), records_topic("vam-kenh"), records_topic("nobody", "gw-x"), "tram/v1/status/gw-mytho",
    "tram/v1/losses/gw-mytho", "tram/v1/warnings/gw-mytho", "tram/v1/results/gw-mytho", "tram/v1/records/zz/a/b",
    "tram/v1/other", "tram/v1/status/", "tram/v1/records/00/\x00/x",
)  # fmt: skip
_DOCUMENTS: Mapping[int, Any] = {3: STATUS, 4: LOSSES, 5: json.loads(WARNING), 6: RESULT}


def _arrives(data: bytes) -> None:
    """Messages come to the cloud: nothing stops it, each is answered or set aside, and the overview can be shown."""
    cloud = _cloud()
    arrived = []
    for part in data.split(b"\xfd\xfd")[:4]:
        which = part[0] % len(_TOPICS) if part else 0
        payload = json_of(_DOCUMENTS[which], part[1:]) if which in _DOCUMENTS else batch_of(part[1:])
        arrived.append(_Arrived(_TOPICS[which], payload))
    outcome = cloud.ingest.store_group(arrived, NOW)
    for topic, payload in (*outcome.commits, *cloud.ingest.live(outcome.newest)):
        json.loads(payload)
        if topic.startswith(topics.COMMITS):
            messages.decode_commit(payload)
    shown = overview(cloud.registry, cloud.reader.latest(), cloud.reader.gateways(), (), [], float(NOW))
    json.dumps(shown.model_dump(mode="json"), allow_nan=False)


def _topic(data: bytes) -> None:
    topic = data.decode("utf-8", "replace")
    for read in (topics.parse_records_topic, topics.parse_status_topic, topics.parse_message_topic):
        with suppress(TopicError):
            read(topic)
    with suppress(ValueError):
        port = parse_port(topic)
        assert port.device == topic
    with suppress(TopicError):
        origin = topics.parse_records_topic(topic)
        assert messages.records_topic(origin.gateway, origin.station) == topic


def _arrive_seeds() -> Iterator[bytes]:
    yield b"\0" + batch(minutes(3))
    for which, document in _DOCUMENTS.items():
        yield bytes((which,)) + json.dumps(document).encode()
        for way in range(8):
            for place in range(0, 200, 20):
                yield bytes((which,)) + GRAFTED + bytes((way, 0, place, place // 3 + way))
    yield b"\0\xff\x00" + batch(minutes(2))[10:26] * 2 + b"\xfd\xfd\x01" + batch(minutes(1))


def _command_seeds() -> Iterator[bytes]:
    text = json.dumps(_plain_command())
    yield _signed(text)
    yield b"\xfe" + text.encode()
    yield from seeds_of(_plain_command(), b"{}")


def targets() -> list[Target]:
    """Return the targets of this module."""
    return [
        Target("commit", _commit, (CommitFault,), lambda: [*seeds_of(COMMIT, json.dumps(COMMIT).encode()),
                                                         json.dumps(MESSAGES).encode()], 800),
        Target("message-up", _up, (MessageInvalid, Unreadable), lambda: seeds_of(LOSSES, b"{}"), 800),
        Target("command", _command, (), _command_seeds, 1500),
        Target("ingest", _arrives, (), _arrive_seeds, 1500),
        Target("topic", _topic, (), lambda: [topic.encode("utf-8", "replace") for topic in _TOPICS], 120),
    ]  # fmt: skip
