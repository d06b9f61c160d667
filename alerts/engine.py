"""From observations to stored events and messages to send: one transaction, exactly once per event.

    engine.evaluate(observations, cursor="...")   states, events, deliveries and the cursor are saved together
    Deliverer sends what `evaluate` has stored    (delivery.py)

A crash before the commit leaves nothing, and the caller evaluates the same observations again from `cursor()`. A crash
after it leaves everything; the same observations again are older than the states and change nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, RowMapping, func, select

from alerts import schema
from alerts.event_store import (
    Messages,
    RuleKey,
    event_id_of,
    insert_event,
    insert_messages,
    is_kept,
    load_states,
    save_states,
    serialise,
    told,
)
from alerts.reconsider import LONGEST_S, correction, judge_again
from alerts.rules import EXPIRE_AFTER_S, Observation, Rule, State, step
from alerts.subscriptions import Subscription, mask_phone
from alerts.texts import AlertEvent, Wording
from station_config.clock import Clock

History = Callable[[Rule, str, int, int], list[Observation]]

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
        rules_version: str | None = None,
    ) -> None:
        self._database = database
        self._rules = {rule.id: rule for rule in rules}
        self._by_parameter: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_parameter[rule.parameter].append(rule)
        self._messages = Messages(tuple(subscriptions), wording, expire_after_s)
        self._clock = clock
        self._rules_version = rules_version

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

    def evaluate(
        self, observations: Iterable[Observation], *, cursor: str | None = None, history: History | None = None
    ) -> list[AlertEvent]:
        """Take observations into account and return the events that came of them, all durably stored.

        Observations may come late, twice and in any order. `cursor` is kept as it is for `cursor()`. With `history`
        (rule, station, first, last time: what is stored, as it is judged now, by time) an observation that comes again
        as failed takes back what it led to.
        Raises SQLAlchemyError when the database refuses: nothing is stored then, so call again with the same.
        """
        watched = self._watched(observations)
        if not watched and cursor is None:
            return []
        with self._database.begin() as connection:
            serialise(connection, cursor)
            happened = self._step_all(connection, watched) if watched else []
            stored = [event for event in happened if self._store(connection, event)]
            happened = self._judge_again(connection, watched, history) if history is not None else []
            stored += [event for event in happened if self._store(connection, event)]
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

    def undelivered(self) -> int:
        """Return how many messages to people have neither been sent nor given up."""
        pending = select(func.count()).select_from(schema.deliveries).where(schema.deliveries.c.status == "pending")
        with self._database.connect() as connection:
            return int(connection.scalar(pending) or 0)

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
        before = load_states(connection, {(rule.id, observation.station) for rule, observation in watched})
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
        save_states(connection, before, states)
        return happened

    def _judge_again(
        self, connection: Connection, watched: list[tuple[Rule, Observation]], history: History
    ) -> list[AlertEvent]:
        came: dict[RuleKey, list[Observation]] = defaultdict(list)
        for rule, observation in watched:
            came[rule.id, observation.station].append(observation)
        before, happened, now = load_states(connection, set(came)), [], self._clock.now()
        states = dict(before)
        for (rule_id, station), observations in came.items():
            rule, state = self._rules[rule_id], before.get((rule_id, station), State())
            failed = correction(observations, state)
            if failed is None or state.last_time is None or now - failed.last > LONGEST_S:
                continue
            left = history(rule, station, failed.window(rule, now), state.last_time)
            decision = judge_again(rule, state, told(connection, rule_id, station), left, failed, now)
            states[rule_id, station] = decision.state
            value = decision.state.last_value
            if decision.kind is not None and value is not None:
                at = (failed.last, int(now))
                happened.append(AlertEvent(rule, station, decision.kind, *at, value, str(decision.reason)))
        save_states(connection, before, states)
        return happened

    def _store(self, connection: Connection, event: AlertEvent) -> bool:
        """Store an event and its messages; False when it has been stored before (a state lost, the events kept)."""
        if is_kept(connection, event_id_of(event)):
            return False
        page = self._messages.wording.page(event)
        event_id = insert_event(connection, event, page, rules_version=self._rules_version)
        stale = event.decided - event.time > event.rule.stale_after_s  # a correction of what nobody acts on any more
        insert_messages(connection, [] if stale else self._messages.of(event, event_id))
        return True


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
        "via": event["via"],
        "versions": {"rules": event["rules_version"], "recipients": event["recipients_version"]},
        "deliveries": deliveries,
    }


def _shown_delivery(delivery: RowMapping) -> dict[str, Any]:
    return {
        "person": delivery["person"],
        "channel": delivery["channel"],
        "address_masked": mask_phone(delivery["address"]) if delivery["address"] else "",
        "text": delivery["text"],
        "status": delivery["status"],
        "attempts": delivery["attempts"],
        "sent_at": delivery["sent_at"],
        "provider_id": delivery["provider_id"],
        "detail": delivery["detail"],
        "via": delivery["via"],
    }
