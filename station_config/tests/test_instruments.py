"""Instruments as data: the shipped ones speak as documented, and the schema holds what documented ones need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from station_config import instruments
from station_config.errors import ConfigurationError
from station_config.instruments import Instrument, load_instruments, read_instruments
from station_config.toml_config import parse

HEADER = """vendor = "v"
model = "m"
source = "a manual"
from_memory = []
confirmed_on_device = false
default_address = 1
"""
FIELD = '[[reads]]\nfc = 3\nregister = 0\ncount = 2\n[[reads.fields]]\nparameter = "ph"\nat = 0\ntype = "f32"\n'


def test_at_least_twenty_instruments_are_known_and_each_says_where_its_map_is_from() -> None:
    known = load_instruments()
    assert len(known) >= 20
    assert all(one.source and one.mark in ("verified", "partly from memory") for one in known.values())


def test_no_map_claims_a_device_nobody_tried() -> None:
    assert not [name for name, one in load_instruments().items() if one.confirmed_on_device]


@pytest.mark.parametrize("name", [n for n, i in load_instruments().items() if "conductivity_25" in i.parameters])
def test_a_compensated_conductivity_comes_with_what_undoes_it(name: str) -> None:
    instrument = load_instruments()[name]
    assert instrument.compensation is not None
    assert "water_temperature" in instrument.parameters


@pytest.mark.parametrize(
    ("need", "text"),
    [
        ("sleeps, the first message is lost", f"{HEADER}timing = {{ wake_ms = 2000 }}\n{FIELD}"),
        ("a number below zero as a code", f"{HEADER}{FIELD}invalid = [-9999]\n"),
        (
            "a status in a register of its own",
            f"{HEADER}[[reads]]\nfc = 3\nregister = 9\ncount = 1\n"
            f'status = {{ at = 0, type = "u16", ok = [0], scope = "instrument" }}\n{FIELD}',
        ),
        (
            "questions and settings of the technician",
            f'{HEADER}service = {{ k = {{ fc = 3, register = 9, count = 4, type = "f32", order = "DCBA" }} }}\n{FIELD}',
        ),
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
        f"{tmp_path}/a.toml:7",
        f"{tmp_path}/b.toml:11",
    ]


@pytest.fixture
def fresh() -> Iterator[None]:
    load_instruments.cache_clear()
    yield
    load_instruments.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_instruments_of_ones_own_stand_in_a_folder_named_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Path(instruments.__file__).parent / "keller-acculevel.toml"
    (tmp_path / "my-level.toml").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("TRAM_INSTRUMENTS", str(tmp_path))
    assert load_instruments()["my-level"] == load_instruments()["keller-acculevel"]
    load_instruments.cache_clear()
    (tmp_path / "keller-acculevel.toml").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="keller-acculevel: shipped under this name already"):
        load_instruments()
    monkeypatch.setenv("TRAM_INSTRUMENTS", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="no such folder"):
        load_instruments()
