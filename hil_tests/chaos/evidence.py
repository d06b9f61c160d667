"""All that a run leaves behind, in one file, so that it can be judged again without being run again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from firmware.record import Record
from hil_tests.chaos.truth import Key, Ranges, Snapshot

Rows = list[list[int]]


class Injected(NamedTuple):
    """One fault as it was: bench times of its beginning and end."""

    kind: str
    target: str
    began: float
    ended: float
    parameters: dict[str, float]


@dataclass
class Evidence:
    """Logs of a run. Journals and stored records are rows (seq, time, count, sensor, parameter, flag)."""

    about: dict[str, Any] = field(default_factory=dict)
    injected: list[Injected] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    journals: dict[Key, Rows] = field(default_factory=dict)
    stored: dict[Key, Rows] = field(default_factory=dict)
    declared: dict[Key, Ranges] = field(default_factory=dict)
    failed: dict[str, list[int]] = field(default_factory=dict)  # station: times of salinity that quality control failed
    alerts: list[dict[str, Any]] = field(default_factory=list)
    inbox: list[dict[str, Any]] = field(default_factory=list)
    refused_messages: list[str] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    highest_load: float = 0.0  # programs that want a core, for each core there is; the machine's mean of a minute
    slowest_sync_s: float = 0.0  # of a few bytes, looked at every second
    stood_still_s: float = 0.0  # how long the machine had no time for the one who injects

    def save(self, path: Path) -> None:
        """Write it down."""
        plain = self.__dict__ | {
            "injected": [one._asdict() for one in self.injected],
            "snapshots": [[at, _named(ranges)] for at, ranges in self.snapshots],
            "journals": _named(self.journals),
            "stored": _named(self.stored),
            "declared": _named(self.declared),
        }
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as file:
            json.dump(plain, file)

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read what `save` wrote."""
        with gzip.open(path, "rt", encoding="utf-8") as file:
            plain = json.load(file)
        plain["injected"] = [Injected(**one) for one in plain["injected"]]
        plain["snapshots"] = [Snapshot(at, _ranges(ranges)) for at, ranges in plain["snapshots"]]
        plain |= {name: _keyed(plain[name]) for name in ("journals", "stored")}
        plain["declared"] = _ranges(plain["declared"])
        return cls(**plain)


def records(rows: Rows) -> list[Record]:
    """Return rows as records."""
    return [Record(*row) for row in rows]


def _named(by_key: Mapping[Key, Any]) -> dict[str, Any]:
    return {f"{station}/{journal}": value for (station, journal), value in by_key.items()}


def _ranges(by_name: Mapping[str, Sequence[Any]]) -> dict[Key, Ranges]:
    return {key: [(first, last) for first, last in ranges] for key, ranges in _keyed(by_name).items()}


def _keyed(by_name: Mapping[str, Sequence[Any]]) -> dict[Key, Any]:
    found = {}
    for name, value in by_name.items():
        station, _, journal = name.rpartition("/")
        found[station, int(journal)] = value
    return found
