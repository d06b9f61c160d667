"""A record survives the way from flash to database or is refused; nothing in between."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.record import (
    MISSING,
    SIZE,
    Record,
    RecordError,
    batch_header,
    crc16,
    decode,
    encode,
    split_batch,
)
from firmware.sampler import COUNT_LIMIT

u8 = st.integers(0, 0xFF)
u32 = st.integers(0, 0xFFFFFFFF)
i32 = st.integers(-0x80000000, 0x7FFFFFFF)
records = st.builds(Record, u32, u32, i32, u8, u8, u8)


@given(records)
def test_a_record_comes_back_as_it_was(record):
    assert decode(encode(record)) == record


@given(records, st.integers(0, SIZE * 8 - 1))
def test_one_flipped_bit_is_noticed(record, bit):
    damaged = bytearray(encode(record))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordError):
        decode(damaged)


@given(st.binary(max_size=64), st.integers(-2, 70))
def test_any_bytes_are_a_record_or_an_error(data, offset):
    try:
        record = decode(data, offset)
    except RecordError:
        return
    assert encode(record) == data[offset : offset + SIZE]


@pytest.mark.parametrize(
    "record",
    [
        Record(-1, 0, 0, 0, 0, 0),
        Record(1 << 32, 0, 0, 0, 0, 0),
        Record(0, 1 << 32, 0, 0, 0, 0),
        Record(0, 0, 1 << 31, 0, 0, 0),
        Record(0, 0, 0, 256, 0, 0),
        Record(0, 0, 0, 0, 256, 0),
        Record(0, 0, 0, 0, 0, -1),
        Record(0, 0, 1.5, 0, 0, 0),
        Record(0, 0, None, 0, 0, 0),
    ],
)
def test_a_field_that_does_not_fit_is_refused(record):
    with pytest.raises(RecordError):
        encode(record)


def test_another_version_is_refused_with_its_number():
    body = struct.pack("<BIIiBBB", 2, 1, 1, 1, 1, 1, 1)
    with pytest.raises(RecordError, match="version 2"):
        decode(body + struct.pack("<H", crc16(body)))


def test_a_known_record_has_these_bytes():
    # conductivity at 25 °C of sensor 1, 27.075 mS/cm, 2026-05-28 20:26:40 UTC
    known = bytes.fromhex("01 07000000 00a7186a c3690000 01 22 02")
    assert encode(Record(7, 1_780_000_512, 27_075, 1, 34, 2))[:16] == known


@given(u32, st.lists(records, min_size=1, max_size=40))
def test_a_batch_comes_apart_into_the_records_it_was_made_of(journal, batch):
    body = b"".join(encode(record) for record in batch)
    assert split_batch(batch_header(journal, len(batch)) + body) == (journal, body)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_batch_or_an_error(data):
    try:
        journal, body = split_batch(data)
    except RecordError:
        return
    assert batch_header(journal, len(body) // SIZE) + body == data


def test_no_value_lies_outside_what_a_parameter_may_count():
    assert MISSING < -COUNT_LIMIT
    assert struct.unpack("<f", struct.pack("<f", COUNT_LIMIT - 1))[0] == COUNT_LIMIT - 1
