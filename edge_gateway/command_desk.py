"""The thread of commands: a message is judged, kept on disk, answered "accepted", carried out, answered with a result.

Nothing happens before the command is on disk, and a result is on disk together with the message that tells it. Commands
for one station run one after another in the order they came; those for different stations side by side.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge_gateway import command_policy as policy
from edge_gateway.command_policy import Admission, Do, Turn
from edge_gateway.command_table import Load, Memory, StoredCommand
from edge_gateway.command_work import CommandWork
from edge_gateway.errors import CommandError, JobExpired, LinkError, OutboxError, OutboxUnavailable
from edge_gateway.host_clock import no_doubt
from edge_gateway.outbox import Outbox
from edge_gateway.outbox_store import OutboxStore
from edge_gateway.slices import EARLIEST_BELIEVABLE_S
from station_config.clock import Clock
from station_config.command import AnyCommand, Verdict, parse_text, verify

log = structlog.get_logger()

PAYLOADS_WAITING_AT_MOST = 16  # of up to a mebibyte; the cloud sends again what finds no place
LOOK_EVERY_S = 0.2
DISK_RETRY_S = 5.0
REASON_CHARACTERS = 1000

Result = dict[str, Any]


@dataclass
class DeskCounters:
    """What came since the gateway started; `refused` by reason."""

    received: int = 0
    accepted: int = 0
    repeated: int = 0
    finished: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    last_refusal: str = ""


@dataclass(frozen=True)
class _Known:
    """What the file knows of a message's id."""

    stored: StoredCommand | None
    memory: Memory | None
    load: Load


class CommandDesk:
    """Commands of one gateway. `deliver` from any thread, `run` in a thread of its own."""

    def __init__(
        self,
        gateway: str,
        keys: Mapping[str, Ed25519PublicKey],
        outbox: Outbox,
        work: CommandWork,
        clock: Clock,
        host_clock_doubt: Callable[[], str | None] = no_doubt,
    ) -> None:
        """While `host_clock_doubt` returns a reason, no expiry can be judged and nothing is accepted or started."""
        self.counters = DeskCounters()
        self._gateway = gateway
        self._keys = keys
        self._outbox = outbox
        self._work = work
        self._clock = clock
        self._host_clock_doubt = host_clock_doubt
        self._payloads: queue.Queue[bytes] = queue.Queue(PAYLOADS_WAITING_AT_MOST)
        self._lines: dict[str, list[StoredCommand]] = {}  # what waits, by target
        self._memory_has_begun = False
        self._active: dict[str, tuple[StoredCommand, Future[Result]]] = {}

    def deliver(self, payload: bytes) -> None:
        """Take a message of the commands' topic; quick."""
        try:
            self._payloads.put_nowait(payload)
        except queue.Full:
            self._count_refusal(Admission(Do.IGNORE, "too many", "messages came faster than they could be judged"))

    def run(self, stop: threading.Event) -> None:
        """Go on where the last run was cut off, then take what comes. Raises OutboxDamaged, OutboxClosed."""
        self._load()
        while not stop.is_set():
            try:
                self._begin_memory()
                self._take_one()
                self._collect()
                self._begin_what_may()
            except OutboxUnavailable as error:
                log.warning("commands wait for the outbox", reason=str(error))
                stop.wait(DISK_RETRY_S)

    def status(self) -> dict[str, Any]:
        """Return the counters as JSON-ready data."""
        counters = self.counters
        return {
            "keys": len(self._keys),
            "received": counters.received,
            "accepted": counters.accepted,
            "repeated": counters.repeated,
            "finished": counters.finished,
            "refused": dict(counters.refused),
            "last_refusal": counters.last_refusal,
        }

    def _now(self) -> float | None:
        """Return the time, None when this machine's clock has not been set or is in doubt."""
        now = self._clock.now()
        return now if now >= EARLIEST_BELIEVABLE_S and self._host_clock_doubt() is None else None

    def _load(self) -> None:
        active = {stored.id for stored, _ in self._active.values()}
        self._lines = {}
        for stored in self._outbox.write(lambda store: store.commands.unfinished()):
            if stored.id not in active:
                self._lines.setdefault(stored.target, []).append(stored)

    def _begin_memory(self) -> None:
        """Put down from when on this file knows of commands: as soon as the clock is set."""
        now = self._now()
        if not self._memory_has_begun and now is not None:
            self._outbox.write(lambda store: store.commands.memory(now))
            self._memory_has_begun = True

    def _take_one(self) -> None:
        try:
            payload = self._payloads.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            return
        self.counters.received += 1
        now = self._now()
        verdict = verify(payload, self._keys, self._gateway, now)
        where = self._work.target(verdict.command) if verdict.command is not None else None
        if verdict.id is None:  # nobody we know has signed it: not worth a write to the card
            self._count_refusal(policy.admit(verdict, None, None, Load(0, 0, 0), where))
            return
        admission, stored = self._outbox.write(lambda store: self._decide(store, verdict, where, now))
        self._tell(admission, verdict.id)
        if stored is not None:
            self._lines.setdefault(stored.target, []).append(stored)

    def _decide(
        self, store: OutboxStore, verdict: Verdict, where: str | None, now: float | None
    ) -> tuple[Admission, StoredCommand | None]:
        """Judge a signed message and put down what follows, all in one transaction."""
        assert verdict.id is not None
        table, at = store.commands, self._clock.now()
        if now is not None:
            table.tidy(now)
        memory = None if now is None else table.memory(now)
        stored = table.find(verdict.id)
        admission = policy.admit(verdict, stored, memory, table.load(), where)
        if admission.do is Do.REFUSE:
            _answer(store, verdict.id, _refusal(admission), at)
        elif admission.do is Do.ANSWER_AGAIN and stored is not None and stored.result is not None:
            _answer(store, verdict.id, stored.result, at)
        elif admission.do is Do.LET_GO_ON:
            _accept(store, verdict.id, at)
        elif admission.do is Do.KEEP and verdict.command is not None and where is not None:
            table.receive(verdict.command, verdict.text, where, at)
            _accept(store, verdict.id, at)
            return admission, table.find(verdict.id)
        return admission, None

    def _tell(self, admission: Admission, command_id: str) -> None:
        if admission.do is Do.KEEP:
            self.counters.accepted += 1
            log.info("a command was accepted", command=command_id)
        elif admission.do in (Do.ANSWER_AGAIN, Do.LET_GO_ON):
            self.counters.repeated += 1
        else:
            self._count_refusal(admission)

    def _count_refusal(self, admission: Admission) -> None:
        counters = self.counters
        counters.refused[str(admission.reason)] += 1
        told = f"{admission.reason}: {admission.detail}"
        if told != counters.last_refusal:
            log.warning("a command was not accepted", reason=str(admission.reason), detail=admission.detail)
        counters.last_refusal = told

    def _begin_what_may(self) -> None:
        for target, waiting in self._lines.items():
            if waiting and target not in self._active and self._begin(waiting[0]):
                waiting.pop(0)

    def _begin(self, stored: StoredCommand) -> bool:
        """Start or resume a command, or let it expire; return whether it has left the queue."""
        now = self._now()
        turn = policy.take_turn(stored, now)
        if turn is Turn.WAIT or now is None:
            return False
        if turn is Turn.EXPIRE:
            self._finish(stored, _result("expired", "expired before its turn came", {}, stored))
            return True
        command = parse_text(stored.text)
        if turn is Turn.START:
            started = self._outbox.write(lambda store: _start(store, stored, self._work.first_progress(command), now))
        else:
            log.info("going on with a command after a break", command=stored.id, kind=command.kind)
            started = stored
        self._active[stored.target] = (started, self._submit(command, started))
        return True

    def _submit(self, command: AnyCommand, stored: StoredCommand) -> Future[Result]:
        def remember(progress: Mapping[str, object]) -> None:
            self._outbox.write(lambda store: store.commands.note_progress(stored.id, progress))

        return self._work.submit(command, stored.progress, remember)

    def _collect(self) -> None:
        for target, (stored, future) in list(self._active.items()):
            if future.done():
                error = future.exception()
                if isinstance(error, OutboxError):
                    self._begin_again(target, stored)
                else:
                    self._finish(stored, _outcome(stored, future))
                    del self._active[target]

    def _begin_again(self, target: str, stored: StoredCommand) -> None:
        """The disk did not take how far a job was: it is begun again from what is on disk."""
        found = self._outbox.write(lambda store: store.commands.find(stored.id))
        del self._active[target]
        if found is not None:
            self._lines.setdefault(target, []).insert(0, found)

    def _finish(self, stored: StoredCommand, result: Result) -> None:
        now = self._clock.now()
        result = result | {"finished_at": int(now)}

        def change(store: OutboxStore) -> None:
            if store.commands.finish(stored.id, result, now):
                _answer(store, stored.id, result, now)

        self._outbox.write(change)
        self.counters.finished += 1
        log.info("a command is finished", command=stored.id, outcome=result["outcome"], reason=result["reason"])


def _start(store: OutboxStore, stored: StoredCommand, progress: Mapping[str, object], now: float) -> StoredCommand:
    store.commands.start(stored.id, now, progress)
    return store.commands.find(stored.id) or stored


def _accept(store: OutboxStore, command_id: str, now: float) -> None:
    body = {"command": command_id, "outcome": "accepted", "reason": "kept; it runs when its turn comes", "details": {}}
    store.enqueue("results", body, now, f"{command_id}-accepted")


def _answer(store: OutboxStore, command_id: str, result: Result, now: float) -> None:
    store.enqueue("results", {"command": command_id, **result}, now, command_id)


def _refusal(admission: Admission) -> Result:
    return {"outcome": "refused", "reason": f"{admission.reason}: {admission.detail}", "details": {}}


def _outcome(stored: StoredCommand, future: Future[Result]) -> Result:
    error = future.exception()
    if error is None:
        return _result("done", "", future.result(), stored)
    if isinstance(error, JobExpired):
        return _result("expired", str(error), error.details, stored)
    if isinstance(error, CommandError):
        return _result("failed", str(error), error.details, stored)
    if not isinstance(error, LinkError):
        log.error("a command failed by a fault of the gateway", command=stored.id, exc_info=error)
    return _result("failed", f"{type(error).__name__}: {error}", {}, stored)


def _result(outcome: str, reason: str, details: Mapping[str, object], stored: StoredCommand) -> Result:
    return {
        "outcome": outcome,
        "reason": reason[:REASON_CHARACTERS],
        "details": dict(details),
        "received_at": int(stored.received_at),
        "started_at": None if stored.started_at is None else int(stored.started_at),
    }
