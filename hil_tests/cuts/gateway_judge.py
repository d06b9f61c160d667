"""What must be true after a power cut: the gateway's own code opens what is left, goes on, and the cloud counts.

The judge is hard on the gateway: the station has forgotten everything it was ever told is stored. So a record that was
acknowledged and is neither in the outbox nor in the cloud is lost, and the cloud's own audit says so.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cloud_ingest.audit import account_for
from cloud_ingest.ingest import Ingest
from cloud_ingest.reading import Reader
from edge_gateway.errors import OutboxError
from edge_gateway.messages import (
    CommittedMessages,
    UpMessage,
    decode_commit,
    encode_batch,
    encode_message,
    message_topic,
    records_topic,
)
from edge_gateway.outbox import Outbox, open_outbox
from edge_gateway.outbox_file import damaged_files
from edge_gateway.outbox_store import OUTBOX_FULL, Limits, OutboxStore
from edge_gateway.slices import Loss, Series, Slice
from edge_gateway.station_policy import OVERWRITTEN
from edge_gateway.station_protocol import RECORDS_PER_FETCH
from edge_gateway.tests.fake_station import make_record
from firmware.record import SIZE
from hil_tests.cuts.gateway_life import GATEWAY, JOURNAL, STATION, Message, ingest_into
from hil_tests.cuts.table import DECLARED, Outcome
from station_config.clock import SystemClock

LOST, DUPLICATED, UNREADABLE = "lost", "duplicated", "unreadable"
SERIES = Series(STATION, JOURNAL)
RECORDS_PER_BATCH = 600


@dataclass
class Knowledge:
    """What was known outside of the gateway at the moment of the cut."""

    acknowledged: int = 0  # stored through, as the station heard it
    overwritten: int = 0  # through, by the station, before anybody read it
    took: list[Message] = field(default_factory=list)  # what the cloud had stored
    journal: int | None = None  # of a station without a board: its id
    appended: list[bytes] = field(default_factory=list)  # and the records it had promised to keep

    def note(self, mark: dict[str, object]) -> None:
        """Take in a mark of the trace."""
        match mark:
            case {"acknowledged": [int(journal), int(through)]} if journal == JOURNAL:
                self.acknowledged = max(self.acknowledged, through)
            case {"overwritten": int(through)}:
                self.overwritten = through
            case {"appended": [int(), str(records)], "journal": int(journal)}:
                raw = bytes.fromhex(records)
                self.journal = journal
                self.appended += [raw[at : at + SIZE] for at in range(0, len(raw), SIZE)]
            case {"took": [str(topic), str(payload)]}:
                self.took.append(Message(topic, base64.b64decode(payload)))

    def copy(self) -> Knowledge:
        """Return an independent copy."""
        return replace(self, took=list(self.took), appended=list(self.appended))


@dataclass(frozen=True)
class Truth:
    """Of a life: how many records the station made in all, and what the outbox may hold."""

    made: int
    limits: Limits = field(default=Limits(1 << 30, 60 * 86_400))
    station_keeps_all: bool = False  # what was acknowledged is still in the station's journal
    file_was_damaged: bool = False  # before the life began: one file set aside is right


def judge(state: Path, folder: Path, known: Knowledge, truth: Truth) -> Outcome:
    """Open the outbox in `state`, finish the exchange with a cloud in `folder`, and count."""
    store, ingest = ingest_into(folder)
    with store:
        ingest.store_group(known.took, SystemClock().now())
        try:
            outbox = open_outbox(state / "outbox.sqlite", truth.limits, SystemClock())
        except OutboxError as error:
            return Outcome(Counter({UNREADABLE: 1}), (f"the gateway cannot open it: {error}",))
        try:
            _read_station(outbox, known, truth)
            left = _send_all(outbox, ingest)
        except OutboxError as error:
            return Outcome(Counter({UNREADABLE: 1}), (f"the gateway cannot go on: {error}",))
        finally:
            outbox.close()
    aside = len(damaged_files(state / "outbox.sqlite")) - truth.file_was_damaged
    return count_in_store(folder, known, truth, left, max(0, aside))


def _read_station(outbox: Outbox, known: Knowledge, truth: Truth) -> None:
    """Fetch all the station still has, as the poller would."""
    first = 1 if truth.station_keeps_all else max(known.acknowledged, known.overwritten) + 1
    through = outbox.write(lambda store: store.stored_through(SERIES))
    if through is not None and through + 1 < first:
        loss = Loss(SERIES, through + 1, first - 1, OVERWRITTEN)
        outbox.write(lambda store: store.declare_lost(loss, SystemClock().now()))
        through = first - 1
    at = first if through is None else through + 1
    while at <= truth.made:
        last = min(at + RECORDS_PER_FETCH - 1, truth.made)
        at = outbox.append(Slice(SERIES, at, b"".join(make_record(seq) for seq in range(at, last + 1)))) + 1


def _send_all(outbox: Outbox, ingest: Ingest) -> int:
    """Send until nothing waits; return what waits all the same."""
    reader = outbox.reader()
    try:
        while messages := _waiting(reader.messages_waiting(RECORDS_PER_BATCH)) or _batch(outbox):
            outcome = ingest.store_group(messages, SystemClock().now())
            freed = outbox.write(lambda store, commits=outcome.commits: _free(store, [one for _, one in commits]))  # type: ignore[misc]
            if not freed:
                break
        return sum(state.buffered for state in reader.series()) + len(reader.messages_waiting(1))
    finally:
        reader.close()


def _waiting(messages: Sequence[UpMessage]) -> list[Message]:
    return [Message(message_topic(one.kind, GATEWAY), encode_message(one)) for one in messages]


def _batch(outbox: Outbox) -> list[Message]:
    reader = outbox.reader()
    try:
        for series in reader.with_buffered():
            head = reader.oldest(series, [])
            if head is not None:
                piece = reader.following(head, [], RECORDS_PER_BATCH)
                return [Message(records_topic(GATEWAY, series.station), encode_batch(piece))]
        return []
    finally:
        reader.close()


def _free(store: OutboxStore, commits: list[bytes]) -> int:
    freed = 0
    for payload in commits:
        commit = decode_commit(payload)
        if isinstance(commit, CommittedMessages):
            freed += store.forget_messages(commit.ids)
        else:
            freed += store.free(commit.series, commit.ranges)
    return freed


def count_in_store(folder: Path, known: Knowledge, truth: Truth, left: int, set_aside: int) -> Outcome:
    """Ask the cloud's store for everything it has, and hold it against what the station made."""
    reader = Reader(folder, np.full(256, np.nan))
    try:
        journals = [one for one in reader.journals() if (one.station, one.journal) == SERIES]
        records, _ = reader.records(STATION, JOURNAL, 0, 10 * truth.made + 10) if journals else (np.empty(0), None)
    finally:
        reader.close()
    if not journals:
        return Outcome(Counter({LOST: truth.made}), ("the cloud has nothing at all",))
    journal = journals[0]
    account = account_for(journal.stored, journal.unusable, journal.overwritten, journal.declared)
    raw = records.tobytes()
    rows = [raw[at : at + SIZE] for at in range(0, len(raw), SIZE)]
    expected = {make_record(seq) for seq in range(1, truth.made + 1)}
    wrong = sum(row not in expected for row in rows)
    doubled = len(rows) - len(set(rows)) + journal.conflicts + wrong
    dropped = sum(
        min(one.last, truth.made) - one.first + 1 for one in account.declared if one.reason.startswith(OUTBOX_FULL)
    )
    overwritten = sum(
        min(one.last, known.overwritten) - one.first + 1
        for one in account.declared
        if not one.reason.startswith(OUTBOX_FULL) and one.first <= known.overwritten
    )
    lost = truth.made - len(set(rows) & expected) - dropped - overwritten
    faults = []
    if lost:
        faults.append(f"{lost} lost: missing {account.missing}, unexplained {account.unexplained}")
    if doubled:
        faults.append(f"{doubled} twice or with another value")
    if set_aside or left:
        faults.append(f"{set_aside} files set aside, {left} records or messages cannot be sent")
    counts = {LOST: max(0, lost), DUPLICATED: doubled, UNREADABLE: set_aside + bool(left)}
    return Outcome(Counter({**counts, DECLARED: dropped + overwritten}), tuple(faults))
