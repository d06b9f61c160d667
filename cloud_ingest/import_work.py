"""The writer's side of imports: pieces taken from the book and stored, between groups of what gateways send."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from cloud_ingest.errors import StoreRefused, StoreUnavailable
from cloud_ingest.import_book import DATABASE, ImportBook, Piece
from cloud_ingest.ingest import Ingest, Outcome

LOOK_EVERY_S = 2.0
BUSY_EVERY_S = 0.5
BATCHES, BATCHES_WHEN_BUSY = 25, 5  # of 600 records, in one transaction

log = structlog.get_logger()


@dataclass
class Imports:
    """Work to do in the writer's thread. `clock_s` is monotonic."""

    state_dir: Path
    ingest: Ingest
    owns: Callable[[str], bool] = lambda _: True  # which stations this writer stores
    _book: ImportBook | None = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)

    def step(self, now_s: float, *, busy: bool = False, clock_s: float | None = None) -> Outcome | None:
        """Store one piece of what is due; None when there is nothing. Raises StoreUnavailable: nothing is lost."""
        clock = time.monotonic() if clock_s is None else clock_s
        if clock < self._next:
            return None
        self._next = clock + LOOK_EVERY_S
        book = self._opened()
        piece = book.next_piece(BATCHES_WHEN_BUSY if busy else BATCHES, self.owns) if book else None
        if book is None or piece is None:
            return None
        outcome = self._store(book, piece, now_s)
        self._next = clock + BUSY_EVERY_S if busy else clock
        return outcome

    def is_due(self, clock_s: float | None = None) -> bool:
        """Return whether a step would look for more."""
        return (time.monotonic() if clock_s is None else clock_s) >= self._next

    def close(self) -> None:
        """Give the book back."""
        if self._book is not None:
            self._book.close()
            self._book = None

    def _opened(self) -> ImportBook | None:
        """Return the book, once a command has made it."""
        if self._book is None and (self.state_dir / DATABASE).exists():
            self._book = ImportBook(self.state_dir).__enter__()
        return self._book

    def _store(self, book: ImportBook, piece: Piece, now_s: float) -> Outcome:
        try:
            outcome = self.ingest.store_group(piece.messages, now_s)
        except (StoreRefused, StoreUnavailable, MemoryError):
            raise
        except Exception as error:  # whatever a file does to the pipeline, what gateways send must go on
            log.exception("import failed", number=piece.id)
            book.fail(piece.id, f"ingest failed: {type(error).__name__}: {error}", now_s)
            return Outcome.nothing()
        counts = outcome.counts
        book.taken(piece, counts.stored, counts.duplicates, counts.set_aside, now_s)
        return outcome
