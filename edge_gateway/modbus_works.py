"""The Modbus server's thread, with an image of each station that it shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from edge_gateway.configuration import GatewayConfiguration
from edge_gateway.contacts import Contact, ContactBook
from edge_gateway.modbus_image import Channel, LiveValues, StationImage
from edge_gateway.modbus_server import ModbusServer
from edge_gateway.modbus_units import assign_units
from edge_gateway.outbox import Outbox
from edge_gateway.slices import Slice
from station_config.board import board_configuration
from station_config.clock import Clock
from station_config.network import Network, load_network

NEWEST_RECORDS = 600
Work = Callable[[threading.Event], None]


def modbus_works(
    configuration: GatewayConfiguration, outbox: Outbox, contacts: ContactBook, clock: Clock
) -> dict[str, Work]:
    """Return the server's work by the name of its thread; nothing without [modbus_server]."""
    server = configuration.modbus_server
    if server is None:
        return {}
    live = LiveValues(clock)
    live.take(_newest_buffered(outbox))
    outbox.on_stored(live.take)
    network = None if configuration.network is None else load_network(configuration.network)
    addresses = {station.id: station.address for station in configuration.stations}
    if network is not None:
        addresses |= {row.station: network.station(row.station).address for row in configuration.direct}
    images = {
        unit: StationImage(
            station, _channels(network, station), live, partial(_contact, contacts, station), clock, server.stale_s
        )
        for unit, station in assign_units(addresses, server.units).units.items()
    }
    return {"modbus server": ModbusServer(server, images).run}


def _contact(contacts: ContactBook, station: str) -> Contact:
    return contacts.all()[station]


def _newest_buffered(outbox: Outbox) -> list[Slice]:
    """Return the newest records of each series that the outbox still has: what was last heard before this start."""
    reader = outbox.reader()
    try:
        heads = [reader.newest(series, []) for series in reader.with_buffered()]
        return [reader.up_to(head, [], NEWEST_RECORDS) for head in heads if head is not None]
    finally:
        reader.close()


def _channels(network: Network | None, station: str) -> list[Channel] | None:
    """Return the channels in the order of station.json, as the station itself shows them."""
    if network is None or all(known.id != station for known in network.stations):
        return None
    return list(_rows(board_configuration(network, station)))


def _rows(content: Mapping[str, Any]) -> Iterator[Channel]:
    for sensor in content["sensors"]:
        for part in (*sensor.get("reads", ()), *sensor.get("measurements", ())):
            for field in part["fields"]:
                yield sensor["number"], field["parameter"]
    for pulse in content.get("pulses", ()):
        yield pulse["number"], pulse["parameter"]
