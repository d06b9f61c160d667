"""Outbox files as gateways before this one left them, and what happens to files."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from edge_gateway.tests.fake_station import make_record
from hil_tests.cuts.gateway_life import JOURNAL, STATION

# Of the first gateway (commit e02fe03), as its program made it.
FIRST_SCHEMA = """
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
AGE_S = 86_400


def write_first_schema(file: Path, made: int, each: int = 13) -> Path:
    """Write an outbox of the first gateway with records 1..made of one station, none committed."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(
        f"BEGIN; {FIRST_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; COMMIT;"
    )
    received_at = int(time.time()) - AGE_S
    for first in range(1, made + 1, each):
        last = min(first + each - 1, made)
        records = b"".join(make_record(seq) for seq in range(first, last + 1))
        row = (STATION, JOURNAL, first, last, received_at, records)
        connection.execute("INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.execute("INSERT INTO series VALUES (?, ?, ?, ?, 0, 0, 0, NULL)", (STATION, JOURNAL, made, made))
    connection.close()
    return file


def spoil(file: Path, first_page: int = 2, pages: int = 2, page_size: int = 4096) -> None:
    """Turn over the bits of some pages in the middle."""
    raw = bytearray(file.read_bytes())
    begin, end = (first_page - 1) * page_size, (first_page - 1 + pages) * page_size
    raw[begin:end] = bytes(255 - byte for byte in raw[begin:end])
    file.write_bytes(raw)
