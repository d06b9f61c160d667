"""How much may be sent over a SIM card: so many bytes a second, so many a day. Pure; nothing here knows a socket.

The rate is a bucket that may go into debt by one message: a message larger than the bucket goes too, and the next one
waits until it is paid for. The day's budget has a pace line, from nothing at midnight to all of it at the next: above
the line only live records go, so that the backlog never takes what today's readings need; when all is spent, records
wait in the outbox, and only messages and the rare status go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

BURST_S = 5.0
LIVE_S = 900.0
SECONDS_PER_DAY = 86_400
FREE_SHARE_OF_DAY = 0.1
RECORDS_AT_LEAST, RECORD_BYTES = 13, 18

_IP_TCP = 52  # IPv4 and TCP headers with time stamps
_SEGMENT = 1400
_MQTT = 9  # fixed header, lengths, packet id
_PUBACK = 4
_TLS_RECORD = 22  # TLS 1.3 with AES-GCM


class Allowed(Enum):
    """What may go now; the value is the reason, for the status."""

    ALL = "within the budget"
    LIVE = "above the day's pace: live records first, the backlog waits"
    NOTHING = "the day's budget is spent: records wait in the outbox"


@dataclass(frozen=True)
class Bucket:
    """Bytes that may be sent now (below zero: debt), as of a moment (monotonic seconds)."""

    level: float
    at: float


def filled(bucket: Bucket, now: float, bytes_per_s: float) -> Bucket:
    """Return the bucket at `now`; it holds BURST_S seconds' worth."""
    return Bucket(min(bytes_per_s * BURST_S, bucket.level + max(0.0, now - bucket.at) * bytes_per_s), now)


def spent(bucket: Bucket, size: int) -> Bucket:
    """Return the bucket after a message of so many bytes."""
    return replace(bucket, level=bucket.level - size)


def wait_s(bucket: Bucket, now: float, bytes_per_s: float) -> float:
    """Return how long until the next message may go; 0 when it may."""
    return max(0.0, -filled(bucket, now, bytes_per_s).level / bytes_per_s)


def message_bytes(topic: str, payload_bytes: int, *, tls: bool) -> int:
    """Return what a QoS 1 message costs on the air, estimated: headers, TCP acknowledgement, PUBACK."""
    mqtt = payload_bytes + len(topic) + _MQTT
    segments = 1 + mqtt // _SEGMENT
    record = _TLS_RECORD if tls else 0
    return mqtt + segments * (record + _IP_TCP) + _PUBACK + record + _IP_TCP


def records_per_message(bytes_per_s: float | None, most: int) -> int:
    """Return how many records a batch may have, so that on a slow link a live record waits for no long one."""
    if bytes_per_s is None:
        return most
    return max(RECORDS_AT_LEAST, min(most, int(bytes_per_s * BURST_S / RECORD_BYTES)))


def allowed(spent_bytes: int, budget_bytes: float | None, share_of_day: float) -> Allowed:
    """Return what may go when so much of the day's budget is spent; `share_of_day` 0..1 has passed.

    A tenth of the budget is free at midnight, so that a backlog need not wait for the line to rise from nothing.
    """
    if budget_bytes is None:
        return Allowed.ALL
    if spent_bytes >= budget_bytes:
        return Allowed.NOTHING
    line = budget_bytes * (FREE_SHARE_OF_DAY + (1 - FREE_SHARE_OF_DAY) * share_of_day)
    return Allowed.ALL if spent_bytes < line else Allowed.LIVE


def is_live(received_at: float, now: float) -> bool:
    """Return whether a slice is live: it came within the last quarter of an hour, by the gateway's clock."""
    return now - received_at <= LIVE_S


def day_and_share(local_s: float) -> tuple[int, float]:
    """Return (day number since 1970, share of the day passed) of local time in seconds."""
    return int(local_s // SECONDS_PER_DAY), local_s % SECONDS_PER_DAY / SECONDS_PER_DAY
