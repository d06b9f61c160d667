"""Looking into the outbox without changing it: what is buffered, and the next records from either end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edge_gateway.messages import UpMessage
from edge_gateway.slices import MAX_SEQ, Loss, Progress, Range, Series, Slice

BUSY_TIMEOUT_S = 10.0


class SeriesState(NamedTuple):
    """What the outbox knows of one series. `last_hour_records` is None in the first hour; `hour` counts from 1970."""

    series: Series
    stored_through: int
    buffered: int
    committed: int
    hour: int
    hour_records: int
    last_hour_records: int | None
    first_buffered: int | None
    oldest_received_at: int | None


class Head(NamedTuple):
    """A slice at one end of what a series has to send."""

    series: Series
    first_seq: int
    last_seq: int
    received_at: int


class OutboxReader:
    """A read-only connection, for one thread."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S
        )

    @property
    def sql(self) -> sqlite3.Connection:
        """The connection, for tables that other modules keep in this file."""
        return self._sql

    def close(self) -> None:
        """Close the connection."""
        self._sql.close()

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """All reads inside see the outbox at one moment."""
        self._sql.execute("BEGIN")
        try:
            yield
        finally:
            self._sql.execute("COMMIT")

    def series(self) -> list[SeriesState]:
        """Return all series the outbox has ever stored, with their oldest buffered slice."""
        rows = self._sql.execute(
            """SELECT station, journal, stored_through, buffered, committed, hour, hour_records, last_hour_records
               FROM series"""
        ).fetchall()
        return [self._series_state(Series(row[0], row[1]), row[2:]) for row in rows]

    def progress(self) -> dict[Series, Progress]:
        """Return what is settled of each series."""
        found = {
            Series(station, journal): Progress(through)
            for station, journal, through in self._sql.execute("SELECT station, journal, stored_through FROM series")
        }
        for station, journal, first, last in self._sql.execute("SELECT * FROM ahead").fetchall():
            series = Series(station, journal)
            found[series] = found[series].having((first, last))
        return found

    def with_buffered(self) -> list[Series]:
        """Return the series that have something to send."""
        return [Series(*row) for row in self._sql.execute("SELECT station, journal FROM series WHERE buffered > 0")]

    def losses(self, limit: int = -1) -> list[Loss]:
        """Return the declared losses, the latest first."""
        rows = self._sql.execute(
            """SELECT station, journal, first_seq, last_seq, reason FROM dropped
               ORDER BY declared_at DESC, first_seq DESC LIMIT ?""",
            (limit,),
        )
        return [Loss(Series(station, journal), first, last, reason) for station, journal, first, last, reason in rows]

    def lost_records(self) -> dict[str, int]:
        """Return how many records were declared lost, by station."""
        return dict(
            self._sql.execute(
                """SELECT station, sum(records) FROM (
                     SELECT station, last_seq - first_seq + 1 AS records FROM dropped
                     UNION ALL SELECT station, records FROM dropped_before) GROUP BY station"""
            )
        )

    def newest_records(self) -> list[bytes]:
        """Return the newest buffered slice's records of each series."""
        return [
            row[0]
            for series in self.with_buffered()
            for row in self._sql.execute(
                "SELECT records FROM slice WHERE station = ? AND journal = ? ORDER BY first_seq DESC LIMIT 1", series
            )
        ]

    def messages_waiting(self, limit: int) -> list[UpMessage]:
        """Return messages no commit has named yet, the oldest first."""
        rows = self._sql.execute("SELECT id, kind, body, created_at FROM messages ORDER BY rowid LIMIT ?", (limit,))
        return [UpMessage(*row) for row in rows]

    def message_ids(self, limit: int) -> list[str]:
        """Return the ids of messages no commit has named yet, the oldest first."""
        return [row[0] for row in self._sql.execute("SELECT id FROM messages ORDER BY rowid LIMIT ?", (limit,))]

    def message(self, message_id: str) -> UpMessage | None:
        """Return a waiting message, None when it is gone."""
        row = self._sql.execute(
            "SELECT id, kind, body, created_at FROM messages WHERE id = ?", (message_id,)
        ).fetchone()
        return row and UpMessage(*row)

    def messages_summary(self) -> tuple[int, dict[str, int]]:
        """Return how many messages wait, and how many of each kind were dropped because too many waited."""
        waiting = int(self._sql.execute("SELECT count(*) FROM messages").fetchone()[0])
        return waiting, dict(self._sql.execute("SELECT kind, number FROM messages_dropped"))

    def traffic(self) -> dict[int, int]:
        """Return bytes over the air, both ways, by local day since 1970."""
        return dict(self._sql.execute("SELECT day, sent_bytes FROM traffic"))

    def command_states(self) -> dict[str, int]:
        """Return how many commands are kept, by state."""
        return dict(self._sql.execute("SELECT state, count(*) FROM command GROUP BY state"))

    def contacts(self) -> dict[str, str]:
        """Return the last stored contact (JSON) of each station."""
        return dict(self._sql.execute("SELECT station, contact FROM contact"))

    def used_bytes(self) -> int:
        """Return the bytes of the file in use."""
        pages, free, size = (
            int(self._sql.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def newest(self, series: Series, taken: Sequence[Range]) -> Head | None:
        """Return the newest slice of the series that is not in a taken range."""
        below = MAX_SEQ
        while row := self._row(series, "first_seq <= ? ORDER BY first_seq DESC", below):
            overlap = _overlapping(taken, row[0], row[1])
            if overlap is None:
                return Head(series, *row)
            below = min(overlap[0], row[0]) - 1
        return None

    def oldest(self, series: Series, taken: Sequence[Range]) -> Head | None:
        """Return the oldest slice of the series that is not in a taken range."""
        above = 0
        while row := self._row(series, "first_seq >= ? ORDER BY first_seq", above):
            overlap = _overlapping(taken, row[0], row[1])
            if overlap is None:
                return Head(series, *row)
            above = max(overlap[1], row[1]) + 1
        return None

    def up_to(self, head: Head, taken: Sequence[Range], most: int) -> Slice:
        """Return the consecutive records that end with the head's, at most `most` where slices allow."""
        rows = self._sql.execute(
            """SELECT first_seq, last_seq, records FROM slice WHERE station = ? AND journal = ? AND first_seq <= ?
               ORDER BY first_seq DESC LIMIT ?""",
            (*head.series, head.first_seq, most),
        )
        first = head.last_seq + 1
        pieces: list[bytes] = []
        for slice_first, slice_last, records in rows:
            too_many = pieces and head.last_seq - slice_first + 1 > most
            if slice_last != first - 1 or too_many or _overlapping(taken, slice_first, slice_last):
                break
            first = slice_first
            pieces.append(records)
        return Slice(head.series, first, b"".join(reversed(pieces)))

    def following(self, head: Head, taken: Sequence[Range], most: int) -> Slice:
        """Return the consecutive records that begin with the head's, at most `most` where slices allow."""
        rows = self._sql.execute(
            """SELECT first_seq, last_seq, records FROM slice WHERE station = ? AND journal = ? AND first_seq >= ?
               ORDER BY first_seq LIMIT ?""",
            (*head.series, head.first_seq, most),
        )
        last = head.first_seq - 1
        pieces: list[bytes] = []
        for slice_first, slice_last, records in rows:
            too_many = pieces and slice_last - head.first_seq + 1 > most
            if slice_first != last + 1 or too_many or _overlapping(taken, slice_first, slice_last):
                break
            last = slice_last
            pieces.append(records)
        return Slice(head.series, head.first_seq, b"".join(pieces))

    def _row(self, series: Series, where: str, seq: int) -> tuple[int, int, int] | None:
        row: tuple[int, int, int] | None = self._sql.execute(
            # `where` is one of the two texts above, never input
            f"SELECT first_seq, last_seq, received_at FROM slice WHERE station = ? AND journal = ? AND {where} LIMIT 1",  # noqa: S608
            (*series, seq),
        ).fetchone()
        return row

    def _series_state(self, series: Series, columns: tuple[int, int, int, int, int, int | None]) -> SeriesState:
        oldest = self.oldest(series, [])
        return SeriesState(series, *columns, oldest and oldest.first_seq, oldest and oldest.received_at)


def _overlapping(ranges: Sequence[Range], first: int, last: int) -> Range | None:
    return next((taken for taken in ranges if taken[0] <= last and taken[1] >= first), None)
