"""The log as SQL would see it, one row for each observation: tests ask and change it in words of one line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from cloud_ingest.chunked_log import ChunkedLog
from cloud_ingest.observations import NOBODY
from cloud_ingest.scans import ROW_DTYPE, Scans, as_tuples, put_scans, scans_of
from firmware.record import MISSING

COLUMNS = "time, series, count, value, flag, journal, seq, calibration, failed"
LAST_MOMENT = 1 << 40


def with_log(connection: sqlite3.Connection, kind: str = "TEMP") -> sqlite3.Connection:
    """Make a table `log` of what scans and chunks say now."""
    connection.execute("DROP TABLE IF EXISTS log")
    connection.execute(f"CREATE {kind} TABLE log ({COLUMNS})")
    series = [number for (number,) in connection.execute("SELECT id FROM series")]
    rows = as_tuples(scans_of(ChunkedLog(connection).logged(series, 0, LAST_MOMENT)))
    connection.executemany(f"INSERT INTO log VALUES ({', '.join('?' * 9)})", rows)
    return connection


def put_back(connection: sqlite3.Connection) -> None:
    """Make the scans say what table `log` says, and leave no chunk."""
    found = connection.execute(f"SELECT {COLUMNS} FROM log ORDER BY time, series").fetchall()
    rows = np.zeros(len(found), ROW_DTYPE)
    absent = {"count": MISSING, "value": np.nan, "journal": NOBODY}
    for name, column in zip(COLUMNS.split(", "), zip(*found, strict=True), strict=False):
        if name != "time":
            rows[name] = [absent.get(name, 0) if one is None else one for one in column]
    connection.execute("DELETE FROM scans")
    connection.execute("DELETE FROM chunks")
    put_scans(connection, Scans(np.array([row[0] for row in found], np.int64), rows))


def change_log(database: Path, *statements: str) -> None:
    """Carry out statements on the log of a store nobody writes."""
    with sqlite3.connect(database) as connection:
        with_log(connection)
        for statement in statements:
            connection.execute(statement)
        put_back(connection)
    connection.close()
