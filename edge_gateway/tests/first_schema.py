"""An outbox file as the first gateway left it (commit e02fe03), and the statements by which that gateway used it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edge_gateway.slices import Series
from edge_gateway.tests.fake_station import make_record

SCHEMA = """
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
"""
APPLICATION_ID = 0x54524D42
VERSION = 1
EACH = 13

# All it ever wrote: slices, cursors, losses, contacts.
WRITES = (
    ("INSERT INTO series (station, journal, stored_through) VALUES (?, ?, ?)", ("cai-be", 7, 0)),
    ("INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?)", ("cai-be", 7, 1, 1, 1_780_000_000, bytes(make_record(1)))),
    (
        """UPDATE series SET stored_through = :through, buffered = buffered + :number,
             last_hour_records = CASE WHEN hour = :hour THEN last_hour_records
                                      WHEN hour = :hour - 1 THEN hour_records
                                      WHEN hour = 0 THEN NULL ELSE 0 END,
             hour_records = CASE WHEN hour = :hour THEN hour_records ELSE 0 END + :number,
             hour = :hour
           WHERE station = :station AND journal = :journal""",
        {"through": 1, "number": 1, "hour": 494444, "station": "cai-be", "journal": 7},
    ),
    ("INSERT OR REPLACE INTO dropped VALUES (?, ?, ?, ?, ?, ?)", ("cai-be", 7, 2, 3, "a hole", 1_780_000_000)),
    ("INSERT OR REPLACE INTO contact VALUES (?, ?)", ("cai-be", "{}")),
)


def write_first_outbox(file: Path, series: Series, made: int, received_at: int) -> Path:
    """Write an outbox of the first gateway with records 1..made of one series, none committed."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(
        f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )
    for first in range(1, made + 1, EACH):
        last = min(first + EACH - 1, made)
        records = b"".join(make_record(seq) for seq in range(first, last + 1))
        connection.execute("INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?)", (*series, first, last, received_at, records))
    connection.execute("INSERT INTO series VALUES (?, ?, ?, ?, 0, 0, 0, NULL)", (*series, made, made))
    connection.close()
    return file
