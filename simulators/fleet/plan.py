"""A fleet on paper: pure, and the same for the process that starts it and the one that publishes.

plan = FleetPlan(stations=2000, channels=13)
plan.station(7), plan.gateway_of(7)      "f00007", "fg-001"
network_toml(plan)                       what the cloud has to know of them
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import NamedTuple

FIRST_KM, LAST_KM = 1.0, 60.0
MOST_PER_GATEWAY = 200


class Channel(NamedTuple):
    """What one field of a station does: count = base ± amplitude with the tide or the day, and noise (σ, counts)."""

    sensor: int
    parameter: int
    base: int
    amplitude: int
    period_s: float
    noise: float


_TIDE_S, _DAY_S = 44_714.0, 86_400.0
#: Fields and order of the three instruments below; a counter (rain) stands still, as it does most of the time.
CHANNELS = (
    Channel(1, 32, 2850, 60, _DAY_S, 2),  # water temperature, 0.01 °C
    Channel(1, 34, 6000, 5000, _TIDE_S, 20),  # conductivity at 25 °C, 0.001 mS/cm
    Channel(2, 35, 3000, 1200, _TIDE_S, 5),  # water pressure
    Channel(2, 32, 2850, 60, _DAY_S, 2),
    Channel(3, 64, 2900, 400, _DAY_S, 5),  # air temperature, 0.01 °C
    Channel(3, 65, 800, 120, _DAY_S, 2),  # relative humidity, 0.1 %
    Channel(3, 66, 101000, 200, _DAY_S / 2, 5),  # air pressure, Pa
    Channel(3, 67, 300, 200, _DAY_S, 40),  # wind
    Channel(3, 68, 1800, 900, _DAY_S, 100),
    Channel(3, 69, 500, 300, _DAY_S, 60),
    Channel(3, 70, 100, 0, _DAY_S, 0),  # rain
    Channel(3, 71, 40000, 40000, _DAY_S, 500),  # light
    Channel(3, 72, 50, 50, _DAY_S, 1),
)
_SENSORS = {
    1: '{ number = 1, instrument = "yosemitech-y520", address = 1 }',
    2: '{ number = 2, instrument = "keller-acculevel", address = 2, elevation_m = -6.0 }',
    3: '{ number = 3, instrument = "ecowitt-wn90lp", address = 144 }',
}


@dataclass(frozen=True)
class FleetPlan:
    """Every station gives `channels` records each `interval_s`; a batch has `gather` intervals.

    `speed` 0: a backlog, published as fast as it is taken; else field time runs so many times as fast as real time.
    `late`, `doubled`: shares of batches held back for LATE_ROUNDS, and sent twice.
    """

    stations: int
    channels: int = len(CHANNELS)
    interval_s: int = 60
    gather: int = 1
    rounds: int = 60
    per_gateway: int = 50
    speed: float = 0.0
    late: float = 0.0
    doubled: float = 0.0
    window: int = 20
    seed: int = 1
    start_s: int = 1_771_977_600

    @property
    def batch_records(self) -> int:
        """How many records a batch has."""
        return self.channels * self.gather

    @property
    def records(self) -> int:
        """How many records there are in all."""
        return self.stations * self.rounds * self.batch_records

    @property
    def round_s(self) -> int:
        """Field seconds from one batch of a station to the next."""
        return self.interval_s * self.gather

    @property
    def span_s(self) -> int:
        """Field seconds of the whole run."""
        return self.rounds * self.round_s

    @cached_property
    def gateways(self) -> tuple[str, ...]:
        """All gateways."""
        return tuple(f"fg-{at:03d}" for at in range(1, -(-self.stations // self.per_gateway) + 1))

    def station(self, at: int) -> str:
        """Return the id of a station, numbered from 0."""
        return f"f{at:05d}"

    def journal(self, at: int) -> int:
        """Return the id of a station's journal, which the seed gives."""
        return zlib.crc32(f"{self.seed}/{at}".encode())

    def gateway_of(self, at: int) -> str:
        """Return a station's gateway."""
        return self.gateways[at // self.per_gateway]

    def topic(self, at: int) -> str:
        """Return where a station's batches go."""
        station = self.station(at)
        return f"tram/v1/records/{zlib.crc32(station.encode()) % 64:02x}/{self.gateway_of(at)}/{station}"

    def as_json(self) -> str:
        """Return it for the publisher."""
        return json.dumps(asdict(self))


def faults(plan: FleetPlan) -> Iterator[str]:
    """Yield what cannot be, in words for whoever typed it."""
    if not 1 <= plan.channels <= len(CHANNELS):
        yield f"--channels {plan.channels}: the simulated stations measure 1 to {len(CHANNELS)}"
    if not 1 <= plan.per_gateway <= MOST_PER_GATEWAY:
        yield f"--per-gateway {plan.per_gateway}: 1 to {MOST_PER_GATEWAY}"
    if plan.batch_records > 3000:
        yield f"--gather {plan.gather}: batches of {plan.batch_records} records; a gateway sends at most some hundreds"
    if plan.rounds < 1:
        yield "--minutes: shorter than one batch takes to fill"


def network_toml(plan: FleetPlan) -> str:
    """Return the network that knows every station of the fleet."""
    head = f'name = "Fleet of {plan.stations}"\ntimezone = "Asia/Ho_Chi_Minh"\n'
    gateways = (f'[[gateways]]\nid = "{gateway}"\n' for gateway in plan.gateways)
    return head + "".join(gateways) + "".join(_station(plan, at) for at in range(plan.stations))


def _station(plan: FleetPlan, at: int) -> str:
    share = at / max(1, plan.stations - 1)
    used = sorted({channel.sensor for channel in CHANNELS[: plan.channels]})
    sensors = ", ".join(_SENSORS[number] for number in used)
    return f"""[[stations]]
id = "{plan.station(at)}"
name_vi = "Trạm {at}"
name_en = "Station {at}"
latitude = {10.0 + share:.5f}
longitude = {106.0 + share:.5f}
river = "Tiền"
river_km = {FIRST_KM + (LAST_KM - FIRST_KM) * share:.2f}
gateway = "{plan.gateway_of(at)}"
address = {1 + at % plan.per_gateway}
sample_interval_s = {_sample_s(plan.interval_s)}
record_interval_s = {plan.interval_s}
sensors = [{sensors}]
"""


def _sample_s(interval_s: int) -> int:
    return next(each for each in (20, 15, 10, 5, 1) if interval_s % each == 0)
