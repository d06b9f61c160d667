"""Instruments as data: the shipped ones speak as documented, and the schema holds what documented ones need."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import pytest

from firmware.record import crc16
from station_config.errors import ConfigurationError
from station_config.instruments import Instrument, Read, load_instruments, read_instruments
from station_config.toml_config import parse

FRAMES = Path(__file__).parents[3] / "shared" / "vectors" / "modbus_frames.csv"
HEADER = 'vendor = "v"\nmodel = "m"\nsource = "a manual"\nconfirmed_on_device = false\ndefault_address = 1\n'
FIELD = '[[reads]]\nfc = 3\nregister = 0\ncount = 2\n[[reads.fields]]\nparameter = "ph"\nat = 0\ntype = "f32"\n'

Y520_REQUEST = "01 03 26 00 00 05 8E 81"
Y520_ANSWER = "01 03 0A 00 00 8D 41 00 00 8D 41 00 00 C7 33"
Y520_START = "01 10 1C 00 00 00 00 D8 92"


def test_the_three_shipped_instruments_measure_what_they_should() -> None:
    assert {name: i.parameters for name, i in load_instruments().items()} == {
        "yosemitech-y520": ("water_temperature", "conductivity_25"),
        "keller-acculevel": ("water_pressure", "water_temperature"),
        "ecowitt-wn90lp": (
            *("illuminance", "uv_index", "air_temperature", "relative_humidity", "wind_speed"),
            *("wind_speed_of_gust", "wind_from_direction", "rain_total", "air_pressure"),
        ),
    }


def test_the_y520_is_asked_and_started_as_documented_bit_for_bit() -> None:
    y520 = load_instruments()["yosemitech-y520"]
    start = y520.start
    assert start is not None
    started = struct.pack(">BBHHB", 1, start.fc, start.first_register, len(start.values), 2 * len(start.values))
    assert (_frame(_request(y520.reads[0])), _frame(started)) == (Y520_REQUEST, Y520_START)


def test_the_y520_answer_of_its_manual_is_understood() -> None:
    assert _decode("yosemitech-y520", Y520_ANSWER) == {"water_temperature": 17.625, "conductivity_25": 17.625}


def test_the_wn90lp_example_of_its_manual_is_understood() -> None:
    registers = (1767, 13, 662, 60, 0, 0, 150, 0, 10010)
    answer = b"\x90\x03\x12" + struct.pack(">9H", *registers)
    assert _decode("ecowitt-wn90lp", _frame(answer)) == pytest.approx(
        {
            "illuminance": 17670.0,
            "uv_index": 1.3,
            "air_temperature": 26.2,
            "relative_humidity": 60.0,
            "wind_speed": 0.0,
            "wind_speed_of_gust": 0.0,
            "wind_from_direction": 150.0,
            "rain_total": 0.0,
            "air_pressure": 1001.0,
        }
    )


@pytest.mark.skipif(not FRAMES.exists(), reason="the shared frames are not beside this checkout")
def test_the_frames_used_here_are_among_the_documented_ones() -> None:
    documented = {row["frame_hex"] for row in csv.DictReader(FRAMES.read_text(encoding="utf-8").splitlines())}
    assert {Y520_REQUEST, Y520_ANSWER, Y520_START} <= documented


@pytest.mark.parametrize(
    ("need", "text"),
    [
        ("sleeps, the first message is lost", f"{HEADER}timing = {{ wake_ms = 2000 }}\n{FIELD}"),
        ("text on power-on", f"{HEADER}timing = {{ boot_noise = true }}\n{FIELD}"),
        ("115200 baud", f"{HEADER}serial = {{ baud = 115200 }}\n{FIELD}"),
        ("two stop bits", f"{HEADER}serial = {{ stop = 2 }}\n{FIELD}"),
        ("even parity", f'{HEADER}serial = {{ baud = 19200, parity = "E" }}\n{FIELD}'),
        ("address 247", f"{HEADER.replace('= 1', '= 247')}{FIELD}"),
        (
            "a started measurement, its wait read from the device",
            f"{HEADER}[start]\nfc = 16\nregister = 1\nvalues = [0x1F]\neach_sample = true\n"
            f"wait = {{ register_ms = 0x00A4, factor = 2.0 }}\n{FIELD}",
        ),
        ("a start that is a question for no registers", f"{HEADER}[start]\nfc = 3\nregister = 0x2500\n{FIELD}"),
        ("a start by function 6, a fixed wait", f"{HEADER}[start]\nfc = 6\nregister = 1\nvalues = [1]\n{FIELD}"),
        (
            "a wiper that forgets its interval",
            f"{HEADER}[wiper]\nfc = 16\nregister = 0x3100\nbusy_ms = 15000\ninterval_register = 0x3200\n"
            f"interval_min = 30\ninterval_lost_at_power_off = true\n{FIELD}",
        ),
        (
            "an address asked by an address of its own",
            f"{HEADER}discovery = {{ address = 255, fc = 3, register = 0x3000 }}\n{FIELD}",
        ),
        ("a status bit", f'{HEADER}{FIELD}[reads.status]\nat = 0\ntype = "u16"\nmask = 1\nok = [0]\n'),
        ("CDAB", f'{HEADER}{FIELD}order = "CDAB"\n'),
        ("BADC", f'{HEADER}{FIELD}order = "BADC"\n'),
        ("NaN as a code, a sentinel", f"{HEADER}{FIELD}invalid = [0xFFFFFFFF, 0xC61C3C00]\n"),
        ("input registers", f"{HEADER}{FIELD.replace('fc = 3', 'fc = 4')}"),
    ],
)
def test_the_schema_can_say(need: str, text: str) -> None:
    assert parse(text, Instrument, "x.toml").parameters == ("ph",), need


@pytest.mark.parametrize(
    ("addition", "complaint"),
    [
        ('order = "AB"\n', "order of f32: one of ABCD, BADC, CDAB, DCBA"),
        ("scale = 0.0\n", "scale 0 makes every value 0"),
        ('statistic = "direction"\n', 'statistic "direction" belongs to directions, and they to it'),
        (
            'compensation = { kind = "nlf" }\n',
            "conductivity_25 needs its compensation (linear or nlf), conductivity has none",
        ),
        ('speed = "wind_speed"\n', "speed = 'wind_speed': not a parameter of this instrument"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(addition: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(HEADER + FIELD + addition, Instrument, "x.toml")
    assert str(caught.value).endswith(complaint)


def test_the_faults_of_all_files_of_a_folder_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(HEADER + FIELD.replace("at = 0", "at = 2"), encoding="utf-8")
    (tmp_path / "b.toml").write_text(HEADER + FIELD.replace('"ph"', '"salinity"'), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_instruments(tmp_path)
    assert [line.split(": ", 1)[0] for line in str(caught.value).splitlines()] == [
        f"{tmp_path}/a.toml:6",
        f"{tmp_path}/b.toml:10",
    ]


def _request(read: Read) -> bytes:
    return struct.pack(">BBHH", 1, read.fc, read.first_register, read.count)


def _frame(body: bytes) -> str:
    return (body + struct.pack("<H", crc16(body))).hex(" ").upper()


def _decode(instrument: str, frame_hex: str) -> dict[str, float]:
    """Decode an answer by the instrument's file, the way anybody reading that file would."""
    data = bytes.fromhex(frame_hex)[3:-2]
    codes = {"f32": ">f", "u16": ">H"}
    values = {}
    for field in load_instruments()[instrument].reads[0].fields:
        size = struct.calcsize(codes[field.type])
        places = ["ABCD".index(letter) for letter in field.effective_order]
        received = data[field.at : field.at + size]
        ordered = bytes(received[places.index(i)] for i in range(size))
        values[field.parameter] = struct.unpack(codes[field.type], ordered)[0] * field.scale + field.offset
    return values
