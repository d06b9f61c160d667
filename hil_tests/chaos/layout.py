"""What a chaos run consists of: stations, lines, gateways, rules, people.

Each gateway has a radio line with several boards on one pair, a line with one board, and lines with the instruments of
stations that have no board:

    gw-1 ─┬─ radio-1 ── s01 s02 s03 s04    boards (real MicroPython), each with its instruments on bus-<station>
          ├─ wire-1 ─── s05
          ├─ bus-s06 ── instruments        [[direct]]
          └─ bus-s07 ── instruments        [[direct]]

Pure; `files` writes it down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from simulators.estuary import Estuary, Place

SAMPLE_S, RECORD_S = 20, 60
DWELL_S = 300
STALE_AFTER_S = 3600
CLEAR_SHARE = 0.94
SEASON_START_S = 1_771_977_600  # 2026-02-25, the dry season: salt comes with every tide
SEASON_S = 50 * 86_400
WORKERS = {"ingest-1": "00-1f", "ingest-2": "20-3f"}  # of a cluster, with the shards of each
Store = Literal["sqlite", "cluster"]
FIRST_KM, LAST_KM = 4.0, 34.0
ELEVATION_M = -6.0


@dataclass(frozen=True)
class ChaosStation:
    """A station: `direct` has no board. `line` is what its gateway reads it on."""

    id: str
    number: int
    gateway: str
    line: str
    direct: bool
    river_km: float

    @property
    def bus(self) -> str:
        """The line its instruments are on."""
        return f"bus-{self.id}"

    @property
    def place(self) -> Place:
        """Where it stands in the river."""
        return Place(self.id, self.river_km, ELEVATION_M)

    @property
    def address(self) -> int:
        """Its address on its gateway's line."""
        return 10 + self.number


@dataclass(frozen=True)
class Shape:
    """How large a world is."""

    gateways: int = 3
    stations: int = 20
    direct: int = 6

    def stations_in(self) -> tuple[ChaosStation, ...]:
        """Return the stations, spread over the gateways in turn; each gateway's last boards come on a wire alone."""
        found = []
        for number in range(1, self.stations + 1):
            gateway = (number - 1) % self.gateways + 1
            direct = number > self.stations - self.direct
            alone = not direct and number > self.stations - self.direct - self.gateways and number > self.gateways
            name = f"s{number:02d}"
            line = f"bus-{name}" if direct else f"wire-{gateway}" if alone else f"radio-{gateway}"
            km = FIRST_KM + (LAST_KM - FIRST_KM) * (number - 1) / max(1, self.stations - 1)
            found.append(ChaosStation(name, number, f"gw-{gateway}", line, direct, round(km, 1)))
        return tuple(found)


TINY = Shape(gateways=1, stations=3, direct=1)
FULL = Shape()


@dataclass(frozen=True)
class RuleOfStation:
    """The one rule that watches a station's salinity."""

    id: str
    station: str
    set_level: float
    clear_level: float


@dataclass(frozen=True)
class Person:
    """Somebody with a phone."""

    name: str
    phone: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Ports:
    """TCP ports on 127.0.0.1: the broker, what stands before it, one link for each gateway, and the cloud's."""

    broker: int
    phone: int
    cloud: int
    links: dict[str, int]
    cluster: tuple[int, int, int, int]


@dataclass(frozen=True)
class Layout:
    """A whole run on paper. `begin_s` and `span_s` are bench time."""

    folder: Path
    shape: Shape
    seed: int
    speed: float
    begin_s: float
    span_s: float
    ports: Ports
    store: Store = "sqlite"

    @property
    def stations(self) -> tuple[ChaosStation, ...]:
        """All stations."""
        return self.shape.stations_in()

    @property
    def gateways(self) -> tuple[str, ...]:
        """All gateways."""
        return tuple(f"gw-{number}" for number in range(1, self.shape.gateways + 1))

    def of(self, gateway: str) -> tuple[ChaosStation, ...]:
        """Return a gateway's stations."""
        return tuple(station for station in self.stations if station.gateway == gateway)

    @property
    def lines(self) -> dict[str, list[str]]:
        """Every RS-485 line with those who are on it."""
        found: dict[str, list[str]] = {}
        for station in self.stations:
            found[station.bus] = ["gateway" if station.direct else "board", "instruments"]
            if not station.direct:
                found.setdefault(station.line, ["gateway"]).append(station.id)
        return found

    def port(self, line: str, participant: str) -> Path:
        """Return the terminal one participant of a line opens."""
        return self.folder / "lines" / line / participant

    def socket(self, name: str) -> Path:
        """Return a simulator's control socket."""
        return self.folder / f"{name}.sock"

    def flash(self, station: str) -> Path:
        """Return the file that is a board's flash."""
        return self.folder / "boards" / f"{station}.flash"

    def state(self, program: str) -> Path:
        """Return the state directory of a gateway or the cloud."""
        return self.folder / program

    def faults(self, program: str) -> Path:
        """Return the file by which a program's disk is made to fail."""
        return self.folder / f"{program}.disk"

    def configuration(self, program: str) -> Path:
        """Return a program's configuration file."""
        return self.folder / f"{program}.toml"

    @property
    def answers(self) -> Path:
        """Return where the instruments write down what they answered."""
        return self.folder / "answers.csv"

    @property
    def rules(self) -> tuple[RuleOfStation, ...]:
        """One rule for each station, at a level that this river crosses there in this run."""
        return tuple(_rule(self, station) for station in self.stations)

    @property
    def persons(self) -> tuple[Person, ...]:
        """One who hears of everything, and one for each gateway's stations."""
        watched = {gateway: tuple(f"salt-{s.id}" for s in self.of(gateway)) for gateway in self.gateways}
        everything = tuple(rule for rules in watched.values() for rule in rules)
        neighbours = (Person(f"Anh {g}", f"+8490000001{at}", watched[g]) for at, g in enumerate(self.gateways))
        return (Person("Chị Sáu", "+84900000001", everything), *neighbours)


def begin_of(seed: int) -> float:
    """Return when the river's time begins: a moment of the dry season that the seed chooses, at a full minute."""
    return float(SEASON_START_S + (seed * 7919 * 60) % SEASON_S // 60 * 60)


def _rule(layout: Layout, station: ChaosStation) -> RuleOfStation:
    times = np.arange(layout.begin_s, layout.begin_s + layout.span_s, 60.0)
    salinity = Estuary(layout.seed).salinity(station.place, times)
    level = round(float(np.quantile(salinity, 0.35 + 0.02 * (station.number % 15))), 3)
    return RuleOfStation(f"salt-{station.id}", station.id, level, round(CLEAR_SHARE * level, 3))
