"""[[direct]] of gateway.toml made ready: what a board would have been told, and the line its instruments are on."""

from __future__ import annotations

from io import BytesIO

from edge_gateway.configuration import GatewayConfiguration, LineConfiguration
from edge_gateway.direct.station import DirectPlan
from firmware import configuration as firmware_configuration
from station_config.board import board_configuration, encode
from station_config.network import Network, load_network

LONGEST_TIMEOUT_MS = 10_000  # firmware.configuration's


def direct_plans(configuration: GatewayConfiguration) -> tuple[DirectPlan, ...]:
    """Return what is to be polled without a board. Raises ConfigurationError; load_configuration has checked it."""
    if not configuration.direct or configuration.network is None:
        return ()
    network = load_network(configuration.network)
    lines = {line.name: line for line in configuration.lines}
    return tuple(
        DirectPlan(row.station, lines[row.line], _board(network, row.station, lines[row.line]), row.journal_records)
        for row in configuration.direct
    )


def _board(network: Network, station_id: str, line: LineConfiguration) -> object:
    """Return what a board would be told; over TCP an answer may take as long as the line allows."""
    board = firmware_configuration.parse(BytesIO(encode(board_configuration(network, station_id))))
    if not line.endpoint.host:
        return board
    line_ms = min(LONGEST_TIMEOUT_MS, round(1000 * line.timeout_s))
    return board._replace(
        sensors=tuple(sensor._replace(timeout_ms=max(sensor.timeout_ms, line_ms)) for sensor in board.sensors)
    )
