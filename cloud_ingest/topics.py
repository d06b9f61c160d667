"""The MQTT topics and messages between gateway and cloud: names, who is named in them, and their JSON.

docs/asyncapi.yaml describes the same for other people's programs.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from cloud_ingest.errors import TopicError
from cloud_ingest.ledger import Range

RECORDS = "tram/v1/records"  # /<shard>/<gateway>/<station>
COMMITS = "tram/v1/commits"  # /<gateway>
STATUS = "tram/v1/status"  # /<gateway>
COMMANDS = "tram/v1/commands"  # /<gateway>
RESULTS = "tram/v1/results"  # /<gateway>
LOSSES = "tram/v1/losses"  # /<gateway>
WARNINGS = "tram/v1/warnings"  # /<gateway>
LIVE = "tram/v1/live"  # /<station>/<parameter>

MESSAGE_KINDS = ("results", "losses", "warnings")

SHARDS = 64
RANGES_PER_COMMIT = 500  # keeps one commit message below about 12 KiB
IDS_PER_COMMIT = 200

TOPICS_REMEMBERED = 10_000
_GATEWAY_MESSAGES = tuple(f"{one}/" for one in (RESULTS, LOSSES, WARNINGS))
_ID = re.compile(r"[a-z0-9-]{1,32}")


class Origin(NamedTuple):
    """Which gateway sent a batch, and of which station."""

    gateway: str
    station: str


def shard_of(station: str) -> str:
    """Return the shard of a station: two hex digits."""
    return f"{zlib.crc32(station.encode()) % SHARDS:02x}"


@lru_cache(TOPICS_REMEMBERED)
def parse_records_topic(topic: str) -> Origin:
    """Return who sent a batch. Raises TopicError."""
    parts = topic.removeprefix(RECORDS + "/").split("/")
    if not topic.startswith(RECORDS + "/") or len(parts) != 3:
        raise TopicError(f"expected {RECORDS}/<shard>/<gateway>/<station>")
    shard, gateway, station = parts
    for what, name in (("gateway", gateway), ("station", station)):
        if not _ID.fullmatch(name):
            raise TopicError(f"{what} {name!r}: an id is 1..32 of a-z, 0-9 and -")
    if shard != shard_of(station):
        raise TopicError(f"shard {shard}, but station {station} belongs to shard {shard_of(station)}")
    return Origin(gateway, station)


def parse_status_topic(topic: str) -> str:
    """Return the gateway a status message is about. Raises TopicError."""
    gateway = topic.removeprefix(STATUS + "/")
    if gateway == topic or not _ID.fullmatch(gateway):
        raise TopicError(f"expected {STATUS}/<gateway>")
    return gateway


def is_gateway_message(topic: str) -> bool:
    """Return whether a topic carries messages that are no records: results, losses, warnings."""
    return topic.startswith(_GATEWAY_MESSAGES)


def parse_message_topic(topic: str) -> tuple[str, str]:
    """Return (kind, gateway) of a message that is no record. Raises TopicError."""
    parts = topic.split("/")
    if len(parts) != 4 or parts[:2] != ["tram", "v1"] or parts[2] not in MESSAGE_KINDS or not _ID.fullmatch(parts[3]):
        raise TopicError("expected tram/v1/<kind>/<gateway>")
    return parts[2], parts[3]


def commit_topic(gateway: str) -> str:
    """Return where the commit messages of a gateway go."""
    return f"{COMMITS}/{gateway}"


def commands_topic(gateway: str) -> str:
    """Return where the commands for a gateway go."""
    return f"{COMMANDS}/{gateway}"


def live_topic(station: str, parameter: str) -> str:
    """Return where the newest value of a parameter is retained."""
    return f"{LIVE}/{station}/{parameter}"


def commit_messages(station: str, journal: int, ranges: Sequence[Range]) -> Iterator[bytes]:
    """Yield the commit messages that name `ranges`, none longer than RANGES_PER_COMMIT ranges."""
    for start in range(0, len(ranges), RANGES_PER_COMMIT):
        part = [list(one) for one in ranges[start : start + RANGES_PER_COMMIT]]
        yield _json({"station": station, "journal": journal, "ranges": part})


def message_commits(ids: Sequence[str]) -> Iterator[bytes]:
    """Yield the commit messages that name these ids of messages."""
    for start in range(0, len(ids), IDS_PER_COMMIT):
        yield _json({"messages": list(ids[start : start + IDS_PER_COMMIT])})


def live_message(value: float | None, unit: str | None, flag: int, time_s: int, sensor: int) -> bytes:
    """Return the retained message of one parameter's newest value."""
    return _json({"value": value, "unit": unit, "flag": flag, "time": time_s, "sensor": sensor})


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
