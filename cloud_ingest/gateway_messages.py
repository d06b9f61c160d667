"""What gateways send that is no record: results of commands, declared losses, warnings they sent themselves.

    topic tram/v1/<kind>/<gateway>, payload {"id", "at", …body}  →  the handler of the kind  →  {"messages": [id, …]}

A handler runs in the ingest thread and has stored the message durably when it returns; only then its id is committed,
and only then the gateway forgets it. Handling an id a second time must change nothing: a commit message may get lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_ingest import topics
from cloud_ingest.errors import CloudError, TopicError

PAYLOAD_BYTES_AT_MOST = 1 << 20


class MessageRefused(CloudError):
    """This message can never be used; the text says why. It is set aside, and acknowledged all the same."""


class MessageOfAnother(CloudError):
    """Another worker takes this message, and says to the gateway that it has it; here nothing is to be done."""


class Unreadable(CloudError):
    """This is no message of a gateway, so that there is no id to acknowledge; the text says why. It is set aside."""


class GatewayMessage(NamedTuple):
    """`at`: when the gateway made it, unix seconds by the gateway's clock; `body`: what else the message says."""

    id: str
    at: float
    body: Mapping[str, Any]


Handler = Callable[[str, GatewayMessage], None]
"""Takes the gateway's id and a message. Raises MessageRefused; any error that may pass leaves the message unhandled."""


class _Envelope(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    at: float = Field(allow_inf_nan=False)


class GatewayMessages:
    """Finds the handler of each message."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        """`handlers` by kind, one of topics.MESSAGE_KINDS."""
        unknown = handlers.keys() - set(topics.MESSAGE_KINDS)
        assert not unknown, f"no such kind: {unknown}"
        self._handlers = dict(handlers)

    def read(self, topic: str, payload: bytes) -> tuple[str, str, GatewayMessage]:
        """Return (kind, gateway, message). Raises Unreadable."""
        try:
            kind, gateway = topics.parse_message_topic(topic)
        except TopicError as error:
            raise Unreadable(str(error)) from None
        return kind, gateway, decode_message(payload)

    def handle(self, kind: str, gateway: str, message: GatewayMessage) -> None:
        """Have the message stored durably. Raises MessageRefused, and whatever the handler raises."""
        handler = self._handlers.get(kind)
        if handler is None:
            raise MessageRefused(f"nothing here takes {kind}")
        handler(gateway, message)


_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # a backslash that is not itself escaped


def decode_message(payload: bytes) -> GatewayMessage:
    """Return the message in a payload. Raises Unreadable."""
    if len(payload) > PAYLOAD_BYTES_AT_MOST:
        raise Unreadable(f"{len(payload)} bytes; at most {PAYLOAD_BYTES_AT_MOST} are read")
    if _NUL.search(payload):
        raise Unreadable("a text with the character NUL in it; no database keeps that")
    try:
        envelope = _Envelope.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Unreadable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return GatewayMessage(envelope.id, envelope.at, dict(envelope.model_extra or {}))
