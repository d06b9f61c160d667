"""What the cloud is told of a warning: the event, who was told and how it went; enqueued with what it tells of."""

from __future__ import annotations

from collections.abc import Iterable

from edge_gateway.outbox_store import OutboxStore
from edge_gateway.warning_configuration import WarningSetup
from edge_gateway.warning_store import Delivery, WarningEvent, WarningStore

KIND = "warnings"


def message_body(
    event: WarningEvent, deliveries: Iterable[Delivery], revision: int, setup: WarningSetup
) -> dict[str, object]:
    """Return the body: {"event", "deliveries", "revision", "versions"}; a higher revision says more of the same."""
    names = ("rule", "station", "kind", "time", "decided", "value", "level", "severity", "reason")
    return {
        "event": {name: getattr(event, name) for name in names},
        "deliveries": [_shown(one) for one in deliveries],
        "revision": revision,
        "versions": {"rules": setup.alerts.version, "recipients": setup.configuration.recipients_version},
    }


def tell_the_cloud(store: OutboxStore, event: WarningEvent, setup: WarningSetup, now: float) -> None:
    """Enqueue what is known of an event, in the transaction that has just changed it."""
    warnings = WarningStore(store.sql)
    revision = warnings.next_revision(event.id)
    body = message_body(event, warnings.deliveries(event.id), revision, setup)
    store.enqueue(KIND, body, now, f"{event.id}-{revision}")


def _shown(one: Delivery) -> dict[str, object]:
    return {
        "person": one.person,
        "address": one.address,
        "channel": one.channel,
        "text": one.text,
        "status": str(one.status),
        "attempts": one.attempts,
        "at": None if one.at is None else int(one.at),
        "reference": one.reference,
        "detail": one.detail,
    }
