"""All checks, in the order a technician would do them: the machine first, then towards the stations, then the cloud."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from edge_gateway.configuration import GatewayConfiguration, LineConfiguration
from edge_gateway.doctor.broker import examine_broker, examine_certificate
from edge_gateway.doctor.findings import Finding, Verdict, found, verdict
from edge_gateway.doctor.machine import examine_clock, examine_disk
from edge_gateway.doctor.outbox import examine_outbox, read_outbox
from edge_gateway.doctor.ports import examine_port, gateway_runs
from edge_gateway.doctor.stations import examine_stations, told_by_status
from edge_gateway.warning_configuration import GpioRelayConfiguration
from station_config.clock import Clock


def examine(configuration: GatewayConfiguration, clock: Clock) -> Iterator[Finding]:
    """Yield all findings, each as soon as it is known. Beside a running gateway its ports are left alone."""
    is_running = gateway_runs(configuration)
    yield found("gateway-runs" if is_running else "gateway-rests", configuration.id)
    yield from examine_clock(configuration, clock.now())
    yield from examine_disk(configuration)
    for line in configuration.lines:
        yield from _examine_line(configuration, line, clock, is_running)
    for line in _warning_ports(configuration):
        yield from examine_port(line, is_running)
    yield from examine_certificate(configuration, clock.now())
    for address in configuration.broker.addresses:
        yield from examine_broker(configuration, address, clock.now())
    yield from examine_outbox(configuration, clock.now())


def _warning_ports(configuration: GatewayConfiguration) -> Iterator[LineConfiguration]:
    """Yield the ports of modem and siren, which are opened like those of lines."""
    warning = configuration.warning
    if warning is not None and warning.modem is not None:
        yield LineConfiguration(name="warning.modem", port=warning.modem.port, baud=warning.modem.baud)
    if warning is not None and warning.relay is not None and not isinstance(warning.relay, GpioRelayConfiguration):
        yield LineConfiguration(name="warning.relay", port=warning.relay.port)


def _examine_line(
    configuration: GatewayConfiguration, line: LineConfiguration, clock: Clock, is_running: bool
) -> Iterator[Finding]:
    ports = list(examine_port(line, is_running))
    yield from ports
    if is_running:
        try:
            yield from told_by_status(configuration, line, read_outbox(configuration, clock.now()))
        except sqlite3.Error as error:
            yield found("station-not-asked", line.name, why=str(error))
    elif all(verdict(finding) is not Verdict.failure for finding in ports):
        yield from examine_stations(configuration, line, clock)
