"""The outbox's way out: due messages are claimed, sent, and only then recorded as sent.

    due? -> expired? -> claim (attempt recorded, next attempt set) -> send -> accepted: sent with the provider's id
                                                                          -> refused: failed with the reason
                                                                          -> unknown: again later, under the same key

A crash between sending and recording sends again under the same key, which the provider answers without a second SMS.
Messages to one person about one rule and station go out in the order of their events: "you may take water again" never
overtakes "do not take water in". Waits are real time, because the provider lives in it; expiry is event time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event

import structlog
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, exists, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from alerts.event_store import HOLD_S
from alerts.schema import attempts, deliveries
from alerts.sms import Answer, Outcome, Sender
from alerts.subscriptions import mask_phone
from station_config.clock import Clock

#: How long a claimed message is left alone: longer than a sender takes, short enough after a crash.
CLAIM_S = 15.0
PENDING, SENT, FAILED, EXPIRED = "pending", "sent", "failed", "expired"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Backoff:
    """Waits between attempts, real seconds: doubling from `first_s` to `longest_s`, each shortened at random."""

    first_s: float = 2.0
    longest_s: float = 300.0

    def wait_s(self, attempt: int, chance: random.Random) -> float:
        """Return the wait after attempt number `attempt` (1 is the first)."""
        full = min(self.first_s * 2.0 ** min(attempt - 1, 30), self.longest_s)
        return full * chance.uniform(0.5, 1.0)


@dataclass
class Deliverer:
    """Sends what is due. `run` until stopped, or `deliver_due` once; `wake` after new events were stored."""

    database: Engine
    senders: Mapping[str, Sender]
    clock: Clock
    backoff: Backoff = Backoff()
    chance: random.Random = field(default_factory=random.Random)
    real_time: Callable[[], float] = time.time
    idle_s: float = 1.0
    _woken: Event = field(default_factory=Event, init=False)
    _last_trouble: str | None = field(default=None, init=False)

    def run(self, stop: Event) -> None:
        """Deliver until `stop` is set (seen within `idle_s`, or at `wake`); outlive a database in trouble."""
        while not stop.is_set():
            self._woken.clear()
            try:
                if self.deliver_due():
                    continue  # a message that was sent may have set the next one free
            except SQLAlchemyError as error:
                self._tell_trouble(f"database: {type(error).__name__}")
            self._woken.wait(self.idle_s)

    def wake(self) -> None:
        """Look for due messages now."""
        self._woken.set()

    def deliver_due(self) -> int:
        """Send every message that is due and return how many were accepted. Raises SQLAlchemyError."""
        self._expire()
        accepted = 0
        for delivery in self._due():
            if self._claim(delivery):
                answer = self.senders[delivery.channel].send(delivery.id, delivery.address, delivery.text)
                self._record(delivery, answer)
                accepted += answer.outcome is Outcome.ACCEPTED
        return accepted

    def _expire(self) -> None:
        """A stale alarm is not sent; it is marked, with what is known of its attempts left in place."""
        late = and_(deliveries.c.status == PENDING, deliveries.c.expires_at < int(self.clock.now()))
        with self.database.connect() as connection:
            if connection.scalar(select(exists().where(late))):
                count = connection.execute(update(deliveries).where(late).values(status=EXPIRED)).rowcount
                connection.commit()
                _log.warning("messages_expired", count=count)

    def _due(self) -> list[Row[tuple[str, str, str, str]]]:
        table = deliveries
        query = (
            select(table.c.id, table.c.channel, table.c.address, table.c.text, table.c.attempts)
            .where(table.c.status == PENDING, table.c.channel.in_(list(self.senders)), self._time_has_come())
            .where(~_earlier_one_is_pending())
            .order_by(table.c.position, table.c.id)
        )
        with self.database.connect() as connection:
            return list(connection.execute(query))

    def _time_has_come(self) -> ColumnElement[bool]:
        now = self.real_time()
        next_attempt = deliveries.c.next_attempt_real
        # A wait longer than the longest one means that the machine's clock was set back: do not sit it out.
        return or_(next_attempt <= now, next_attempt > now + 2 * max(self.backoff.longest_s, HOLD_S))

    def _claim(self, delivery: Row[tuple[str, str, str, str]]) -> bool:
        """Record the attempt before it is made; False when another process took it."""
        number = delivery.attempts + 1
        unclaimed = and_(
            deliveries.c.id == delivery.id, deliveries.c.status == PENDING, deliveries.c.attempts == delivery.attempts
        )
        with self.database.begin() as connection:
            claim = update(deliveries).where(unclaimed)
            result = connection.execute(claim.values(attempts=number, next_attempt_real=self.real_time() + CLAIM_S))
            if result.rowcount == 0:
                return False
            connection.execute(insert(attempts).values(delivery=delivery.id, number=number, at=int(self.clock.now())))
        return True

    def _record(self, delivery: Row[tuple[str, str, str, str]], answer: Answer) -> None:
        values: dict[str, object] = {"detail": answer.detail or None}
        if answer.outcome is Outcome.ACCEPTED:
            sent = {"status": SENT, "sent_at": int(self.clock.now()), "provider_id": answer.provider_id}
            values |= sent | {"via": None}
        elif answer.outcome is Outcome.REFUSED:
            values |= {"status": FAILED}
        else:
            values |= {"next_attempt_real": self.real_time() + self.backoff.wait_s(delivery.attempts + 1, self.chance)}
        with self.database.begin() as connection:
            connection.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(values))
            _finish_attempt(connection, delivery.id, delivery.attempts + 1, answer)
        self._tell(delivery, answer)

    def _tell(self, delivery: Row[tuple[str, str, str, str]], answer: Answer) -> None:
        if answer.outcome is Outcome.ACCEPTED:
            self._last_trouble = None
            _log.info("message_sent", to=mask_phone(delivery.address), provider_id=answer.provider_id)
        elif answer.outcome is Outcome.REFUSED:
            _log.error("message_refused", to=mask_phone(delivery.address), detail=answer.detail)
        else:
            self._tell_trouble(answer.detail)

    def _tell_trouble(self, detail: str) -> None:
        """Say a trouble once, not at every attempt."""
        if detail != self._last_trouble:
            _log.warning("messages_wait", detail=detail, advice="they are sent again by themselves until they expire")
        self._last_trouble = detail


def _earlier_one_is_pending() -> ColumnElement[bool]:
    other = deliveries.alias("earlier")
    return exists(
        select(other.c.id).where(
            other.c.conversation == deliveries.c.conversation,
            other.c.channel == deliveries.c.channel,
            other.c.status == PENDING,
            other.c.position < deliveries.c.position,
        )
    )


def _finish_attempt(connection: Connection, delivery: str, number: int, answer: Answer) -> None:
    this = and_(attempts.c.delivery == delivery, attempts.c.number == number)
    connection.execute(
        update(attempts).where(this).values(outcome=str(answer.outcome), detail=answer.detail or answer.provider_id)
    )
