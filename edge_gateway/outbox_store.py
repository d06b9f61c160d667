"""The SQL of the outbox. Everything here happens inside the caller's transaction, in one thread at a time.

Slices of one series never overlap; a series' cursor `stored_through` says up to where its records have been stored,
whether they are still buffered, were freed by a commit, or were declared lost; `ahead` says the same of ranges beyond
it, for live records come before the backlog they follow. The slices are one tree clustered on
their identity, so that storing one costs an SD card few pages, and both ends of a series are one seek away.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_gateway.asked_again import NO_LONGER_THERE, ask_again
from edge_gateway.command_table import CommandTable
from edge_gateway.contacts import Contact
from edge_gateway.errors import MessageInvalid, SliceRefused
from edge_gateway.messages import UpMessage, check_message
from edge_gateway.outbox_losses import LossBook, not_held
from edge_gateway.slices import EARLIEST_BELIEVABLE_S, MAX_SEQ, Loss, Progress, Range, Series, Slice, joined, without

OUTBOX_FULL = "outbox full"
TOO_OLD = "older than the outbox keeps"
AGE_CHECK_INTERVAL_S = 60
Span = tuple[float, float]
"""Times from the first up to the second, unix seconds."""
EVER: Span = (float("-inf"), float("inf"))
SLICES_DROPPED_AT_ONCE = 64
MESSAGES_AT_MOST = 10_000
TRAFFIC_DAYS_KEPT = 62


@dataclass(frozen=True)
class Limits:
    """Bounds of the outbox: bytes of the file in use, and age of a slice since it was received."""

    max_bytes: int
    max_age_s: float


class OutboxStore:
    """Changes to the outbox through one connection."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self.commands = CommandTable(connection)
        self._sql = connection
        self._limits = limits
        self._losses = LossBook(connection, self.enqueue, limits.max_age_s)
        self._age_checked_at = float("-inf")
        self.appended: list[Slice] = []
        """What this transaction has stored so far; the outbox tells its listeners and empties it."""

    @property
    def sql(self) -> sqlite3.Connection:
        """The connection, for tables that other modules keep in this file, within the same transaction."""
        return self._sql

    def append(self, piece: Slice, now: float) -> int:
        """Store what of the slice is not stored yet; return stored_through.

        The first slice of a series begins its cursor. Raises SliceRefused when records between the cursor and the
        slice are missing: they have to be declared lost first.
        """
        stored_through = self.stored_through(piece.series)
        if stored_through is not None and piece.first_seq > stored_through + 1:
            raise SliceRefused(f"{piece.series}: stored through {stored_through}, slice begins at {piece.first_seq}")
        return self.append_anywhere(piece, piece.first_seq, now).through

    def append_anywhere(self, piece: Slice, begins_at: int, now: float) -> Progress:
        """Store what of the slice is not settled yet, wherever it lies; return what is settled then.

        A new series begins at `begins_at`: what lies between it and the slice is still to come.
        """
        self.begin(piece.series, begins_at, now)
        before = self.progress(piece.series)
        # After a damaged file some slices beyond the cursor may be here already.
        missing = before.missing(piece.first_seq, piece.last_seq)
        here = self._overlapping(piece.series, piece.first_seq, piece.last_seq)
        parts = [part for whole in missing for part in without(whole, here)]
        for first, last in parts:
            self._insert(piece.part(first, last), now)
            self.appended.append(piece.part(first, last))
        after = before.having((piece.first_seq, piece.last_seq))
        if after != before:
            self._keep_progress(piece.series, before, after)
            self._count(piece.series, sum(last - first + 1 for first, last in parts), now)
        return after

    def begin(self, series: Series, first_seq: int, now: float) -> None:
        """Let a new series begin at `first_seq`; one that has begun stays as it is."""
        if self.stored_through(series) is None:
            self._begin(series, first_seq, now)

    def declare_lost(self, loss: Loss, now: float) -> None:
        """Note records that will never come: they are settled."""
        if self.stored_through(loss.series) is not None:
            before = self.progress(loss.series)
            self._keep_progress(loss.series, before, before.having((loss.first_seq, loss.last_seq)))
        why = self._losses.reason_for_beginning(now) if loss.first_seq == 1 else None
        if why is None:
            self._losses.declare(loss, now)
        else:
            self._declare_beginning(loss.series, loss.last_seq, why, now)

    def ask_again(
        self, station: str, in_cloud: Mapping[int, Sequence[Range]], seen: Contact, now: float
    ) -> dict[int, list[Range]]:
        """Take what the cloud has not, and is not here either, for not stored: it is fetched again then.

        Return that by journal. What the journal that was `seen` at the station has no more is declared lost.
        """
        query = "SELECT journal FROM series WHERE station = ? ORDER BY journal"
        found = {}
        for (journal,) in self._sql.execute(query, (station,)).fetchall():
            series = Series(station, journal)
            before, here = self.progress(series), self._overlapping(series, 1, MAX_SEQ)
            begins_at = (seen.first_seq or 0) if seen.journal == journal else 0
            again = ask_again(before, in_cloud.get(journal, ()), here, begins_at)
            for first, last in again.gone:
                self._losses.declare(Loss(series, first, last, NO_LONGER_THERE), now)
            self._keep_progress(series, before, again.after)
            if again.wanted:
                found[journal] = again.wanted
        return found

    def note_predecessor(self, why: str, now: float) -> None:
        """Remember that this file was begun after another was lost: what may have been in that one is declared."""
        self._losses.note_predecessor(why, now)

    def free(self, series: Series, ranges: Sequence[Range]) -> int:
        """Forget the records of these ranges; return how many were still here. A slice partly named is split."""
        freed = sum(self._free_range(series, first, last) for first, last in ranges)
        self._sql.execute(
            "UPDATE series SET buffered = buffered - ?, committed = committed + ? WHERE station = ? AND journal = ?",
            (freed, freed, *series),
        )
        return freed

    def enqueue(self, kind: str, body: Mapping[str, object], now: float, message_id: str | None = None) -> str:
        """Keep a message until a commit names it; return its id. An id that waits already is left as it is.

        Raises MessageInvalid when the kind is unknown or the body can never be sent.
        """
        message = UpMessage(message_id or uuid.uuid4().hex, kind, _as_json(body), now)
        check_message(message)
        self._sql.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?)", message)
        self._bound_messages()
        return message.id

    def forget_messages(self, ids: Iterable[str]) -> int:
        """Forget messages a commit has named; return how many were still here."""
        return sum(self._sql.execute("DELETE FROM messages WHERE id = ?", (one,)).rowcount for one in ids)

    def note_traffic(self, day: int, number: int) -> None:
        """Keep how many bytes went over the air on a local day (since 1970), both ways; never less than is known."""
        self._sql.execute(
            """INSERT INTO traffic VALUES (?, ?)
               ON CONFLICT (day) DO UPDATE SET sent_bytes = max(sent_bytes, excluded.sent_bytes)""",
            (day, number),
        )
        self._sql.execute("DELETE FROM traffic WHERE day < ?", (day - TRAFFIC_DAYS_KEPT,))

    def note_contact(self, station: str, contact: str) -> None:
        """Keep the last known state of a station (JSON), for `tram-gateway status`."""
        self._sql.execute("INSERT OR REPLACE INTO contact VALUES (?, ?)", (station, contact))

    def stored_through(self, series: Series) -> int | None:
        """Return the series' cursor, None when the series is new."""
        row = self._sql.execute(
            "SELECT stored_through FROM series WHERE station = ? AND journal = ?", series
        ).fetchone()
        return None if row is None else int(row[0])

    def progress(self, series: Series) -> Progress:
        """Return what is settled of a series that has begun."""
        ahead = self._sql.execute(
            "SELECT first_seq, last_seq FROM ahead WHERE station = ? AND journal = ? ORDER BY first_seq", series
        ).fetchall()
        return Progress(self.stored_through(series) or 0).having(*ahead)

    def enforce_limits(self, now: float, *, clock_is_right: bool = True) -> list[Loss]:
        """Drop the oldest slices until the outbox is within its bounds; return what was declared lost.

        By age only while `clock_is_right`: a clock that jumps a year ahead must not empty the outbox.
        """
        losses = []
        while self.used_bytes() > self._limits.max_bytes and (series := self._oldest_series(EVER)):
            losses += self._drop_oldest(series, EVER, OUTBOX_FULL, now)
        if clock_is_right and abs(now - self._age_checked_at) >= AGE_CHECK_INTERVAL_S:
            self._age_checked_at = now
            # What was received before the gateway's clock was set has no age that could be known.
            too_old = (EARLIEST_BELIEVABLE_S, now - self._limits.max_age_s)
            while (series := self._oldest_series(too_old)) is not None:
                losses += self._drop_oldest(series, too_old, TOO_OLD, now)
        return losses

    def used_bytes(self) -> int:
        """Return the bytes of the file in use (free pages inside it are not)."""
        pages, free, size = (
            int(self._sql.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _bound_messages(self) -> None:
        """Drop the oldest results and warnings above the bound, counted. Losses stay: nothing else explains a gap."""
        too_many = self._sql.execute("SELECT count(*) FROM messages").fetchone()[0] - MESSAGES_AT_MOST
        if too_many <= 0:
            return
        gone = self._sql.execute(
            """DELETE FROM messages WHERE rowid IN (
                 SELECT rowid FROM messages WHERE kind <> 'losses' ORDER BY rowid LIMIT ?) RETURNING kind""",
            (too_many,),
        ).fetchall()
        self._sql.executemany(
            "INSERT INTO messages_dropped VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET number = number + 1", gone
        )

    def _begin(self, series: Series, first_seq: int, now: float) -> int:
        """Begin the cursor of a series; return it."""
        self._sql.execute(
            "INSERT INTO series (station, journal, stored_through) VALUES (?, ?, ?)", (*series, first_seq - 1)
        )
        why = self._losses.reason_for_beginning(now) if first_seq > 1 else None
        if why is not None:
            self._declare_beginning(series, first_seq - 1, why, now)
        return first_seq - 1

    def _declare_beginning(self, series: Series, last_seq: int, why: str, now: float) -> None:
        """Declare all records up to last_seq that are not here: they may have gone with a lost file."""
        for loss in not_held(series, (1, last_seq), self._overlapping(series, 1, last_seq), why):
            self._losses.declare(loss, now)

    def _insert(self, piece: Slice, received_at: float) -> None:
        self._sql.execute(
            "INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?)",
            (*piece.series, piece.first_seq, piece.last_seq, int(received_at), piece.records),
        )

    def _keep_progress(self, series: Series, before: Progress, after: Progress) -> None:
        self._sql.execute(
            "UPDATE series SET stored_through = ? WHERE station = ? AND journal = ?", (after.through, *series)
        )
        if before.ahead != after.ahead:
            self._sql.execute("DELETE FROM ahead WHERE station = ? AND journal = ?", series)
            self._sql.executemany(
                "INSERT INTO ahead VALUES (?, ?, ?, ?)", [(*series, first, last) for first, last in after.ahead]
            )

    def _count(self, series: Series, number: int, now: float) -> None:
        """Count the records of this hour and the hour before (for the rate)."""
        hour = int(now) // 3600
        self._sql.execute(
            """UPDATE series SET buffered = buffered + :number,
                 last_hour_records = CASE WHEN hour = :hour THEN last_hour_records
                                          WHEN hour = :hour - 1 THEN hour_records
                                          WHEN hour = 0 THEN NULL ELSE 0 END,
                 hour_records = CASE WHEN hour = :hour THEN hour_records ELSE 0 END + :number,
                 hour = :hour
               WHERE station = :station AND journal = :journal""",
            {"number": number, "hour": hour, **series._asdict()},
        )

    def _free_range(self, series: Series, first: int, last: int) -> int:
        overlapping = self._overlapping(series, first, last)
        for slice_first, slice_last in overlapping:
            self._cut(series, (slice_first, slice_last), (first, last))
        return sum(min(last, slice_last) - max(first, slice_first) + 1 for slice_first, slice_last in overlapping)

    def _overlapping(self, series: Series, first: int, last: int) -> list[Range]:
        # Slices do not overlap each other, so only the last one that begins at or before `first` can reach into it.
        return self._sql.execute(
            """SELECT first_seq, last_seq FROM slice WHERE station = :station AND journal = :journal
               AND first_seq >= coalesce((SELECT max(first_seq) FROM slice WHERE station = :station
                                          AND journal = :journal AND first_seq <= :first), 0)
               AND first_seq <= :last AND last_seq >= :first""",
            {"first": first, "last": last, **series._asdict()},
        ).fetchall()

    def _cut(self, series: Series, whole: Range, cut: Range) -> None:
        key = (*series, whole[0])
        remaining = without(whole, [cut])
        if remaining:
            received_at, records = self._sql.execute(
                "SELECT received_at, records FROM slice WHERE station = ? AND journal = ? AND first_seq = ?", key
            ).fetchone()
        self._sql.execute("DELETE FROM slice WHERE station = ? AND journal = ? AND first_seq = ?", key)
        for first, last in remaining:
            self._insert(Slice(series, whole[0], records).part(first, last), received_at)

    def _oldest_series(self, received: Span) -> Series | None:
        """Return the series whose first slice was received first, of those received in this span of time."""
        oldest: tuple[int, Series] | None = None
        for station, journal in self._sql.execute("SELECT station, journal FROM series WHERE buffered > 0").fetchall():
            received_at = self._sql.execute(
                "SELECT received_at FROM slice WHERE station = ? AND journal = ? ORDER BY first_seq LIMIT 1",
                (station, journal),
            ).fetchone()[0]
            if received[0] <= received_at < received[1] and (oldest is None or received_at < oldest[0]):
                oldest = (received_at, Series(station, journal))
        return None if oldest is None else oldest[1]

    def _drop_oldest(self, series: Series, received: Span, reason: str, now: float) -> list[Loss]:
        rows = self._sql.execute(
            """SELECT first_seq, last_seq, received_at FROM slice WHERE station = ? AND journal = ?
               ORDER BY first_seq LIMIT ?""",
            (*series, SLICES_DROPPED_AT_ONCE),
        ).fetchall()
        losses = []
        for first, last, received_at in rows:
            if not received[0] <= received_at < received[1]:
                break
            self._sql.execute("DELETE FROM slice WHERE station = ? AND journal = ? AND first_seq = ?", (*series, first))
            losses.append(Loss(series, first, last, reason))
        for first, last in joined((loss.first_seq, loss.last_seq) for loss in losses):
            self._losses.declare(Loss(series, first, last, reason), now)
        lost = sum(loss.last_seq - loss.first_seq + 1 for loss in losses)
        self._sql.execute(
            "UPDATE series SET buffered = buffered - ? WHERE station = ? AND journal = ?", (lost, *series)
        )
        return losses


def _as_json(body: Mapping[str, object]) -> str:
    if body.keys() & {"id", "at"}:
        raise MessageInvalid('the body may not say "id" or "at": the message itself does')
    try:
        return json.dumps(_without_nul(dict(body)), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageInvalid(f"the body is not JSON: {error}") from None


def _without_nul(value: object) -> object:
    """Show NUL as ␀: no database at the other end keeps it, and the message must not be refused for it."""
    if isinstance(value, str):
        return value.replace("\0", "␀")
    if isinstance(value, Mapping):
        return {_without_nul(key): _without_nul(one) for key, one in value.items()}
    return [_without_nul(one) for one in value] if isinstance(value, list | tuple) else value
