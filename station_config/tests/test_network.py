"""network.toml: what is wrong between its rows is found with everything else, in one go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from station_config.errors import ConfigurationError
from station_config.network import Network, load_network

SECOND_STATION = """
[[stations]]
id = "vam-kenh"
name_vi = "Vàm Kênh"
name_en = "Vam Kenh"
latitude = 10.274
longitude = 106.737
river = "Cửa Tiểu"
river_km = 2.0
gateway = "gw-mytho"
address = 12
sample_interval_s = 10
record_interval_s = 60
sensors = []
"""


def test_a_right_network_is_loaded(network: Network) -> None:
    station = network.station("xuan-hoa")
    assert (
        network.timezone,
        [s.id for s in network.stations_of("gw-mytho")],
        station.sensor(2).elevation_m,
        [sensor.instrument for sensor in station.sensors],
    ) == ("Asia/Ho_Chi_Minh", ["xuan-hoa"], -2.5, ["yosemitech-y520", "keller-acculevel", "ecowitt-wn90lp"])


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('id = "xuan-hoa"', 'id = "Xuan Hoa"', "7: stations[0].id: an id is 1 to 32 of a-z, 0-9"),
        ('id = "xuan-hoa"', 'id = "dong-thap-82"', "7: stations[0].id: no administrative codes"),
        ('gateway = "gw-mytho"', 'gateway = "gw-x"', "14: stations[0].gateway: no gateway of this id"),
        ("latitude = 10.3366", "latitude = 103366", "10: stations[0].latitude: Input should be less"),
        ("record_interval_s = 60", "record_interval_s = 65", "6: stations[0]: record_interval_s must be a multiple"),
        ("record_interval_s = 60", "record_interval_s = 70", "6: stations[0]: record_interval_s must divide a day"),
        (
            "val_s = 10\nrecord_interval_s = 60",
            "val_s = 1\nrecord_interval_s = 1",
            "32: stations[0].sensors[2].instrument: has",
        ),
        ("number = 2", "number = 1", "25: stations[0].sensors[1].number: this sensor number is used twice"),
        ("address = 2\n", "address = 1\n", "27: stations[0].sensors[1].address: this address on the bus is"),
        ("address = 0x90", "address = 248", "33: stations[0].sensors[2].address: of Modbus a number 1 to 247"),
        ('"keller-acculevel"', '"keller"', "26: stations[0].sensors[1].instrument: not a known instrument"),
        ("0x90", "9\nserial = { baud = 4800 }", "32: stations[0].sensors[2].instrument: talks at 4800 8N1"),
        ('y520"', 'y520"\nelevation_m = 1.0', "22: stations[0].sensors[0].elevation_m: only an instrument that"),
        ("0x90", "9\nlimits = { ph = [1.0, 2.0] }", "34: stations[0].sensors[2].limits.ph: this instrument"),
        ("0x90", "9\nlimits = { uv_index = [5.0, 99.0] }", "34: stations[0].sensors[2].limits: uv_index: limits"),
        ("\n\n", '\ntimezone = "Asia/Cao_Lanh"\n\n', "2: timezone: not a time zone of the tz database"),
    ],
)
def test_a_spoilt_row_is_named_with_its_line(
    network_text: str, write_network: Callable[[str], Path], old: str, new: str, fault: str
) -> None:
    path = write_network(network_text.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        load_network(path)
    assert [line for line in str(caught.value).splitlines() if line.startswith(f"{path}:{fault}")], caught.value


def test_faults_of_all_kinds_come_together(network_text: str, write_network: Callable[[str], Path]) -> None:
    spoilt = network_text.replace("river =", "rivr =").replace("number = 3", "number = 2").replace("= 11", "= 0")
    with pytest.raises(ConfigurationError) as caught:
        load_network(write_network(spoilt))
    places = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert places == ["stations[0].river", "stations[0].rivr", "stations[0].address", "stations[0].sensors[2].number"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("address = 12", "address = 11", "stations[1].address: this address on the gateway's line is used twice"),
        ('id = "vam-kenh"', 'id = "xuan-hoa"', "stations[1].id: this station id is used twice, first at stations[0]"),
    ],
)
def test_two_stations_in_each_others_way(
    network_text: str, write_network: Callable[[str], Path], old: str, new: str, fault: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_network(write_network(network_text + SECOND_STATION.replace(old, new)))
    assert fault in str(caught.value)


def test_a_commissioned_baud_rate_frees_the_bus_of_the_conflict(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    slow = network_text.replace("address = 1\n", "address = 1\nserial = { baud = 4800 }\n")
    slow = slow.replace("address = 2\n", "address = 2\nserial = { baud = 4800 }\n")
    slow = slow.replace("address = 0x90\n", "address = 0x90\nserial = { baud = 4800 }\n")
    assert len(load_network(write_network(slow)).stations) == 1


def test_an_unknown_station_says_which_there_are(network: Network) -> None:
    with pytest.raises(ConfigurationError, match="no station 'hoa-binh' in the network; it has xuan-hoa"):
        network.station("hoa-binh")
