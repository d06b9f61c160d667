"""The frames of every Modbus instrument we have a file of, by the firmware's own codec: what it asks, what it reads."""

from __future__ import annotations

import struct

import pytest

from firmware import rtu
from firmware.instruments import order_request, status_is_ok
from firmware.tests.one_instrument import decoded, station_of
from station_config.instruments import Order, Read, Service, load_instruments
from station_config.instruments.frames import FRAMES, Frame, part_of, read_frames
from station_config.parameters import load_parameters

INSTRUMENTS = {name: one for name, one in load_instruments().items() if one.protocol == "modbus"}
# As they stand in makers' manuals and in captures of real devices: Yosemitech, SEN0676, Renke and its family.
DOCUMENTED = """\
01 03 26 00 00 05 8E 81
01 03 0A 00 00 8D 41 00 00 8D 41 00 00 C7 33
01 10 1C 00 00 00 00 D8 92
01 10 1C 00 00 00 C7 99
01 10 30 00 00 01 02 14 00 99 53
01 10 30 00 00 01 0E C9
01 03 09 00 00 07 07 94
01 03 0E 09 59 4C 30 39 31 36 31 31 32 31 30 31 00 D9 90
01 03 11 00 00 04 41 35
01 03 08 00 00 80 3F 00 00 00 00 9E 12
01 10 11 00 00 04 08 00 00 80 3F 00 00 00 00 81 AE
01 10 11 00 00 04 C4 F6
01 03 2E 00 00 01 8D 22
FF 03 30 00 00 01 9E D4
FF 03 02 03 00 91 60
01 03 25 00 00 01 8F 06
01 03 07 00 00 02 C5 7F
01 03 04 01 00 01 00 FA 5F
01 03 26 00 00 04 4F 41
01 03 08 00 00 8D 41 00 00 8D 41 12 65
01 03 28 00 00 02 CD AB
01 03 04 33 33 F3 40 40 78
01 10 23 00 00 02 04 00 00 80 40 1E AE
01 10 23 00 00 02 4A 4C
01 03 0E 00 00 01 86 E2
01 03 24 00 00 02 CE FB
01 03 08 85 EB D1 C0 00 00 E0 40 5C E6
01 03 00 01 00 01 D5 CA
01 06 00 05 03 E8 99 75
FF 03 07 D0 00 01 91 59
01 06 60 02 00 05 F6 09
01 03 04 00 02 00 5A DB C8
01 03 00 00 00 02 C4 0B
"""

ROWS = [
    pytest.param(name, frame, id=f"{name} {frame.what} {frame.status}")
    for name in INSTRUMENTS
    for frame in read_frames(FRAMES / f"{name}.csv")
]


def asked_by_the_firmware(name: str, frame: Frame) -> bytes:
    definition, address = INSTRUMENTS[name], frame.request[0]
    part = part_of(frame, definition)
    if isinstance(part, Read):
        sensor = station_of(name, definition, address).sensors[0]
        request = sensor.reads[int(frame.what.split()[1])]
        return bytes(rtu.read_request(address, request.fc, request.register, request.count))
    if frame.what == "start":
        return bytes(order_request(address, station_of(name, definition, address).sensors[0].start))
    if part.fc in (3, 4):
        return bytes(rtu.read_request(address, part.fc, part.first_register, part.count))
    words = part.values if isinstance(part, Order) else words_of(part, frame.numbers)
    if part.fc == 6:
        return bytes(rtu.write_single_request(address, part.first_register, words[0]))
    return bytes(rtu.write_request(address, part.first_register, words))


def words_of(service: Service, numbers: tuple[float, ...]) -> tuple[int, ...]:
    """Numbers as registers. The shipped services write f32 DCBA, and whole numbers of either order."""
    if service.type == "f32":
        data = struct.pack(f"<{len(numbers)}f", *numbers)
    else:
        data = struct.pack(f"{'<' if service.order == 'BA' else '>'}{len(numbers)}H", *map(int, numbers))
    return struct.unpack(f">{len(data) // 2}H", data)


@pytest.mark.parametrize(("name", "frame"), ROWS)
def test_the_firmware_asks_bit_for_bit(name: str, frame: Frame) -> None:
    assert asked_by_the_firmware(name, frame).hex(" ") == frame.request.hex(" ")


@pytest.mark.parametrize(("name", "frame"), [row for row in ROWS if row.values[1].answer])
def test_the_firmware_finds_the_answer_behind_noise(name: str, frame: Frame) -> None:
    received = b"\x00\x7f boot" + frame.answer
    start, length = rtu.find_answer(frame.request, received, 0, len(received))
    assert received[start : start + length] == frame.answer


@pytest.mark.parametrize(
    ("name", "frame"),
    [row for row in ROWS if row.values[1].what.startswith("read") and row.values[1].answer],
)
def test_the_firmware_understands_the_answer(name: str, frame: Frame) -> None:
    read = station_of(name, INSTRUMENTS[name], 1).sensors[0].reads[int(frame.what.split()[1])]
    data = frame.answer[3:-2]
    by_code = load_parameters().by_code
    counts = {by_code[field.parameter].name: decoded(field, data) for field in read.fields}
    expected = {n: round(v * 10 ** load_parameters().by_name[n].decimals) for n, v in frame.named.items()}
    assert (counts, status_is_ok(read.status, data)) == (expected, frame.status != "failed")


def test_the_documented_frames_are_all_among_them() -> None:
    frames = [row.values[1] for row in ROWS]
    ours = {half.hex(" ").upper() for frame in frames for half in (frame.request, frame.answer)}
    assert set(DOCUMENTED.splitlines()) - ours == set()
