"""Where the book of commands lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alerts.schema import open_database, sqlite_url
from cloud_ingest.commanding.book import CommandBook
from cloud_ingest.commanding.schema import DATABASE
from cloud_ingest.configuration import CloudConfiguration
from station_config.clock import Clock


@contextmanager
def open_book(configuration: CloudConfiguration, clock: Clock) -> Iterator[CommandBook]:
    """Yield the book, its tables made. Raises StoreRefused, SQLAlchemyError."""
    url = configuration.commands.url() or configuration.store.url()
    if url is None:
        configuration.state_dir.mkdir(parents=True, exist_ok=True)
    engine = open_database(url or sqlite_url(configuration.state_dir / DATABASE))
    try:
        book = CommandBook(engine, clock)
        book.prepare()
        yield book
    finally:
        engine.dispose()
