"""From messages to durable observations: the story of everything that arrives.

    what arrived → sort out → decode → set aside what cannot be read → deduplicate by ledger → keep raw   (intake)
                 → date → check → log → derive → newest values                                            (observe)
                 → commit: one transaction → what to tell gateways and live topics

`Ingest.store_group` does all of it for a group of messages and returns what to send. It touches no network, and nothing
may be acknowledged before it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from cloud_ingest import topics
from cloud_ingest.errors import PointsRefused
from cloud_ingest.gateway_messages import GatewayMessages, MessageOfAnother, MessageRefused, Unreadable
from cloud_ingest.intake import Arrived, Counts, Intake
from cloud_ingest.observe import Observer
from cloud_ingest.registry import Registry
from cloud_ingest.series_table import SeriesTable
from cloud_ingest.store import Store
from cloud_ingest.transaction import Latest

Outgoing = tuple[str, bytes]  # topic, payload
RETRIES_AT_ONCE = 100

log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What is now durable (`counts`), and the messages that say so."""

    counts: Counts
    commits: list[Outgoing]
    newest: dict[int, Latest]  # by series

    @classmethod
    def nothing(cls) -> Outcome:
        """Return the outcome of messages that lead to none."""
        return cls(Counts(), [], {})

    @classmethod
    def of(cls, several: Sequence[Outcome]) -> Outcome:
        """Return what several outcomes come to together; counts are not added up."""
        commits = [message for one in several for message in one.commits]
        newest: dict[int, Latest] = {}
        for one in several:
            newest.update(one.newest)
        return cls(Counts(), commits, newest)


class Ingest:
    """The pipeline over one store. `gateway_messages` takes what is no record; without it that is set aside."""

    def __init__(self, store: Store, registry: Registry, gateway_messages: GatewayMessages | None = None) -> None:
        self._store = store
        self._registry = registry
        self._series_table: SeriesTable | None = None
        self._gateway_messages = gateway_messages or GatewayMessages({})

    def store_group(self, messages: Sequence[Arrived], now_s: float, *, later: bool = False) -> Outcome:
        """Store what has arrived: messages each by its handler, then records in one transaction.

        `later`: its outcome holds when `settle` returns, or the next group's store_group does. Raises StoreUnavailable:
        no record was stored, try all of it again; with `later` any error may be that of the group before.
        """
        others = [message for message in messages if topics.is_gateway_message(message.topic)]
        handled = self._handle(others, now_s)
        with self._store.transaction(later=later) as transaction:
            intake = Intake(transaction, int(now_s))
            new = intake.take([one for one in messages if not topics.is_gateway_message(one.topic)])
            newest = Observer(transaction, self._store, self._table(), int(now_s)).observe(new)
        return Outcome(intake.counts, [*_message_commits(handled), *intake.commit_messages()], newest)

    def settle(self) -> None:
        """Return when the last group is stored. Raises StoreUnavailable: nothing of it is."""
        self._store.settle()

    def retry(self, now_s: float) -> Outcome:
        """Try again what a person wants tried again. Raises StoreUnavailable."""
        with self._store.transaction() as transaction:
            wanted = transaction.wanted_again(RETRIES_AT_ONCE)
        outcomes = []
        for aside, message in wanted:
            try:
                outcomes.append(self.store_group([message], now_s))
            except PointsRefused as error:
                self.set_aside(message, str(error), now_s)
            with self._store.transaction() as transaction:
                gone = transaction.settle(aside)
            log.info("tried again", set_aside=aside.id, topic=aside.topic, stored=gone)
        return Outcome.of(outcomes)

    def live(self, newest: Mapping[int, Latest]) -> list[Outgoing]:
        """Return what the live topics say of newest values, by series; nothing of parameters nobody knows."""
        messages = {}
        for number, (time_s, value, flag, _failed) in newest.items():
            key = self._store.keys.get(number)
            parameter = self._registry.parameter(key.parameter) if key else None
            if key is not None and parameter is not None:
                shown = None if value is None else round(value, parameter.decimals)
                payload = topics.live_message(shown, parameter.unit, flag, time_s, key.sensor)
                messages[topics.live_topic(key.station, parameter.name)] = payload
        return list(messages.items())

    def _table(self) -> SeriesTable:
        table = self._series_table
        if table is None or table.keys is not self._store.keys:  # the store has read its numbers again
            table = self._series_table = SeriesTable(self._registry, self._store.keys, self._store.stations)
        return table

    def _handle(self, messages: Sequence[Arrived], now_s: float) -> dict[str, list[str]]:
        """Hand messages to their handlers; return the ids that are done with, by gateway."""
        done: dict[str, list[str]] = {}
        for arrived in messages:
            try:
                kind, gateway, message = self._gateway_messages.read(arrived.topic, arrived.payload)
            except Unreadable as error:
                self.set_aside(arrived, str(error), now_s)
                continue
            try:
                self._gateway_messages.handle(kind, gateway, message)
            except MessageOfAnother:
                continue
            except MessageRefused as error:
                self.set_aside(arrived, str(error), now_s)
            done.setdefault(gateway, []).append(message.id)
        return done

    def set_aside(self, message: Arrived, reason: str, now_s: float) -> None:
        """Keep a message at which the pipeline itself fails. Raises StoreUnavailable."""
        with self._store.transaction() as transaction:
            transaction.set_aside(message.topic, message.payload, reason, int(now_s))


def _message_commits(done: dict[str, list[str]]) -> Iterator[Outgoing]:
    for gateway, ids in done.items():
        for payload in topics.message_commits(ids):
            yield topics.commit_topic(gateway), payload
