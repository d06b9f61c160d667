"""Where a configuration keeps its books and its observations, and what reads and writes there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from cloud_ingest.chunked_log import LogStore
from cloud_ingest.configuration import CloudConfiguration
from cloud_ingest.database import Database
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.observations import ObservationStore
from cloud_ingest.reading import Reader
from cloud_ingest.recompute import Recompute
from cloud_ingest.registry import Registry
from cloud_ingest.store import Store

log = structlog.get_logger()


@dataclass(frozen=True)
class Places:
    """The store of one configuration."""

    state_dir: Path
    database: Database
    observations: ObservationStore

    def store(self, shards: Collection[str] | None = None) -> Store:
        """Return the writer, not yet opened."""
        return Store(self.state_dir, self.observations, self.database, shards)

    def reader(self, registry: Registry | None = None) -> Reader:
        """Return who reads; without a registry it knows no scales, and so no values of observations."""
        scale = np.full(256, np.nan) if registry is None else registry.scale
        return Reader(self.state_dir, scale, self.observations, self.database)

    def recompute(self, registry: Registry) -> Recompute:
        """Return who makes layers again."""
        return Recompute(self.state_dir, registry, self.observations, self.database)


def database_of(configuration: CloudConfiguration) -> Database:
    """Return where the books are."""
    url = configuration.store.url()
    return Database.in_folder(configuration.state_dir) if url is None else Database(url)


@contextmanager
def opened_places(configuration: CloudConfiguration) -> Iterator[Places]:
    """Lend the places. A server of observations that is away now is met again when something is asked of it.

    Raises StoreRefused when it answers and cannot be used as it is configured.
    """
    database = database_of(configuration)
    if configuration.observations is None:
        yield Places(configuration.state_dir, database, LogStore())
        return
    from cloud_ingest.influx_observations import InfluxStore, faults_of  # with its HTTP client, for those who have one

    store = InfluxStore(configuration.observations)
    try:
        try:
            for warning in faults_of(store.link, configuration.observations):
                log.warning("observations", reason=warning)
        except StoreUnavailable as error:
            log.warning("observations", reason=str(error))
        yield Places(configuration.state_dir, database, store)
    finally:
        store.close()
