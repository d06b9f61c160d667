"""The outbox: one writer thread, and nothing is reported stored before it is on disk.

Whoever wants something written hands over a function and waits for its Future. The writer takes all that wait and runs
them in one transaction (group commit): several lines that deliver at once cost an SD card one sync, not several.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from edge_gateway.errors import OutboxClosed, OutboxDamaged, OutboxError, OutboxUnavailable
from edge_gateway.outbox_file import open_file, translated, was_emptied
from edge_gateway.outbox_reader import OutboxReader
from edge_gateway.outbox_renewal import finish_renewal, renew
from edge_gateway.outbox_store import Limits, OutboxStore
from edge_gateway.slices import Loss, Slice
from station_config.clock import Clock

log = structlog.get_logger()

Result = TypeVar("Result")
Doubt = Callable[[], str | None]
WRITES_WAITING_AT_MOST = 1000
WRITES_IN_ONE_TRANSACTION = 200
WRITE_DEADLINE_S = 120.0


class _Write(Generic[Result]):
    def __init__(self, change: Callable[[OutboxStore], Result], due_at: float) -> None:
        self.change = change
        self.due_at = due_at  # monotonic
        self.future: Future[Result] = Future()


class Outbox:
    """Buffered records on disk. Made by `open_outbox`; `close` ends the writer."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, limits: Limits, clock: Clock, clock_doubt: Doubt
    ) -> None:
        self.path = path
        self.damaged = threading.Event()
        self.busy_since: float | None = None
        """Since when (monotonic) the writer is in one transaction; None while nothing waits."""
        self.trouble: str | None = None
        """Why the last transaction could not be written; None when it was."""
        self._connection = connection
        self._store = OutboxStore(connection, limits)
        self._clock = clock
        self._clock_doubt = clock_doubt
        self._waiting: queue.Queue[_Write[Any] | None] = queue.Queue(WRITES_WAITING_AT_MOST)
        self._listeners: list[Callable[[], None]] = []
        self._followers: list[Callable[[Sequence[Slice]], None]] = []
        self._closed = threading.Event()
        self._writer = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the writer."""
        self._writer.start()

    def close(self) -> None:
        """Finish what waits, then close the file."""
        if not self._closed.is_set():
            self._closed.set()
            self._waiting.put(None)
        if self._writer.is_alive():
            self._writer.join()
        self._connection.close()

    def reader(self) -> OutboxReader:
        """Return a read-only view for the calling thread."""
        return OutboxReader(self.path)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` (quick, thread-safe) after each transaction."""
        self._listeners.append(listener)

    def on_stored(self, follower: Callable[[Sequence[Slice]], None]) -> None:
        """Call `follower` (quick, thread-safe) after each transaction with the slices it has stored, as they came."""
        self._followers.append(follower)

    def append(self, piece: Slice) -> int:
        """Store a slice durably and return stored_through; it may be acknowledged then. Raises OutboxError."""
        return self.write(lambda store: store.append(piece, self._clock.now()))

    def write(self, change: Callable[[OutboxStore], Result]) -> Result:
        """Run a change in the writer's next transaction; return when it is on disk. Raises OutboxError."""
        try:
            return self.submit(change).result(WRITE_DEADLINE_S)
        except TimeoutError:
            raise OutboxUnavailable(f"{self.path}: no answer from the disk within {WRITE_DEADLINE_S:.0f} s") from None

    def submit(self, change: Callable[[OutboxStore], Result], patience_s: float = 0.0) -> Future[Result]:
        """Hand a change to the writer, who writes it after `patience_s` at the latest, sooner with another that is due.

        When too many wait, the caller waits too: stations keep what is not stored.
        """
        if self._closed.is_set():
            raise OutboxClosed("the outbox is closed")
        write = _Write(change, time.monotonic() + patience_s)
        self._waiting.put(write)
        return write.future

    def _run(self) -> None:
        while True:
            group = self._next_group()
            writes = [write for write in group if write is not None]
            if writes:
                self.busy_since = time.monotonic()
                self._commit(writes)
                self.busy_since = None
            if None in group:
                self._refuse_the_rest()
                return

    def _next_group(self) -> list[_Write[Any] | None]:
        """Return what waits, as soon as the first of it is due; None in it means the end."""
        group = [self._waiting.get()]
        while group[-1] is not None and len(group) < WRITES_IN_ONE_TRANSACTION:
            due_at = min(write.due_at for write in group if write is not None)
            try:
                group.append(self._waiting.get(timeout=max(0.0, due_at - time.monotonic())))
            except queue.Empty:
                break
        return group

    def _refuse_the_rest(self) -> None:
        while not self._waiting.empty():
            write = self._waiting.get_nowait()
            if write is not None:
                write.future.set_exception(OutboxClosed("the outbox is closed"))

    def _commit(self, writes: list[_Write[Any]]) -> None:
        try:
            self._store.appended = []
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._attempt(write) for write in writes]
            losses = self._store.enforce_limits(self._clock.now(), clock_is_right=self._clock_doubt() is None)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(writes, translated(error, self.path))
            return
        if self.trouble is not None:
            log.info("the outbox can be written again")
            self.trouble = None
        for tell in outcomes:
            tell()
        self._report(losses)
        if self._store.appended:
            for follower in self._followers:
                follower(self._store.appended)
        for listener in self._listeners:
            listener()

    def _attempt(self, write: _Write[Any]) -> Callable[[], None]:
        """Run one change; a change that is refused takes back only its own part of the transaction."""
        stored_before = len(self._store.appended)
        self._connection.execute("SAVEPOINT change")
        try:
            result = write.change(self._store)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  whatever is wrong with one change, the others must not wait for ever
            self._connection.execute("ROLLBACK TO change")
            del self._store.appended[stored_before:]
            self._connection.execute("RELEASE change")
            refusal = error
            return lambda: write.future.set_exception(refusal)
        self._connection.execute("RELEASE change")
        return lambda: write.future.set_result(result)

    def _give_up(self, writes: list[_Write[Any]], error: OutboxError) -> None:
        # A disk that fails in the rollback too leaves the transaction to the next BEGIN, which says so again.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if self.trouble is None:
            log.error(
                "the outbox cannot be written; nothing is acknowledged, stations keep their records", reason=str(error)
            )
        self.trouble = str(error)
        for write in writes:
            write.future.set_exception(error)
        if isinstance(error, OutboxDamaged):
            self.damaged.set()

    def _report(self, losses: list[Loss]) -> None:
        for series in dict.fromkeys(loss.series for loss in losses):
            own = [loss for loss in losses if loss.series == series]
            log.error(
                "the oldest records are declared lost",
                **series._asdict(),
                first_seq=own[0].first_seq,
                last_seq=own[-1].last_seq,
                reason=own[0].reason,
            )


def open_outbox(
    path: Path,
    limits: Limits,
    clock: Clock,
    alive: Callable[[], None] = lambda: None,
    clock_doubt: Doubt = lambda: None,
) -> Outbox:
    """Return the outbox with its writer running. A corrupt file is set aside and a new one begun, and that is said.

    `alive` is called now and then when that takes long; `clock_doubt` says why the clock may be wrong, None when it is
    right. Raises OutboxUnavailable when the file cannot be used.
    """
    connection, lost = _open_or_renew(path, clock, alive)
    outbox = Outbox(path, connection, limits, clock, clock_doubt)
    outbox.start()
    if lost is not None:
        log.warning("the outbox's file was empty and is begun anew", path=str(path))
        outbox.write(lambda store: store.note_predecessor(lost, clock.now()))
    return outbox


def _open_or_renew(path: Path, clock: Clock, alive: Callable[[], None]) -> tuple[sqlite3.Connection, str | None]:
    """Return a connection, and why a file before it may have been lost where the new one does not know it."""
    finished = finish_renewal(path)
    if finished is not None:
        log.critical("the damaged outbox was set aside; a cut had come between", kept_as=str(finished))
    try:
        lost = "it was found empty" if was_emptied(path) else None
        return open_file(path), lost
    except OutboxDamaged as error:
        why = str(error).removeprefix(f"{path}: ")
        renewed = renew(path, why, clock.now(), alive)
        log.critical(
            "the outbox is damaged and was set aside; what could be read of it is in a new one, and stations are read "
            "again from what their journals hold",
            reason=why,
            records_salvaged=renewed.records,
            kept_as=str(renewed.aside),
        )
    try:
        return open_file(path), None
    except OutboxDamaged as error:
        # A disk that spoils a new file at once will not get better by trying.
        raise OutboxUnavailable(f"{error}; the new file is damaged too: replace the card") from error
