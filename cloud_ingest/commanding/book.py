"""The book of commands: what was ordered, where it is, what came of it. A change and its audit are one transaction."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, and_, insert, select, update

from cloud_ingest.commanding import schema
from cloud_ingest.commanding.policy import (
    OPEN,
    TOLD,
    Member,
    Rollout,
    RolloutState,
    State,
    Step,
    Wave,
    next_wave,
)
from cloud_ingest.errors import CommandUnknown
from station_config.clock import Clock
from station_config.command import AnyCommand, Envelope, parse_text

SERVICE = "tram-cloud run"
FILES = ("content", "image")  # arguments that are whole files; they are not kept twice
commands, audit, rollouts = schema.commands, schema.audit, schema.rollouts


class Order(NamedTuple):
    """A command as the book has it, without its envelope."""

    id: str
    gateway: str
    station: str | None
    kind: str
    arguments: dict[str, Any]
    by: str
    issued_at: int
    expires_at: int
    state: State
    published_at: float | None
    finished_at: float | None
    result: dict[str, Any] | None
    rollout: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return self._asdict()


class RolloutOrder(NamedTuple):
    """A rollout as the book has it."""

    id: str
    version: str
    sha256: str
    first_wave: int
    then_wave: int
    failures_allowed: int
    state: RolloutState
    reason: str
    by: str
    started_at: float


class CommandBook:
    """Commands in the database. Any thread and any process; call `prepare` once before."""

    def __init__(self, database: Engine, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def prepare(self) -> None:
        """Make the tables. Raises StoreRefused, SQLAlchemyError."""
        schema.migrate(self._database)

    # What persons do

    def order(self, envelope: Envelope, who: str) -> Order:
        """Take a signed command in, to be published. Raises pydantic.ValidationError, IntegrityError (known id)."""
        command = parse_text(envelope.command)
        with self._database.begin() as connection:
            self._insert(connection, command, envelope, State.WAITING)
            self._note(
                connection, who, "command ordered", command.id, {"kind": command.kind, "gateway": command.gateway}
            )
        return self.find(command.id)

    def cancel(self, command_id: str, who: str) -> State:
        """Publish a command no more; return the state it is in then. Raises CommandUnknown."""
        found = self.find(command_id)
        with self._database.begin() as connection:
            changed = connection.execute(
                update(commands)
                .where(commands.c.id == command_id, commands.c.state.in_(OPEN))
                .values(state=State.CANCELLED, finished_at=self._clock.now())
            ).rowcount
            if changed:
                self._note(connection, who, "command cancelled", command_id, {"was": found.state})
        return self.find(command_id).state

    def start_rollout(
        self, envelopes: Sequence[Envelope], version: str, waves: tuple[int, int], failures_allowed: int, who: str
    ) -> RolloutOrder:
        """Take in one signed firmware command for each station, in the order of the waves."""
        rollout, orders = uuid.uuid4().hex, [parse_text(envelope.command) for envelope in envelopes]
        with self._database.begin() as connection:
            connection.execute(
                insert(rollouts).values(
                    id=rollout,
                    version=version,
                    sha256=_plain_arguments(orders[0]).get("sha256", ""),
                    first_wave=waves[0],
                    then_wave=waves[1],
                    failures_allowed=failures_allowed,
                    state=RolloutState.RUNNING,
                    reason="started",
                    by_whom=who,
                    started_at=self._clock.now(),
                )
            )
            for position, (command, envelope) in enumerate(zip(orders, envelopes, strict=True)):
                self._insert(connection, command, envelope, State.HELD, rollout, position)
            stations = [_station(command) for command in orders]
            self._note(connection, who, "rollout started", rollout, {"version": version, "stations": stations})
        return self.find_rollout(rollout)

    def change_rollout(self, rollout: str, state: RolloutState, reason: str, who: str) -> None:
        """Halt or resume a rollout; resuming forgives the failures so far. Raises CommandUnknown."""
        self.find_rollout(rollout)
        with self._database.begin() as connection:
            self._change_rollout(connection, rollout, state, reason, who)
            if state is RolloutState.RUNNING:
                failed = commands.c.state.not_in([*OPEN, State.DONE])
                connection.execute(update(commands).where(commands.c.rollout == rollout, failed).values(forgiven=1))

    # What gateways tell

    def take_result(self, gateway: str, command_id: str, outcome: State, result: dict[str, Any]) -> None:
        """Note what a gateway says, once; nothing changes when it says it again. Raises CommandUnknown."""
        found = self.find(command_id)
        if found.gateway != gateway:
            raise CommandUnknown(f"command {command_id} is for {found.gateway}, {gateway} has no result of it")
        if outcome is State.ACCEPTED:
            values: dict[str, Any] = {"state": State.ACCEPTED}
            takes = commands.c.state == State.WAITING
        else:
            # A result that comes after all says more than our own "expired" or "cancelled".
            values = {
                "state": outcome,
                "result": json.dumps(result, ensure_ascii=False),
                "finished_at": self._clock.now(),
                "envelope": "",
            }
            takes = and_(commands.c.state.not_in(TOLD), commands.c.result.is_(None))
        with self._database.begin() as connection:
            changed = connection.execute(update(commands).where(commands.c.id == command_id, takes).values(**values))
            if changed.rowcount:
                detail = {"outcome": outcome, "reason": result.get("reason", "")}
                self._note(connection, f"gateway {gateway}", "command answered", command_id, detail)

    # What the service does

    def expire(self) -> list[str]:
        """End the commands whose time is over without a result; return their ids."""
        now = self._clock.now()
        with self._database.begin() as connection:
            over = commands.c.state.in_(OPEN), commands.c.expires_at <= now
            ids = list(connection.scalars(select(commands.c.id).where(*over)))
            for command_id in ids:
                connection.execute(
                    update(commands)
                    .where(commands.c.id == command_id, commands.c.state.in_(OPEN))
                    .values(state=State.EXPIRED, finished_at=now)
                )
                self._note(connection, SERVICE, "command expired without a result", command_id, {})
        return ids

    def to_publish(self) -> list[tuple[str, str, State]]:
        """Return (id, gateway, state) of what is to be published until there is a result."""
        with self._database.connect() as connection:
            rows = connection.execute(
                select(commands.c.id, commands.c.gateway, commands.c.state)
                .where(commands.c.state.in_((State.WAITING, State.ACCEPTED)))
                .order_by(commands.c.issued_at)
            )
            return [(row.id, row.gateway, State(row.state)) for row in rows]

    def envelope(self, command_id: str) -> str:
        """Return the message of a command, "" when it is over."""
        with self._database.connect() as connection:
            found = connection.scalar(select(commands.c.envelope).where(commands.c.id == command_id))
        return found or ""

    def note_published(self, command_id: str) -> None:
        """Note when a command went out first."""
        with self._database.begin() as connection:
            changed = connection.execute(
                update(commands)
                .where(commands.c.id == command_id, commands.c.published_at.is_(None))
                .values(published_at=self._clock.now())
            )
            if changed.rowcount:
                self._note(connection, SERVICE, "command published", command_id, {})

    def advance(self, rollout: str) -> Wave:
        """Do what a rollout's policy says, and return it."""
        with self._database.begin() as connection:
            wave = next_wave(self._rollout(connection, rollout))
            if wave.step is Step.RELEASE:
                released = commands.c.rollout == rollout, commands.c.station.in_(wave.stations)
                connection.execute(
                    update(commands).where(*released, commands.c.state == State.HELD).values(state=State.WAITING)
                )
                detail = {"stations": list(wave.stations), "reason": wave.reason}
                self._note(connection, SERVICE, "wave released", rollout, detail)
            elif wave.step is Step.HALT:
                self._change_rollout(connection, rollout, RolloutState.HALTED, wave.reason, SERVICE)
            elif wave.step is Step.FINISH:
                self._change_rollout(connection, rollout, RolloutState.DONE, wave.reason, SERVICE)
        return wave

    # Looking

    def find(self, command_id: str) -> Order:
        """Return a command. Raises CommandUnknown."""
        with self._database.connect() as connection:
            row = connection.execute(select(commands).where(commands.c.id == command_id)).one_or_none()
        if row is None:
            raise CommandUnknown(f"no command {command_id}")
        return _order(row)

    def newest(self, limit: int, rollout: str | None = None) -> list[Order]:
        """Return the newest commands first; those of a rollout in their order."""
        query = select(commands).order_by(commands.c.issued_at.desc(), commands.c.position, commands.c.id).limit(limit)
        with self._database.connect() as connection:
            rows = connection.execute(query if rollout is None else query.where(commands.c.rollout == rollout)).all()
        return [_order(row) for row in rows]

    def find_rollout(self, rollout: str) -> RolloutOrder:
        """Return a rollout. Raises CommandUnknown."""
        with self._database.connect() as connection:
            row = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
        if row is None:
            raise CommandUnknown(f"no rollout {rollout}")
        return _rollout_order(row)

    def rollouts(self, state: RolloutState | None = None) -> list[RolloutOrder]:
        """Return the rollouts, the newest first."""
        query = select(rollouts).order_by(rollouts.c.started_at.desc())
        with self._database.connect() as connection:
            rows = connection.execute(query if state is None else query.where(rollouts.c.state == state)).all()
        return [_rollout_order(row) for row in rows]

    def history(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest entries of the audit, the newest first."""
        with self._database.connect() as connection:
            rows = connection.execute(select(audit).order_by(audit.c.number.desc()).limit(limit))
            return [{**row._mapping, "detail": json.loads(row.detail)} for row in rows]

    # Inside a transaction

    def _insert(
        self,
        connection: Connection,
        command: AnyCommand,
        envelope: Envelope,
        state: State,
        rollout: str | None = None,
        position: int | None = None,
    ) -> None:
        arguments = {key: value for key, value in _plain_arguments(command).items() if key not in FILES}
        connection.execute(
            insert(commands).values(
                id=command.id,
                gateway=command.gateway,
                station=_station(command),
                kind=command.kind,
                arguments=json.dumps(arguments),
                envelope=envelope.encode().decode(),
                by_whom=command.by,
                issued_at=command.issued_at,
                expires_at=command.expires_at,
                state=state,
                rollout=rollout,
                position=position,
            )
        )

    def _rollout(self, connection: Connection, rollout: str) -> Rollout:
        # Writing comes first: it takes the database's lock, so that nobody halts it between the look and the step.
        connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(state=rollouts.c.state))
        row = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one()
        found = connection.execute(
            select(commands).where(commands.c.rollout == rollout).order_by(commands.c.position)
        ).all()
        members = [Member(one.station, State(one.state), _reason(one), bool(one.forgiven)) for one in found]
        return Rollout(RolloutState(row.state), row.first_wave, row.then_wave, row.failures_allowed, members)

    def _change_rollout(self, connection: Connection, rollout: str, state: RolloutState, reason: str, who: str) -> None:
        connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(state=state, reason=reason))
        self._note(connection, who, f"rollout {state}", rollout, {"reason": reason})

    def _note(self, connection: Connection, who: str, what: str, subject: str, detail: dict[str, Any]) -> None:
        connection.execute(
            insert(audit).values(
                at=self._clock.now(), who=who, what=what, subject=subject, detail=json.dumps(detail, ensure_ascii=False)
            )
        )


def _order(row: Row[Any]) -> Order:
    return Order(
        row.id,
        row.gateway,
        row.station,
        row.kind,
        json.loads(row.arguments),
        row.by_whom,
        row.issued_at,
        row.expires_at,
        State(row.state),
        row.published_at,
        row.finished_at,
        json.loads(row.result) if row.result else None,
        row.rollout,
    )


def _rollout_order(row: Row[Any]) -> RolloutOrder:
    return RolloutOrder(
        row.id,
        row.version,
        row.sha256,
        row.first_wave,
        row.then_wave,
        row.failures_allowed,
        RolloutState(row.state),
        row.reason,
        row.by_whom,
        row.started_at,
    )


def _reason(row: Row[Any]) -> str:
    return str(json.loads(row.result).get("reason", "")) if row.result else "no result came"


def _plain_arguments(command: AnyCommand) -> dict[str, Any]:
    return command.arguments.model_dump()


def _station(command: AnyCommand) -> str | None:
    return getattr(command.arguments, "station", None)
