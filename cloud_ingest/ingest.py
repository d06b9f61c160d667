"""From messages to durable observations: the story of everything that arrives.

    what arrived → sort out → decode → set aside what cannot be read → deduplicate by ledger → keep raw   (intake)
                 → date → check → log → derive → newest values                                            (observe)
                 → commit: one transaction → what to tell gateways and live topics

`Ingest.store_group` does all of it for a group of messages and returns what to send. It touches no network, and nothing
may be acknowledged before it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_ingest.intake import Arrived, Counts, Intake
from cloud_ingest.observe import Observer
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store

Outgoing = tuple[str, bytes]  # topic, payload


@dataclass(frozen=True)
class Outcome:
    """What is now durable (`counts`), and the messages that say so."""

    counts: Counts
    commits: list[Outgoing]
    live: list[Outgoing]

    @classmethod
    def nothing(cls) -> Outcome:
        """Return the outcome of messages that lead to none."""
        return cls(Counts(), [], [])


class Ingest:
    """The pipeline over one store."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def store_group(self, messages: Sequence[Arrived], now_s: float) -> Outcome:
        """Store what has arrived in one transaction. Raises StoreUnavailable: nothing was stored, try again."""
        with self._store.transaction() as transaction:
            intake = Intake(transaction, int(now_s))
            new = intake.take(messages)
            live = Observer(transaction, self._store, self._registry, int(now_s)).observe(new)
        return Outcome(intake.counts, list(intake.commit_messages()), live)

    def set_aside(self, message: Arrived, reason: str, now_s: float) -> None:
        """Keep a message at which the pipeline itself fails. Raises StoreUnavailable."""
        with self._store.transaction() as transaction:
            transaction.set_aside(message.topic, message.payload, reason, int(now_s))
