"""Where the store of a test is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from cloud_ingest.database import DATABASE, Database
from cloud_ingest.observations import ObservationStore
from cloud_ingest.tests.log_as_table import with_log

FILE, CLUSTER = "file", "cluster"

#: For tests of what only a SQLite file has, or that look into its table of observations.
in_a_file = pytest.mark.parametrize("place", [FILE], indirect=True)


@dataclass(frozen=True)
class Place:
    """Observations and books as Store takes them; None: in the file of state_dir."""

    observations: ObservationStore | None = None
    database: Database | None = None

    def rows(self, folder: Path, query: str) -> list[tuple[Any, ...]]:
        """Ask the books in SQL."""
        if self.database is None:
            with closing(sqlite3.connect(folder / DATABASE)) as file:
                return with_log(file).execute(query).fetchall()
        return rows_of(self.database.url, query)


def rows_of(url: URL, query: str) -> list[tuple[Any, ...]]:
    """Ask a PostgreSQL database in SQL."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]
