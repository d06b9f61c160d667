"""What the gateways of a fleet have sent and no commit message has named yet. Pure: times are handed in."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulators.fleet.plan import FleetPlan


@dataclass
class Sent:
    """A batch under way: since when, when it was last sent, and its bytes to send it again."""

    since_s: float
    last_s: float
    payload: bytes


class Pending:
    """Batches by station and number; a batch is done when commit messages name all of it."""

    def __init__(self, plan: FleetPlan) -> None:
        self._plan = plan
        self._stations = {plan.station(at): at for at in range(plan.stations)}
        self._sent: dict[tuple[int, int], Sent] = {}
        self._done = np.zeros((plan.stations, plan.rounds), np.bool_)
        self.batches_done = 0
        self.refused = 0
        self.lags_s = array("d")

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def records_done(self) -> int:
        """How many different records commit messages have named."""
        return self.batches_done * self._plan.batch_records

    @property
    def is_complete(self) -> bool:
        """Whether every batch of the plan has been named."""
        return self.batches_done == self._plan.stations * self._plan.rounds

    def send(self, station: int, number: int, payload: bytes, since_s: float) -> None:
        """Note a batch that is on its way since then. One that was sent before keeps its time."""
        self._sent.setdefault((station, number), Sent(since_s, since_s, payload))

    def take(self, payload: bytes, now_s: float) -> None:
        """Take a commit message; what does not name a batch of ours is counted."""
        commit: dict[str, Any] = json.loads(payload)
        at = self._stations.get(commit.get("station", ""))
        if at is None or commit["journal"] != self._plan.journal(at):
            self.refused += 1
            return
        size = self._plan.batch_records
        for first, last in commit["ranges"]:
            for number in range(-(-(first - 1) // size), last // size):  # batches that lie in it wholly
                self._name(at, number, now_s)

    def overdue(self, timeout_s: float, now_s: float) -> list[tuple[int, bytes]]:
        """Return (station, payload) of what was last sent longer ago than the timeout; it counts as sent now."""
        found = [(at, sent) for (at, _), sent in self._sent.items() if sent.last_s < now_s - timeout_s]
        for _, sent in found:
            sent.last_s = now_s
        return [(at, sent.payload) for at, sent in found]

    def _name(self, at: int, number: int, now_s: float) -> None:
        sent = self._sent.pop((at, number), None)
        if sent is None or self._done[at, number]:
            return
        self._done[at, number] = True
        self.batches_done += 1
        self.lags_s.append(now_s - sent.since_s)
