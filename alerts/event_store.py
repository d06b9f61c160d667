"""Events, their messages and the rules' memory in SQL: inside the caller's transaction, for whoever decides.

The engine decides from observations, gateways decide by themselves while the cloud is away (gateway_warnings.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from alerts import schema
from alerts.reconsider import Told
from alerts.rules import Kind, State, event_identity, identity
from alerts.subscriptions import Subscription
from alerts.texts import AlertEvent, Wording

CHANNEL_SMS = "sms"
PENDING = "pending"
_TOLD = 100  # events that are looked at again
#: How long people are left to a gateway that said it is telling them: longer than it takes, and then we tell them.
HOLD_S = 540.0
RuleKey = tuple[str, str]
"""Rule and station."""


def serialise(connection: Connection, cursor: str | None = None) -> None:
    """Take the cursor's row first, so that decisions follow one another in SQLite as in PostgreSQL."""
    values: dict[str, Any] = {"evaluations": schema.cursor.c.evaluations + 1}
    if cursor is not None:
        values["value"] = cursor
    connection.execute(update(schema.cursor).values(values))


def load_states(connection: Connection, keys: set[RuleKey]) -> dict[RuleKey, State]:
    """Return what rules remember about stations; what was never evaluated is absent."""
    table = schema.states
    rows = connection.execute(select(table).where(table.c.rule.in_({rule for rule, _ in keys})))
    return {(row.rule, row.station): State.from_json(row.state) for row in rows if (row.rule, row.station) in keys}


def save_states(connection: Connection, before: Mapping[RuleKey, State], after: Mapping[RuleKey, State]) -> None:
    """Keep the states that changed."""
    table = schema.states
    for (rule, station), state in after.items():
        if (rule, station) not in before:
            connection.execute(insert(table).values(rule=rule, station=station, state=state.to_json()))
        elif state != before[rule, station]:
            matches = (table.c.rule == rule) & (table.c.station == station)
            connection.execute(update(table).where(matches).values(state=state.to_json()))


@dataclass(frozen=True)
class Messages:
    """Makes the messages of an event, one per person who follows its rule."""

    subscriptions: tuple[Subscription, ...]
    wording: Wording
    expire_after_s: int

    def of(self, event: AlertEvent, event_id: str) -> Iterable[dict[str, Any]]:
        """Yield the rows of the people the cloud tells."""
        for subscription in self.subscriptions:
            if event.rule.id in subscription.rules:
                text = self.wording.sms(event, subscription.language)
                yield self.row(event, event_id, subscription.person, subscription.phone, text)

    def row(self, event: AlertEvent, event_id: str, person: str, address: str, text: str) -> dict[str, Any]:
        """Return one message that waits to be sent."""
        return {
            "id": identity(event_id, person, CHANNEL_SMS),
            "event": event_id,
            "conversation": f"{person}\n{event.rule.id}\n{event.station}",
            "position": event.time,
            "person": person,
            "channel": CHANNEL_SMS,
            "address": address,
            "text": text,
            "status": PENDING,
            "expires_at": event.time + self.expire_after_s,
            "attempts": 0,
            "next_attempt_real": 0.0,
        }


def event_id_of(event: AlertEvent) -> str:
    """Return the id under which an event is kept."""
    return event_identity(event.rule.id, event.station, event.kind, event.time)


def is_kept(connection: Connection, event_id: str) -> bool:
    """Return whether an event is here already."""
    return connection.scalar(select(schema.events.c.id).where(schema.events.c.id == event_id)) is not None


def told(connection: Connection, rule: str, station: str) -> list[Told]:
    """Return the newest events of a rule at a station, the newest first."""
    table = schema.events
    these = select(table.c.kind, table.c.time).where(table.c.rule == rule, table.c.station == station)
    rows = connection.execute(these.order_by(table.c.time.desc(), table.c.decided.desc()).limit(_TOLD))
    return [Told(Kind(row.kind), row.time) for row in rows]


def insert_event(connection: Connection, event: AlertEvent, page: Mapping[str, str], **more: str | None) -> str:
    """Keep an event with its page texts; `more` are further columns. Return its id."""
    event_id = event_id_of(event)
    values = {
        "id": event_id,
        "rule": event.rule.id,
        "station": event.station,
        "kind": str(event.kind),
        "time": event.time,
        "decided": event.decided,
        "value": event.value,
        "level": event.level,
        "severity": event.rule.severity,
        "reason": event.reason,
        "text_vi": page["vi"],
        "text_en": page["en"],
    }
    connection.execute(insert(schema.events).values(**values, **more))
    return event_id


def insert_messages(connection: Connection, messages: Iterable[dict[str, Any]]) -> None:
    """Keep messages; none is fine."""
    rows = list(messages)
    if rows:
        connection.execute(insert(schema.deliveries), rows)
