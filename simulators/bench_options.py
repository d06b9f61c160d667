"""What kind of bench is wanted: where its files go, how fast its clock runs, what is on its buses, real ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simulators import site as sites
from simulators.plan import Plan
from simulators.relays import Relay

START_LEAD_S = 10.0
BrokerKind = Literal["auto", "mosquitto", "embedded"]


@dataclass(frozen=True)
class BenchOptions:
    """What kind of bench: where its files go, how fast its clock runs, what the instruments measure."""

    directory: Path
    plan: Plan
    speed: float = 60.0
    seed: int = 1
    replay: Path | None = None
    broker: BrokerKind = "auto"
    stations: tuple[str, ...] | None = None
    start_lead_s: float = START_LEAD_S
    network: Path = sites.DEMO_NETWORK
    shown: tuple[dict[str, Any], ...] | None = None
    """The instruments of every station as `tram-sim world` reads them; None: the usual three."""
    more_rules: str = ""
    """TOML: alert rules, and persons who follow them, beside the farmer's."""
    hardware: Hardware | None = None
    """The ports of one real board; None: virtual boards."""
    failing_disks: bool = False
    """Put a witness under the files of gateway and cloud, by which their disks can be made to fail (needs gcc)."""


@dataclass(frozen=True)
class Hardware:
    """A real station board's ports: its console, the adapters on its instruments' bus and its uplink, its relay."""

    board: Path
    bus: Path
    uplink: Path
    relay: Relay | None = None
    bus_baud: int = 9600
