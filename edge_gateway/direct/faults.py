"""What is wrong in [[direct]] of gateway.toml, alone and against the lines and network.toml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from station_config.board import board_configuration
from station_config.errors import ConfigurationError
from station_config.instruments import Instrument, SerialSettings, load_instruments
from station_config.network import Network, Station, load_network
from station_config.toml_config import Fault, KeyPath, Table, plain, rows

SERIAL_DEFAULTS = SerialSettings()


def direct_faults(data: Table, folder: Path) -> Iterator[Fault]:
    """Yield every fault of the unchecked tables; relative paths are meant from `folder`."""
    directs = list(rows(data, "direct"))
    if not directs:
        return
    name = data.get("network")
    if not isinstance(name, str):
        yield Fault((*directs[0][0], "station"), 'needs network = "network.toml": the instruments stand there')
        return
    try:
        network = load_network(folder / name)
    except ConfigurationError as error:
        for line in str(error).splitlines():
            yield Fault(("network",), line)
        return
    lines = {plain(line, "name"): line for _, line in rows(data, "line")}
    for path, row in directs:
        yield from _row_faults(path, row, network, lines, data.get("id"))
    yield from _addresses_used_twice(directs, network, lines)


def _row_faults(
    path: KeyPath, row: Table, network: Network, lines: dict[str | int | None, Table], gateway: object
) -> Iterator[Fault]:
    line = lines.get(plain(row, "line"))
    if line is None and isinstance(row.get("line"), str):
        known = ", ".join(str(name) for name in lines)
        yield Fault((*path, "line"), f"no [[line]] of this name; there is {known or 'none'}")
    station = next((station for station in network.stations if station.id == row.get("station")), None)
    if station is None:
        if isinstance(row.get("station"), str):
            yield Fault((*path, "station"), "not a station of network.toml")
        return
    if station.gateway != gateway:
        yield Fault((*path, "station"), f"network.toml has it at gateway {station.gateway}")
    if station.hardware != "gateway":
        yield Fault((*path, "station"), 'network.toml has it with a board; give it hardware = "gateway" there')
        return
    if not station.sensors:
        yield Fault((*path, "station"), "network.toml has no sensors of it")
    try:
        board_configuration(network, station.id)
    except ConfigurationError as error:
        for text in str(error).splitlines():
            yield Fault((*path, "station"), text)
        return
    if line is not None:
        yield from _serial_misfits(path, station, line, load_instruments())


def _serial_misfits(
    path: KeyPath, station: Station, line: Table, instruments: Mapping[str, Instrument]
) -> Iterator[Fault]:
    if not isinstance(line.get("port"), str) or str(line["port"]).startswith("tcp://"):
        return
    own = tuple(line.get(key, getattr(SERIAL_DEFAULTS, key)) for key in ("baud", "parity", "stop"))
    for sensor in station.sensors:
        wanted = sensor.serial or instruments[sensor.instrument].serial
        if (wanted.baud, wanted.parity, wanted.stop) != own:
            told = f"{own[0]} 8{own[1]}{own[2]}"
            yield Fault((*path, "line"), f"talks at {told}; sensor {sensor.number} of {station.id} at {wanted}")


def _addresses_used_twice(
    directs: list[tuple[KeyPath, Table]], network: Network, lines: dict[str | int | None, Table]
) -> Iterator[Fault]:
    """Yield instruments that have the address of a station, or of another station's instrument, on their line."""
    taken: dict[tuple[object, object], str] = {}
    for name, line in lines.items():
        for _, station in rows(line, "station"):
            taken[name, plain(station, "address")] = f"station {station.get('id')}"
    for path, row in directs:
        for sensor in next((s.sensors for s in network.stations if s.id == row.get("station")), ()):
            key = (plain(row, "line"), sensor.address)
            if key in taken:
                yield Fault(
                    (*path, "line"), f"address {sensor.address} of sensor {sensor.number} is {taken[key]} there"
                )
            taken.setdefault(key, f"sensor {sensor.number} of {row.get('station')}")
