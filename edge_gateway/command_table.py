"""The SQL of commands, inside the outbox's transactions: stored before anything happens, answered from here when they
come again.

A row goes when its command has expired, so that no command is forgotten while it could still be taken for new. What the
file can no longer know is refused: commands issued before it was made (it may replace a damaged one), and commands that
end no later than one whose row has gone (the clock may have been set back).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from station_config.command import AnyCommand

KEPT_AFTER_EXPIRY_S = 3600
WAITING, STARTED, FINISHED = "waiting", "started", "finished"
_COLUMNS = "id, state, target, text, received_at, issued_at, expires_at, started_at, finished_at, progress, result"


class StoredCommand(NamedTuple):
    """A command as the gateway keeps it. `text` is empty once it is finished; `result` is there only then."""

    id: str
    state: str
    target: str
    text: str
    received_at: float
    issued_at: int
    expires_at: int
    started_at: float | None
    finished_at: float | None
    progress: dict[str, Any]
    result: dict[str, Any] | None


class Memory(NamedTuple):
    """Commands issued before `begins_at`, or ending at or before `expired_through`, cannot be known any more."""

    begins_at: int
    expired_through: int


class Load(NamedTuple):
    """How much is kept: all rows, rows that are not finished, bytes of their texts."""

    rows: int
    unfinished: int
    text_bytes: int


class CommandTable:
    """Commands in the outbox's file; every method runs inside the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    def memory(self, now: float) -> Memory:
        """Return what can be known; it begins now when nothing was written down yet. `now` is a clock that is set."""
        self._sql.execute("INSERT OR IGNORE INTO command_memory VALUES (1, ?, 0)", (int(now),))
        row = self._sql.execute("SELECT begins_at, expired_through FROM command_memory").fetchone()
        return Memory(*row)

    def find(self, command_id: str) -> StoredCommand | None:
        """Return a command by its id."""
        row = self._sql.execute(f"SELECT {_COLUMNS} FROM command WHERE id = ?", (command_id,)).fetchone()  # noqa: S608
        return None if row is None else stored_command(row)

    def unfinished(self) -> list[StoredCommand]:
        """Return what has not been finished, in the order it came."""
        rows = self._sql.execute(
            f"SELECT {_COLUMNS} FROM command WHERE state != ? ORDER BY rowid",  # noqa: S608
            (FINISHED,),
        )
        return [stored_command(row) for row in rows.fetchall()]

    def load(self) -> Load:
        """Return how much is kept."""
        return Load(
            *self._sql.execute(
                "SELECT count(*), coalesce(sum(state != ?), 0), coalesce(sum(length(text)), 0) FROM command",
                (FINISHED,),
            ).fetchone()
        )

    def receive(self, command: AnyCommand, text: str, target: str, now: float) -> None:
        """Keep a command that is to be carried out."""
        self._sql.execute(
            "INSERT INTO command (id, state, target, text, received_at, issued_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (command.id, WAITING, target, text, now, command.issued_at, command.expires_at),
        )

    def start(self, command_id: str, now: float, progress: Mapping[str, object] | None = None) -> None:
        """Note that from now on it may have an effect."""
        self._sql.execute(
            "UPDATE command SET state = ?, started_at = ?, progress = ? WHERE id = ? AND state = ?",
            (STARTED, now, json.dumps(dict(progress or {})), command_id, WAITING),
        )

    def note_progress(self, command_id: str, progress: Mapping[str, object]) -> None:
        """Note how far it is."""
        self._sql.execute("UPDATE command SET progress = ? WHERE id = ?", (json.dumps(dict(progress)), command_id))

    def finish(self, command_id: str, result: Mapping[str, object], now: float) -> bool:
        """Keep its result, once; return whether this was the first."""
        changed = self._sql.execute(
            "UPDATE command SET state = ?, finished_at = ?, result = ?, text = '' WHERE id = ? AND state != ?",
            (FINISHED, now, json.dumps(dict(result), ensure_ascii=False), command_id, FINISHED),
        )
        return changed.rowcount > 0

    def tidy(self, now: float) -> int:
        """Let go of finished commands that expired long ago; return how many. `now` is a clock that is set."""
        gone = (FINISHED, int(now) - KEPT_AFTER_EXPIRY_S)
        self._sql.execute(
            "UPDATE command_memory SET expired_through = max(expired_through, coalesce("
            "(SELECT max(expires_at) FROM command WHERE state = ? AND expires_at < ?), 0))",
            gone,
        )
        return self._sql.execute("DELETE FROM command WHERE state = ? AND expires_at < ?", gone).rowcount


def stored_command(row: tuple[Any, ...]) -> StoredCommand:
    """Return a row of the table, its columns in order, with its JSON read."""
    progress, result = row[-2:]
    read = (json.loads(progress or "{}"), json.loads(result) if result else None)
    return StoredCommand._make((*row[:-2], *read))
