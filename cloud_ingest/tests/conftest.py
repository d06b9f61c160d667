"""A real broker, a gateway's side of it, and a running cloud."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_ingest.database import Database
from cloud_ingest.influx_observations import InfluxStore
from cloud_ingest.tests.field import T0, Broker, Cloud, GatewaySide, a_cloud
from cloud_ingest.tests.influx_server import InfluxServer, an_influx_server
from cloud_ingest.tests.place import CLUSTER, FILE, Place
from station_config.free_ports import free_port


@pytest.fixture(params=[FILE, CLUSTER])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where a store is: all in one SQLite file, or books in PostgreSQL and observations in InfluxDB."""
    if request.param == FILE:
        yield Place()
        return
    url = request.getfixturevalue("postgres_url")
    with ExitStack() as stack:
        observations = InfluxStore(request.getfixturevalue("influx_server").database())
        stack.callback(observations.close)
        yield Place(observations, Database(url))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    one = Broker(free_port(), folder)
    one.start()
    yield one
    one.kill()


@pytest.fixture
def gateway(broker: Broker) -> Iterator[GatewaySide]:
    side = GatewaySide(broker.port)
    yield side
    side.close()


@pytest.fixture
def cloud(broker: Broker, tmp_path: Path) -> Iterator[Cloud]:
    """A cloud of one test's own, to be killed, stopped and starved."""
    with a_cloud(tmp_path / "cloud", broker.port, now_s=T0 + 3600) as one:
        yield one


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    one = Broker(free_port(), tmp_path_factory.mktemp("broker"))
    one.start()
    yield one
    one.kill()


@pytest.fixture(scope="module")
def running(shared_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A cloud that tests share: each uses a journal of its own."""
    with a_cloud(tmp_path_factory.mktemp("cloud"), shared_broker.port, now_s=T0 + 3600) as one:
        yield one


@pytest.fixture(scope="module")
def line(shared_broker: Broker) -> Iterator[GatewaySide]:
    """The gateway's side of the shared cloud."""
    side = GatewaySide(shared_broker.port)
    yield side
    side.close()


@pytest.fixture(scope="session")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    """A real InfluxDB with users behind its proxy; `database()` of it is a test's own."""
    with an_influx_server(tmp_path_factory.mktemp("influx")) as server:
        yield server
