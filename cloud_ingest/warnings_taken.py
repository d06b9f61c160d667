"""What gateways told people by themselves: the message kind `warnings` on its way into the alerts.

{"id", "at", "event": {rule, station, kind, time, decided, value, level, severity, reason}, "revision",
 "deliveries": [{person, address, channel, text, status, attempts, at, reference, detail}], "versions": {…}}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from alerts.gateway_warnings import GatewayWarning, GatewayWarnings, ToldByGateway
from alerts.rules import Kind
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.gateway_messages import GatewayMessage, MessageRefused

Time = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
Short = Annotated[str, Field(min_length=1, max_length=64)]
Number = Annotated[float, Field(allow_inf_nan=False)]
MESSAGES_AT_MOST = 100


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Event(_Model):
    rule: Short
    station: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    kind: Literal["raised", "cleared"]
    time: Time
    decided: Time
    value: Number
    level: Number
    severity: Short
    reason: Short


class _Told(_Model):
    person: str = Field(min_length=1, max_length=64)
    address: str = Field(pattern=r"^(\+[1-9]\d{7,14})?$")
    channel: Literal["sms", "siren"]
    text: str = Field(max_length=2000)
    status: Literal["waiting", "sending", "sent", "unsure", "failed", "expired", "left"]
    attempts: int = Field(ge=0, le=1_000_000)
    at: Time | None
    reference: str | None = Field(max_length=64)
    detail: str | None


class _Versions(_Model):
    rules: str | None = Field(default=None, max_length=64)
    recipients: str | None = Field(default=None, max_length=64)


class _Warning(_Model):
    event: _Event
    deliveries: list[_Told] = Field(max_length=MESSAGES_AT_MOST)
    revision: int = Field(ge=1)
    versions: _Versions = _Versions()


class WarningTaker:
    """The handler of `warnings`. It runs in the ingest thread, outside of any transaction."""

    def __init__(self, warnings: GatewayWarnings, taken: Callable[[], None]) -> None:
        """`taken` is called after each: there may be people for the cloud to tell."""
        self._warnings = warnings
        self._taken = taken

    def take(self, gateway: str, message: GatewayMessage) -> None:
        """Keep a warning. Raises MessageRefused, and StoreUnavailable: try again."""
        try:
            said = _Warning.model_validate_json(json.dumps(dict(message.body)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise MessageRefused(f"warnings: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        try:
            self._warnings.take(gateway, _as_warning(said))
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"the alerts' database: {type(error).__name__}") from error
        self._taken()


def _as_warning(said: _Warning) -> GatewayWarning:
    event = said.event.model_dump()
    return GatewayWarning(
        **{**event, "kind": Kind(event["kind"])},
        deliveries=tuple(ToldByGateway(**told.model_dump()) for told in said.deliveries),
        revision=said.revision,
        rules_version=said.versions.rules,
        recipients_version=said.versions.recipients,
    )
