"""station.json: what the firmware is told, and what it is spared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from station_config.board import board_configuration, encode
from station_config.errors import ConfigurationError
from station_config.instruments import Instrument, load_instruments
from station_config.network import Network, load_network
from station_config.toml_config import parse

PH_METER = """
vendor = "v"
model = "m"
source = "s"
from_memory = []
confirmed_on_device = false
default_address = 1
[[reads]]
fc = 3
register = 0
count = 3
status = { at = 4, type = "u16", ok = [0] }
fields = [{ parameter = "ph", at = 0, type = "f32" }]
"""


def test_the_configuration_of_a_station_as_the_firmware_reads_it(network: Network) -> None:
    configuration = board_configuration(network, "xuan-hoa")
    sensors = configuration.pop("sensors")
    serial = {"baud": 9600, "bits": 8, "parity": None, "stop": 1}
    assert configuration == {
        "version": 1,
        "station": "xuan-hoa",
        "address": 11,
        "sample_s": 10,
        "record_s": 60,
        "bus": {"uart": 1, **serial, "tx": 17, "rx": 16, "de": 4},
        "uplink": {"uart": 2, **serial, "tx": 26, "rx": 25, "de": 27},
        "journal": {"segment_records": 512, "max_bytes": 524288},
    }
    assert sensors[0] == {
        "number": 1,
        "address": 1,
        "timeout_ms": 500,
        "retries": 1,
        "warmup_ms": 2400,
        "start": {"fc": 16, "register": 7168},
        "reads": [
            {
                "fc": 3,
                "register": 9728,
                "count": 5,
                "fields": [
                    {"parameter": 32, "at": 0, "type": "f32", "order": "DCBA", "decimals": 2},
                    {"parameter": 34, "at": 4, "type": "f32", "order": "DCBA", "decimals": 3},
                ],
                "status": {"at": 8, "type": "u8", "ok": [0]},
            }
        ],
    }


def test_a_wind_vane_is_weighted_with_its_speed(network: Network) -> None:
    fields = board_configuration(network, "xuan-hoa")["sensors"][2]["reads"][0]["fields"]
    wind = {f["parameter"]: (f.get("statistic"), f.get("speed")) for f in fields if f["parameter"] in (67, 68, 69, 70)}
    assert wind == {67: (None, None), 69: ("max", None), 68: ("direction", 67), 70: ("last", None)}


def test_the_bytes_are_compact_and_the_same_every_time(network: Network) -> None:
    encoded = encode(board_configuration(network, "xuan-hoa"))
    assert encoded == encode(board_configuration(network, "xuan-hoa"))
    assert json.loads(encoded) == board_configuration(network, "xuan-hoa")
    assert b" " not in encoded


@pytest.mark.parametrize("scale", [1e39, 1e-60])
def test_a_number_beyond_single_floats_is_refused(scale: float) -> None:
    with pytest.raises(ConfigurationError, match="does not fit a board's single-precision float"):
        encode({"sensors": [{"scale": scale}]})


def _first_sensor(network_text: str, write_network: Callable[[str], Path], toml: str) -> dict[str, Any]:
    instruments = {**load_instruments(), "ph-meter": parse(toml, Instrument, "ph-meter.toml")}
    path = write_network(network_text.replace("yosemitech-y520", "ph-meter"))
    sensor: dict[str, Any] = board_configuration(load_network(path, instruments), "xuan-hoa", instruments)["sensors"][0]
    return sensor


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("timing = { wake_ms = 2000 }", {"wake_ms": 2000}),
        ("timing = { minimum_interval_ms = 10000 }", {}),
        ("timing = { minimum_interval_ms = 10001 }", {"every": 2}),
        ("timing = { minimum_interval_ms = 60000 }", {"every": 6}),
        ("start = { fc = 6, register = 1, values = [1] }", {"start": {"fc": 6, "register": 1, "values": [1]}}),
        ("start = { fc = 3, register = 1, count = 1 }", {"start": {"fc": 3, "register": 1, "count": 1}}),
        (
            "start = { fc = 16, register = 1, values = [31], each_sample = true, wait = { fixed_ms = 700 } }",
            {"start": {"fc": 16, "register": 1, "values": [31], "each_sample": True, "wait_ms": 700}},
        ),
        (
            "start = { fc = 16, register = 1, each_sample = true, wait = { register_ms = 164, factor = 2.0 } }",
            {"start": {"fc": 16, "register": 1, "each_sample": True, "wait_register": 164, "wait_factor": 2.0}},
        ),
    ],
)
def test_how_an_instrument_wants_to_be_asked_is_told(
    network_text: str, write_network: Callable[[str], Path], said: str, told: dict[str, Any]
) -> None:
    sensor = _first_sensor(network_text, write_network, PH_METER.replace("[[reads]]", f"{said}\n[[reads]]"))
    plain = {"number", "address", "timeout_ms", "retries", "warmup_ms", "reads"}
    assert {key: value for key, value in sensor.items() if key not in plain} == told


def test_a_status_tells_its_mask_and_for_whom_it_speaks(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    text = PH_METER.replace("ok = [0]", 'ok = [0], mask = 1, scope = "instrument"')
    status = _first_sensor(network_text, write_network, text)["reads"][0]["status"]
    assert status == {"at": 4, "type": "u16", "ok": [0], "mask": 1, "scope": "instrument"}


def test_an_instrument_slower_than_the_records_is_refused(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    text = PH_METER.replace("[[reads]]", "timing = { minimum_interval_ms = 60001 }\n[[reads]]")
    with pytest.raises(ConfigurationError, match=r"has a value every 60\.001 s at most; lengthen record_interval_s"):
        _first_sensor(network_text, write_network, text)


def test_more_than_a_board_can_hold_is_refused_in_words(network: Network) -> None:
    station = network.station("xuan-hoa")
    weather = station.sensors[2]
    many = tuple(weather.model_copy(update={"number": number, "address": number}) for number in range(1, 9))
    crowded = network.model_copy(update={"stations": (station.model_copy(update={"sensors": many}),)})
    with pytest.raises(ConfigurationError) as caught:
        board_configuration(crowded, "xuan-hoa")
    assert str(caught.value) == "station xuan-hoa: its sensors measure 72 parameters; a board takes 64"
