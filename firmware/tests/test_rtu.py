"""Frames, checked against documented ones and against pymodbus."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadWriteMultipleRegistersRequest

from firmware import rtu

# question, answer, what: as captured or documented by the instruments' makers and users
CONVERSATIONS = [
    ("01 03 26 00 00 05 8E 81", "01 03 0A 00 00 8D 41 00 00 8D 41 00 00 C7 33", "Y520 temperature and conductivity"),
    ("01 10 1C 00 00 00 00 D8 92", "01 10 1C 00 00 00 C7 99", "Y520 start: a write of no registers"),
    ("01 10 11 00 00 04 08 00 00 80 3F 00 00 00 00 81 AE", "01 10 11 00 00 04 C4 F6", "Yosemitech set K and B"),
    ("01 03 09 00 00 07 07 94", "01 03 0E 09 59 4C 30 39 31 36 31 31 32 31 30 31 00 D9 90", "Y520 serial number"),
    ("01 03 28 00 00 02 CD AB", "01 03 04 33 33 F3 40 40 78", "Y532 pH"),
    ("01 03 00 00 00 05 85 C9", "01 03 0A 00 7D 00 00 00 00 00 00 00 00 19 E4", "Sonbest"),
    ("FF 03 30 00 00 01 9E D4", "FF 03 02 03 00 91 60", "Yosemitech: who is there"),
]


def bytes_of(text):
    return bytes.fromhex(text)


@pytest.mark.parametrize(("question", "answer", "what"), CONVERSATIONS, ids=[row[2] for row in CONVERSATIONS])
def test_documented_conversations_are_understood(question, answer, what):
    question, answer = bytes_of(question), bytes_of(answer)
    assert rtu.find_answer(question, answer, 0, len(answer)) == (0, len(answer))


def test_an_answer_with_byte_count_0_and_two_bytes_is_taken_by_its_expected_length():
    question, answer = bytes_of("01 03 2E 00 00 01 8D 22"), rtu.seal(bytes_of("01 03 00 12 34"))
    assert rtu.find_answer(question, answer, 0, len(answer)) == (0, 7)


@pytest.mark.parametrize(
    ("built", "documented"),
    [
        (rtu.read_request(1, 3, 0x2600, 5), "01 03 26 00 00 05 8E 81"),
        (rtu.write_request(1, 0x1C00), "01 10 1C 00 00 00 00 D8 92"),
        (rtu.write_request(1, 0x3000, (0x1400,)), "01 10 30 00 00 01 02 14 00 99 53"),
        (rtu.write_single_request(1, 0x0005, 1000), "01 06 00 05 03 E8 99 75"),
        (rtu.write_single_request(1, 0x6002, 5), "01 06 60 02 00 05 F6 09"),
    ],
)
def test_questions_are_built_as_documented(built, documented):
    assert built == bytes_of(documented)


def test_pymodbus_reads_our_read_write_request():
    frame = rtu.read_write_request(11, 0x0200, 117, 0x0100, (1, 2, 3, 4, 5, 6))
    _, message = FramerRTU(DecodePDU(True)).handleFrame(frame, 0, 0)
    assert isinstance(message, ReadWriteMultipleRegistersRequest)
    assert (message.read_address, message.read_count, message.write_registers) == (0x0200, 117, [1, 2, 3, 4, 5, 6])


@given(st.integers(1, 247), st.integers(0, 0xFFFF), st.integers(1, 125))
def test_our_questions_are_pymodbus_questions(address, register, count):
    theirs = ReadHoldingRegistersRequest(address=register, count=count, dev_id=address)
    assert FramerRTU(DecodePDU(True)).buildFrame(theirs) == rtu.read_request(address, 3, register, count)


@given(st.binary(max_size=40), st.binary(min_size=10, max_size=10))
def test_an_answer_is_found_behind_noise(noise, data):
    question = rtu.read_request(1, 3, 0x2600, 5)
    answer = rtu.seal(b"\x01\x03\x0a" + data)
    heard = noise + answer
    found = rtu.find_answer(question, heard, 0, len(heard))
    assert found is not None
    start, length = found
    assert heard[start : start + length] == answer or start < len(noise)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_with_a_good_crc_or_none(heard):
    question = rtu.read_request(1, 4, 100, 3)
    found = rtu.find_answer(question, heard, 0, len(heard))
    assert found is None or rtu.is_sealed(heard, found[0], found[0] + found[1])


@given(st.binary(max_size=300))
def test_counting_stray_answers_ends_on_any_bytes(heard):
    assert rtu.count_answers(heard, 0, len(heard)) <= len(heard) // 5


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"\x02\x03\x02\x00\x01", "another instrument's"),
        (b"\x01\x04\x02\x00\x01", "another function's"),
        (b"\x01\x03\x04\x00\x01\x00\x02", "another length"),
    ],
)
def test_an_answer_to_something_else_is_no_answer(answer, why):
    heard = rtu.seal(answer)
    assert rtu.find_answer(rtu.read_request(1, 3, 0, 1), heard, 0, len(heard)) is None


def test_an_exception_is_an_answer_of_five_bytes():
    heard = rtu.seal(b"\x01\x83\x02")
    assert rtu.find_answer(rtu.read_request(1, 3, 0, 9), heard, 0, 5) == (0, 5)


def test_an_identification_is_as_long_as_its_objects():
    question = rtu.identify_request(1)
    answer = rtu.seal(struct.pack(">BBBBBBBB", 1, 43, 14, 1, 1, 0, 0, 2) + b"\x00\x04Tram" + b"\x01\x02ab")
    lengths = {rtu.find_answer(question, answer, 0, end) for end in range(len(answer))}
    assert (lengths, rtu.find_answer(question, answer, 0, len(answer))) == ({None}, (0, len(answer)))


@given(st.binary(max_size=60))
def test_a_question_to_us_is_found_when_it_ends_what_was_heard(before):
    question = rtu.read_request(11, 4, 0, 31)
    heard = before + question
    start = rtu.find_request(heard, len(heard), 11)
    assert rtu.is_sealed(heard, start, len(heard))


@given(st.integers(1, 40))
def test_a_question_to_us_is_not_taken_before_it_is_whole(missing):
    question = rtu.read_write_request(11, 0x0200, 9, 0x0100, (1, 2, 3, 4, 5, 6))
    end = max(0, len(question) - missing)
    assert rtu.find_request(question, end, 11) == -1
