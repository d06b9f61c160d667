"""SDI-12 instruments as data: what the schema can say, what it refuses, and rows of frames that are text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from station_config.board import board_configuration
from station_config.errors import ConfigurationError
from station_config.instruments import Instrument, load_instruments
from station_config.instruments.frames import find_frame_faults
from station_config.network import load_network
from station_config.toml_config import parse

HEADER = """vendor = "v"
model = "m"
source = "a manual"
from_memory = []
confirmed_on_device = false
protocol = "sdi12"
default_address = "0"
"""
MEASUREMENT = '[[measurements]]\ncommand = "C1"\ncrc = true\ncount = 2\nfields = [{ parameter = "ph", at = 1 }]\n'
COLUMNS = "what,request,answer,values,status,origin"
BEGUN = "measurement 0,0CC1!,000502,,,computed"
BROUGHT = "data 0,0D0!,0+1.5+7.24Kv},ph=7.24,,computed"


def probe(text: str = HEADER + MEASUREMENT) -> Instrument:
    return parse(text, Instrument, "probe.toml")


def test_at_least_three_sdi12_instruments_are_known_and_none_claims_a_device_nobody_tried() -> None:
    known = [one for one in load_instruments().values() if one.protocol == "sdi12"]
    assert len(known) >= 3
    assert not any(one.confirmed_on_device for one in known)


@pytest.mark.parametrize(
    ("command", "crc", "sent"), [("M", False, "M"), ("M", True, "MC"), ("C3", True, "CC3"), ("R0", True, "RC0")]
)
def test_a_measurement_is_sent_as_the_standard_writes_it(command: str, crc: bool, sent: str) -> None:
    text = MEASUREMENT.replace('"C1"', f'"{command}"').replace("true", str(crc).lower())
    assert probe(HEADER + text).measurements[0].full_command == sent


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('command = "C1"', 'command = "D0"', "String should match pattern"),
        ("at = 1", "at = 2", "at = 2: the measurement brings values 0 to 1"),
        ('default_address = "0"', "default_address = 1", "of SDI-12 one character in quotes"),
        ('default_address = "0"', 'default_address = "00"', "of SDI-12 one character 0-9, A-Z, a-z in quotes"),
        ("[[measurements]]", "serial = { baud = 9600 }\n[[measurements]]", "serial: of Modbus only"),
        ("[[measurements]]", "timing = { retries = 2 }\n[[measurements]]", "timing.retries: of Modbus only"),
        ('protocol = "sdi12"\n', "", "a Modbus instrument has reads"),
        ('parameter = "ph"', 'parameter = "salinity"', "is no observed parameter"),
        (
            "fields = [{",
            'fields = [{ parameter = "turbidity", at = 1 }, {',
            "one value is taken for two parameters",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(old: str, new: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        probe((HEADER + MEASUREMENT).replace(old, new, 1))


def test_all_faults_of_a_file_come_at_once() -> None:
    text = (HEADER + MEASUREMENT).replace('"C1"', '"Q"').replace('"ph"', '"nonsense"').replace('"v"', "7")
    with pytest.raises(ConfigurationError) as caught:
        probe(text)
    assert {line.split(": ")[0] for line in str(caught.value).splitlines()} == {
        "probe.toml:1",
        "probe.toml:9",
        "probe.toml:12",
    }


# Frames


def faults_of(folder: Path, *rows: str) -> list[str]:
    (folder / "probe.csv").write_text("\n".join((COLUMNS, *rows)) + "\n", encoding="utf-8")
    found = find_frame_faults(folder, {"probe": probe()})
    return [text.removeprefix(f"{folder}/probe.csv") for text in found]


def test_rows_that_agree_have_no_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path, BEGUN, BROUGHT) == []


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("measurement 0,0C1!,000502,,,computed", ":4: measurement 0: by the file the request is 0CC1!"),
        ("measurement 0,0CC1!,000503,,,computed", ":4: measurement 0: by the file the answer is address, three"),
        ("measurement 0,0CC1!,100502,,,computed", ":4: measurement 0: the answer is another sensor's"),
        ("measurement 4,0CC1!,000502,,,computed", ":4: measurement 4: cannot be understood"),
        ("data 0,0D0!,0+1.5+7.24Kv|,ph=7.24,,computed", ":4: data 0: cannot be understood: the CRC of the answer"),
        (BROUGHT.replace("=7.24", "=7.2"), ":4: data 0: ph: the bytes hold 7.24, the row says 7.2"),
        (BROUGHT.replace("0D0!", "0D1!"), ":4: data 0: by the file the request is 0D0!"),
        (BROUGHT.replace("computed", "heard"), ":4: data 0: origin is documented or computed"),
        ("read 0,01 03 00 00 00 01 84 0A,,,,computed", ":4: read 0: is not a row of SDI-12"),
    ],
)
def test_a_row_that_does_not_agree_is_named(tmp_path: Path, row: str, fault: str) -> None:
    assert [text for text in faults_of(tmp_path, BEGUN, BROUGHT, row) if text.startswith(fault)]


def test_a_measurement_without_rows_is_missed(tmp_path: Path) -> None:
    assert faults_of(tmp_path) == [": measurement 0 has no answer", ": data 0 has no answer"]


# At a station

HYDROS = 'instrument = "meter-hydros-21"\naddress = "3"\n'


def with_hydros(text: str, sensor: str = HYDROS) -> str:
    return text.replace('instrument = "yosemitech-y520"\naddress = 1\n', sensor, 1)


def test_a_station_with_both_kinds_has_both_lines_on_one_uart(
    network_text: str, write_network: Callable[[str], Path]
) -> None:
    network = load_network(write_network(with_hydros(network_text)))
    configuration = board_configuration(network, "xuan-hoa")
    probe, level = configuration["sensors"][:2]
    lines = configuration["bus"], configuration["sdi12"]
    assert [line["uart"] for line in lines] == [1, 1]
    assert len({line[pin] for line in lines for pin in ("tx", "rx", "de")}) == 6
    assert (probe["address"], probe["warmup_ms"], "reads" in probe, "reads" in level) == (ord("3"), 500, False, True)
    assert [(one["command"], [field["parameter"] for field in one["fields"]]) for one in probe["measurements"]] == [
        ("C", [35, 32, 34])
    ]


def test_a_station_without_sdi12_is_told_nothing_of_it(network_text: str, write_network: Callable[[str], Path]) -> None:
    assert "sdi12" not in board_configuration(load_network(write_network(network_text)), "xuan-hoa")


@pytest.mark.parametrize(
    ("sensor", "fault"),
    [
        (HYDROS.replace('"3"', "3"), 'address: one character in quotes, such as "0": it speaks SDI-12'),
        (HYDROS + "serial = { baud = 9600 }\n", "serial: remove it: SDI-12 is 1200 7E1 always"),
        (HYDROS + "burst = { readings = 3 }\n", "burst: remove it: an SDI-12 sensor takes its own readings"),
        ('instrument = "yosemitech-y520"\naddress = "1"\n', "address: a number: it speaks Modbus"),
    ],
)
def test_a_row_for_the_other_protocol_is_refused(
    network_text: str, write_network: Callable[[str], Path], sensor: str, fault: str
) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        load_network(write_network(with_hydros(network_text, sensor)))
