"""Which station is which unit of the Modbus server: its address, unless [modbus_server.units] says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from station_config.errors import ConfigurationError
from station_config.network import load_network
from station_config.toml_config import Fault, Table, plain, rows


class Assigned(NamedTuple):
    """Stations by unit, and what is wrong with those that have none: station -> why."""

    units: dict[int, str]
    faults: dict[str, str]


def assign_units(addresses: Mapping[str, int], overrides: Mapping[str, int]) -> Assigned:
    """Give each station (with its address) its unit."""
    units: dict[int, str] = {}
    faults = {station: "not a station of this gateway" for station in overrides if station not in addresses}
    for station, address in addresses.items():
        unit = overrides.get(station, address)
        if unit in units:
            faults[station] = f"{units[unit]} and {station} would both be unit {unit}; give one of them another here"
        units.setdefault(unit, station)
    return Assigned(units, faults)


def modbus_faults(data: Table, folder: Path) -> Iterator[Fault]:
    """Yield what is wrong in [modbus_server] against the stations; the data are unchecked."""
    server = data.get("modbus_server")
    if not isinstance(server, dict):
        return
    given = server.get("units", {})
    overrides = (
        {station: unit for station, unit in given.items() if isinstance(unit, int)} if isinstance(given, dict) else {}
    )
    for station, why in assign_units(_addresses(data, folder), overrides).faults.items():
        yield Fault(("modbus_server", "units", station), why)


def _addresses(data: Table, folder: Path) -> dict[str, int]:
    stations = [row for _, line in rows(data, "line") for _, row in rows(line, "station")]
    addresses = {plain(row, "id"): plain(row, "address") for row in stations}
    directs = {plain(row, "station") for _, row in rows(data, "direct")}
    if directs and isinstance(data.get("network"), str):
        try:
            known = load_network(folder / data["network"]).stations
        except ConfigurationError:  # told where [[direct]] is checked
            known = ()
        addresses |= {station.id: station.address for station in known if station.id in directs}
    return {name: unit for name, unit in addresses.items() if isinstance(name, str) and isinstance(unit, int)}
