"""The JSON files of a bench's lines and of its world."""

from __future__ import annotations

from typing import Any

from simulators import site as sites
from simulators.bench_options import BenchOptions
from simulators.site import Site


def lines_json(site: Site, options: BenchOptions) -> dict[str, Any]:
    """Return the lines: an uplink with the gateway and all boards, a bus for each station."""
    virtual = options.hardware is None
    lines = {sites.UPLINK: ["gateway", *(s.id for s in site.stations if virtual)]}
    lines |= {f"bus-{s.id}": [*(["board"] if virtual else []), "instruments"] for s in site.stations}
    where = {"dir": str(site.directory / "lines"), "socket": str(site.socket("lines"))}
    return {**where, "lines": lines, "baud": None, **_devices(site, options)}


def _devices(site: Site, options: BenchOptions) -> dict[str, Any]:
    """Return the real adapters on the lines, where the board is real."""
    hardware = options.hardware
    if hardware is None:
        return {}
    station = site.stations[0].id
    devices = {f"bus-{station}": {"adapter": str(hardware.bus)}, sites.UPLINK: {"adapter": str(hardware.uplink)}}
    return {"devices": devices, "device_baud": hardware.bus_baud}


def world_json(site: Site, options: BenchOptions) -> dict[str, Any]:
    """Return the world: where each station stands, and its instruments."""
    stations = [
        {
            "id": s.id,
            "river_km": s.river_km,
            "port": str(site.line(f"bus-{s.id}", "instruments")),
            "shift_s": site.places[s.id].shift_s,
            "elevation_m": site.places[s.id].elevation_m,
            **({} if options.shown is None else {"instruments": options.shown}),
        }
        for s in site.stations
    ]
    replay = str(options.replay) if options.replay else None
    return {"stations": stations, "seed": options.seed, "replay": replay, "socket": str(site.socket("world"))}
