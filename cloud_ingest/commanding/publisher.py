"""The service's side of commands: publishes what is ordered until a result is there, and carries rollouts on.

The signing key is not needed here: the book holds the signed text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from cloud_ingest import topics
from cloud_ingest.commanding.book import CommandBook
from cloud_ingest.commanding.policy import RolloutState, State, Step, repeat_after_s
from cloud_ingest.errors import CommandUnknown
from cloud_ingest.gateway_messages import GatewayMessage, MessageRefused

LOOK_EVERY_S = 1.0
RETRY_S = 5.0

log = structlog.get_logger()

Publish = Callable[[str, bytes], None]


class _Result(BaseModel):
    """What a gateway says of a command."""

    model_config = ConfigDict(strict=True, extra="allow")

    command: str = Field(pattern=r"^[0-9a-f]{32}$")
    outcome: Literal["accepted", "done", "failed", "refused", "expired"]
    reason: str = Field(max_length=4000)
    details: dict[str, Any] = Field(default_factory=dict)


class _Sent(NamedTuple):
    times: int
    due: float  # time.monotonic()


@dataclass
class Publisher:
    """Publishes commands in a thread of its own; `connected` says whether the broker is there."""

    book: CommandBook
    publish: Publish
    connected: Callable[[], bool]
    repeat_s: float
    changed: threading.Event = field(default_factory=threading.Event)
    """Set when there may be something to do."""
    _sent: dict[str, _Sent] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set and `changed` too; outlive a database that is in trouble."""
        trouble = False
        while not stop.is_set():
            self.changed.clear()
            try:
                self.work()
                trouble = False
            except SQLAlchemyError as error:
                if not trouble:
                    log.warning("commands wait", reason=str(error), advice="they go on by themselves")
                trouble = True
                stop.wait(RETRY_S)
            self.changed.wait(LOOK_EVERY_S)

    def work(self) -> None:
        """Let go what has expired, carry rollouts on, publish what is due."""
        for command in self.book.expire():
            log.warning("a command expired without a result", command=command)
        for rollout in self.book.rollouts(RolloutState.RUNNING):
            wave = self.book.advance(rollout.id)
            if wave.step is not Step.WAIT:
                log.info("rollout", rollout=rollout.id, step=wave.step.value, reason=wave.reason)
        if self.connected():
            self._publish_what_is_due()

    def take(self, gateway: str, message: GatewayMessage) -> None:
        """Handle a message of kind results. Raises MessageRefused; SQLAlchemyError: try again later."""
        try:
            result = _Result.model_validate(dict(message.body))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise MessageRefused(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        told = {**result.model_dump(exclude={"command"}), "told_at": message.at}
        try:
            self.book.take_result(gateway, result.command, State(result.outcome), told)
        except CommandUnknown as error:
            raise MessageRefused(str(error)) from None
        self.changed.set()

    def _publish_what_is_due(self) -> None:
        now = time.monotonic()
        open_now = self.book.to_publish()
        self._sent = {command: self._sent[command] for command, _, _ in open_now if command in self._sent}
        for command, gateway, state in open_now:
            sent = self._sent.get(command, _Sent(0, 0.0))
            if now < sent.due:
                continue
            if sent.times == 0 and state is State.ACCEPTED:  # since a restart of this service
                self._sent[command] = _Sent(1, now + self.repeat_s)
                continue
            self._publish_one(command, gateway)
            times = sent.times + 1
            self._sent[command] = _Sent(times, now + repeat_after_s(times, state is State.ACCEPTED, self.repeat_s))

    def _publish_one(self, command: str, gateway: str) -> None:
        envelope = self.book.envelope(command)
        if envelope:
            self.publish(topics.commands_topic(gateway), envelope.encode())
            self.book.note_published(command)


def plain(result: Mapping[str, Any] | None) -> str:
    """Return what a result says, in one line."""
    return "" if result is None else str(result.get("reason") or "")
