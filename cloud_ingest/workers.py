"""Several processes that take records in: whose shards, what each says of itself, and what nobody takes.

A shard's owner is known by the lock that its connection to PostgreSQL holds, which ends with it. What a worker says
(its name, lag and trouble) it writes into the books every few seconds; a worker that stops in order takes it out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import Connection, delete, select

from cloud_ingest import book_tables as tables
from cloud_ingest.database import Database, changing, insert_into
from cloud_ingest.errors import CloudError
from cloud_ingest.topics import SHARDS
from cloud_ingest.worker import WorkerState

LOOK_EVERY_S, SAY_EVERY_S = 1.0, 5.0
SILENT_S = 30.0
FORGOTTEN_S = 7 * 86400
LAG_LIMIT_S = 30.0
ALL_SHARDS = frozenset(f"{shard:02x}" for shard in range(SHARDS))


@dataclass(frozen=True)
class WorkerSaid:
    """What a worker said of itself at `said_at` (unix seconds): how many messages wait, and how old the oldest is."""

    name: str
    shards: str
    said_at: int
    lag_s: float
    messages: int
    trouble: str


@dataclass(frozen=True)
class WorkersState:
    """What is known of all workers at `now_s` (unix seconds)."""

    said: list[WorkerSaid]
    owned: frozenset[str]
    now_s: float


def parse_shards(words: str) -> frozenset[str]:
    """Return the shards that 00-1f,30 means. Raises ValueError with what is wrong."""
    found: set[str] = set()
    for part in words.split(","):
        ends = part.strip().split("-")
        if len(ends) > 2 or any(end not in ALL_SHARDS for end in ends) or ends[0] > ends[-1]:
            raise ValueError(f"{part.strip()!r}: shards go from 00 to {SHARDS - 1:02x}, two hex digits: 00-1f,30")
        found.update(f"{shard:02x}" for shard in range(int(ends[0], 16), int(ends[-1], 16) + 1))
    return frozenset(found)


def shards_in_words(shards: Collection[str]) -> str:
    """Return shards as people write them: 00-1f,30."""
    numbers = sorted(int(shard, 16) for shard in shards)
    begins = [one for before, one in pairwise([-2, *numbers]) if one != before + 1]
    ends = [one for one, after in pairwise([*numbers, -2]) if after != one + 1]
    runs = zip(begins, ends, strict=True)
    return ",".join(f"{first:02x}" if first == last else f"{first:02x}-{last:02x}" for first, last in runs)


def said_by_workers(books: Connection) -> list[WorkerSaid]:
    """Return what every worker said last."""
    return [WorkerSaid(*row) for row in books.execute(select(tables.workers).order_by(tables.workers.c.name))]


def problems(state: WorkersState) -> Iterator[str]:
    """Yield what is wrong with the workers, in words. Pure."""
    said, now_s = state.said, state.now_s
    nobody = ALL_SHARDS - state.owned
    if nobody:
        last = [f"{one.name} until {_clock(one.said_at)}" for one in said if nobody & parse_shards(one.shards)]
        had = f"; they were {', '.join(last)}'s" if last else ""
        yield f"nobody takes in shards {shards_in_words(nobody)}: start tram-cloud ingest --shards for them{had}"
    for one in said:
        if nobody & parse_shards(one.shards):
            continue
        if now_s - one.said_at > SILENT_S:
            if now_s - one.said_at < FORGOTTEN_S and _is_the_last(one, said):
                yield f"worker {one.name} has said nothing since {_clock(one.said_at)}"
        elif one.trouble:
            yield f"worker {one.name}: {one.trouble}"
        elif one.lag_s > LAG_LIMIT_S:
            yield f"worker {one.name}: messages have been waiting for {one.lag_s:.0f} s"


def _is_the_last(one: WorkerSaid, said: Iterable[WorkerSaid]) -> bool:
    """Return whether nobody else has spoken for one of its shards since."""
    own = parse_shards(one.shards)
    return not any(other.said_at > one.said_at and own & parse_shards(other.shards) for other in said)


def _clock(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


@dataclass
class Heartbeat:
    """Says how a worker is, in a thread of its own: while ingest waits for a store, somebody should know why."""

    database: Database
    name: str
    shards: Collection[str]
    state: Callable[[], WorkerState]

    def run(self, stop: threading.Event) -> None:
        """Say it until `stop`, at once when trouble comes or goes; then take it back.

        Books that are away are no failure of this.
        """
        said, next_s = "nothing yet", 0.0
        while not stop.is_set():
            state = self.state()
            if _trouble(state) != said or time.monotonic() > next_s:
                with suppress(CloudError):
                    self._say(state)
                    said, next_s = _trouble(state), time.monotonic() + SAY_EVERY_S
            stop.wait(LOOK_EVERY_S)
        with suppress(CloudError), changing(self.database) as books, books.begin():
            books.execute(delete(tables.workers).where(tables.workers.c.name == self.name))

    def _say(self, state: WorkerState) -> None:
        now_s = int(time.time())
        said = {
            "shards": shards_in_words(self.shards),
            "said_at": now_s,
            "lag_s": round(state.lag_s, 3),
            "messages": state.inbox_messages,
            "trouble": _trouble(state),
        }
        with changing(self.database) as books, books.begin():
            insert = insert_into(books, tables.workers).values(name=self.name, **said)
            books.execute(insert.on_conflict_do_update(index_elements=["name"], set_=said))
            books.execute(delete(tables.workers).where(tables.workers.c.said_at < now_s - FORGOTTEN_S))


def _trouble(state: WorkerState) -> str:
    if state.trouble is None and not state.broker_connected:
        return f"no connection to the broker: {state.broker_problem or 'connecting'}"
    return state.trouble or ""
