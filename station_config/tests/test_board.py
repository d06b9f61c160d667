"""station.json: what the firmware is told, and what it is spared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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
        "start": {"fc": 16, "register": 7168, "count": 0},
        "reads": [
            {
                "fc": 3,
                "register": 9728,
                "count": 5,
                "fields": [_field(32, 0, decimals=2), _field(34, 4, decimals=3)],
                "status": {"at": 8, "type": "u8", "ok": [0]},
            }
        ],
    }


def test_a_wind_vane_is_weighted_with_its_speed(network: Network) -> None:
    fields = board_configuration(network, "xuan-hoa")["sensors"][2]["reads"][0]["fields"]
    wind = {f["parameter"]: (f["statistic"], f.get("speed")) for f in fields if f["parameter"] in (67, 68, 69, 70)}
    assert wind == {67: ("mean", None), 69: ("max", None), 68: ("direction", 67), 70: ("last", None)}


def test_the_bytes_are_compact_and_the_same_every_time(network: Network) -> None:
    encoded = encode(board_configuration(network, "xuan-hoa"))
    assert encoded == encode(board_configuration(network, "xuan-hoa"))
    assert json.loads(encoded) == board_configuration(network, "xuan-hoa")
    assert b" " not in encoded


@pytest.mark.parametrize("scale", [1e39, 1e-60])
def test_a_number_beyond_single_floats_is_refused(scale: float) -> None:
    with pytest.raises(ConfigurationError, match="does not fit a board's single-precision float"):
        encode({"sensors": [{"scale": scale}]})


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("a first message that only wakes it", "[[reads]]", "timing = { wake_ms = 2000 }\n[[reads]]"),
        (
            "a start command that writes values",
            "[[reads]]",
            "start = { fc = 6, register = 1, values = [1] }\n[[reads]]",
        ),
        (
            "a start before each sample, or a wait after it",
            "[[reads]]",
            "start = { fc = 3, register = 1, each_sample = true }\n[[reads]]",
        ),
        ("a status with a mask", "ok = [0]", "ok = [0], mask = 1"),
        ("a status that speaks for other reads", "ok = [0]", 'ok = [0], scope = "instrument"'),
    ],
)
def test_what_the_firmware_does_not_do_is_refused_in_words(
    network_text: str, write_network: Callable[[str], Path], what: str, old: str, new: str
) -> None:
    instruments = {**load_instruments(), "ph-meter": parse(PH_METER.replace(old, new, 1), Instrument, "ph-meter.toml")}
    path = write_network(network_text.replace("yosemitech-y520", "ph-meter"))
    with pytest.raises(ConfigurationError) as caught:
        board_configuration(load_network(path, instruments), "xuan-hoa", instruments)
    assert str(caught.value) == (f"station xuan-hoa: sensor 1, ph-meter: needs {what}, which the firmware does not do")


def _field(parameter: int, at: int, decimals: int) -> dict[str, object]:
    return {
        "parameter": parameter,
        "at": at,
        "type": "f32",
        "order": "DCBA",
        "scale": 1.0,
        "offset": 0.0,
        "decimals": decimals,
        "statistic": "mean",
        "invalid": [],
    }
