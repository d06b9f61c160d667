"""What gateways declare lost: the message kind `losses` on its way into the ledger.

    {"id", "at", "station", "journal", "reason", "ranges": [[first, last], …]}

A declaration is kept as it was said, with who said it and when. It explains what is missing and nothing else: of a
range whose records are stored, or arrive later after all, the audit counts only the rest. So a gateway may say it
twice, and may declare on suspicion.
"""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_ingest.gateway_messages import GatewayMessage, MessageOfAnother, MessageRefused
from cloud_ingest.store import Store

Seq = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]


class _Losses(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    station: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    journal: Seq
    reason: str = Field(min_length=1, max_length=300)
    ranges: list[tuple[Seq, Seq]] = Field(min_length=1, max_length=10_000)


class LossTaker:
    """The handler of `losses`. It runs in the ingest thread, outside of any transaction."""

    def __init__(self, store: Store) -> None:
        """Only what is lost of the store's own stations is taken; of others it is another worker's."""
        self._store = store

    def take(self, gateway: str, message: GatewayMessage) -> None:
        """Enter what a gateway declares lost. Raises MessageRefused, MessageOfAnother, StoreUnavailable: try again."""
        try:
            losses = _Losses.model_validate_json(json.dumps(dict(message.body)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise MessageRefused(f"losses: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        backward = [one for one in losses.ranges if one[0] > one[1]]
        if backward:
            raise MessageRefused(f"losses: range {backward[0]} ends before it begins")
        if not self._store.owns(losses.station):
            raise MessageOfAnother(losses.station)
        with self._store.transaction() as transaction:
            journal = transaction.journal_number(losses.station, losses.journal)
            transaction.declare_lost(journal, gateway, losses.reason, losses.ranges, int(message.at))
