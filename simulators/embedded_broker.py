"""The embedded broker: amqtt in memory, with passwords, topic access, and two of its habits mended.

What it does not do, and mosquitto does: MQTT 5, shared subscriptions, sending again what a reconnecting client had not
acknowledged, and keeping the order of what waited for an absent client. Our chain needs none of them: records have an
identity, and only a commit message counts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.contexts import Action  # type: ignore[import-untyped]
from amqtt.errors import BrokerError  # type: ignore[import-untyped]
from amqtt.plugins.base import BaseTopicPlugin  # type: ignore[import-untyped]
from amqtt.session import Session  # type: ignore[import-untyped]
from pwdlib.hashers.argon2 import Argon2Hasher

from station_config.broker_access import access_of, allows
from station_config.free_ports import free_port

if TYPE_CHECKING:
    from _collections_abc import dict_items


def argon2_hash(password: str) -> str:
    """Return the hash of a random password. Light on purpose: 24 random bytes need no stretching."""
    return Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1).hash(password)


class TopicAccess(BaseTopicPlugin):  # type: ignore[misc]
    """Lets each user read and write what broker_access says; asked for every subscription and message."""

    @dataclass
    class Config:
        """No settings."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Say whether the session's user may do this with the topic."""
        if session is None or session.username is None or topic is None:
            return False
        access = access_of(session.username)
        return allows(access.write if action is Action.PUBLISH else access.read, topic)


class _SteadyDict(dict[str, Any]):
    """A dict that is iterated as it was at the start.

    amqtt waits for the network while it goes through its subscriptions; one that is added meanwhile would end the loop
    with an error and lose the message at hand, just when all clients come back at once.
    """

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().keys()))

    def items(self) -> dict_items[str, Any]:
        return {key: list(value) for key, value in dict(super().items()).items()}.items()


class EmbeddedBroker(Broker):  # type: ignore[misc]
    """amqtt's broker, except that a client gets retained messages for its own subscriptions only."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        super().__init__(configuration)
        self._subscriptions = _SteadyDict()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        holders = self._subscriptions.get(subscription[0], [])
        if any(holder.client_id == session.client_id for holder, _qos in holders):
            await super()._publish_retained_messages_for_subscription(subscription, session)


def serve(port: int, passwords: Path) -> None:
    """Run the broker on 127.0.0.1:port until SIGTERM or SIGINT. Raises OSError when it cannot listen."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_serve(port or free_port(), passwords))


async def _serve(port: int, passwords: Path) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    broker = EmbeddedBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)},
                f"{TopicAccess.__module__}.{TopicAccess.__name__}": {},
            },
        }
    )
    try:
        await broker.start()
    except BrokerError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise
    typer.echo(json.dumps({"ready": True, "port": port}, separators=(",", ":")))
    await stopping.wait()
    await broker.shutdown()
