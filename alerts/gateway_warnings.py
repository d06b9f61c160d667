"""What a gateway decided and told by itself while the cloud was away, taken into the cloud's own account.

    taker.take("gw-mytho", warning)     one transaction; the same warning again, or an older revision, changes nothing

The cloud takes over the gateway's side: a rule the gateway raised is raised here too from that moment, so that the late
records do not raise it a second time, and the records that follow clear it, whoever raised it. Whom the gateway told is
told; the others on the cloud's list are told now, unless it is no news any more. When the cloud has decided the same
first (some minutes apart: its dwell ran otherwise), the two are one event. When it has decided otherwise since, the
warning is history: kept and shown, and nobody is told of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, insert, select, update

from alerts import schema
from alerts.event_store import (
    CHANNEL_SMS,
    HOLD_S,
    PENDING,
    Messages,
    event_id_of,
    insert_event,
    insert_messages,
    is_kept,
    load_states,
    save_states,
    serialise,
)
from alerts.rules import EXPIRE_AFTER_S, Kind, Rule, State, event_identity, identity
from alerts.subscriptions import Subscription
from alerts.texts import AlertEvent, Wording
from station_config.clock import Clock

SENT, SENDING, UNSURE = "sent", "sending", "unsure"
#: What a gateway says of a message that has ended without reaching anybody for certain.
NOT_REACHED = frozenset({UNSURE, "failed", "expired", "left"})


@dataclass(frozen=True)
class ToldByGateway:
    """One message of a gateway, or its siren. `status` is the gateway's word for what became of it."""

    person: str
    address: str
    channel: str
    text: str
    status: str
    attempts: int = 0
    at: int | None = None
    reference: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class GatewayWarning:
    """An event a gateway decided, and whom it told. A higher `revision` says more of the same. Times unix seconds."""

    rule: str
    station: str
    kind: Kind
    time: int
    decided: int
    value: float
    level: float
    severity: str
    reason: str
    deliveries: tuple[ToldByGateway, ...]
    revision: int
    rules_version: str | None = None
    recipients_version: str | None = None


class GatewayWarnings:
    """Takes warnings; from any thread, beside an engine on the same database."""

    def __init__(
        self,
        database: Engine,
        rules: Sequence[Rule],
        subscriptions: Sequence[Subscription],
        wording: Wording,
        clock: Clock,
        real_time: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._rules = {rule.id: rule for rule in rules}
        self._subscriptions = tuple(subscriptions)
        self._messages = Messages(self._subscriptions, wording, EXPIRE_AFTER_S)
        self._clock = clock
        self._real_time = real_time

    def take(self, gateway: str, warning: GatewayWarning) -> None:
        """Keep a warning durably. Raises SQLAlchemyError: nothing was kept then, so call again."""
        own_id = event_identity(warning.rule, warning.station, warning.kind, warning.time)
        table = schema.gateway_warnings
        this = (table.c.gateway == gateway) & (table.c.id == own_id)
        with self._database.begin() as connection:
            serialise(connection)
            known = connection.execute(select(table).where(this)).one_or_none()
            if known is not None and known.revision >= warning.revision:
                return
            if known is None:
                event_id, news = self._place(connection, gateway, warning)
                values = {"gateway": gateway, "id": own_id, "event": event_id, "revision": warning.revision}
                connection.execute(insert(table).values(values))
            else:
                event_id, news = known.event, self._is_latest(connection, warning, known.event)
                connection.execute(update(table).where(this).values(revision=warning.revision))
            for told in warning.deliveries:
                self._put(connection, gateway, warning, event_id, told, news=news)

    # -- the event -----------------------------------------------------------------------------------------------------

    def _place(self, connection: Connection, gateway: str, warning: GatewayWarning) -> tuple[str, bool]:
        """Return the event here that this warning is, made if need be, and whether people may still be told of it."""
        event = self._event(warning)
        if is_kept(connection, event_id_of(event)):
            return event_id_of(event), self._is_latest(connection, warning, event_id_of(event))
        last = _last_event(connection, warning.rule, warning.station)
        if last is not None and last.kind == warning.kind:
            return last.id, True
        event_id = insert_event(
            connection,
            event,
            self._page(event, warning),
            via=gateway,
            rules_version=warning.rules_version,
            recipients_version=warning.recipients_version,
        )
        news = last is None or last.time <= warning.time
        rule = self._rules.get(warning.rule)
        if rule is None or warning.station not in rule.stations:
            return event_id, False
        if news:
            _take_side(connection, warning)
            self._tell_the_others(connection, event, event_id, warning)
        return event_id, news

    def _event(self, warning: GatewayWarning) -> AlertEvent:
        rule = self._rules.get(warning.rule)
        if rule is None:  # a rule only the gateway has
            rule = Rule(warning.rule, "", (), warning.level, warning.level, severity=warning.severity)
        # The levels are those it was decided by, which may be of another version of the rules.
        key = "set_level" if warning.kind is Kind.RAISED else "clear_level"
        decided_by = replace(rule, **{key: warning.level})  # type: ignore[arg-type]  # both are floats
        return AlertEvent(
            decided_by, warning.station, warning.kind, warning.time, warning.decided, warning.value, warning.reason
        )

    def _page(self, event: AlertEvent, warning: GatewayWarning) -> dict[str, str]:
        if event.rule.id in self._rules and event.station in self._rules[event.rule.id].stations:
            return self._messages.wording.page(event)
        said = next((told.text for told in warning.deliveries), f"{warning.rule}: {warning.kind} ({warning.value})")
        return {"vi": said, "en": said}

    def _is_latest(self, connection: Connection, warning: GatewayWarning, event_id: str) -> bool:
        last = _last_event(connection, warning.rule, warning.station)
        return last is not None and last.id == event_id

    def _tell_the_others(
        self, connection: Connection, event: AlertEvent, event_id: str, warning: GatewayWarning
    ) -> None:
        if self._clock.now() - warning.time > event.rule.stale_after_s:
            return
        gateway_tells = {told.address for told in warning.deliveries}
        rows = self._messages.of(event, event_id)
        insert_messages(connection, [row for row in rows if row["address"] not in gateway_tells])

    # -- who was told --------------------------------------------------------------------------------------------------

    def _put(
        self,
        connection: Connection,
        gateway: str,
        warning: GatewayWarning,
        event_id: str,
        told: ToldByGateway,
        *,
        news: bool,
    ) -> None:
        ours = self._subscription(told.address, warning.rule)
        person = ours.person if ours is not None else self._name_of_its_own(told.person, gateway)
        row = self._messages.row(self._event(warning), event_id, person, told.address, told.text)
        row |= {"channel": told.channel, "id": identity(event_id, person, told.channel), "attempts": told.attempts}
        row |= self._state(told, gateway, may_tell=news and ours is not None)
        before = _delivery(connection, event_id, person, told.channel)
        if before is not None and before.via is None and (before.status != PENDING or before.attempts):
            # The cloud has told the person already, or is at it: that stays, and what the gateway did stands beside.
            if told.status not in (SENT, UNSURE):
                return
            row["channel"] = f"{told.channel} via {gateway}"
            row |= {"id": identity(event_id, person, row["channel"]), "status": told.status}
            before = _delivery(connection, event_id, person, row["channel"])
        if before is None:
            connection.execute(insert(schema.deliveries).values(row))
        else:
            connection.execute(update(schema.deliveries).where(schema.deliveries.c.id == before.id).values(row))

    def _state(self, told: ToldByGateway, gateway: str, *, may_tell: bool) -> dict[str, Any]:
        """Return what of a message's row follows from what the gateway says of it."""
        reference = None if told.reference is None else f"{gateway}:{told.reference}"
        state: dict[str, Any] = {"status": told.status, "via": gateway, "detail": told.detail, "provider_id": reference}
        state["sent_at"] = told.at if told.status == SENT else None
        if told.channel != CHANNEL_SMS or not may_tell or told.status == SENT:
            return state | ({"status": SENDING} if told.status == "waiting" else {})
        if told.status in NOT_REACHED:
            detail = f"{gateway} did not reach the person ({told.status}{f': {told.detail}' if told.detail else ''})"
            return state | {"status": PENDING, "via": None, "detail": detail, "attempts": 0, "next_attempt_real": 0.0}
        held = self._real_time() + HOLD_S
        return state | {"status": PENDING, "attempts": 0, "next_attempt_real": held, "detail": f"{gateway} is telling"}

    def _subscription(self, address: str, rule: str) -> Subscription | None:
        return next((one for one in self._subscriptions if one.phone == address and rule in one.rules), None)

    def _name_of_its_own(self, person: str, gateway: str) -> str:
        """Return the name of somebody only the gateway knows, so that no other person of the name is meant."""
        taken = any(one.person == person for one in self._subscriptions)
        return f"{person} ({gateway})" if taken else person


def _take_side(connection: Connection, warning: GatewayWarning) -> None:
    """Put the rule's machine on the gateway's side, with all up to then judged."""
    key = (warning.rule, warning.station)
    states = load_states(connection, {key})
    state = states.get(key, State())
    raised = warning.kind is Kind.RAISED
    if state.active == raised:
        return
    later = state.last_time is not None and state.last_time > warning.time
    taken = State(
        active=raised,
        since=warning.time if raised else None,
        last_time=state.last_time if later else warning.time,
        last_value=state.last_value if later else warning.value,
    )
    save_states(connection, states, {key: taken})


class _Last(NamedTuple):
    id: str
    kind: str
    time: int


class _Kept(NamedTuple):
    id: str
    status: str
    attempts: int
    via: str | None


def _last_event(connection: Connection, rule: str, station: str) -> _Last | None:
    table = schema.events
    newest = select(table.c.id, table.c.kind, table.c.time).where(table.c.rule == rule, table.c.station == station)
    row = connection.execute(newest.order_by(table.c.time.desc(), table.c.decided.desc()).limit(1)).one_or_none()
    return None if row is None else _Last(*row)


def _delivery(connection: Connection, event: str, person: str, channel: str) -> _Kept | None:
    table = schema.deliveries
    this = (table.c.event == event) & (table.c.person == person) & (table.c.channel == channel)
    query = select(table.c.id, table.c.status, table.c.attempts, table.c.via).where(this)
    row = connection.execute(query).one_or_none()
    return None if row is None else _Kept(*row)
