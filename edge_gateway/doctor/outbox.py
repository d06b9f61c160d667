"""The outbox: can it be read, how much waits, how long does it last without the cloud."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.doctor.findings import Finding, found
from edge_gateway.doctor.machine import LOCAL_TIME
from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.status import read_status

SOON_FULL_DAYS = 7
OLD_S = 3600


def read_outbox(configuration: GatewayConfiguration, now: float) -> dict[str, Any]:
    """Return the gateway's status from its outbox. Raises sqlite3.Error."""
    reader = OutboxReader(configuration.outbox_path)
    try:
        return read_status(configuration, reader, now, {})
    finally:
        reader.close()


def examine_outbox(configuration: GatewayConfiguration, now: float) -> Iterator[Finding]:
    """Yield the outbox's health."""
    path = configuration.outbox_path
    if not path.exists():
        yield found("outbox-none", path)
        return
    try:
        status = read_outbox(configuration, now)
    except sqlite3.Error as error:
        yield found("outbox-unreadable", path, why=str(error))
        return
    outbox, dropped = status["outbox"], status["dropped"]
    oldest = min((one["oldest"] for one in status["stations"].values() if one["oldest"]), default=None)
    days_left = outbox["days_left"]
    values = {
        "buffered": outbox["buffered"],
        "days_left": "-" if days_left is None else days_left,
        "oldest": "-" if oldest is None else datetime.fromtimestamp(oldest, LOCAL_TIME).strftime("%Y-%m-%d %H:%M"),
    }
    is_waiting = oldest is not None and now - oldest > OLD_S
    soon_full = days_left is not None and days_left < SOON_FULL_DAYS
    yield found("outbox-soon-full" if soon_full else "outbox-waits" if is_waiting else "outbox-ok", path, **values)
    if dropped["records"]:
        yield found("outbox-lost", path, records=dropped["records"])
    for name in outbox["damaged_files"]:
        yield found("outbox-damaged", name)
