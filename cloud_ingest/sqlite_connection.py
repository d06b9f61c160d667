"""SQLite's connection of the one writer: a transaction begins with its first statement, and its commit may go on while
the next group is prepared.

A commit waits for the disk most of its time, and Python may work meanwhile. Whoever touches the connection waits until
the commit is through, so nobody sees the difference but by the clock. A commit that failed is told to everybody who
comes, until `settle` has told it too: nothing is written on top of what is not there.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from typing import Any


class WritersConnection(sqlite3.Connection):
    """For one thread. `begin` and `commit` are what SQLAlchemy's transactions call."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.commits_later = False  # the next commit returns at once; `settle` says what came of it
        self._begin: str | None = None
        self._committing: threading.Thread | None = None
        self._failed: BaseException | None = None

    @property
    def unsettled(self) -> bool:
        """Return whether there is a commit of which nobody knows yet what came of it."""
        return self._committing is not None or self._failed is not None

    def begin(self, statement: str) -> None:
        """Begin a transaction with its first statement; one without any needs no lock."""
        self._begin = statement

    def settle(self) -> None:
        """Return when the last commit is on disk; raise once what made it fail."""
        self._join()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def commit(self) -> None:
        """Commit, after the one before is on disk."""
        later, self.commits_later = self.commits_later, False
        self._wait()
        if self._begin is not None:  # no statement: nothing to commit
            self._begin = None
        elif later:
            self._committing = threading.Thread(target=self._commit_later, name="commit")
            self._committing.start()
        else:
            super().commit()

    def rollback(self) -> None:
        """Take back what this transaction did."""
        self.commits_later = False
        self._join()
        self._begin = None
        super().rollback()

    def cursor(self, *arguments: Any, **named: Any) -> Any:
        """Return a cursor in the transaction."""
        self._ready()
        return super().cursor(*arguments, **named)

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Execute in the transaction."""
        self._ready()
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        """Execute in the transaction."""
        self._ready()
        return super().executemany(*arguments)

    def close(self) -> None:
        """Close, after what is being committed is on disk."""
        self._join()
        super().close()

    def _ready(self) -> None:
        self._wait()
        statement, self._begin = self._begin, None
        if statement is not None:
            super().execute(statement)

    def _wait(self) -> None:
        self._join()
        if self._failed is not None:
            raise self._failed

    def _join(self) -> None:
        if self._committing is not None:
            self._committing.join()
            self._committing = None

    def _commit_later(self) -> None:
        try:
            super().commit()
        except BaseException as error:  # noqa: BLE001  whatever it was, `settle` raises it in the writer's thread
            self._failed = error
            with suppress(sqlite3.Error):
                super().rollback()
