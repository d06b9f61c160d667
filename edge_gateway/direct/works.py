"""The threads of the stations without a board."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_gateway.contacts import ContactBook
from edge_gateway.direct.clients import RtuInstruments, TcpInstruments
from edge_gateway.direct.station import DirectPlan, DirectStation, InstrumentClient
from edge_gateway.host_clock import HostClock
from edge_gateway.outbox import Outbox
from edge_gateway.station_link import LineAccess
from edge_gateway.tcp_client import TcpClient

Work = Callable[[threading.Event], None]


def direct_works(
    plans: Sequence[DirectPlan],
    lines: Mapping[str, LineAccess],
    state_dir: Path,
    outbox: Outbox,
    contacts: ContactBook,
    clock: HostClock,
) -> dict[str, Work]:
    """Return each station's work by the name of its thread."""
    return {
        f"direct {plan.id}": DirectStation(
            plan,
            _client(plan, lines[plan.line.name]),
            state_dir / f"journal-{plan.id}.sqlite",
            outbox,
            contacts,
            clock,
            clock.doubt,
        ).run
        for plan in plans
    }


def _client(plan: DirectPlan, access: LineAccess) -> InstrumentClient:
    if isinstance(access.client, TcpClient):
        return TcpInstruments(access.client, plan.units)
    return RtuInstruments(access.transport, plan.line.baud, plan.line.timeout_s)
