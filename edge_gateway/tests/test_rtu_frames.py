"""Frames among other bytes. The answers are encoded by pymodbus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.file_message import (
    FileRecord,
    ReadFileRecordRequest,
    ReadFileRecordResponse,
    WriteFileRecordRequest,
    WriteFileRecordResponse,
)
from pymodbus.pdu.register_message import (
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
    ReadWriteMultipleRegistersRequest,
    ReadWriteMultipleRegistersResponse,
    WriteMultipleRegistersRequest,
    WriteMultipleRegistersResponse,
)

from edge_gateway import rtu_frames

SERVER = FramerRTU(DecodePDU(True))
READ = ReadInputRegistersRequest(dev_id=11, address=40, count=3)
FETCH = ReadWriteMultipleRegistersRequest(
    read_address=0x200, read_count=3, write_address=0x100, write_registers=[1] * 6, dev_id=11
)
WRITE = WriteMultipleRegistersRequest(dev_id=11, address=0, registers=[1, 2, 3, 4])
CONFIRMED = WriteMultipleRegistersResponse(dev_id=11, address=0, count=4)
READ_PART = ReadFileRecordRequest([FileRecord(file_number=2, record_number=121, record_length=6)], dev_id=11)
WRITE_PART = WriteFileRecordRequest([FileRecord(file_number=3, record_number=122, record_data=b"water!")], dev_id=11)
REGISTERS = [1, 0xFFFF, 7]


def frame(answer: ModbusPDU) -> bytes:
    return SERVER.buildFrame(answer)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (READ, ReadInputRegistersResponse(dev_id=11, registers=REGISTERS)),
        (FETCH, ReadWriteMultipleRegistersResponse(dev_id=11, registers=REGISTERS)),
        (WRITE, CONFIRMED),
        (READ_PART, ReadFileRecordResponse([FileRecord(record_data=b"water!")], dev_id=11)),
        (READ, ExceptionResponse(4, 2, 11)),
    ],
    ids=["read", "fetch", "write", "part of a file", "refusal"],
)
def test_an_answer_is_found_behind_an_echo_and_noise(request_: ModbusPDU, answer: ModbusPDU) -> None:
    question = rtu_frames.question(request_)
    heard = question.frame + b"\x0b\x04\x00" + frame(answer) + b"\xff"

    assert list(rtu_frames.answers(question, heard)) == [frame(answer)]


@pytest.mark.parametrize(
    "answer",
    [
        ReadInputRegistersResponse(dev_id=12, registers=REGISTERS),
        ReadInputRegistersResponse(dev_id=11, registers=REGISTERS[:2]),
        ReadWriteMultipleRegistersResponse(dev_id=11, registers=REGISTERS),
        CONFIRMED,
    ],
    ids=["another station", "another length", "another function", "a confirmation"],
)
def test_the_answer_to_something_else_is_a_frame_and_no_answer(answer: ModbusPDU) -> None:
    heard = frame(answer)

    assert (list(rtu_frames.answers(rtu_frames.question(READ), heard)), rtu_frames.count_frames(heard)) == ([], 1)


@given(st.binary(max_size=40), st.integers(0, 12), st.integers(0, 7))
def test_no_single_wrong_bit_is_overlooked(noise: bytes, byte: int, bit: int) -> None:
    answer = bytearray(frame(ReadInputRegistersResponse(dev_id=11, registers=REGISTERS)))
    answer[byte % len(answer)] ^= 1 << bit
    found = list(rtu_frames.answers(rtu_frames.question(READ), noise.replace(b"\x0b", b"") + bytes(answer)))

    assert found == []


def test_only_the_chunk_that_was_written_confirms_it() -> None:
    question = rtu_frames.question(WRITE_PART)
    part = FileRecord(file_number=3, record_number=244, record_data=b"water!")
    other = frame(WriteFileRecordResponse([part], dev_id=11))

    assert list(rtu_frames.answers(question, other + question.frame)) == [question.frame]
