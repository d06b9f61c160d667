"""The parts of a running bench (simulators.bench), by the names of its stations and programs."""

from __future__ import annotations

from collections.abc import Callable

from simulators.bench import Bench
from simulators.faults.boards import BoardPart
from simulators.faults.parts import Part, Parts
from simulators.faults.programs import BrokerPart, CloudPart, GatewayPart
from simulators.faults.wires import Bus, InstrumentPart, LinkPart, PeoplePart, ProviderChannel, SetFault


def parts_of(bench: Bench) -> Parts:
    """Return everything in a started bench that can have a fault."""
    site, hardware = bench.site, bench.options.hardware is not None
    stations = {station.id: station for station in site.stations}
    parts: dict[str, dict[str, Part]] = {
        "bus": {id_: Bus(_fault_setter(bench, f"bus-{id_}")) for id_ in stations},
        "instrument": {
            f"{id_}/{sensor.number}": InstrumentPart(site.socket("world"), id_, sensor.number)
            for id_, station in stations.items()
            for sensor in station.sensors
        },
        "board": {id_: BoardPart(bench.boards.powers[id_], _console(bench, id_), not hardware) for id_ in stations},
        "link": {"link": LinkPart(bench.link)},
        "gateway": {
            "gateway": GatewayPart(bench.program("gateway"), site.directory / "gateway", bench.disks.get("gateway"))
        },
        "broker": {"broker": BrokerPart(bench.program("broker"), bench.broker)},
        "cloud": {"cloud": CloudPart(bench.program("cloud"), bench.disks.get("cloud"))},
        "people": {"phone": PeoplePart(ProviderChannel(f"http://127.0.0.1:{site.ports.phone}"))},
    }
    return Parts(parts, hardware)


def _fault_setter(bench: Bench, line: str) -> SetFault:
    return lambda fault, on: bench.lines.set_fault(line, fault, on)


def _console(bench: Bench, station: str) -> Callable[[], str]:
    return lambda: str(bench.boards.console(station))
