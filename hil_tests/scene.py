"""What a scenario says to a running chain and asks of it, in the words of the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from firmware.record import Record
from simulators import check, demo
from simulators.bench import Bench
from simulators.processes import wait_for

SETTLE_S = 120.0  # with other work on the machine; the condition is met within seconds when it is idle


@dataclass(frozen=True)
class Scene:
    """A chain with one station."""

    bench: Bench

    @property
    def station(self) -> str:
        """The station's id."""
        return self.bench.site.stations[0].id

    @property
    def board(self) -> str:
        """The plug of its board."""
        return f"board:{self.station}"

    def ledger(self) -> dict[str, Any]:
        """Return the cloud's account of the board's journal; zeros before its first record."""
        rows = [row for row in self.bench.api("/api/v1/ledger") if row["station"] == self.station]
        assert len(rows) <= 1, "the board has one journal for life"
        return rows[0] if rows else {"stored": 0, "ranges": [], "missing": [], "conflicts": 0, "journal": None}

    def stored(self) -> int:
        """Return how many records are in the database."""
        return int(self.ledger()["stored"])

    def records(self) -> list[Record]:
        """Return all stored records of the station, by seq."""
        rows = demo.stored_records(self.bench, self.station)
        return sorted(Record(*(row[name] for name in check.RECORD_FIELDS)) for row in rows)

    def wait_until(self, condition: Callable[[], bool], what: str, deadline_s: float = SETTLE_S) -> None:
        """Wait for a condition of the chain; fails with what was waited for."""
        wait_for(condition, deadline_s, what)

    def wait_for_more(self, records: int) -> None:
        """Wait until so many more records are stored than now."""
        goal = self.stored() + records
        self.wait_until(lambda: self.stored() >= goal, f"{records} more records in the database")

    def account(self) -> check.Counts:
        """Read the board's journal over its console and compare it, record by record, with the database."""
        made = demo.read_journals(self.bench)
        self.wait_until(lambda: demo.stored_all(self.bench, made), "all records of the journal to be stored")
        return check.compare(made, {self.station: demo.stored_records(self.bench, self.station)})


def nothing_lost(counts: check.Counts) -> bool:
    """Whether every record made is stored once, as it was made."""
    return counts.made > 0 and (counts.lost, counts.duplicated, counts.different) == (0, 0, 0)
