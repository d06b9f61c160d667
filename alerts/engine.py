"""From observations to stored events and messages to send: one transaction, exactly once per event.

    engine.evaluate(observations, cursor="...")   states, events, deliveries and the cursor are saved together
    Deliverer sends what `evaluate` has stored    (delivery.py)

A crash before the commit leaves nothing, and the caller evaluates the same observations again from `cursor()`. A crash
after it leaves everything; the same observations again are older than the states and change nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, RowMapping, insert, select, update

from alerts import schema
from alerts.rules import EXPIRE_AFTER_S, Observation, Rule, State, event_identity, identity, step
from alerts.subscriptions import Subscription, mask_phone
from alerts.texts import AlertEvent, Wording
from station_config.clock import Clock

CHANNEL_SMS = "sms"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ActiveAlert:
    """An alert that has been raised and not cleared; `value` is the latest that counted."""

    rule: str
    station: str
    since: int
    value: float
    severity: str


class AlertEngine:
    """Evaluates rules over observations. Every method may be called from any thread, and from several processes."""

    def __init__(
        self,
        database: Engine,
        rules: Sequence[Rule],
        subscriptions: Sequence[Subscription],
        wording: Wording,
        clock: Clock,
        *,
        expire_after_s: int = EXPIRE_AFTER_S,
    ) -> None:
        self._database = database
        self._rules = {rule.id: rule for rule in rules}
        self._by_parameter: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_parameter[rule.parameter].append(rule)
        self._subscriptions = tuple(subscriptions)
        self._wording = wording
        self._clock = clock
        self._expire_after_s = expire_after_s

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters any rule watches: other observations need not be handed in."""
        return frozenset(self._by_parameter)

    def prepare(self) -> None:
        """Make or upgrade the tables. Raises DatabaseTooNew, and SQLAlchemyError when the database is out of reach."""
        schema.migrate(self._database)

    def cursor(self) -> str | None:
        """Return the cursor saved by the last `evaluate` that had one: observations up to it need not come again."""
        with self._database.connect() as connection:
            return connection.scalar(select(schema.cursor.c.value))

    def evaluate(self, observations: Iterable[Observation], *, cursor: str | None = None) -> list[AlertEvent]:
        """Take observations into account and return the events that came of them, all durably stored.

        Observations may come late, twice and in any order. `cursor` is kept as it is for `cursor()`.
        Raises SQLAlchemyError when the database refuses: nothing is stored then, so call again with the same.
        """
        watched = self._watched(observations)
        if not watched and cursor is None:
            return []
        with self._database.begin() as connection:
            _serialise(connection, cursor)
            happened = self._step_all(connection, watched) if watched else []
            stored = [event for event in happened if self._store(connection, event)]
        for event in stored:
            _log.info("alert", rule=event.rule.id, station=event.station, kind=str(event.kind), reason=event.reason)
        return stored

    def active(self) -> list[ActiveAlert]:
        """Return the alerts that are active now, by station and rule; what no rule watches any more is left out."""
        with self._database.connect() as connection:
            rows = connection.execute(select(schema.states).order_by(schema.states.c.station, schema.states.c.rule))
            found = [(row.rule, row.station, State.from_json(row.state)) for row in rows]
        return [
            ActiveAlert(rule, station, state.since, state.last_value, self._rules[rule].severity)
            for rule, station, state in found
            if rule in self._rules and station in self._rules[rule].stations
            if state.active and state.since is not None and state.last_value is not None
        ]

    def recent(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return the newest events first, each with its deliveries, in the shape of /api/v1/alerts; numbers masked."""
        newest = select(schema.events).order_by(
            schema.events.c.decided.desc(), schema.events.c.time.desc(), schema.events.c.id
        )
        with self._database.connect() as connection:
            events = connection.execute(newest.limit(limit)).all()
            messages = connection.execute(
                select(schema.deliveries)
                .where(schema.deliveries.c.event.in_([event.id for event in events]))
                .order_by(schema.deliveries.c.person, schema.deliveries.c.channel)
            ).all()
        by_event = defaultdict(list)
        for message in messages:
            by_event[message.event].append(_shown_delivery(message._mapping))
        return [_shown_event(event._mapping, by_event[event.id]) for event in events]

    def _watched(self, observations: Iterable[Observation]) -> list[tuple[Rule, Observation]]:
        pairs = [
            (rule, observation)
            for observation in observations
            for rule in self._by_parameter.get(observation.parameter, ())
            if rule.applies_to(observation)
        ]
        # A batch may hold the newest first; within it, event time is the order. Of two sensors the lower number leads.
        return sorted(pairs, key=lambda pair: (pair[1].time, pair[1].sensor))

    def _step_all(self, connection: Connection, watched: list[tuple[Rule, Observation]]) -> list[AlertEvent]:
        before = _load_states(connection, {(rule.id, observation.station) for rule, observation in watched})
        states, happened, now = dict(before), [], self._clock.now()
        for rule, observation in watched:
            key = (rule.id, observation.station)
            decision = step(rule, states.get(key, State()), observation, now)
            states[key] = decision.state
            if decision.kind is not None and observation.value is not None:
                happened.append(
                    AlertEvent(
                        rule=rule,
                        station=observation.station,
                        kind=decision.kind,
                        time=observation.time,
                        decided=int(now),
                        value=observation.value,
                        reason=str(decision.reason),
                    )
                )
        _save_states(connection, before, states)
        return happened

    def _store(self, connection: Connection, event: AlertEvent) -> bool:
        """Store an event and its messages; False when it has been stored before (a state lost, the events kept)."""
        event_id = event_identity(event.rule.id, event.station, event.kind, event.time)
        if connection.scalar(select(schema.events.c.id).where(schema.events.c.id == event_id)) is not None:
            return False
        page = self._wording.page(event)
        connection.execute(
            insert(schema.events).values(
                id=event_id,
                rule=event.rule.id,
                station=event.station,
                kind=str(event.kind),
                time=event.time,
                decided=event.decided,
                value=event.value,
                level=event.level,
                severity=event.rule.severity,
                reason=event.reason,
                text_vi=page["vi"],
                text_en=page["en"],
            )
        )
        messages = [
            self._message(event, event_id, subscription)
            for subscription in self._subscriptions
            if event.rule.id in subscription.rules
        ]
        if messages:
            connection.execute(insert(schema.deliveries), messages)
        return True

    def _message(self, event: AlertEvent, event_id: str, subscription: Subscription) -> dict[str, Any]:
        return {
            "id": identity(event_id, subscription.person, CHANNEL_SMS),
            "event": event_id,
            "conversation": f"{subscription.person}\n{event.rule.id}\n{event.station}",
            "position": event.time,
            "person": subscription.person,
            "channel": CHANNEL_SMS,
            "address": subscription.phone,
            "text": self._wording.sms(event, subscription.language),
            "status": "pending",
            "expires_at": event.time + self._expire_after_s,
            "attempts": 0,
            "next_attempt_real": 0.0,
        }


def _serialise(connection: Connection, cursor: str | None) -> None:
    """Take the cursor's row first, so that evaluations follow one another in SQLite as in PostgreSQL."""
    values: dict[str, Any] = {"evaluations": schema.cursor.c.evaluations + 1}
    if cursor is not None:
        values["value"] = cursor
    connection.execute(update(schema.cursor).values(values))


def _load_states(connection: Connection, keys: set[tuple[str, str]]) -> dict[tuple[str, str], State]:
    table = schema.states
    rows = connection.execute(select(table).where(table.c.rule.in_({rule for rule, _ in keys})))
    return {(row.rule, row.station): State.from_json(row.state) for row in rows if (row.rule, row.station) in keys}


def _save_states(
    connection: Connection, before: Mapping[tuple[str, str], State], after: Mapping[tuple[str, str], State]
) -> None:
    table = schema.states
    for (rule, station), state in after.items():
        if (rule, station) not in before:
            connection.execute(insert(table).values(rule=rule, station=station, state=state.to_json()))
        elif state != before[rule, station]:
            matches = (table.c.rule == rule) & (table.c.station == station)
            connection.execute(update(table).where(matches).values(state=state.to_json()))


def _shown_event(event: RowMapping, deliveries: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": event["id"],
        "rule": event["rule"],
        "station": event["station"],
        "kind": event["kind"],
        "time": event["time"],
        "decided": event["decided"],
        "value": event["value"],
        "threshold": event["level"],
        "severity": event["severity"],
        "reason": event["reason"],
        "text": {"vi": event["text_vi"], "en": event["text_en"]},
        "deliveries": deliveries,
    }


def _shown_delivery(delivery: RowMapping) -> dict[str, Any]:
    return {
        "person": delivery["person"],
        "channel": delivery["channel"],
        "address_masked": mask_phone(delivery["address"]),
        "text": delivery["text"],
        "status": delivery["status"],
        "attempts": delivery["attempts"],
        "sent_at": delivery["sent_at"],
        "provider_id": delivery["provider_id"],
        "detail": delivery["detail"],
    }
