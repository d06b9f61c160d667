"""Configuration files: every fault ends as ConfigurationError with file and line, what is accepted can be used."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alerts.configuration import load_alerts
from cloud_ingest import imports
from cloud_ingest.column_files import ColumnMap, load_map, read_columns
from cloud_ingest.configuration import load_configuration as load_cloud
from cloud_ingest.errors import FileRefused
from cloud_ingest.tests.test_import import MAP
from edge_gateway.configuration import load_configuration as load_gateway
from edge_gateway.tests.test_direct import GATEWAY as DIRECT_GATEWAY
from edge_gateway.tests.test_warning_configuration import GATEWAY, RULES, WARNING
from edge_gateway.warning_configuration import load_warning
from hil_tests.fuzz import scratch
from hil_tests.fuzz.graft import json_of, seeds_of, toml_of
from hil_tests.fuzz.target import Target
from hil_tests.fuzz.targets.instruments import NETWORK, _on_the_board
from simulators.errors import SimulatorError
from simulators.lines import load as load_lines
from simulators.replay import read_series
from simulators.world import read_configuration as load_world
from station_config.board import board_configuration, encode
from station_config.calibration import Calibration, apply, in_order
from station_config.errors import ConfigurationError
from station_config.network import load_network
from station_config.quality import read_tests
from station_config.thresholds import read_thresholds

NOW = 1_795_000_000.0
CLOUD = """network = "network.toml"
state_dir = "state"
[broker]
host = "mqtt.example.org"
port = 8883
user = "cloud"
password_file = "password"
[http]
port = 8600
[alerts]
rules = "rules.toml"
[sms]
url = "https://sms.example.org/send"
token_file = "token"
[commands]
key_file = "key.pem"
repeat_s = 30.0
database = "postgresql://h/d"
[retention]
archive_after_years = 3
"""
MODBUS = '[modbus_server]\nhost = "127.0.0.1"\nport = 1502\n'
WORLD = {
    "stations": [{"id": "xuan-hoa", "river_km": 43.0, "port": "/dev/x", "shift_s": 1.0,
                  "instruments": [{"sensor": 1, "model": "yosemitech-y520", "address": 1}],
                  "buckets": [{"pin": 3, "per_tip_mm": 0.2, "pins": "/p"}]}],
    "seed": 1, "socket": "/s", "noise": 1.0,
}  # fmt: skip
LINES = {"dir": "/d", "socket": "/s", "lines": {"bus": ["a", "b"]}, "baud": 9600, "seed": 1}
CALIBRATION = {"id": 1, "station": "xuan-hoa", "sensor": 1, "parameter": "conductivity_25", "valid_from": 1771000000,
               "valid_to": 1781000000, "coefficients": [0.02, 1.013], "drift_to": [0.0, 1.1], "entered_at": 1781000001,
               "entered_by": "Ba", "withdrawn_at": None, "note": ""}  # fmt: skip
TABLE = """giờ,EC,ghi chú,nhiệt độ
01/03/2019 00:00,4100,tốt,27.5
01/03/2019 00:10,,hỏng,x
31/02/2019 00:00,1e400,,-
"""
CDMO = "StationCode,DateTimeStamp,Temp,SpCond,Sal,Depth,F_Temp,F_SpCond,F_Sal,F_Depth\n" + 2 * (
    "wkbfrwq,03/01/2019 00:00,27.5,4.1,2.2,1.1,<0>,<-3>,<0>,<0>\n"
)
UTC = "datetime_utc,temp,spcond,sal,depth,f_temp\n2019-03-01 00:00,27.5,4.1,2.2,1.1,0\n2019-03-01 00:15,1,2,3,4,0\n"


@cache
def _plain(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def _toml(text: str, name: str, use: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Return a target's function: a file of that name, made of data, is read."""

    def try_one(data: bytes) -> None:
        file = scratch.written(name, toml_of(_plain(text), data))
        use(file)

    return try_one


def _network(file: Path) -> None:
    network = load_network(file)
    for station in network.stations:
        try:
            said = encode(board_configuration(network, station.id))
        except ConfigurationError:
            continue
        assert _on_the_board(said).station == station.id


def _rules(file: Path) -> None:
    load_alerts(file, _demo_network(), NOW)


@cache
def _demo_network() -> Any:
    return load_network(NETWORK)


def _gateway(file: Path) -> None:
    _beside(file)
    loaded = load_gateway(file)
    if loaded.warning is not None and loaded.network is not None:
        load_warning(loaded.warning, loaded.network, frozenset(loaded.station_ids), NOW)


def _beside(file: Path) -> None:
    """Put the files a configuration names beside it."""
    if not (file.parent / "network.toml").exists():
        shutil.copyfile(NETWORK, file.parent / "network.toml")
        (file.parent / "rules.toml").write_text(RULES)


def _map(file: Path) -> None:
    column_map = load_map(str(file))
    table = scratch.written("table.csv", TABLE)
    _import(table, column_map)


def _import(table: Path, column_map: ColumnMap) -> None:
    brought = imports.read_import(table, column_map, "xuan-hoa")
    assert imports.read_import(table, column_map, "xuan-hoa").journal == brought.journal
    for message in brought.messages():
        assert message.payload


def _table(data: bytes) -> None:
    """Read somebody's table by our map; every line is used, or counted as refused."""
    suffix = ".csv.gz" if data[:2] == b"\x1f\x8b" else ".csv"
    table = scratch.written("table" + suffix, data)
    column_map = _our_map()
    read = read_columns(table, column_map)
    assert len(read.times) + read.refused == read.lines
    _import(table, column_map)


@cache
def _our_map() -> ColumnMap:
    return load_map(str(scratch.written("our-map.toml", MAP)))


def _series(data: bytes) -> None:
    read_series(scratch.written("series.csv", data), -6.0)


def _calibration(data: bytes) -> None:
    record = Calibration.model_validate_json(json_of(CALIBRATION, data))
    assert Calibration.model_validate_json(record.model_dump_json()) == record
    import numpy as np

    times = np.array([0, record.valid_from, 1_781_000_000], np.int64)
    apply(in_order([record]), times, np.linspace(0.0, 60.0, len(times)))


def _json(document: Any, name: str, use: Callable[[Path], object]) -> Callable[[bytes], None]:
    def try_one(data: bytes) -> None:
        use(scratch.written(name, json_of(document, data)))

    return try_one


def _seeds(text: str) -> Callable[[], Iterator[bytes]]:
    return lambda: seeds_of(_plain(text), text.encode())


def targets() -> list[Target]:
    """Return the targets of this module."""
    refuses = (ConfigurationError,)
    network = NETWORK.read_text()
    gateway = GATEWAY + WARNING + MODBUS
    direct = DIRECT_GATEWAY.format(baud=9600, direct='[[direct]]\nstation = "vam-kenh"\nline = "bus"')
    station = Path(_station_file("quality.toml")).read_text()
    thresholds = Path(_station_file("thresholds.toml")).read_text()
    return [
        Target("network-toml", _toml(network, "a.toml", _network), refuses, _seeds(network), 4000),
        Target("gateway-toml", _toml(gateway, "gateway.toml", _gateway), refuses, _seeds(gateway), 1500),
        Target("gateway-direct-toml", _toml(direct, "gateway.toml", _gateway), refuses, _seeds(direct), 1500),
        Target("cloud-toml", _toml(CLOUD, "cloud.toml", load_cloud), refuses, _seeds(CLOUD), 1500),
        Target("rules-toml", _toml(RULES + PERSON, "rules.toml", _rules), refuses, _seeds(RULES + PERSON), 1500),
        Target("quality-toml", _toml(station, "quality.toml", read_tests), refuses, _seeds(station), 3000),
        Target("thresholds-toml", _toml(thresholds, "t.toml", read_thresholds), refuses, _seeds(thresholds), 3000),
        Target("map-toml", _toml(MAP, "map.toml", _map), (*refuses, FileRefused), _seeds(MAP), 1500),
        Target("table-csv", _table, (FileRefused,), lambda: [TABLE.encode()], 1500),
        Target("series-csv", _series, (SimulatorError,), lambda: [CDMO.encode(), UTC.encode()], 1500),
        Target("world-json", _json(WORLD, "world.json", load_world), (SimulatorError,),
               lambda: seeds_of(WORLD, b"{}"), 1500),
        Target("lines-json", _json(LINES, "lines.json", load_lines), (SimulatorError,),
               lambda: seeds_of(LINES, b"{}"), 1500),
        Target("calibration", _calibration, (ValidationError,), lambda: seeds_of(CALIBRATION, b"{}"), 1500),
    ]  # fmt: skip


PERSON = """[[person]]
name = "Ba Tám"
phone = "0912 345 678"
rules = ["rice"]
[[text]]
id = "own"
kind = "raised"
language = "vi"
sms = "{station}: {value} {unit} {time}"
page = "{station}"
effective_from = 2026-01-01
source = "office"
"""


def _station_file(name: str) -> str:
    import station_config

    return str(Path(station_config.__file__ or "").with_name(name))
