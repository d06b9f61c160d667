"""The first half of ingest: which records are new, and which sequence numbers the gateways may forget.

Everything that arrives ends in one of three ways: stored (new), counted (a duplicate) or set aside with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cloud_ingest import topics
from cloud_ingest.columns import Ints
from cloud_ingest.decode import Decoded, Records, UnusableRecord, decode
from cloud_ingest.errors import TopicError
from cloud_ingest.ledger import ranges_of
from cloud_ingest.registry import may_not_be_recorded
from cloud_ingest.transaction import UNUSABLE, Transaction

Rows = npt.NDArray[np.intp]


class Arrived(Protocol):
    """A message as the link delivered it."""

    @property
    def topic(self) -> str:
        """Where it was published."""

    @property
    def payload(self) -> bytes:
        """What it says."""


@dataclass
class Counts:
    """What became of a group's records; `set_aside` counts whole messages too."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0
    set_aside: int = 0


@dataclass(frozen=True)
class NewRecords:
    """Records stored for the first time, sorted by journal and seq, with the number of each one's journal.

    `messages`: which message of the group brought each, in order of arrival.
    """

    records: Records
    journals: Ints
    messages: Ints

    def take(self, rows: Rows) -> NewRecords:
        """Return these rows."""
        return NewRecords(self.records.take(rows), self.journals[rows], self.messages[rows])


class Intake:
    """The first half of one transaction: `take`, and after the commit `commit_messages`."""

    def __init__(self, transaction: Transaction, now_s: int) -> None:
        self._transaction = transaction
        self._now_s = now_s
        self._commits: dict[tuple[topics.Origin, int], list[Ints]] = {}
        self.counts = Counts()

    def take(self, messages: Sequence[Arrived]) -> NewRecords:
        """Sort out, decode, set aside, deduplicate, keep raw; return what is new."""
        batches = self._sort_out(messages)
        decoded = decode([message.payload for message, _ in batches])
        journals = self._journal_numbers(batches, decoded)
        refused = may_not_be_recorded(decoded.records["parameter"])
        unusable = [*decoded.unusable_records, *_refused_records(decoded, np.flatnonzero(refused))]
        self._set_aside_unusable(batches, decoded, journals, unusable)
        self._note_for_commit(batches, decoded, unusable)
        arrived = NewRecords(decoded.records, journals[decoded.batch], decoded.batch)
        return self._deduplicate(arrived.take(np.flatnonzero(~refused)) if refused.any() else arrived)

    def commit_messages(self) -> Iterator[tuple[str, bytes]]:
        """Yield what the gateways may forget, once the transaction is through."""
        for (origin, journal), seqs in self._commits.items():
            for message in topics.commit_messages(origin.station, journal, ranges_of(np.concatenate(seqs))):
                yield topics.commit_topic(origin.gateway), message

    def _sort_out(self, messages: Sequence[Arrived]) -> list[tuple[Arrived, topics.Origin]]:
        """Return the messages that carry batches; keep statuses, set strangers aside."""
        batches = []
        for message in messages:
            try:
                if message.topic.startswith(topics.STATUS + "/"):
                    self._keep_status(message)
                else:
                    batches.append((message, topics.parse_records_topic(message.topic)))
            except TopicError as error:
                self._set_aside(message.topic, message.payload, str(error))
        return batches

    def _keep_status(self, message: Arrived) -> None:
        gateway = topics.parse_status_topic(message.topic)
        try:
            status = json.loads(message.payload or b"{}")  # empty: somebody removed the retained message
        except (ValueError, RecursionError):
            status = None
        if isinstance(status, dict):
            self._transaction.put_gateway_status(gateway, json.dumps(status), self._now_s)
        else:
            self._set_aside(message.topic, message.payload, "a status is a JSON object")

    def _set_aside(self, topic: str, data: bytes, reason: str, journal: int | None = None) -> None:
        self._transaction.set_aside(topic, data, reason, self._now_s, journal)
        self.counts.set_aside += 1

    def _journal_numbers(self, batches: list[tuple[Arrived, topics.Origin]], decoded: Decoded) -> Ints:
        """Return the journal number of each payload; -1 for those that are no batch, which are set aside."""
        numbers = np.full(len(batches), -1, np.int64)
        named = [(at, journal) for at, journal in enumerate(decoded.journals) if journal is not None]
        journals = [(batches[at][1].station, journal) for at, journal in named]
        numbers[[at for at, _ in named]] = self._transaction.journal_numbers(journals)
        for bad in decoded.unusable_batches:
            message = batches[bad.batch][0]
            self._set_aside(message.topic, message.payload, bad.reason)
        return numbers

    def _set_aside_unusable(
        self,
        batches: list[tuple[Arrived, topics.Origin]],
        decoded: Decoded,
        journals: Ints,
        unusable: list[UnusableRecord],
    ) -> None:
        """Keep the bytes, and enter a sure seq in the ledger, so that the audit can explain it."""
        self.counts.received += len(decoded.records) + len(decoded.unusable_records)
        for bad in unusable:
            journal = int(journals[bad.batch])
            self._set_aside(batches[bad.batch][0].topic, bad.data, bad.reason, journal)
            if bad.seq is not None:
                self._transaction.ledger(journal, UNUSABLE).add(bad.seq, bad.seq)

    def _note_for_commit(
        self, batches: list[tuple[Arrived, topics.Origin]], decoded: Decoded, unusable: list[UnusableRecord]
    ) -> None:
        """Note every seq that will be durable: new, duplicate or set aside."""
        ends = np.searchsorted(decoded.batch, np.arange(len(batches) + 1))
        seqs = decoded.records["seq"].astype(np.int64)
        for at, ((_, origin), journal) in enumerate(zip(batches, decoded.journals, strict=True)):
            if journal is not None and ends[at] < ends[at + 1]:
                self._commits.setdefault((origin, journal), []).append(seqs[ends[at] : ends[at + 1]])
        for bad in unusable:
            known_journal = decoded.journals[bad.batch]
            if bad.seq is not None and known_journal is not None:
                origin = batches[bad.batch][1]
                self._commits.setdefault((origin, known_journal), []).append(np.array([bad.seq], np.int64))

    def _deduplicate(self, arrived: NewRecords) -> NewRecords:
        identity = (arrived.journals << 32) | arrived.records["seq"]
        if (identity[1:] <= identity[:-1]).any():  # of two with one identity the first to arrive stays
            arrived = arrived.take(np.argsort(identity, kind="stable"))
        records, journals = arrived.records, arrived.journals
        all_seqs = records["seq"].astype(np.int64)
        fresh = np.zeros(len(records), np.bool_)
        for journal, rows in segments(journals):
            seqs = all_seqs[rows]
            new = ~self._transaction.ledger(journal).mask(seqs)
            new[1:] &= seqs[1:] != seqs[:-1]
            if duplicates := len(seqs) - int(new.sum()):
                self._transaction.count_duplicates(journal, duplicates)
                self.counts.duplicates += duplicates
            if duplicates < len(seqs):
                here = records[rows]
                self._transaction.add_raw(journal, seqs[new], here[new] if duplicates else here)
            fresh[rows] = new
        self.counts.stored += int(fresh.sum())
        return arrived if fresh.all() else arrived.take(np.flatnonzero(fresh))


def _refused_records(decoded: Decoded, rows: Rows) -> Iterator[UnusableRecord]:
    for row in rows.tolist():
        one = decoded.records[row]
        reason = f"parameter {int(one['parameter'])}: not a code a station may record"
        yield UnusableRecord(int(decoded.batch[row]), -1, int(one["seq"]), one.tobytes(), reason)


def segments(numbers: Ints) -> Iterator[tuple[int, slice]]:
    """Yield (number, its slice) for sorted numbers."""
    if len(numbers) == 0:
        return
    starts = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1]))).tolist()
    for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
        yield int(numbers[start]), slice(start, end)
