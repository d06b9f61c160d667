"""What one process does of the whole: everything, the records of some shards, or what people see.

run                      everything, one process
ingest --shards 00-1f    records of these stations: intake, review, sums; what gateways declare lost of them
serve                    statuses, results, warnings; HTTP and the page, alerts, commands
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cloud_ingest import topics
from cloud_ingest.subscriber import EVERYTHING, Interest
from cloud_ingest.workers import ALL_SHARDS, shards_in_words


@dataclass(frozen=True)
class Role:
    """`shards` are whose stations it writes: None all of them, none at all where it takes no records."""

    name: str
    shards: frozenset[str] | None
    interest: Interest
    takes_records: bool
    serves: bool


ALL_IN_ONE = Role("tram-cloud", None, EVERYTHING, takes_records=True, serves=True)
SERVING = Role(
    "tram-serve",
    frozenset(),
    Interest("tram-serve", (topics.STATUS, topics.RESULTS, topics.WARNINGS)),
    takes_records=False,
    serves=True,
)


def ingesting(shards: Collection[str]) -> Role:
    """Return the role of a worker. Its name, and with it its session at the broker, is that of its shards."""
    name = f"tram-ingest-{shards_in_words(shards)}"
    records = tuple(f"{topics.RECORDS}/{shard}" for shard in sorted(shards))
    if set(shards) == ALL_SHARDS:
        records = (topics.RECORDS,)
    interest = Interest(name, (*records, topics.LOSSES))
    return Role(name, frozenset(shards), interest, takes_records=True, serves=False)
