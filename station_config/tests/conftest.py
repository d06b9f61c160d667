"""A network as people write it, for the tests to use and to spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from station_config.network import Network, load_network

NETWORK = """\
name = "Sông Tiền"

[[gateways]]
id = "gw-mytho"

[[stations]]
id = "xuan-hoa"
name_vi = "Cống Xuân Hòa"
name_en = "Xuan Hoa sluice"
latitude = 10.3366
longitude = 106.4103
river = "Tiền"
river_km = 42.0
gateway = "gw-mytho"
address = 11
sample_interval_s = 10
record_interval_s = 60

[[stations.sensors]]
number = 1
instrument = "yosemitech-y520"
address = 1

[[stations.sensors]]
number = 2
instrument = "keller-acculevel"
address = 2
elevation_m = -2.5

[[stations.sensors]]
number = 3
instrument = "ecowitt-wn90lp"
address = 0x90
"""


@pytest.fixture
def network_text() -> str:
    return NETWORK


@pytest.fixture
def write_network(tmp_path: Path) -> Callable[[str], Path]:
    """Write a network's text to a file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "network.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def network(write_network: Callable[[str], Path]) -> Network:
    return load_network(write_network(NETWORK))
