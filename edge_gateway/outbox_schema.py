"""The outbox file's tables, as ordered steps. Each runs once, in one transaction with its own number (user_version).

A step that has been released is never changed; what is new is a new step at the end.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x54524D42
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
    # all that goes up and is no record, in the order it was enqueued (rowid); what was dropped of it; bytes by UTC day
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
)


def schema_version(connection: sqlite3.Connection) -> int:
    """Return how many steps this file has behind it."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Run the steps the file does not have yet. A cut in the middle leaves it at the step before."""
    for number in range(schema_version(connection), len(STEPS)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {STEPS[number]}"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number + 1}; COMMIT;"
        )
