"""Frames as test vectors: the shipped ones agree with their files, and every fault of a row is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware.record import crc16
from station_config.instruments import Instrument, load_instruments
from station_config.instruments.frames import FRAMES, find_frame_faults, read_frames
from station_config.toml_config import parse

COLUMNS = "what,request,answer,values,status,origin"
PROBE = """vendor = "v"
model = "m"
source = "a manual"
from_memory = []
confirmed_on_device = false
default_address = 1
start = { fc = 6, register = 1, values = [31] }
service = { set_k = { fc = 16, register = 0x1100, count = 2, type = "f32", order = "CDAB" } }
[[reads]]
fc = 3
register = 0x2600
count = 3
status = { at = 4, type = "u16", mask = 1, ok = [0] }
fields = [{ parameter = "ph", at = 0, type = "f32", order = "DCBA", invalid = [-9999] }]
"""


def sealed(body: str) -> str:
    raw = bytes.fromhex(body)
    return (raw + crc16(raw).to_bytes(2, "little")).hex(" ").upper()


QUESTION = sealed("01 03 26 00 00 03")
ANSWER = sealed("01 03 06 33 33 F3 40 00 02")
GOOD = f"read 0,{QUESTION},{ANSWER},ph=7.6,ok,computed"


def faults_of(folder: Path, *rows: str) -> list[str]:
    instruments = {"probe": parse(PROBE, Instrument, "probe.toml")}
    (folder / "probe.csv").write_text("\n".join((COLUMNS, *rows)) + "\n", encoding="utf-8")
    return [text.removeprefix(f"{folder}/probe.csv") for text in find_frame_faults(folder, instruments)]


def test_the_frames_of_all_shipped_instruments_agree_with_their_files() -> None:
    assert find_frame_faults(FRAMES, load_instruments()) == []


def test_every_answer_with_a_status_is_also_there_with_a_bad_one() -> None:
    for name, instrument in load_instruments().items():
        told = {(frame.what, frame.status) for frame in read_frames(FRAMES / f"{name}.csv")}
        for index, read in enumerate(instrument.reads):
            wanted = {"ok", "failed"} if read.status else {""}
            assert {status for what, status in told if what == f"read {index}"} == wanted, name


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        f"read 0,{QUESTION},{sealed('01 03 06 33 33 F3 40 00 03')},ph=7.6,failed,documented",
        f"read 0,{QUESTION},{sealed('01 03 06 00 3C 1C C6 00 00')},,ok,computed",  # -9999: no value
        f"start,{sealed('01 06 00 01 00 1F')},,,,documented",
        f"service set_k,{sealed('01 10 11 00 00 02 04 00 00 3F 80')},,1.0,,computed",
    ],
)
def test_a_row_that_agrees_has_no_fault(tmp_path: Path, row: str) -> None:
    assert faults_of(tmp_path, GOOD, row) == []


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (f"read 0,{QUESTION},{ANSWER},ph=7.5,ok,computed", "ph: the bytes hold 7.6, the row says 7.5"),
        (f"read 0,{QUESTION},{ANSWER},,ok,computed", "ph: the bytes hold 7.6, the row does not say so"),
        (f"read 0,{QUESTION},{ANSWER},ph=7.6 orp=1,ok,computed", "orp: the bytes hold no such value"),
        (f"read 0,{QUESTION},{ANSWER},ph=7.6,failed,computed", "by the file the status is ok, the row says failed"),
        (f"read 0,{QUESTION},{ANSWER},ph=7.6,ok,guessed", "origin is documented or computed"),
        (
            f"read 0,{QUESTION},{ANSWER},ph=x,ok,computed",
            "cannot be understood: could not convert string to float: 'x'",
        ),
        (f"read 0,{QUESTION[:-1]}0,{ANSWER},ph=7.6,ok,computed", "the CRC of the request is wrong"),
        (
            f"read 0,{sealed('01 03 26 00 00 04')},{ANSWER},ph=7.6,ok,computed",
            "by the file the request is 03 26 00 00 03",
        ),
        (
            f"read 0,{QUESTION},{sealed('01 03 04 33 33 F3 40')},ph=7.6,ok,computed",
            "the answer has 4 bytes of data, the read asks for 6",
        ),
        (f"read 7,{QUESTION},{ANSWER},ph=7.6,ok,computed", "cannot be understood: tuple index out of range"),
        (f"wiper,{QUESTION},,,,computed", "cannot be understood: the file has no 'wiper'"),
    ],
)
def test_a_row_that_does_not_agree_is_named_with_its_line(tmp_path: Path, row: str, fault: str) -> None:
    found = faults_of(tmp_path, GOOD, row)
    assert [text.split(": ", 2)[0] for text in found] == [":3"]
    assert found[0].split(": ", 2)[2].startswith(fault)


def test_all_faults_come_at_once_also_files_that_are_missing_or_too_many(tmp_path: Path) -> None:
    instruments = {"probe": parse(PROBE, Instrument, "probe.toml"), "other": parse(PROBE, Instrument, "other.toml")}
    (tmp_path / "probe.csv").write_text(f"{COLUMNS}\nstart,00 11 22,,,,guessed\n", encoding="utf-8")
    (tmp_path / "ghost.csv").write_text(COLUMNS, encoding="utf-8")
    found = [text.removeprefix(f"{tmp_path}/") for text in find_frame_faults(tmp_path, instruments)]
    assert found == [
        "ghost.csv: frames of an instrument that has no file ghost.toml",
        "probe.csv:2: start: origin is documented or computed",
        "probe.csv:2: start: the CRC of the request is wrong",
        "probe.csv:2: start: by the file the request is 06 00 01 00 1F behind the address",
        "probe.csv: read 0 has no answer",
        "other.csv: is missing; write a question and an answer for each read",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,b\n", ":1: the columns must be what, request, answer, values, status, origin"),
        (f"{COLUMNS}\nread 0,0G,,,,computed\n", ":2: request and answer are bytes in hex"),
    ],
)
def test_a_file_that_is_no_table_of_frames_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "probe.csv").write_text(text, encoding="utf-8")
    instruments = {"probe": parse(PROBE, Instrument, "probe.toml")}
    assert find_frame_faults(tmp_path, instruments) == [f"{tmp_path}/probe.csv{fault}"]
