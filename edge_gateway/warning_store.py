"""What warning keeps in the outbox's file: SQL only. Changes happen inside the outbox's transactions, reads beside it.

An event goes  open → cloud     its record was committed: the cloud tells people
                    → taken     the cloud was away too long: the gateway tells its own list
                    → expired   nobody could be told in time
A delivery goes  waiting → sending → sent, or unsure (answers lost twice), failed, expired, left (to the cloud)
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from alerts.rules import State
from edge_gateway.slices import Series, Slice

EVENTS_KEPT = 500
BUSY_TIMEOUT_S = 10.0
RuleKey = tuple[str, str]
"""Rule and station."""


class Fate(StrEnum):
    """What became of an event."""

    OPEN = "open"
    CLOUD = "cloud"
    TAKEN = "taken"
    EXPIRED = "expired"


class Told(StrEnum):
    """What became of telling one person, or the siren."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    UNSURE = "unsure"
    FAILED = "failed"
    EXPIRED = "expired"
    LEFT = "left"


UNDER_WAY = (Told.WAITING, Told.SENDING)


@dataclass(frozen=True)
class WarningEvent:
    """A rule raised or cleared by the gateway; `journal` and `seq` name the record that did it. Times unix seconds."""

    id: str
    rule: str
    station: str
    kind: str
    time: int
    decided: int
    value: float
    level: float
    severity: str
    reason: str
    journal: int
    seq: int
    status: Fate = Fate.OPEN
    revision: int = 0


@dataclass(frozen=True)
class Delivery:
    """One message to one person, or a siren's sounding; `at` is when it became what it is."""

    event: str
    channel: str
    address: str
    person: str
    text: str
    status: Told = Told.WAITING
    attempts: int = 0
    unsure: int = 0
    at: float | None = None
    reference: str | None = None
    detail: str | None = None


_EVENT = "id, rule, station, kind, time, decided, value, level, severity, reason, journal, seq, status, revision"
_DELIVERY = "event, channel, address, person, text, status, attempts, unsure, at, reference, detail"


class WarningStore:
    """Reads and changes through one connection; `open_reader` gives one that only reads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    @classmethod
    def open_reader(cls, path: Path) -> WarningStore:
        """Return a view for the calling thread. Raises sqlite3.Error."""
        uri = f"{path.absolute().as_uri()}?mode=ro"
        return cls(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S))

    def close(self) -> None:
        """Close a reader's connection."""
        self._sql.close()

    def is_there(self) -> bool:
        """Return whether the file has these tables; one of an earlier version has them when the gateway next runs."""
        return self._sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'warning_note'").fetchone() is not None

    # -- the rules' memory ---------------------------------------------------------------------------------------------

    def states(self) -> dict[RuleKey, State]:
        """Return what each rule remembers of each station."""
        rows = self._sql.execute("SELECT rule, station, state FROM warning_state")
        return {(rule, station): State.from_json(state) for rule, station, state in rows}

    def cursors(self) -> dict[Series, int]:
        """Return the highest sequence number evaluated of each series."""
        rows = self._sql.execute("SELECT station, journal, seq FROM warning_cursor")
        return {Series(station, journal): seq for station, journal, seq in rows}

    def keep(self, states: Mapping[RuleKey, State], cursors: Mapping[Series, int]) -> None:
        """Keep what the rules remember, and how far they have read."""
        self._sql.executemany(
            "INSERT OR REPLACE INTO warning_state VALUES (?, ?, ?)",
            [(*key, state.to_json()) for key, state in states.items()],
        )
        self._sql.executemany(
            "INSERT OR REPLACE INTO warning_cursor VALUES (?, ?, ?)",
            [(*series, seq) for series, seq in cursors.items()],
        )

    def buffered_series(self) -> list[Series]:
        """Return the series of which something waits for a commit."""
        return [Series(*row) for row in self._sql.execute("SELECT station, journal FROM series WHERE buffered > 0")]

    def slices_after(self, series: Series, seq: int, limit: int) -> list[Slice]:
        """Return buffered slices that reach beyond `seq`, in order, at most `limit`."""
        rows = self._sql.execute(
            """SELECT first_seq, records FROM slice WHERE station = :station AND journal = :journal AND last_seq > :seq
               AND first_seq >= coalesce((SELECT max(first_seq) FROM slice WHERE station = :station
                                          AND journal = :journal AND first_seq <= :seq), 0)
               ORDER BY first_seq LIMIT :limit""",
            {**series._asdict(), "seq": seq, "limit": limit},
        )
        return [Slice(series, first, records) for first, records in rows]

    def newest_begin_at(self, series: Series, number: int) -> int:
        """Return where the newest `number` slices of a series begin; 0 when there are no more than that."""
        row = self._sql.execute(
            "SELECT first_seq FROM slice WHERE station = ? AND journal = ? ORDER BY first_seq DESC LIMIT 1 OFFSET ?",
            (*series, number - 1),
        ).fetchone()
        return 0 if row is None else int(row[0])

    # -- the link to the cloud, as the outbox shows it -----------------------------------------------------------------

    def committed_records(self) -> int:
        """Return how many records the cloud has committed so far."""
        return int(self._sql.execute("SELECT coalesce(sum(committed), 0) FROM series").fetchone()[0])

    def oldest_waiting(self) -> int | None:
        """Return since when a record waits for a commit, by the first of each series; None when none waits."""
        first = "SELECT received_at FROM slice WHERE station = ? AND journal = ? ORDER BY first_seq LIMIT 1"
        rows = [self._sql.execute(first, series).fetchone() for series in self.buffered_series()]
        return min((int(row[0]) for row in rows if row is not None), default=None)

    def is_committed(self, event: WarningEvent) -> bool:
        """Return whether the cloud has the record that made the event: neither here any more, nor dropped."""
        key = (event.station, event.journal, event.seq)
        for table in ("slice", "dropped"):
            row = self._sql.execute(
                f"SELECT last_seq FROM {table} WHERE station = ? AND journal = ? AND first_seq <= ?"  # noqa: S608  fixed
                " ORDER BY first_seq DESC LIMIT 1",
                key,
            ).fetchone()
            if row is not None and row[0] >= event.seq:
                return False
        return True

    # -- events and deliveries -----------------------------------------------------------------------------------------

    def add_event(self, event: WarningEvent) -> bool:
        """Keep a new event; False when it has been kept before. Of old ones the newest EVENTS_KEPT stay."""
        fields = (*(getattr(event, name) for name in _EVENT.split(", ")),)
        added = self._sql.execute(
            f"INSERT OR IGNORE INTO warning_event ({_EVENT}) VALUES ({','.join('?' * len(fields))})",  # noqa: S608
            fields,
        ).rowcount
        old = "SELECT id FROM warning_event ORDER BY decided DESC, id LIMIT -1 OFFSET ?"
        self._sql.execute(f"DELETE FROM warning_delivery WHERE event IN ({old})", (EVENTS_KEPT,))  # noqa: S608
        self._sql.execute(f"DELETE FROM warning_event WHERE id IN ({old})", (EVENTS_KEPT,))  # noqa: S608
        return bool(added)

    def set_fate(self, event: str, status: Fate) -> None:
        """Note what became of an event."""
        self._sql.execute("UPDATE warning_event SET status = ? WHERE id = ?", (status, event))

    def next_revision(self, event: str) -> int:
        """Count up and return the revision of what the cloud is told of an event."""
        self._sql.execute("UPDATE warning_event SET revision = revision + 1 WHERE id = ?", (event,))
        return int(self._sql.execute("SELECT revision FROM warning_event WHERE id = ?", (event,)).fetchone()[0])

    def put_delivery(self, delivery: Delivery) -> None:
        """Keep a delivery as it is now."""
        fields = tuple(getattr(delivery, name) for name in _DELIVERY.split(", "))
        self._sql.execute(
            f"INSERT OR REPLACE INTO warning_delivery ({_DELIVERY}) VALUES ({','.join('?' * len(fields))})",  # noqa: S608
            fields,
        )

    def event(self, event: str) -> WarningEvent | None:
        """Return one event."""
        return next(iter(self._events("WHERE id = ?", (event,))), None)

    def open_events(self) -> list[WarningEvent]:
        """Return the events whose fate is not known yet, oldest first."""
        return self._events("WHERE status = ? ORDER BY time, id", (Fate.OPEN,))

    def recent_events(self, limit: int) -> list[WarningEvent]:
        """Return the newest events first."""
        return self._events("ORDER BY decided DESC, time DESC, id LIMIT ?", (limit,))

    def last_event(self, rule: str, station: str, kind: str) -> WarningEvent | None:
        """Return the last event of this kind of a rule and station."""
        return next(
            iter(
                self._events(
                    "WHERE rule = ? AND station = ? AND kind = ? ORDER BY time DESC LIMIT 1", (rule, station, kind)
                )
            ),
            None,
        )

    def deliveries(self, event: str) -> list[Delivery]:
        """Return all deliveries of an event."""
        return self._deliveries("WHERE event = ? ORDER BY channel, person", (event,))

    def under_way(self, channel: str) -> list[tuple[WarningEvent, Delivery]]:
        """Return the deliveries of a channel that have not ended, in the order of their events' times."""
        unended = self._deliveries("WHERE channel = ? AND status IN (?, ?)", (channel, *UNDER_WAY))
        pairs = [(event, one) for one in unended if (event := self.event(one.event)) is not None]
        return sorted(pairs, key=lambda pair: (pair[0].time, pair[0].id, pair[1].person))

    def last_sent(self) -> Delivery | None:
        """Return what was sent last."""
        return next(iter(self._deliveries("WHERE status = ? ORDER BY at DESC LIMIT 1", (Told.SENT,))), None)

    def count(self, status: Sequence[Told]) -> int:
        """Return how many deliveries are in one of these states."""
        marks = ",".join("?" * len(status))
        return int(
            self._sql.execute(f"SELECT count(*) FROM warning_delivery WHERE status IN ({marks})", status).fetchone()[0]  # noqa: S608
        )

    def _events(self, rest: str, values: Iterable[object]) -> list[WarningEvent]:
        rows = self._sql.execute(f"SELECT {_EVENT} FROM warning_event {rest}", tuple(values))  # noqa: S608  our own text
        return [_event(row) for row in rows.fetchall()]

    def _deliveries(self, rest: str, values: Iterable[object]) -> list[Delivery]:
        rows = self._sql.execute(f"SELECT {_DELIVERY} FROM warning_delivery {rest}", tuple(values))  # noqa: S608  our own
        return [_delivery(row) for row in rows.fetchall()]

    # -- how the parts are ---------------------------------------------------------------------------------------------

    def put_note(self, name: str, note: Mapping[str, object]) -> None:
        """Keep how a part is, for `tram-gateway status`."""
        self._sql.execute("INSERT OR REPLACE INTO warning_note VALUES (?, ?)", (name, json.dumps(note)))

    def notes(self) -> dict[str, dict[str, Any]]:
        """Return how each part was when it last said so."""
        return {name: json.loads(note) for name, note in self._sql.execute("SELECT name, note FROM warning_note")}


def _event(row: Sequence[Any]) -> WarningEvent:
    fields = dict(zip(_EVENT.split(", "), row, strict=True))
    return WarningEvent(**{**fields, "status": Fate(fields["status"])})


def _delivery(row: Sequence[Any]) -> Delivery:
    fields = dict(zip(_DELIVERY.split(", "), row, strict=True))
    return Delivery(**{**fields, "status": Told(fields["status"])})
