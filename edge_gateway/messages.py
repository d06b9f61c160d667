"""What travels over MQTT: topics, batches up, commit messages down."""

from __future__ import annotations

import zlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_gateway.slices import MAX_SEQ, Range, Series, Slice
from firmware import record

SHARDS = 64
COMMIT_BYTES_AT_MOST = 1 << 20

Seq = Annotated[int, Field(ge=0, le=MAX_SEQ)]


class CommitFault(ValueError):
    """These bytes are not a commit message; the text says why."""


class CommitMessage(BaseModel):
    """Records the cloud has on disk: ranges of sequence numbers, both ends inside."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    station: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    journal: Seq
    ranges: Annotated[tuple[tuple[Seq, Seq], ...], Field(max_length=10_000)]

    @property
    def series(self) -> Series:
        """The series the ranges are of."""
        return Series(self.station, self.journal)


def records_topic(gateway: str, station: str) -> str:
    """Return the topic of a station's batches."""
    return f"tram/v1/records/{zlib.crc32(station.encode()) % SHARDS:02x}/{gateway}/{station}"


def commits_topic(gateway: str) -> str:
    """Return the topic of the commit messages to a gateway."""
    return f"tram/v1/commits/{gateway}"


def status_topic(gateway: str) -> str:
    """Return the topic of a gateway's retained status."""
    return f"tram/v1/status/{gateway}"


def encode_batch(piece: Slice) -> bytes:
    """Return the batch of a slice: header and the records as the station made them."""
    return record.batch_header(piece.series.journal, piece.number) + piece.records


def decode_commit(payload: bytes) -> tuple[Series, list[Range]]:
    """Return (series, ranges) of a commit message. Raises CommitFault; nothing of a faulty message is used."""
    if len(payload) > COMMIT_BYTES_AT_MOST:
        raise CommitFault(f"{len(payload)} bytes, at most {COMMIT_BYTES_AT_MOST} are read")
    try:
        commit = CommitMessage.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CommitFault(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    backward = [last_first for last_first in commit.ranges if last_first[0] > last_first[1]]
    if backward:
        raise CommitFault(f"range {backward[0]} ends before it begins")
    return commit.series, list(commit.ranges)
