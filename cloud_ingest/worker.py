"""The ingest thread: takes what has arrived, stores it, and only then tells the gateways and the broker.

A store that cannot be written now (disk full, locked) is tried again with growing pauses, and nothing is acknowledged
meanwhile. A message at which the pipeline itself fails is set aside, so that it never stops the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from cloud_ingest.compaction import Compaction
from cloud_ingest.errors import ChunkDamaged, PointsRefused, StoreRefused, StoreUnavailable
from cloud_ingest.import_work import Imports
from cloud_ingest.ingest import Ingest, Outcome
from cloud_ingest.intake import Counts
from cloud_ingest.mending import mend
from cloud_ingest.review import Review
from cloud_ingest.rollups import Rollups
from cloud_ingest.subscriber import Inbox, Message, Subscriber, Subscribers
from cloud_ingest.transaction import Latest
from station_config.clock import Clock

GROUP_BYTES = 1_000_000  # about 55,000 records: one transaction
IDLE_S = 5.0
RETRY_FIRST_S, RETRY_LONGEST_S = 0.1, 5.0
RETRY_LOOK_S = 5.0
PRESSING_MESSAGES, PRESSING_BYTES = 2_000, 250_000  # so much in the inbox, and other work gets little time
LIVE_EVERY_S = 1.0
ASIDE_REST = 9.0  # times as long as it took, it then waits

log = structlog.get_logger()


@dataclass
class Totals:
    """What was made durable since the start; the ingest thread writes, any thread may read."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0
    set_aside: int = 0
    transactions: int = 0

    def add(self, counts: Counts) -> None:
        """Count one transaction."""
        self.received += counts.received
        self.stored += counts.stored
        self.duplicates += counts.duplicates
        self.set_aside += counts.set_aside
        self.transactions += 1


@dataclass(frozen=True)
class WorkerState:
    """What the worker knows of itself at one moment; `broker_problem` and `trouble` are None when there is none."""

    broker_connected: bool
    broker_problem: str | None
    trouble: str | None
    lag_s: float
    inbox_messages: int
    inbox_bytes: int
    review_behind_s: float
    totals: Totals
    chunks_mended: int = 0


@dataclass
class IngestWorker:
    """One thread runs `run`; any thread may ask for `state`."""

    ingest: Ingest
    inbox: Inbox
    subscriber: Subscriber | Subscribers
    clock: Clock
    stored: Callable[[], None]  # called after each transaction
    review: Review | None = None  # what is judged again between groups of messages
    rollups: Rollups | None = None  # what is summed up again between them
    imports: Imports | None = None  # what people bring in from files, stored between them
    compaction: Compaction | None = None  # which closed days are packed between them
    totals: Totals = field(default_factory=Totals, init=False)
    _trouble: str | None = field(default=None, init=False)
    _mended: int = field(default=0, init=False)
    _next_retry: float = field(default=0.0, init=False)
    _next_aside: float = field(default=0.0, init=False)
    _newest: dict[int, Latest] = field(default_factory=dict, init=False)  # by series, not published yet
    _next_live: float = field(default=0.0, init=False)
    _unsettled: tuple[list[Message], Outcome] | None = field(default=None, init=False)  # its commit goes on

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what is not stored by then stays with the broker and the gateways.

        Raises StoreRefused when the store breaks.
        """
        more = False
        while not stop.is_set():
            messages = self.inbox.take(GROUP_BYTES, 0.0 if more or self._unsettled else IDLE_S)
            if messages:
                self._work(messages, stop)
            elif self._newest:
                self._tell_newest()
            more = self._turn_aside(stop, busy=bool(messages))
            self._retry(stop)
        self._settle(stop)
        if self.imports is not None:
            self.imports.close()

    def state(self) -> WorkerState:
        """Return how it is."""
        messages, size = self.inbox.size()
        return WorkerState(
            broker_connected=self.subscriber.connected,
            broker_problem=self.subscriber.problem,
            trouble=self._trouble,
            lag_s=self.inbox.oldest_age_s(),
            inbox_messages=messages,
            inbox_bytes=size,
            review_behind_s=self.review.behind_s() if self.review else 0.0,
            totals=replace(self.totals),
            chunks_mended=self._mended,
        )

    def _turn_aside(self, stop: threading.Event, *, busy: bool) -> bool:
        """Do other work if there is time for it; return whether there is more to do at once."""
        if not self._may_turn_aside() or (self._unsettled is not None and not self._is_due()):
            return False
        self._settle(stop)
        return self._between(busy=busy)

    def _may_turn_aside(self) -> bool:
        """Return whether there is time for other work: while messages pile up, a tenth of it."""
        return not self._is_pressed() or time.monotonic() >= self._next_aside

    def _is_pressed(self) -> bool:
        messages, size = self.inbox.size()
        return messages >= PRESSING_MESSAGES or size >= PRESSING_BYTES

    def _between(self, *, busy: bool) -> bool:
        """Do one piece of each work that is due; return whether there is more to do at once.

        A store that cannot be written now is ingest's to tell of; this work waits.
        """
        began_s = time.monotonic()
        try:
            if self.imports is not None and (outcome := self.imports.step(self.clock.now(), busy=busy)) is not None:
                self._tell([], replace(outcome, commits=[]))  # nobody waits for the commit of a file
            if self.review is not None:
                self._publish(self.review.step())
            if self.rollups is not None:
                self.rollups.step(self.clock.now(), busy=busy)
            if self.compaction is not None:
                self.compaction.step(self.clock.now(), busy=busy)
        except StoreUnavailable:
            return False
        except PointsRefused as error:  # the review has to wait for somebody who mends the store
            log.error("layers cannot be changed", reason=str(error))  # noqa: TRY400
            return False
        except ChunkDamaged as error:
            self._mend(error)
            return True
        self._next_aside = time.monotonic() + ASIDE_REST * (time.monotonic() - began_s)
        return self._is_due()

    def _is_due(self) -> bool:
        works = (self.imports, self.review, self.rollups, self.compaction)
        return any(work.is_due() for work in works if work is not None)

    def _tell_newest(self) -> None:
        """Publish what is newest: all of it at once, under pressure once a second."""
        self._next_live = time.monotonic() + LIVE_EVERY_S
        newest, self._newest = self._newest, {}
        for topic, payload in self.ingest.live(newest):
            self.subscriber.publish(topic, payload, qos=0, retain=True)

    def _mend(self, damaged: ChunkDamaged) -> None:
        """Make observations that cannot be read again from raw records."""
        log.error("observations are damaged", reason=str(damaged))
        with suppress(StoreUnavailable):
            if self.compaction is None or damaged.chunk is None:
                return
            if (mended := mend(self.compaction.store, damaged.chunk)) is not None:
                self._mended += 1
                log.warning("made again from raw records", rows=mended.rows, made_again=mended.made_again)

    def _publish(self, live: list[tuple[str, bytes]]) -> None:
        if live:
            self._tell_newest()  # these are newer
        for topic, payload in live:
            self.subscriber.publish(topic, payload, qos=0, retain=True)

    def _retry(self, stop: threading.Event) -> None:
        """Try again what a person wants tried again; look for it now and then."""
        if time.monotonic() < self._next_retry:
            return
        self._settle(stop)
        self._next_retry = time.monotonic() + RETRY_LOOK_S
        outcome = self._patiently(lambda: self.ingest.retry(self.clock.now()), stop)
        if outcome is not None and outcome.commits:
            self._tell([], outcome)

    def _work(self, messages: list[Message], stop: threading.Event) -> None:
        """Store a group; while more waits, its commit goes on while the next is prepared."""
        if not (self._is_pressed() and self._hurry(messages)):
            self._settle(stop)
            self._work_with_care(messages, stop)

    def _hurry(self, messages: list[Message]) -> bool:
        """Hand a group over to its commit; False when it wants care, because of itself or of the group before."""
        try:
            outcome = self.ingest.store_group(messages, self.clock.now(), later=True)
        except (StoreRefused, MemoryError):
            raise
        except Exception:  # noqa: BLE001  whatever it was, it comes again where somebody asks what to do about it
            return False
        before, self._unsettled = self._unsettled, (messages, outcome)
        if before is not None:  # nothing of this group was written before that was durable
            self._tell(*before)
        return True

    def _settle(self, stop: threading.Event) -> None:
        """Wait for the commit that goes on, and tell of it; a group whose commit failed is stored with care."""
        if self._unsettled is None:
            return
        (messages, outcome), self._unsettled = self._unsettled, None
        try:
            self.ingest.settle()
        except (StoreRefused, MemoryError):
            raise
        except Exception:  # noqa: BLE001  as above
            self._work_with_care(messages, stop)
            return
        self._tell(messages, outcome)

    def _work_with_care(self, messages: list[Message], stop: threading.Event) -> None:
        try:
            outcome = self._patiently(lambda: self.ingest.store_group(messages, self.clock.now()), stop)
        except (StoreRefused, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  whatever a message does to the pipeline, the next one must get through
            self._isolate(messages, error, stop)
            return
        if outcome is not None:
            self._tell(messages, outcome)

    def _isolate(self, messages: list[Message], error: Exception, stop: threading.Event) -> None:
        """Find the message at which the pipeline fails: one by one, and set that one aside."""
        if len(messages) > 1:
            for message in messages:
                self._work_with_care([message], stop)
            return
        reason = f"ingest failed: {type(error).__name__}: {error}"
        log.error("message set aside", topic=messages[0].topic, reason=reason, exc_info=error)

        def aside() -> Outcome:
            self.ingest.set_aside(messages[0], reason, self.clock.now())
            return Outcome.nothing()

        outcome = self._patiently(aside, stop)
        if outcome is not None:
            self._tell(messages, outcome)

    def _patiently(self, work: Callable[[], Outcome], stop: threading.Event) -> Outcome | None:
        """Do it as soon as the store can be written; None when `stop` came first."""
        pause_s = RETRY_FIRST_S
        while not stop.is_set():
            try:
                outcome = work()
            except StoreUnavailable as error:
                if self._trouble is None:
                    log.error("nothing is stored or acknowledged", reason=str(error))  # noqa: TRY400
                self._trouble = str(error)
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, RETRY_LONGEST_S)
                continue
            if self._trouble is not None:
                log.info("the store can be written again")
                self._trouble = None
            return outcome
        return None

    def _tell(self, messages: list[Message], outcome: Outcome) -> None:
        for topic, payload in outcome.commits:
            self.subscriber.publish(topic, payload, qos=1)
        self.subscriber.acknowledge(messages)
        self._newest.update(outcome.newest)
        if not self._is_pressed() or time.monotonic() >= self._next_live:
            self._tell_newest()
        if outcome.counts.set_aside:
            log.warning("set aside", number=outcome.counts.set_aside)
        self.totals.add(outcome.counts)
        self.stored()
