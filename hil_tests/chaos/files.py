"""The configuration files of a chaos run: for the real commands as an operator would write them, for the simulators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hil_tests.chaos.layout import DWELL_S, ELEVATION_M, RECORD_S, SAMPLE_S, STALE_AFTER_S, Layout


def write_files(layout: Layout, password_file: dict[str, Path], token_file: Path, servers: str) -> None:
    """Write network.toml, rules.toml, a file for each gateway, the cloud's, and those of the simulators.

    `servers`: what cloud.toml says of a cluster's databases.
    """
    (layout.folder / "boards").mkdir(exist_ok=True)
    texts = {
        "network": _network(layout),
        "rules": _rules(layout),
        "cloud": _cloud(layout, password_file, token_file) + servers,
    }
    texts |= {gateway: _gateway(layout, gateway, password_file[gateway]) for gateway in layout.gateways}
    for name, text in texts.items():
        layout.configuration(name).write_text(text, encoding="utf-8")
    lines = {"dir": str(layout.folder / "lines"), "socket": str(layout.socket("lines")), "lines": layout.lines}
    (layout.folder / "lines.json").write_text(json.dumps({**lines, "seed": layout.seed}), encoding="utf-8")
    (layout.folder / "world.json").write_text(json.dumps(_world(layout)), encoding="utf-8")


def _network(layout: Layout) -> str:
    text = 'name = "Chaos"\n' + "".join(f'[[gateways]]\nid = "{gateway}"\n' for gateway in layout.gateways)
    for station in layout.stations:
        text += f"""
[[stations]]
id = "{station.id}"
name_vi = "Trạm {station.number}"
name_en = "Station {station.number}"
latitude = {10.2 + 0.01 * station.number:.2f}
longitude = {106.7 - 0.01 * station.number:.2f}
river = "Cửa Tiểu"
river_km = {station.river_km}
gateway = "{station.gateway}"
address = {station.address}
hardware = "{"gateway" if station.direct else "esp32"}"
sample_interval_s = {SAMPLE_S}
record_interval_s = {RECORD_S}
sensors = [
  {{ number = 1, instrument = "yosemitech-y520", address = 1 }},
  {{ number = 2, instrument = "keller-acculevel", address = 2, elevation_m = {ELEVATION_M} }},
]
"""
    return text


def _rules(layout: Layout) -> str:
    text = ""
    for rule in layout.rules:
        text += f"""[[rule]]
id = "{rule.id}"
parameter = "salinity"
stations = ["{rule.station}"]
set_level = {rule.set_level}
clear_level = {rule.clear_level}
set_dwell_s = {DWELL_S}
clear_dwell_s = {DWELL_S}
stale_after_s = {STALE_AFTER_S}
severity = "warning"

"""
    for person in layout.persons:
        rules = ", ".join(f'"{rule}"' for rule in person.rules)
        text += f'[[person]]\nname = "{person.name}"\nphone = "{person.phone}"\nrules = [{rules}]\n\n'
    return text


def _cloud(layout: Layout, password_file: dict[str, Path], token_file: Path) -> str:
    return f"""network = "network.toml"
state_dir = "cloud"
[broker]
port = {layout.ports.broker}
user = "cloud"
password_file = "{password_file["cloud"]}"
[http]
port = {layout.ports.cloud}
[alerts]
rules = "rules.toml"
[sms]
url = "http://127.0.0.1:{layout.ports.phone}"
token_file = "{token_file}"
"""


def _gateway(layout: Layout, gateway: str, password_file: Path) -> str:
    text = f"""id = "{gateway}"
state_dir = "{gateway}"
network = "network.toml"
poll_interval_s = {max(0.2, 15.0 / layout.speed):g}
[outbox]
gather_s = 0.2
[broker]
port = {layout.ports.links[gateway]}
user = "{gateway}"
password_file = "{password_file}"
commit_timeout_s = 5
retry_max_s = 3
"""
    return text + "".join(_lines_of(layout, gateway))


def _lines_of(layout: Layout, gateway: str) -> Iterator[str]:
    stations = layout.of(gateway)
    for line in dict.fromkeys(station.line for station in stations):
        yield f'[[line]]\nname = "{line}"\nport = "{layout.port(line, "gateway")}"\nbaud = 9600\ntimeout_s = 1.0\n'
        for station in stations:
            if station.line == line and not station.direct:
                yield f'[[line.station]]\nid = "{station.id}"\naddress = {station.address}\n'
    for station in stations:
        if station.direct:
            yield f'[[direct]]\nstation = "{station.id}"\nline = "{station.line}"\n'


def _world(layout: Layout) -> dict[str, object]:
    stations = [
        {
            "id": station.id,
            "river_km": station.river_km,
            "elevation_m": ELEVATION_M,
            "port": str(layout.port(station.bus, "instruments")),
            "instruments": [
                {"sensor": 1, "model": "yosemitech-y520", "address": 1},
                {"sensor": 2, "model": "keller-acculevel", "address": 2},
            ],
        }
        for station in layout.stations
    ]
    return {
        "stations": stations,
        "seed": layout.seed,
        "socket": str(layout.socket("world")),
        "answers": str(layout.answers),
    }
