"""How long the outbox lasts, told before anybody asks: from what comes in, and from network.toml before anything has.

The rates of network.toml are those of the channels; the few records of a board about itself do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from edge_gateway.configuration import GatewayConfiguration
from station_config.board import board_configuration
from station_config.errors import StationConfigError
from station_config.network import load_network

SECONDS_PER_DAY = 86_400
USUAL_RECORDS_PER_DAY = 13 * 24 * 60.0
"""Of a station nothing is known about: thirteen values a minute."""
BYTES_PER_RECORD_WORST = 64  # a record in a slice of its own, with the tree around it
BYTES_PER_RECORD_USUAL = 25  # in slices of thirteen, measured
RECORDS_THAT_TELL_A_SIZE = 10_000


def expected_per_day(configuration: GatewayConfiguration) -> dict[str, float]:
    """Return the records a day of each station this gateway reads, by network.toml or else the usual number."""
    stations = dict.fromkeys(configuration.station_ids, USUAL_RECORDS_PER_DAY)
    return {**stations, **_by_network(configuration.network, tuple(stations))}


def days_left(
    configuration: GatewayConfiguration, buffered: int, used_bytes: int, per_day: float, oldest_days: float = 0.0
) -> float | None:
    """Return for how many days nothing is dropped when nothing is committed any more; None when nothing comes in.

    `oldest_days`: how old the oldest record in question is.
    """
    if per_day <= 0:
        return None
    each = used_bytes / buffered if buffered >= RECORDS_THAT_TELL_A_SIZE else BYTES_PER_RECORD_WORST
    by_size = max(0, configuration.outbox.max_bytes - used_bytes) / (each * per_day)
    return round(max(0.0, min(by_size, configuration.outbox.max_age_days - oldest_days)), 1)


def bytes_for_all_days(configuration: GatewayConfiguration, per_day: float) -> int:
    """Return how large max_bytes has to be for max_age_days of records to fit, rounded up to whole megabytes."""
    return math.ceil(per_day * configuration.outbox.max_age_days * BYTES_PER_RECORD_USUAL / 1e6) * 1_000_000


@cache
def _by_network(file: Path | None, wanted: tuple[str, ...]) -> Mapping[str, float]:
    """Read once: a gateway that runs knows the network it was started with."""
    if file is None:
        return {}
    try:
        network = load_network(file)
        known = {station.id for station in network.stations} & set(wanted)
        return {station: _rate(board_configuration(network, station)) for station in known}
    except (StationConfigError, OSError):
        return {}  # `run` and `doctor` say what is wrong with it; a status is shown all the same


def _rate(configuration: Mapping[str, Any]) -> float:
    return sum(SECONDS_PER_DAY / seconds for seconds in _intervals(configuration, configuration["record_s"]))


def _intervals(part: object, usual_s: int) -> Iterator[int]:
    """Yield the interval of each channel of a station, wherever it stands; one that says none has the station's."""
    if isinstance(part, Mapping):
        if "parameter" in part and "decimals" in part:
            yield part.get("record_s", usual_s)
        for below in part.values():
            yield from _intervals(below, usual_s)
    elif isinstance(part, list | tuple):
        for below in part:
            yield from _intervals(below, usual_s)
