"""How warning without the cloud is: for `tram-gateway status`, and for the status the cloud sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from alerts.subscriptions import mask_phone
from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.warning_store import UNDER_WAY, Delivery, Told, WarningStore


def warning_status(configuration: GatewayConfiguration, warnings: WarningStore) -> dict[str, Any] | None:
    """Return how warning is, JSON-ready; None when it is not configured."""
    if configuration.warning is None or not warnings.is_there():
        return None
    notes = warnings.notes()
    raised = [(rule, station, state) for (rule, station), state in sorted(warnings.states().items()) if state.active]
    last = warnings.last_sent()
    return {
        "armed": bool(notes.get("watch", {}).get("armed", False)),
        "after_minutes": configuration.warning.after_minutes,
        "recipients": len(configuration.warning.recipients),
        "raised": [
            {"rule": rule, "station": station, "since": state.since, "value": state.last_value}
            for rule, station, state in raised
        ],
        "modem": _note(configuration.warning.modem, notes.get("modem")),
        "relay": _note(configuration.warning.relay, notes.get("relay")),
        "waiting": warnings.count(UNDER_WAY),
        "unsure": warnings.count((Told.UNSURE,)),
        "failed": warnings.count((Told.FAILED, Told.EXPIRED)),
        "last_sent": None if last is None else _shown(last),
    }


def _note(configured: object, note: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if configured is None else note or {"state": "not asked yet", "checked_at": None}


def _shown(delivery: Delivery) -> dict[str, Any]:
    return {
        "channel": delivery.channel,
        "address_masked": mask_phone(delivery.address) if delivery.address else "",
        "at": None if delivery.at is None else int(delivery.at),
        "reference": delivery.reference,
    }


def in_words(warning: dict[str, Any], local: Callable[[int | None], str]) -> Iterator[str]:
    """Yield how warning is, line by line, for people; `local` shows a time."""
    silence = f"after {warning['after_minutes']:g} min without a commit"
    yield f"warning without the cloud: {'NOW, the cloud is away' if warning['armed'] else f'ready, {silence}'}"
    for name in ("modem", "relay"):
        if (part := warning[name]) is not None:
            signal = f", signal {part['signal_dbm']} dBm" if part.get("signal_dbm") is not None else ""
            yield f"  {name}: {part['state']}{signal} ({local(part['checked_at'])})"
    for one in warning["raised"]:
        yield f"  raised: {one['rule']} at {one['station']} since {local(one['since'])}, last value {one['value']}"
    last = warning["last_sent"]
    sent = "nothing yet" if last is None else f"{last['channel']} {last['address_masked']} at {local(last['at'])}"
    yield f"  last sent: {sent}; waiting {warning['waiting']}, unsure {warning['unsure']}, failed {warning['failed']}"
