"""Power-cut tables: what is tried, what came of it, and how both are counted, sampled and printed.

A table knows the cuts of one thing (the journal, an update ...) and how to try one of them. It is tried on several
boards at once, so `try_cut` may be called from several threads; the folder it gets is its own.
"""

from __future__ import annotations

import queue
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

DECLARED = "declared"  # the one count that is no fault
SHOWN_FAULTS = 20


@dataclass(frozen=True)
class Cut:
    """The power goes in one flash operation, and perhaps once more while the board recovers from that."""

    row: str  # of the table: what the board was doing
    operation: int  # 1 = the first flash operation of it
    torn_percent: int = 50  # how much of the operation is done
    then: int | None = None  # and the same in the start after it
    kept: str | None = None  # for a disk with a cache: what of the writes not synced is on it

    def __str__(self) -> str:
        if self.kept is not None:
            return f"{self.row} {self.operation} with {self.kept}"
        second = f" then {self.then}" if self.then is not None else ""
        return f"{self.row} {self.operation} at {self.torn_percent} percent{second}"


@dataclass(frozen=True)
class Outcome:
    """What one cut did: how many of each count of its table, and each fault in words."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: tuple[str, ...] = ()


class Table(Protocol):
    """The cuts of one thing."""

    name: str
    counts: tuple[str, ...]  # what is counted: faults, except DECLARED

    def cuts(self, folder: Path) -> list[Cut]:
        """Prepare in `folder` what all cuts start from; return every cut there is."""

    def try_cut(self, cut: Cut, folder: Path) -> Outcome:
        """Cut, start again, and judge what is left, in a new empty `folder`."""


@dataclass
class Tally:
    """All that came of one table's cuts, by row."""

    table: str
    counts: Sequence[str]
    tried: Counter[str] = field(default_factory=Counter)
    found: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, cut: Cut, outcome: Outcome) -> None:
        """Count one cut."""
        self.tried[cut.row] += 1
        self.found.setdefault(cut.row, Counter()).update(outcome.counts)
        self.faults += [f"{self.table}, cut at {cut}: {fault}" for fault in outcome.faults]

    @property
    def total(self) -> Counter[str]:
        """All rows together."""
        total: Counter[str] = Counter()
        for counts in self.found.values():
            total.update(counts)
        return total

    @property
    def is_clean(self) -> bool:
        """Whether cuts were tried and none did harm."""
        harm = sum(number for name, number in self.total.items() if name != DECLARED)
        return self.tried.total() > 0 and not harm and not self.faults

    def line(self) -> str:
        """Return the one line that says it all."""
        counts = ", ".join(f"{self.total[name]} {name}" for name in self.counts)
        return f"cuts {self.table}: {self.tried.total()} tried, {counts}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data for a script."""
        rows = {row: {"tried": n, **{c: self.found[row][c] for c in self.counts}} for row, n in self.tried.items()}
        return {"table": self.table, "rows": rows, "faults": self.faults, "clean": self.is_clean}


def sample(cuts: Iterable[Cut], per_row: int, seed: int) -> list[Cut]:
    """Return about `per_row` cuts of each row: the first, the last, and some between. The same seed, the same cuts."""
    rows: dict[str, list[Cut]] = {}
    for cut in cuts:
        rows.setdefault(cut.row, []).append(cut)
    chosen: list[Cut] = []
    for found in rows.values():
        between = random.Random(seed).sample(found[1:-1], max(0, min(per_row, len(found)) - 2))
        ends = found[:1] + found[1:][-1:]
        chosen += sorted({*ends, *between}, key=found.index)
    return chosen


def try_all(table: Table, cuts: Sequence[Cut], folder: Path, boards: int, tried: Callable[[], None]) -> Tally:
    """Try every cut, on so many boards at once; call `tried` after each. The threads live as long as their boards."""
    tally = Tally(table.name, table.counts)
    waiting: queue.SimpleQueue[Cut] = queue.SimpleQueue()
    for cut in cuts:
        waiting.put(cut)
    lock = threading.Lock()
    broken: list[Exception] = []

    def work() -> None:
        while not broken:
            try:
                cut = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                outcome = _try_in_new_folder(table, cut, folder)
            except Exception as error:  # noqa: BLE001 - handed to the caller, who cannot see into this thread
                broken.append(error)
                return
            with lock:
                tally.add(cut, outcome)
                tried()

    threads = [threading.Thread(target=work, name=f"board {i}") for i in range(boards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]
    return tally


def _try_in_new_folder(table: Table, cut: Cut, folder: Path) -> Outcome:
    own = folder / f"{cut}".replace(" ", "-")
    own.mkdir()
    outcome = table.try_cut(cut, own)
    if not outcome.faults:  # what failed is left for a look
        shutil.rmtree(own)
    return outcome
