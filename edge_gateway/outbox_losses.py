"""What is declared lost: listed for people, told to the cloud's ledger by messages, in the caller's transaction.

A declaration says "this gateway does not have these and will never get them". The ledger believes it only as far as
the records are not stored there, so that a range may be declared on suspicion: records that were in a file that is
gone may have been committed before.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping

from edge_gateway.slices import Loss, Range, Series, joined, without

ROWS_AT_MOST = 1_000
RANGES_IN_ONE_MESSAGE = 200
LOST_WITH_THE_FILE = "perhaps in an outbox file that was lost"

Enqueue = Callable[[str, Mapping[str, object], float], str]


class LossBook:
    """Changes to the lists of losses through one connection."""

    def __init__(self, connection: sqlite3.Connection, enqueue: Enqueue, suspicion_age_s: float) -> None:
        self._sql = connection
        self._enqueue = enqueue
        self._suspicion_age_s = suspicion_age_s

    def declare(self, loss: Loss, now: float) -> None:
        """List a loss and tell it. A loss that continues the one before makes it longer: an outage is one row."""
        self._list(loss, now)
        self._tell(loss, now)

    def reason_for_beginning(self, now: float) -> str | None:
        """Return why records before a station's first may be lost; None when no file was lost lately."""
        row = self._sql.execute("SELECT lost_at, why FROM predecessor").fetchone()
        if row is None or now - row[0] > self._suspicion_age_s:
            return None
        return f"{LOST_WITH_THE_FILE} ({row[1]})"

    def note_predecessor(self, why: str, now: float) -> None:
        """Remember that this file was begun after another was lost."""
        self._sql.execute("INSERT OR REPLACE INTO predecessor VALUES (1, ?, ?)", (now, why))

    def _list(self, loss: Loss, now: float) -> None:
        grown = self._sql.execute(
            """UPDATE dropped SET last_seq = ?, declared_at = ?
               WHERE station = ? AND journal = ? AND last_seq = ? AND reason = ?""",
            (loss.last_seq, int(now), *loss.series, loss.first_seq - 1, loss.reason),
        ).rowcount
        if not grown:
            self._sql.execute(
                "INSERT OR REPLACE INTO dropped VALUES (?, ?, ?, ?, ?, ?)",
                (*loss.series, loss.first_seq, loss.last_seq, loss.reason, int(now)),
            )
            self._bound_list()

    def _bound_list(self) -> None:
        """Of ranges above the bound only their number is kept, the oldest first; the ledger knows them one by one."""
        too_many = self._sql.execute("SELECT count(*) FROM dropped").fetchone()[0] - ROWS_AT_MOST
        if too_many > 0:
            gone = self._sql.execute(
                """DELETE FROM dropped WHERE (station, journal, first_seq) IN (
                     SELECT station, journal, first_seq FROM dropped ORDER BY declared_at, first_seq LIMIT ?)
                   RETURNING station, last_seq - first_seq + 1""",
                (too_many,),
            ).fetchall()
            self._sql.executemany(
                """INSERT INTO dropped_before VALUES (?, ?)
                   ON CONFLICT (station) DO UPDATE SET records = records + excluded.records""",
                gone,
            )

    def _tell(self, loss: Loss, now: float) -> None:
        """Put the loss into the message that waits for its series and reason, under a new id, or into a new message.

        The old id may be committed while the new one is on its way: ranges are told twice then, which harms nothing.
        """
        ranges: list[Range] = [(loss.first_seq, loss.last_seq)]
        for message_id, body in self._sql.execute("SELECT id, body FROM messages WHERE kind = 'losses'").fetchall():
            waiting = json.loads(body)
            same = (waiting["station"], waiting["journal"], waiting["reason"]) == (*loss.series, loss.reason)
            if same and len(waiting["ranges"]) < RANGES_IN_ONE_MESSAGE:
                ranges = joined([*map(tuple, waiting["ranges"]), *ranges])
                self._sql.execute("DELETE FROM messages WHERE id = ?", (message_id,))
                break
        body = {"station": loss.series.station, "journal": loss.series.journal, "reason": loss.reason}
        self._enqueue("losses", {**body, "ranges": ranges}, now)


def not_held(series: Series, whole: Range, held: list[Range], reason: str) -> list[Loss]:
    """Return the losses of a range of which some slices are here after all."""
    return [Loss(series, first, last, reason) for first, last in without(whole, held)]
