"""The outbox file's tables, as ordered steps. Each runs once, in one transaction with its own number.

A step that has been released is never changed; what is new is a new step at the end. Steps only add tables, so that the
program before still runs on the file: it knows the file by `user_version`, which stays what it was, while the table
`steps` counts. A step that would break an older program must raise GENERATION; programs before it then refuse the file
and leave it as it is.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x54524D42
GENERATION = 1
STEPS = (
    # records on their way, and what is known of each series
    """
CREATE TABLE slice (
    station TEXT NOT NULL, journal INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    received_at INTEGER NOT NULL, records BLOB NOT NULL,
    PRIMARY KEY (station, journal, first_seq)) WITHOUT ROWID;
CREATE TABLE series (
    station TEXT NOT NULL, journal INTEGER NOT NULL, stored_through INTEGER NOT NULL,
    buffered INTEGER NOT NULL DEFAULT 0, committed INTEGER NOT NULL DEFAULT 0,
    hour INTEGER NOT NULL DEFAULT 0, hour_records INTEGER NOT NULL DEFAULT 0, last_hour_records INTEGER,
    PRIMARY KEY (station, journal)) WITHOUT ROWID;
CREATE TABLE dropped (
    station TEXT NOT NULL, journal INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    reason TEXT NOT NULL, declared_at INTEGER NOT NULL,
    PRIMARY KEY (station, journal, first_seq)) WITHOUT ROWID;
CREATE TABLE contact (station TEXT PRIMARY KEY, contact TEXT NOT NULL) WITHOUT ROWID;
""",
    # all that goes up and is no record, in the order it was enqueued (rowid); what was dropped of it; bytes on
    # the air, both ways, by local day
    """
CREATE TABLE messages (id TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE messages_dropped (kind TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE traffic (day INTEGER PRIMARY KEY, sent_bytes INTEGER NOT NULL);
""",
    # commands in the order they came (rowid), and which of them this file can no longer know (command_table)
    """
CREATE TABLE command (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, target TEXT NOT NULL, text TEXT NOT NULL, received_at REAL NOT NULL,
    issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, started_at REAL, finished_at REAL, progress TEXT,
    result TEXT);
CREATE TABLE command_memory (
    one INTEGER PRIMARY KEY CHECK (one = 1), begins_at INTEGER NOT NULL, expired_through INTEGER NOT NULL);
""",
    # the ledger of losses is told by messages; of those no longer listed one by one the number is kept.
    # A file begun after another was lost: what went with that one is declared when its station comes (predecessor).
    """
CREATE TABLE dropped_before (station TEXT PRIMARY KEY, records INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE predecessor (one INTEGER PRIMARY KEY CHECK (one = 1), lost_at REAL NOT NULL, why TEXT NOT NULL);
""",
    # warnings without the cloud: the rules' memory and how far it has read, what was raised and cleared, who was told
    """
CREATE TABLE warning_state (
    rule TEXT NOT NULL, station TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (rule, station)) WITHOUT ROWID;
CREATE TABLE warning_cursor (
    station TEXT NOT NULL, journal INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (station, journal)) WITHOUT ROWID;
CREATE TABLE warning_event (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, station TEXT NOT NULL, kind TEXT NOT NULL, time INTEGER NOT NULL,
    decided INTEGER NOT NULL, value REAL NOT NULL, level REAL NOT NULL, severity TEXT NOT NULL, reason TEXT NOT NULL,
    journal INTEGER NOT NULL, seq INTEGER NOT NULL, status TEXT NOT NULL, revision INTEGER NOT NULL);
CREATE TABLE warning_delivery (
    event TEXT NOT NULL, channel TEXT NOT NULL, address TEXT NOT NULL, person TEXT NOT NULL, text TEXT NOT NULL,
    status TEXT NOT NULL, attempts INTEGER NOT NULL, unsure INTEGER NOT NULL, at REAL, reference TEXT, detail TEXT,
    PRIMARY KEY (event, channel, address)) WITHOUT ROWID;
CREATE TABLE warning_note (name TEXT PRIMARY KEY, note TEXT NOT NULL) WITHOUT ROWID;
""",
    # live records are stored before the backlog they follow: what is settled beyond a series' cursor
    """
CREATE TABLE ahead (
    station TEXT NOT NULL, journal INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    PRIMARY KEY (station, journal, first_seq)) WITHOUT ROWID;
""",
)


def generation(connection: sqlite3.Connection) -> int:
    """Return which programs may use this file: those that know its generation; 0 for a new file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def steps_done(connection: sqlite3.Connection) -> int:
    """Return how many steps this file has behind it."""
    if generation(connection) == 0:
        return 0
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchone():
        return 1
    return int(connection.execute("SELECT max(number) FROM steps").fetchone()[0])


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Run the steps the file does not have yet. A cut in the middle leaves it at the step before."""
    for number in range(steps_done(connection), len(STEPS)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {STEPS[number]}"
            "CREATE TABLE IF NOT EXISTS steps (number INTEGER PRIMARY KEY); "
            f"INSERT INTO steps (number) SELECT {number + 1}; "
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {GENERATION}; COMMIT;"
        )
