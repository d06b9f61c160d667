"""Where this configuration keeps its observations: opened, looked at, closed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from cloud_ingest.configuration import CloudConfiguration
from cloud_ingest.errors import StoreRefused, StoreUnavailable
from cloud_ingest.influx_codec import LAST_TIME, question
from cloud_ingest.influx_link import Denied, InfluxLink
from cloud_ingest.influx_observations import InfluxStore
from cloud_ingest.observation_log import LogStore
from cloud_ingest.observation_settings import ObservationSettings
from cloud_ingest.observations import ObservationStore

FOR_EVER = ("0s", "0", "", None)

log = structlog.get_logger()


@contextmanager
def observations_of(configuration: CloudConfiguration, *, needed: bool = False) -> Iterator[ObservationStore]:
    """Lend the store of observations. A server that is away is waited for by whoever writes; `needed`: it is an error.

    Raises StoreRefused when the server answers and cannot be used so, StoreUnavailable when it is needed and away.
    """
    if configuration.observations is None:
        yield LogStore()
        return
    store = InfluxStore(configuration.observations)
    try:
        try:
            for warning in faults_of(store.link, configuration.observations):
                log.warning("observations", reason=warning)
        except StoreUnavailable as error:
            if needed:
                raise
            log.warning("observations", reason=str(error))
        yield store
    finally:
        store.close()


def faults_of(link: InfluxLink, settings: ObservationSettings) -> Iterator[str]:
    """Yield what an operator should know of the database. Raises StoreRefused, StoreUnavailable."""
    try:
        list(link.ask(question(("flag",), None, (), 0, LAST_TIME, limit=1)))
    except Denied as error:
        raise StoreRefused(str(error)) from None
    try:
        yield from _finite(link, settings)
    except Denied as error:
        yield f"whether bucket {settings.bucket} keeps everything for ever cannot be asked: {error}"


def _finite(link: InfluxLink, settings: ObservationSettings) -> Iterator[str]:
    database, wanted = settings.place
    for series in link.ask(f'SHOW RETENTION POLICIES ON "{database}"'):
        for row in series.get("values", ()):
            policy = dict(zip(series.get("columns", ()), row, strict=False))
            meant = policy.get("name") == wanted if wanted else policy.get("default") is True
            if meant and policy.get("duration") not in FOR_EVER:
                yield (
                    f"bucket {settings.bucket} forgets after {policy['duration']} (retention policy"
                    f" {policy.get('name')}), and raw values are kept for ever: make it infinite"
                )
