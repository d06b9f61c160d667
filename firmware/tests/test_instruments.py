"""Bytes of an answer become counts, whatever order the instrument sends them in."""

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import rtu
from firmware.configuration import Field, Read, Sensor, Start, Status
from firmware.errors import NoAnswer, Refused
from firmware.instruments import Instrument, status_is_ok, wake_request
from firmware.record import FAIL, MISSING, NO_VALUE, NOT_EVALUATED
from firmware.sampler import Channels
from firmware.tests.one_instrument import decoded
from firmware.tests.wire import Ticks

ORDERS = {"ABCD": (0, 1, 2, 3), "BADC": (1, 0, 3, 2), "CDAB": (2, 3, 0, 1), "DCBA": (3, 2, 1, 0)}


def field(kind, order, at=0, scale=1.0, offset=0.0, decimals=0, invalid=()):
    return Field(34, at, kind, order, scale, offset, decimals, "mean", None, invalid, None)


@given(st.floats(-3999, 3999, width=32), st.sampled_from(sorted(ORDERS)))
def test_floats_of_every_byte_order(value, order):
    big_endian = struct.pack(">f", value)
    wire = b"\xee" + bytes(big_endian[i] for i in ORDERS[order])
    assert decoded(field("f32", order, at=1, decimals=2), wire) == round(value * 100)


@given(st.integers(-0x80000000, 0x7FFFFFFF), st.sampled_from(sorted(ORDERS)))
def test_long_integers_of_every_byte_order(value, order):
    wire = bytes(struct.pack(">i", value)[i] for i in ORDERS[order])
    expected = value if -4_000_000 < value < 4_000_000 else None
    assert decoded(field("i32", order), wire) == expected


@pytest.mark.parametrize(
    ("row", "wire", "count"),
    [
        (field("u16", "AB", scale=0.1, offset=-40.0, decimals=2), "0291", 2570),  # WN90LP: (657 - 400) / 10
        (field("u16", "AB", scale=0.1, decimals=2, invalid=(0xFFFF,)), "FFFF", None),
        (field("i16", "AB", invalid=(32767,)), "7FFF", None),
        (field("i16", "AB"), "FFFE", -2),
        (field("u16", "BA"), "0102", 0x0201),
        (field("u8", "A", at=1), "00FF", 255),
        (field("f32", "ABCD", invalid=(0xFFFFFFFF,)), "FFFFFFFF", None),
        (field("f32", "ABCD", invalid=(-9999,)), "C61C3C00", None),
        (field("f32", "DCBA", decimals=3), "00008D41", 17625),  # Y520, as captured
        (field("f32", "ABCD"), "7F800000", None),
    ],
)
def test_documented_values(row, wire, count):
    assert decoded(row, bytes.fromhex(wire)) == count


@pytest.mark.parametrize(("wire", "ok"), [("0000", True), ("0001", False), ("FFFE", True)])
def test_a_status_may_be_one_bit(wire, ok):
    assert status_is_ok(Status(0, "u16", "AB", (0,), 1, "instrument"), bytes.fromhex(wire)) is ok


@pytest.mark.parametrize(("wire", "ok"), [("00", True), ("FF", False), ("02", True)])
def test_a_status_is_ok_when_it_is_listed(wire, ok):
    assert status_is_ok(Status(0, "u8", "A", (0, 2), None, "read"), bytes.fromhex(wire)) is ok


class Script:
    """A client that gives what the script says to each question in turn."""

    def __init__(self, *answers):
        self.asked = []
        self._answers = list(answers)

    async def ask(self, request, patience, retries=0):
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Uptime:
    def uptime_s(self):
        return 1000


PH = Field(36, 0, "f32", "ABCD", 1, 0, 3, "mean", None, (), None)
READ = Read(3, 0x10, 2, (PH,), None)
VERDICT = Read(3, 0x64, 1, (), Status(0, "u16", "AB", (0,), 1, "instrument"))
PH_7 = struct.pack(">f", 7.0)


def sensor(reads, start=None, wake_ms=0, every=1, burst=None):
    return Sensor(1, 9, 500, 1, 0, every, wake_ms, start, reads, None, burst, (), None)


def sampled(one, *answers):
    """(count, flag) after one sample, the milliseconds waited, the questions asked."""
    ticks, client = Ticks(), Script(*answers)
    channels = Channels()
    instrument = Instrument(one, Uptime(), channels, ticks)

    async def sample():
        await instrument.start(client)
        await instrument.sample(client)

    asyncio.run(sample())
    return (channels.live_count[0], channels.live_flag[0]), ticks.now_ms, client.asked


@pytest.mark.parametrize(
    ("reads", "answers", "flag"),
    [
        ((VERDICT, READ), (b"\x00\x02", PH_7), NOT_EVALUATED),
        ((VERDICT, READ), (b"\x00\x01", PH_7), FAIL),
        ((VERDICT, READ), (Refused(9, 2), PH_7), FAIL),
        ((READ, VERDICT), (PH_7, b"\x00\x00"), NOT_EVALUATED),
        ((READ, VERDICT), (PH_7, b"\x00\x01"), FAIL),
        ((READ, VERDICT), (PH_7, NoAnswer("silent")), FAIL),
    ],
)
def test_a_status_of_the_instrument_speaks_for_all_its_values_and_one_not_read_for_none(reads, answers, flag):
    assert sampled(sensor(reads), *answers)[0] == (7000, flag)


def test_a_wait_is_read_from_the_instrument_times_its_factor():
    start = Start(16, 1, 0, (0x1F,), True, 0, 0xA4, 2.0)
    held, waited_ms, asked = sampled(sensor((READ,), start), b"", b"\x01\xf4", PH_7)
    assert (held, waited_ms) == ((7000, NOT_EVALUATED), 1000)
    assert asked == [
        rtu.write_request(9, 1, (0x1F,)),
        rtu.read_request(9, 3, 0xA4, 1),
        rtu.read_request(9, 3, 0x10, 2),
    ]


def test_an_instrument_that_claims_to_measure_for_hours_is_waited_for_a_minute():
    start = Start(6, 1, 0, (1,), True, 0, 0xA4, 10)
    assert sampled(sensor((READ,), start), b"", b"\xff\xff", PH_7)[1] == 60000


def test_a_start_that_gets_no_answer_is_a_missing_sample():
    start = Start(6, 1, 0, (1,), True, 700, None, 1)
    held, waited_ms, asked = sampled(sensor((READ,), start), NoAnswer("silent"))
    assert (held, waited_ms, len(asked)) == ((MISSING, NO_VALUE), 0, 1)


def test_an_instrument_that_refuses_its_start_measures_by_itself():
    start = Start(6, 1, 0, (1,), True, 700, None, 1)
    assert sampled(sensor((READ,), start), Refused(9, 1), PH_7)[0] == (7000, NOT_EVALUATED)


@pytest.mark.parametrize(("first", "waited_ms"), [(NoAnswer("asleep"), 2000), (PH_7, 0), (Refused(9, 2), 0)])
def test_a_sleeper_is_waited_for_and_one_awake_is_not(first, waited_ms):
    assert sampled(sensor((READ,), wake_ms=2000), first, PH_7)[:2] == ((7000, NOT_EVALUATED), waited_ms)


def test_a_waking_question_cannot_be_taken_for_another():
    reads = (READ, READ._replace(count=3, register=0x20))
    assert wake_request(sensor(reads, wake_ms=1)) == rtu.read_request(9, 3, 0x10, 4)


def test_a_direction_without_a_speed_counts_in_every_sample():
    direction = Field(68, 0, "u16", "AB", 1, 0, 1, "direction", None, (), None)
    assert sampled(sensor((Read(3, 0, 1, (direction,), None),)), b"\x00\x5a")[0] == (900, NOT_EVALUATED)
