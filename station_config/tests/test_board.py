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
from station_config.sampling import sample_interval
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
        "journal": {"segment_records": 672, "max_bytes": 524288},
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


# Sampling: who is sampled and recorded when, and what is recorded besides


def changed(network_text: str, write_network: Callable[[str], Path], *pairs: tuple[str, str]) -> Network:
    for old, new in pairs:
        assert old in network_text
        network_text = network_text.replace(old, new, 1)
    return load_network(write_network(network_text))


Y520 = 'instrument = "yosemitech-y520"\n'
WN90 = 'instrument = "ecowitt-wn90lp"\n'


def channels(configuration: dict[str, Any], number: int) -> dict[int, tuple[str, int | None, int | None]]:
    """Return parameter code -> (statistic, record_s, average_s) of a sensor."""
    sensor = next(sensor for sensor in configuration["sensors"] if sensor["number"] == number)
    fields = [field for read in sensor["reads"] for field in read["fields"]]
    return {f["parameter"]: (f.get("statistic", "mean"), f.get("record_s"), f.get("average_s")) for f in fields}


def test_a_station_that_records_every_ten_minutes_averages_as_wmo_says(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    network = changed(network_text, write_network, ("record_interval_s = 60", "record_interval_s = 600"))
    configuration = board_configuration(network, "xuan-hoa")
    weather = channels(configuration, 3)
    assert configuration["record_s"] == 60
    assert (weather[64], weather[67], weather[70]) == (("mean", 600, 60), ("mean", 600, None), ("last", 600, None))
    assert channels(configuration, 1)[34] == ("mean", 600, None)


UNSAID = ("sample_interval_s = 10\nrecord_interval_s = 60\n", "")
CWT = 'instrument = "cwt-7in1"\nserial = { baud = 9600 }\n'


def test_where_nobody_says_how_often_wmo_does(network_text: str, write_network: Callable[[str], Path]) -> None:
    network = changed(network_text, write_network, UNSAID, (WN90, CWT))
    configuration = board_configuration(network, "xuan-hoa")
    weather, probe = channels(configuration, 3), channels(configuration, 1)
    assert (configuration["sample_s"], configuration["record_s"]) == (1, 60)
    assert [sensor.get("every", 1) for sensor in configuration["sensors"]] == [10, 10, 1]
    assert (weather[67], weather[68], weather[69]) == (
        ("mean", 600, None),
        ("direction", 600, None),
        ("gust", 600, None),
    )
    assert weather[64] == weather[66] == probe[34] == ("mean", None, None)  # a minute's mean every minute


def test_a_station_without_wind_is_sampled_every_ten_seconds(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    network = changed(network_text, write_network, UNSAID, (WN90, 'instrument = "sensecap-orch-s4"\n'))
    configuration = board_configuration(network, "xuan-hoa")
    assert (configuration["sample_s"], configuration["record_s"]) == (10, 60)
    assert not [sensor for sensor in configuration["sensors"] if "every" in sensor]


@pytest.mark.parametrize(
    ("said", "sample_s", "wind"),
    [
        ("sample_interval_s = 20\n", 20, ("mean", 600, None)),
        ("record_interval_s = 300\n", 1, ("mean", 300, None)),
        ("sample_interval_s = 1\nrecord_interval_s = 60\n", 1, ("mean", None, None)),
    ],
)
def test_what_a_station_says_goes_before(
    network_text: str,
    write_network: Callable[[str], Path],
    said: str,
    sample_s: int,
    wind: tuple[str, int | None, int | None],
) -> None:
    network = changed(network_text, write_network, (UNSAID[0], said), (WN90, CWT))
    configuration = board_configuration(network, "xuan-hoa")
    assert (configuration["sample_s"], channels(configuration, 3)[67]) == (sample_s, wind)
    assert (69 in channels(configuration, 3)) is ("sample" not in said)  # gusts are not asked of who said how often


def test_no_instrument_is_asked_oftener_than_it_has_values() -> None:
    for name, instrument in load_instruments().items():
        every_s = sample_interval(instrument.parameters, instrument.timing.minimum_interval_ms)
        assert 1000 * every_s >= instrument.timing.minimum_interval_ms, name
        assert 60 % every_s == 0, name


def test_a_sensor_may_have_its_own_rhythm_power_and_burst(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    more = "sample_interval_s = 300\nrecord_interval_s = 300\npower = 32\nburst = { readings = 5, pause_ms = 200 }\n"
    network = changed(network_text, write_network, (Y520, Y520 + more))
    configuration = board_configuration(network, "xuan-hoa")
    probe = configuration["sensors"][0]
    assert (probe["every"], probe["power"], configuration["record_s"]) == (30, 32, 60)
    assert probe["burst"] == {"readings": 5, "statistic": "median", "pause_ms": 200}
    assert channels(configuration, 1)[34] == ("mean", 300, None)


def test_extremes_are_channels_of_their_own(network_text: str, write_network: Callable[[str], Path]) -> None:
    network = changed(network_text, write_network, (Y520, Y520 + 'statistics = { conductivity_25 = ["min", "max"] }\n'))
    probe = channels(board_configuration(network, "xuan-hoa"), 1)
    assert (probe[98], probe[99]) == (("min", None, None), ("max", None, None))


def test_a_tipping_bucket_is_a_pulse_input(network_text: str, write_network: Callable[[str], Path]) -> None:
    pulses = "record_interval_s = 60\npulses = [{ number = 9, pin = 14, per_pulse = 0.254 }]\n"
    network = changed(network_text, write_network, ("record_interval_s = 60\n", pulses))
    assert board_configuration(network, "xuan-hoa")["pulses"] == [
        {
            "number": 9,
            "pin": 14,
            "parameter": 70,
            "decimals": 1,
            "per_pulse": 2540,
            "debounce_ms": 80,
            "wrap": 1_000_000,
            "record_s": 60,
        }
    ]


@pytest.mark.parametrize(
    ("after", "more", "said"),
    [
        (Y520, 'statistics = { ph = ["max"] }', "sensor 1: statistics of ph, which it does not measure"),
        (WN90, 'statistics = { illuminance = ["max"] }', "sensor 3: no max of illuminance is recorded"),
        (WN90, 'statistics = { wind_speed = ["gust"] }', "sensor 3: measures wind_speed_of_gust by itself"),
        (WN90, "burst = { readings = 3 }", "sensor 3: a direction is not read in bursts"),
        (Y520, "power = 17", "pin 17 is used twice; the lines take 4, 16, 17, 25, 26, 27"),
    ],
)
def test_what_a_board_cannot_do_is_said_in_words(
    network_text: str, write_network: Callable[[str], Path], after: str, more: str, said: str
) -> None:
    network = changed(network_text, write_network, (after, f"{after}{more}\n"))
    with pytest.raises(ConfigurationError, match=said):
        board_configuration(network, "xuan-hoa")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("sample_interval_s = 15", "sensor 1: sample_interval_s must be a multiple"),
        ("record_interval_s = 90", "sensor 1: record_interval_s must be a multiple of the station's"),
        ("record_interval_s = 420", "and divide a day"),
        ("sample_interval_s = 120", "sensor 1: record_interval_s must be a multiple of sample_interval_s"),
    ],
)
def test_intervals_that_do_not_fit_are_refused(
    network_text: str, write_network: Callable[[str], Path], more: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        changed(network_text, write_network, (Y520, f"{Y520}{more}\n"))


def test_a_station_whose_instruments_the_gateway_asks_has_no_pins(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    without_board = network_text.replace("address = 11", 'address = 11\nhardware = "gateway"', 1)

    configuration = board_configuration(load_network(write_network(without_board)), "xuan-hoa")

    assert (configuration["bus"]["tx"], configuration["uplink"]["rx"]) == (None, None)
    assert (
        configuration["sensors"]
        == board_configuration(load_network(write_network(network_text)), "xuan-hoa")["sensors"]
    )


def test_pulses_and_switched_power_are_for_stations_with_a_board(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    text = network_text.replace(
        "address = 11", 'address = 11\nhardware = "gateway"\npulses = [{ number = 9, pin = 14, per_pulse = 0.2 }]', 1
    )

    with pytest.raises(ConfigurationError, match="has no board, so no pins"):
        board_configuration(load_network(write_network(text)), "xuan-hoa")
