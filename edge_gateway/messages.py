"""What travels over MQTT: topics; batches and messages up; commit messages and commands down."""

from __future__ import annotations

import re
import zlib
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from edge_gateway.errors import MessageInvalid
from edge_gateway.slices import MAX_SEQ, Range, Series, Slice
from firmware import record

SHARDS = 64
COMMIT_BYTES_AT_MOST = 1 << 20
MESSAGE_BYTES_AT_MOST = 1 << 20
KINDS = ("results", "losses", "warnings")

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seq = Annotated[int, Field(ge=0, le=MAX_SEQ)]


class UpMessage(NamedTuple):
    """What goes up and is no record: the result of a command, a range declared lost, a warning the gateway sent.

    `body` is a JSON object as text; `at` is when it was enqueued, unix seconds by the gateway's clock.
    """

    id: str
    kind: str
    body: str
    at: float


class CommittedRecords(NamedTuple):
    """Records the cloud has on disk."""

    series: Series
    ranges: list[Range]


class CommittedMessages(NamedTuple):
    """Messages the cloud has on disk, or will never use and has set aside."""

    ids: list[str]


class CommitFault(ValueError):
    """These bytes are not a commit message; the text says why."""


class CommitMessage(BaseModel):
    """Records the cloud has on disk: ranges of sequence numbers, both ends inside."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    station: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    journal: Seq
    ranges: Annotated[tuple[tuple[Seq, Seq], ...], Field(max_length=10_000)]


class MessagesCommit(BaseModel):
    """Messages the gateway may forget."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    messages: Annotated[tuple[Id, ...], Field(max_length=10_000)]


def _which(commit: Any) -> str:
    return "messages" if isinstance(commit, dict) and "messages" in commit else "records"


_COMMITS: TypeAdapter[CommitMessage | MessagesCommit] = TypeAdapter(
    Annotated[
        Annotated[CommitMessage, Tag("records")] | Annotated[MessagesCommit, Tag("messages")], Discriminator(_which)
    ]
)


def records_topic(gateway: str, station: str) -> str:
    """Return the topic of a station's batches."""
    return f"tram/v1/records/{zlib.crc32(station.encode()) % SHARDS:02x}/{gateway}/{station}"


def commits_topic(gateway: str) -> str:
    """Return the topic of the commit messages to a gateway."""
    return f"tram/v1/commits/{gateway}"


def status_topic(gateway: str) -> str:
    """Return the topic of a gateway's retained status."""
    return f"tram/v1/status/{gateway}"


def commands_topic(gateway: str) -> str:
    """Return the topic of the commands to a gateway."""
    return f"tram/v1/commands/{gateway}"


def message_topic(kind: str, gateway: str) -> str:
    """Return the topic of a gateway's messages of one of KINDS."""
    return f"tram/v1/{kind}/{gateway}"


def check_message(message: UpMessage) -> None:
    """Raise MessageInvalid when the cloud could never take this message."""
    if message.kind not in KINDS:
        raise MessageInvalid(f"kind {message.kind!r}: known are {', '.join(KINDS)}")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", message.id):
        raise MessageInvalid(f"id {message.id!r}: 1 to 64 of A-Z, a-z, 0-9, _ and -")
    if len(encode_message(message)) > MESSAGE_BYTES_AT_MOST:
        raise MessageInvalid(f"{len(message.body)} characters; at most {MESSAGE_BYTES_AT_MOST} bytes can be sent")


def encode_message(message: UpMessage) -> bytes:
    """Return {"id", "at", …body} as JSON."""
    head = f'{{"id":"{message.id}","at":{message.at!r}'
    return (head + ("," if message.body != "{}" else "") + message.body[1:]).encode()


def encode_batch(piece: Slice) -> bytes:
    """Return the batch of a slice: header and the records as the station made them."""
    return record.batch_header(piece.series.journal, piece.number) + piece.records


def decode_commit(payload: bytes) -> CommittedRecords | CommittedMessages:
    """Return what a commit message names. Raises CommitFault; nothing of a faulty message is used."""
    if len(payload) > COMMIT_BYTES_AT_MOST:
        raise CommitFault(f"{len(payload)} bytes, at most {COMMIT_BYTES_AT_MOST} are read")
    try:
        commit = _COMMITS.validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CommitFault(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if isinstance(commit, MessagesCommit):
        return CommittedMessages(list(commit.messages))
    backward = [last_first for last_first in commit.ranges if last_first[0] > last_first[1]]
    if backward:
        raise CommitFault(f"range {backward[0]} ends before it begins")
    return CommittedRecords(Series(commit.station, commit.journal), list(commit.ranges))
