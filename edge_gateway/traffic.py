"""What the uplink sends and what that costs: the rate's bucket and the day's count, by the policy of data_budget."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from edge_gateway import data_budget
from edge_gateway.configuration import BrokerConfiguration
from edge_gateway.data_budget import Allowed, Bucket
from edge_gateway.slices import EARLIEST_BELIEVABLE_S
from edge_gateway.uplink_policy import RECORDS_PER_BATCH

LOCAL_TIME = ZoneInfo("Asia/Ho_Chi_Minh")
_FIRST_BELIEVABLE_DAY = EARLIEST_BELIEVABLE_S // data_budget.SECONDS_PER_DAY
_BYTES_PER_MB = 1_000_000


class Traffic:
    """Counts the bytes on the air by local day, and says what may be sent. One thread.

    `now_s` is unix time, `at` monotonic.
    """

    def __init__(self, broker: BrokerConfiguration, by_day: Mapping[int, int]) -> None:
        """`by_day`: bytes of earlier days, as `spent` of an earlier run was kept."""
        self._rate = broker.max_bytes_per_s
        self._budget = None if broker.max_mb_per_day is None else broker.max_mb_per_day * _BYTES_PER_MB
        self._tls = broker.uses_tls
        self._by_day = dict(by_day)
        self._bucket: Bucket | None = None
        self._day: int | None = None
        self._connection_bytes = 0
        self._estimated = 0
        self.records_per_message = data_budget.records_per_message(self._rate, RECORDS_PER_BATCH)

    def begin_connection(self) -> None:
        """A new connection counts from zero."""
        self._connection_bytes = 0

    def note_message(self, topic: str, payload: bytes, at: float) -> None:
        """Take a message that is sent out of the bucket."""
        size = data_budget.message_bytes(topic, len(payload), tls=self._tls)
        self._estimated += size
        if self._rate is not None:
            self._bucket = data_budget.spent(data_budget.filled(self._level(at), at, self._rate), size)

    def note_connection(self, wire_bytes: int | None, now_s: float) -> None:
        """Add what the connection has cost since the last call: as the kernel counts it, else as estimated."""
        new = self._estimated if wire_bytes is None else wire_bytes - self._connection_bytes
        self._connection_bytes = wire_bytes or 0
        self._estimated = 0
        day, _ = self._today(now_s)
        self._by_day[day] = self._by_day.get(day, 0) + max(0, new)

    def spent(self, now_s: float) -> tuple[int, int]:
        """Return (local day since 1970, bytes on the air in it)."""
        day, _ = self._today(now_s)
        return day, self._by_day.get(day, 0)

    def allowed(self, now_s: float) -> Allowed:
        """Return what may be sent by the day's budget."""
        day, share = self._today(now_s)
        return data_budget.allowed(self._by_day.get(day, 0), self._budget, share)

    def as_status(self, now_s: float) -> dict[str, object]:
        """Return today's bytes on the air and what they allow, JSON-ready."""
        day, number = self.spent(now_s)
        return {
            "day": day_text(day),
            "bytes_today": number,
            "budget_bytes": None if self._budget is None else int(self._budget),
            "sending": self.allowed(now_s).value,
        }

    def wait_s(self, at: float) -> float:
        """Return how long until the rate allows the next message."""
        return 0.0 if self._rate is None else data_budget.wait_s(self._level(at), at, self._rate)

    def _level(self, at: float) -> Bucket:
        return self._bucket or Bucket(0.0, at)

    def _today(self, now_s: float) -> tuple[int, float]:
        local = datetime.fromtimestamp(now_s, LOCAL_TIME)
        offset = local.utcoffset()
        day, share = data_budget.day_and_share(now_s + (offset.total_seconds() if offset else 0.0))
        if self._day is not None and day != self._day and self._day < _FIRST_BELIEVABLE_DAY:
            # The clock has just been set: what was sent before belongs to today.
            self._by_day[day] = self._by_day.get(day, 0) + self._by_day.pop(self._day, 0)
        self._day = day
        return day, share


def day_text(day: int) -> str:
    """Return a local day as 2026-11-22."""
    return datetime.fromordinal(datetime(1970, 1, 1).toordinal() + day).strftime("%Y-%m-%d")  # noqa: DTZ001
